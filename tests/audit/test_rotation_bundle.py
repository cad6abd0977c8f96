"""A bundle of a log whose key was replaced: who may follow which key to which, and who may not."""

import json
import shutil
from dataclasses import dataclass, field

import pytest

from audit.export import write_bundle
from audit.log_key import KEY_ROTATED, KeyRotation, KnownKeys, short_digest, vkey_digest
from audit.merkle import leaf_hash
from audit.note import Checkpoint, Cosigner, Signer, sign_checkpoint, split_note
from audit.tiles import TreeEdge
from audit.verify import verify_bundle
from tests.audit.test_strangers import aics, aics_accepts, go_judge  # noqa: F401 (fixtures)

ORIGIN = "log.example/tests"
ONE, TWO, THREE, EVIL = (Signer.from_seed(ORIGIN, bytes([number]) * 32) for number in (1, 2, 3, 66))


def rotated(old, new, **other):
    """Write the event by which one key follows another."""
    body = {
        "action": KEY_ROTATED,
        "before": {"log_key": short_digest(old.vkey)},
        "id": "evt_rotation",
        "resource": vkey_digest(new.vkey),
    }
    return json.dumps(body | other, sort_keys=True, separators=(",", ":")).encode()


def head_of(log, *signers):
    return sign_checkpoint(Checkpoint(ORIGIN, log.edge.size, log.edge.root()), *signers)


@dataclass
class Log:
    """A log in memory that is signed with one key after the other."""

    memory: object
    signer: Signer = ONE
    rotations: list = field(default_factory=list)
    kept: dict = field(default_factory=dict)

    def grow(self, count):
        start = self.memory.size
        self.memory.append([b'{"id":"evt_%d"}' % at for at in range(start, start + count)])
        self.kept[self.memory.size] = head_of(self.memory, self.signer)
        return self

    def rotate(self, new, *, event=None, signers=None, vkeys=None):
        old = self.signer
        self.memory.append([rotated(old, new) if event is None else event])
        note = head_of(self.memory, *(signers or (old, new)))
        named = vkeys or (old.vkey, new.vkey)
        size = self.memory.size
        self.rotations.append(KeyRotation(size, ORIGIN, *named, note, "evt_rotation", 0))
        self.signer = new
        return self

    def write(self, path, *signers, rotations=None):
        self.memory.checkpoint_note = lambda: head_of(self.memory, *(signers or (self.signer,)))
        write_bundle(path, self.memory, None, self.rotations if rotations is None else rotations)
        return path


@pytest.fixture
def log(make_log):
    return Log(make_log(0)).grow(300)


@pytest.fixture
def once(log):
    return log.rotate(TWO).grow(20)


@pytest.fixture
def twice(once):
    return once.rotate(THREE).grow(300)


@pytest.fixture(params=["log", "log.zip"])
def place(request, tmp_path):
    return tmp_path / request.param


def codes(report):
    return sorted({finding.code for finding in report.findings})


def ids(*signers):
    return tuple(f"{each.name}+{each.verifier.key_id.hex()}" for each in signers)


@pytest.mark.parametrize("key", [ONE, TWO, THREE])
def test_any_key_of_the_log_leads_to_the_one_that_signed_the_head(twice, place, key):
    report = verify_bundle(twice.write(place), key.vkey)
    assert (report.ok, report.findings) == (True, ())
    assert report.keys == ids(ONE, TWO, THREE)
    assert report.as_json()["keys"] == list(report.keys)
    assert report.unchecked == ("README.md",)


