"""The witness: signs only what continues what it signed, whoever asks, however often, at once."""

import base64
import sqlite3
import threading

import pytest

from audit.cosigning import cosignature_in
from audit.merkle import consistency_proof
from audit.note import (
    Checkpoint,
    Cosigner,
    Signer,
    Verifier,
    open_note,
    sign_checkpoint,
    split_note,
)
from audit.tiles import TileNodes
from audit.witness import (
    MAX_REQUEST_BYTES,
    SIZE_TYPE,
    Witness,
    WitnessApp,
    read_submission,
    write_submission,
)

COSIGNER = Cosigner.from_seed("witness.example/w1", bytes(range(32, 64)))
NOON_US = 1_795_435_200_000_000


class SetClock:
    def __init__(self):
        self.us = NOON_US

    def now_us(self):
        return self.us


@pytest.fixture
def clock():
    return SetClock()


@pytest.fixture
def log(make_log):
    return make_log(300)


@pytest.fixture
def witness(tmp_path, log, clock):
    return Witness(COSIGNER, [log.signer.verifier], tmp_path / "witness.db", clock)


def proof_of(log, old):
    if not 0 < old < log.size:
        return []
    return consistency_proof(old, log.size, TileNodes(log.read_tile))


def submission(log, old, proof=None):
    return write_submission(
        old, proof_of(log, old) if proof is None else proof, log.checkpoint_note()
    )


def more(count, mark):
    return [b'{"id":"%s_%d"}' % (mark, at) for at in range(count)]


def signed_size(witness):
    heads = witness.heads()
    return next(iter(heads.values()))[0] if heads else 0


# --- signing --------------------------------------------------------------------------


def test_a_log_that_grows_is_signed_again_and_again(witness, log):
    old = 0
    for _ in range(4):
        reply = witness.add_checkpoint(submission(log, old))
        assert reply.status == 200, reply.text
        note = log.checkpoint_note() + reply.text
        opened = open_note(note, [log.signer.verifier, COSIGNER.verifier])
        assert len(opened.signed_by) == 2
        assert signed_size(witness) == log.size
        old = log.size
        log.append(more(57, b"next"))


def test_the_same_head_is_signed_again_with_the_time_of_now(witness, log, clock):
    first = witness.add_checkpoint(submission(log, 0))
    clock.us += 60_000_000
    second = witness.add_checkpoint(submission(log, log.size))
    assert (first.status, second.status) == (200, 200)
    assert stamp(second) - stamp(first) == 60


def test_a_clock_that_is_put_back_does_not_make_an_older_statement(witness, log, clock):
    first = witness.add_checkpoint(submission(log, 0))
    clock.us -= 3_600_000_000
    log.append(more(1, b"late"))
    second = witness.add_checkpoint(submission(log, 300))
    assert stamp(second) == stamp(first)


def stamp(reply):
    (_, _, signature) = split_note("x\n\n" + reply.text)[1][0]
    return int.from_bytes(signature[:8])


def test_the_vkey_is_of_the_kind_for_cosignatures():
    assert Verifier.from_vkey(COSIGNER.vkey) == COSIGNER.verifier
    assert base64.b64decode(COSIGNER.vkey.rpartition("+")[2])[0] == 0x04


def test_an_independent_package_accepts_the_cosignature(witness, log):
    aics = pytest.importorskip("aics_tlog", reason="aics-tlog is not installed")
    reply = witness.add_checkpoint(submission(log, 0))
    note = aics.parse_note((log.checkpoint_note() + reply.text).encode())
    (signature,) = [one for one in note.signatures if one.name == COSIGNER.verifier.name]
    said = (COSIGNER.verifier.name, COSIGNER.verifier.public, log.signer.name)
    assert aics.verify_cosignature(signature.signature, *said, log.size, log.edge.root())
    assert not aics.verify_cosignature(signature.signature, *said, log.size + 1, log.edge.root())
    assert not aics.verify_cosignature(signature.signature, *said, log.size, bytes(32))