@pytest.mark.parametrize("key", [ONE, TWO])
def test_a_rotation_from_a_key_that_the_one_before_did_not_begin_leads_nowhere(once, place, key):
    """Overlap, event and head are right in themselves; only the thief's key follows no key."""
    once.signer = EVIL
    once.rotate(THREE).grow(20)
    report = verify_bundle(once.write(place), key.vkey)
    assert "rotation" in codes(report)
    assert ids(THREE)[0] not in report.keys


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_key_that_the_log_ever_had_is_its_witness(twice, place, seed):
    """Also one of which only the bundle tells that it was the log's: it has truly cosigned here."""
    itself = Cosigner.from_seed("witness.example/one", bytes([seed]) * 32)
    stranger = Cosigner.from_seed("witness.example/two", bytes([9]) * 32)
    note, text = head_of(twice.memory, THREE), head_of(twice.memory, THREE).partition("\n\n")[0]
    lines = [each.cosign(f"{text}\n", 1_700_000_000) for each in (itself, stranger)]
    twice.memory.checkpoint_note = lambda: note + "".join(lines)
    write_bundle(place, twice.memory, None, twice.rotations)
    key = (TWO if seed == 1 else ONE).vkey  # a witness with the very key that is given is refused
    assert verify_bundle(place, key, None, [stranger.vkey]).findings == ()
    report = verify_bundle(place, key, None, [itself.vkey, stranger.vkey])
    assert [(each.code, each.ring) for each in report.findings] == [("witness", "witness")]


def test_a_bundle_ends_with_the_overlap_itself(log, place):
    log.rotate(TWO)
    path = log.write(place, ONE, TWO)
    for key in (ONE, TWO):
        assert verify_bundle(path, key.vkey).ok


@pytest.mark.parametrize("size", [300, 301, 321, 322, 622])
@pytest.mark.parametrize("key", [ONE, THREE])
def test_a_head_that_an_earlier_key_signed_in_its_time_is_one_to_grow_from(
    twice, tmp_path, size, key
):
    kept = twice.kept | {each.size: each.note for each in twice.rotations}
    assert verify_bundle(twice.write(tmp_path / "log"), key.vkey, kept[size]).ok


def test_an_earlier_head_of_another_history_shows_a_fork_through_the_rotation(
    twice, make_log, tmp_path
):
    other = make_log(300)  # other entries
    report = verify_bundle(twice.write(tmp_path / "log"), THREE.vkey, head_of(other, ONE))
    assert (codes(report), report.ring) == (["fork"], "anchor")


def test_a_head_that_an_ended_key_signed_after_its_time_is_not_one_of_the_log(twice, tmp_path):
    """Whoever stole the old key later can sign what he likes: it counts for nothing."""
    stolen = head_of(twice.memory, ONE)
    report = verify_bundle(twice.write(tmp_path / "log"), THREE.vkey, stolen)
    assert codes(report) == ["old-checkpoint"]
    assert "time ended with event 300" in report.findings[0].detail


def test_a_bundle_without_what_leads_to_its_key_is_signed_by_a_stranger(twice, tmp_path):
    path = twice.write(tmp_path / "log", rotations=[])
    assert verify_bundle(path, THREE.vkey).ok
    assert codes(verify_bundle(path, ONE.vkey)) == ["rotation", "signature"]


@pytest.mark.parametrize("keep_files", [True, False])
def test_a_stolen_old_key_signs_no_later_head_of_the_log_that_was_handed_over(
    once, tmp_path, keep_files
):
    """With or without the files of the rotation: its event is in the tree and says who signs."""
    path = once.write(tmp_path / "log", ONE, rotations=once.rotations if keep_files else [])
    report = verify_bundle(path, ONE.vkey)
    assert not report.ok
    assert codes(report) == (["signature"] if keep_files else ["rotation"])


def test_a_stolen_old_key_can_tell_of_another_history_and_only_a_kept_head_shows_it(
    log, make_log, tmp_path
):
    """What no bundle can show: a fork from before the rotation, signed with the key of then."""
    forked = Log(make_log(0)).grow(300)
    kept = log.rotate(TWO).grow(20).kept[321]
    path = forked.grow(100).write(tmp_path / "log", ONE)
    assert verify_bundle(path, ONE.vkey).ok
    assert codes(verify_bundle(path, TWO.vkey)) == ["signature"], "who has the new key is safe"
    report = verify_bundle(path, ONE.vkey, kept)
    assert codes(report) == ["old-checkpoint"], "so is who kept a head since"
    overlap = log.rotations[0].note
    assert codes(verify_bundle(path, ONE.vkey, overlap)) == ["fork"], "or the overlap itself"


def edit_keys(path, old, new):
    (path / "rotation/1/keys").write_text(f"{old.vkey}\n{new.vkey}\n")


FORGED = {
    "another new key": lambda path, _log: edit_keys(path, ONE, EVIL),
    "another old key": lambda path, _log: edit_keys(path, EVIL, TWO),
    "keys that are none": lambda path, _log: (path / "rotation/1/keys").write_text("a\nb\n"),
    "no keys": lambda path, _log: (path / "rotation/1/keys").write_text(""),
    "keys of another encoding": lambda path, _log: (path / "rotation/1/keys").write_bytes(b"\xff"),
    "keys are gone": lambda path, _log: (path / "rotation/1/keys").unlink(),
    "the overlap is gone": lambda path, _log: (path / "rotation/1/checkpoint").unlink(),
    "the overlap is no note": lambda path, _log: (path / "rotation/1/checkpoint").write_text("x"),
    "the overlap lacks the old key's line": lambda path, log: overlap(path, log, TWO),
    "the overlap lacks the new key's line": lambda path, log: overlap(path, log, ONE),
    "the overlap is of another tree": lambda path, log: forged_overlap(path, log, ONE, TWO),
    "the rotations are numbered from two": lambda path, _log: (path / "rotation/1").rename(
        path / "rotation/2"
    ),
}


def overlap(path, log, *signers):
    text = split_note(log.rotations[0].note)[0]
    note = sign_checkpoint(Checkpoint.parse(text), *signers)
    (path / "rotation/1/checkpoint").write_text(note)


def forged_overlap(path, log, *signers):
    head = Checkpoint(ORIGIN, log.rotations[0].size, bytes(32))
    (path / "rotation/1/checkpoint").write_text(sign_checkpoint(head, *signers))


@pytest.mark.parametrize("how", FORGED)
@pytest.mark.parametrize("key", [ONE, TWO])
def test_no_key_inside_a_bundle_is_believed_unless_the_chain_holds(once, tmp_path, how, key):
    path = once.write(tmp_path / "log")
    assert verify_bundle(path, key.vkey).ok
    FORGED[how](path, once)
    assert not verify_bundle(path, key.vkey).ok


def test_a_forger_with_a_key_of_his_own_hands_nothing_over(log, tmp_path):
    """All is consistent but one thing: the old key has not signed the overlap."""
    log.rotate(EVIL, signers=(EVIL,))
    path = log.grow(10).write(tmp_path / "log")
    assert codes(verify_bundle(path, ONE.vkey)) == ["rotation", "signature"]


@pytest.mark.parametrize(
    "event",
    [
        b'{"id":"evt_300"}',
        rotated(ONE, EVIL),
        rotated(EVIL, TWO),
        rotated(ONE, TWO, action="audit.key_prepared"),
        rotated(ONE, TWO, before="none"),
        rotated(ONE, TWO, resource=None),
    ],
)
def test_an_overlap_without_the_event_that_names_both_keys_hands_nothing_over(log, tmp_path, event):
    path = log.rotate(TWO, event=event).grow(10).write(tmp_path / "log")
    for key in (ONE, TWO):
        report = verify_bundle(path, key.vkey)
        assert "rotation" in codes(report)
        assert report.first_bad_index == 300


def test_an_event_of_a_rotation_that_never_was_is_found(log, tmp_path):
    """Who may write events may write one that lies; the key signs on, and the report says so."""
    log.memory.append([rotated(ONE, TWO)])
    report = verify_bundle(log.grow(10).write(tmp_path / "log"), ONE.vkey)
    assert (codes(report), report.first_bad_index) == (["rotation"], 300)