# --- refusing -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old\n\n",
        b"old -1\n\n",
        b"old 007\n\n",
        b"old 1.0\n\n",
        b"old 0",
        b"old 0\n\n",
        b"old 0\n\nnot a note",
        b"old 0\nnot base64\n\n",
        b"\xff\xfe",
        b"old 99999999999999999999\n\n",
    ],
)
def test_what_is_not_a_submission_is_400(witness, body):
    assert witness.add_checkpoint(body).status == 400
    assert witness.heads() == {}


def test_too_many_hashes_are_400(witness, log):
    body = write_submission(1, [bytes(32)] * 64, log.checkpoint_note())
    assert witness.add_checkpoint(body).status == 400


def test_a_log_nobody_told_it_of_is_404(witness):
    signer = Signer.from_seed("other.example/log", bytes(32))
    note = sign_checkpoint(Checkpoint("other.example/log", 5, bytes(32)), signer)
    assert witness.add_checkpoint(write_submission(0, [], note)).status == 404


def test_a_head_signed_by_somebody_else_is_403(witness, log):
    thief = Signer.from_seed(log.signer.name, bytes(32))
    note = sign_checkpoint(Checkpoint(log.signer.name, 300, log.edge.root()), thief)
    assert witness.add_checkpoint(write_submission(0, [], note)).status == 403
    unsigned = log.checkpoint_note().replace(log.signer.name, log.signer.name, 1)
    broken = unsigned[:-6] + "AAAA=\n"
    assert witness.add_checkpoint(write_submission(0, [], broken)).status in {400, 403}
    assert witness.heads() == {}


def test_an_old_size_beyond_the_new_one_is_400(witness, log):
    assert witness.add_checkpoint(submission(log, 301, [])).status == 400


def test_another_old_size_is_409_and_the_right_one_is_named(witness, log):
    assert witness.add_checkpoint(submission(log, 0)).status == 200
    log.append(more(10, b"next"))
    for wrong in (0, 299, 310):
        reply = witness.add_checkpoint(submission(log, wrong))
        assert (reply.status, reply.text, reply.media_type) == (409, "300\n", SIZE_TYPE)
    assert witness.add_checkpoint(submission(log, 300)).status == 200


def test_a_log_that_was_cut_short_is_refused(witness, log, make_log):
    assert witness.add_checkpoint(submission(log, 0)).status == 200
    short = make_log(200)
    assert witness.add_checkpoint(submission(short, 200)).status == 409
    assert witness.add_checkpoint(submission(short, 300, [])).status == 400
    assert signed_size(witness) == 300


def test_a_history_written_anew_with_the_logs_own_key_is_refused(witness, log, make_log):
    assert witness.add_checkpoint(submission(log, 0)).status == 200
    other = make_log(0)
    other.append(more(300, b"forged"))
    assert witness.add_checkpoint(submission(other, 300)).status == 409
    other.append(more(40, b"forged"))
    assert witness.add_checkpoint(submission(other, 300)).status == 422
    assert witness.add_checkpoint(submission(other, 300, [])).status == 422
    assert witness.add_checkpoint(submission(other, 300, proof_of(log, 128))).status == 422
    assert signed_size(witness) == 300


def test_a_proof_where_none_belongs_is_refused(witness, log):
    assert witness.add_checkpoint(submission(log, 0, [bytes(32)])).status == 422
    assert witness.add_checkpoint(submission(log, 0)).status == 200
    assert witness.add_checkpoint(submission(log, 300, [bytes(32)])).status == 422


def test_every_flipped_byte_of_a_proof_is_refused(witness, log):
    assert witness.add_checkpoint(submission(log, 0)).status == 200
    log.append(more(77, b"next"))
    proof = proof_of(log, 300)
    for at in range(len(proof)):
        for byte in range(0, 32, 5):
            bent = bytearray(proof[at])
            bent[byte] ^= 1
            wrong = [*proof[:at], bytes(bent), *proof[at + 1 :]]
            assert witness.add_checkpoint(submission(log, 300, wrong)).status == 422
    assert witness.add_checkpoint(submission(log, 300, proof)).status == 200


def test_an_empty_log_may_begin_empty_and_only_empty(witness, make_log):
    empty = make_log(0)
    assert witness.add_checkpoint(submission(empty, 0)).status == 200
    lie = sign_checkpoint(Checkpoint(empty.signer.name, 0, bytes(32)), empty.signer)
    assert witness.add_checkpoint(write_submission(0, [], lie)).status == 409


# --- two at once, and after a fall ----------------------------------------------------


def test_of_a_hundred_forks_none_is_signed_twice(tmp_path, make_log, clock):
    """Two histories from one head race for the same witness, from two threads."""
    file = tmp_path / "witness.db"
    base = make_log(64)
    witness = Witness(COSIGNER, [base.signer.verifier], file, clock)
    assert witness.add_checkpoint(submission(base, 0)).status == 200
    old = 64
    for turn in range(100):
        forks = []
        for mark in (b"left", b"right"):
            fork = make_log(0)
            fork.append(base.stored)
            fork.append(more(1 + turn % 7, mark))
            forks.append(fork)
        statuses = race([submission(fork, old) for fork in forks], file, base, clock)
        assert sorted(statuses) == [200, 409]
        base = forks[statuses.index(200)]
        assert witness.heads()[base.signer.name] == (base.size, base.checkpoint_note())
        old = base.size


def race(bodies, file, log, clock):
    statuses = [0] * len(bodies)
    line = threading.Barrier(len(bodies))

    def run(at):
        one = Witness(COSIGNER, [log.signer.verifier], file, clock)
        line.wait()
        statuses[at] = one.add_checkpoint(bodies[at]).status

    threads = [threading.Thread(target=run, args=(at,)) for at in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def test_what_cannot_be_remembered_is_not_signed(tmp_path, log, clock):
    file = tmp_path / "witness.db"
    witness = Witness(COSIGNER, [log.signer.verifier], file, clock)
    with sqlite3.connect(file) as spoiler:
        spoiler.execute(
            "CREATE TRIGGER full BEFORE INSERT ON head BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )
    with pytest.raises(sqlite3.IntegrityError):
        witness.add_checkpoint(submission(log, 0))
    assert witness.heads() == {}


def test_a_witness_remembers_beyond_its_process(tmp_path, log, clock):
    file = tmp_path / "witness.db"
    for status in (200, 409):
        again = Witness(COSIGNER, [log.signer.verifier], file, clock)
        assert again.add_checkpoint(submission(log, 0)).status == status


# --- its answers, and its door --------------------------------------------------------


def test_the_log_keeps_a_line_only_if_it_is_the_witnesss_own(witness, log):
    note = log.checkpoint_note()
    good = witness.add_checkpoint(submission(log, 0)).text
    other = Cosigner.from_seed("witness.example/w1", bytes(32)).cosign(note, 1)
    log.append(more(1, b"next"))
    assert cosignature_in(note, other + good, COSIGNER.verifier) == good
    assert cosignature_in(note, other, COSIGNER.verifier) is None
    assert cosignature_in(log.checkpoint_note(), good, COSIGNER.verifier) is None
    for junk in ("", "\n", "— x\n", "<html>", "— witness.example/w1 AAAA\n"):
        assert cosignature_in(note, junk, COSIGNER.verifier) is None


def test_a_submission_reads_back_as_it_was_written(log):
    log.append(more(5, b"next"))
    sent = read_submission(submission(log, 300))
    assert (sent.old, list(sent.proof), sent.note) == (
        300,
        proof_of(log, 300),
        log.checkpoint_note(),
    )


async def asked(app, method, path, *parts):
    waiting = [
        {"type": "http.request", "body": part, "more_body": at + 1 < len(parts)}
        for at, part in enumerate(parts)
    ]
    said = []

    async def receive():
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message):
        said.append(message)

    await app({"type": "http", "method": method, "path": path}, receive, send)
    return said[0]["status"], said[1]["body"].decode()


@pytest.mark.anyio
async def test_over_http_there_is_one_door(witness, log):
    app = WitnessApp(witness)
    body = submission(log, 0)
    assert (await asked(app, "GET", "/add-checkpoint", b""))[0] == 405
    assert (await asked(app, "POST", "/", body))[0] == 404
    assert (await asked(app, "POST", "/add-checkpoint", b"x" * MAX_REQUEST_BYTES, b"x"))[0] == 413
    status, text = await asked(app, "POST", "/add-checkpoint", body[:50], body[50:])
    assert (status, text[:2]) == (200, "— ")