def test_rotations_that_do_not_follow_each_other_are_no_chain(twice, tmp_path):
    path = twice.write(tmp_path / "log")
    shutil.rmtree(path / "rotation/1")
    (path / "rotation/2").rename(path / "rotation/1")
    assert verify_bundle(path, THREE.vkey).ok, "the later part of the chain stands alone"
    assert verify_bundle(path, TWO.vkey).ok
    assert not verify_bundle(path, ONE.vkey).ok


def test_a_rotation_beyond_the_end_of_the_log_is_no_part_of_it(once, make_log, tmp_path):
    short = Log(make_log(0)).grow(300)
    path = short.write(tmp_path / "log", ONE, TWO)
    shutil.copytree(once.write(tmp_path / "long") / "rotation", path / "rotation")
    assert "rotation" in codes(verify_bundle(path, ONE.vkey))


def test_who_witnesses_is_found_under_the_new_key_too(once, tmp_path):
    from tests.support.trail import WITNESS

    path = once.write(tmp_path / "log")
    note = (path / "checkpoint").read_text()
    (path / "checkpoint").write_text(note + WITNESS.cosign(split_note(note)[0], 1_800_000_000))
    assert verify_bundle(path, ONE.vkey, None, [WITNESS.vkey]).ok


def test_strangers_accept_the_new_key_and_the_overlap_under_either(once, go_judge, aics, tmp_path):  # noqa: F811
    path = once.write(tmp_path / "log")
    (tmp_path / "old").write_text(once.kept[300])
    accepted, said = go_judge(path, TWO.vkey)
    assert accepted, said
    assert aics_accepts(aics, path, TWO.vkey, once.rotations[0].note)
    at_overlap = Log(type(once.memory)()).grow(300).rotate(TWO)
    path = at_overlap.write(tmp_path / "overlap", ONE, TWO)
    for key in (ONE, TWO):
        accepted, said = go_judge(path, key.vkey)
        assert accepted, said
        assert aics_accepts(aics, path, key.vkey)


def test_keys_are_known_backwards_from_a_trusted_one_as_far_as_overlaps_hold(twice):
    first, second = twice.rotations
    known = KnownKeys.leading_to(THREE.verifier, [first, second])
    assert known.vkeys() == [THREE.vkey, TWO.vkey, ONE.vkey]
    assert KnownKeys.leading_to(TWO.verifier, [first, second]).vkeys() == [TWO.vkey]
    assert KnownKeys.leading_to(TWO.verifier, [first]).vkeys() == [TWO.vkey, ONE.vkey]
    half = KeyRotation(second.size, ORIGIN, TWO.vkey, THREE.vkey, twice.kept[622], "e", 0)
    assert KnownKeys.leading_to(THREE.verifier, [first, half]).vkeys() == [THREE.vkey]


def test_own_vectors_of_a_rotation_hold(own_vectors):
    """The script that made them shares no line with the code."""
    vectors = own_vectors("notes")
    old = Signer.from_seed(vectors["origin"], bytes.fromhex(vectors["seed"]))
    new = Signer.from_seed(vectors["origin"], bytes.fromhex(vectors["next_seed"]))
    note = vectors["overlap"]
    rotation = KeyRotation(4, old.name, old.vkey, vectors["next_vkey"], note, "evt_8", 0)
    head = rotation.overlap()
    assert sign_checkpoint(head, old, new) == note
    said = json.loads(vectors["rotation"])
    assert (said["resource"], said["before"]) == (
        vkey_digest(new.vkey),
        {"log_key": short_digest(old.vkey)},
    )
    leaves = [bytes.fromhex(each["leaf_hash"]) for each in own_vectors("events")]
    edge, _ = TreeEdge().append([*leaves, leaf_hash(vectors["rotation"].encode())])
    assert edge.root() == head.root
