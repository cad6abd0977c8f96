"""The tamper matrix, second half: what somebody with an export or a proof in hand can do to it.

The exports are those of a living registry on each engine (tests/support/trail.py); each change is
shown to `yinyom audit verify` with a key from elsewhere, and where that alone cannot know, with an
older checkpoint or a witness's key. Proofs of single events go to `yinyom audit verify-proof`.
"""

import asyncio
import base64
import json
import shutil
import zipfile

import pytest

from audit.manifest import manifest_of
from audit.merkle import fold, leaf_hash
from audit.note import Checkpoint, Cosigner, Signer, sign_checkpoint
from audit.tiles import TreeEdge, decode_entries, encode_entries
from tests.support.trail import BULK, SIZES, WITNESS, export, flip, places
from tests.support.world import open_world

HERE, SIZE, BEFORE = 300, SIZES[-1], 600
SECOND, EDGE = "tile/entries/001", "tile/entries/002.p/188"
MUTATIONS = {}


class Bundle:
    """An exported folder in the hands of a forger."""

    def __init__(self, path, stage):
        self.path, self.stage = path, stage

    def read(self, name):
        return (self.path / name).read_bytes()

    def write(self, name, data):
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_bytes(data)

    def change(self, name, act):
        self.write(name, act(self.read(name)))

    def entries(self):
        names = ["tile/entries/000", SECOND, EDGE]
        return [entry for name in names for entry in decode_entries(self.read(name))]

    def lay_out(self, entries):
        """Write everything below the checkpoint anew, so that it fits these entries."""
        shutil.rmtree(self.path / "tile")
        for at in range(0, len(entries), 256):
            part = entries[at : at + 256]
            width = "" if len(part) == 256 else f".p/{len(part)}"
            self.write(f"tile/entries/{at // 256:03}{width}", encode_entries(part))
        edge, tiles = TreeEdge().append([leaf_hash(entry) for entry in entries])
        for level, n, data in tiles:
            width = "" if len(data) == 8192 else f".p/{len(data) // 32}"
            self.write(f"tile/{level}/{n:03}{width}", data)
        lines = [b'{"index":%d,"event":%b}\n' % line for line in enumerate(entries)]
        self.write("events.ndjson", b"".join(lines))
        return edge

    def sign(self, edge, signer):
        note = sign_checkpoint(Checkpoint(signer.name, edge.size, edge.root()), signer)
        self.write("checkpoint", note.encode())

    @property
    def thief(self):
        """A signer who calls himself by the log's name."""
        return Signer.from_seed(self.stage.settings.audit.origin, bytes(32))


def found_by(check, index=HERE, **details):
    """A mutation, and what the verifier is to say of it, told these things besides the key."""

    def note_down(change):
        MUTATIONS[change.__name__] = (change, check, index, details)
        return change

    return note_down


def turned(entry):
    return entry.replace(b'"outcome":"ok"', b'"outcome":"error"')


# --- lines for people -----------------------------------------------------------------


def lines_of(bundle, act):
    lines = bundle.read("events.ndjson").splitlines(keepends=True)
    act(lines)
    bundle.write("events.ndjson", b"".join(lines))


@found_by("events")
def edit_a_line(bundle):
    lines_of(bundle, lambda lines: lines.__setitem__(HERE, turned(lines[HERE])))


@found_by("events")
def swap_two_lines(bundle):
    def swap(lines):
        lines[HERE], lines[HERE + 9] = lines[HERE + 9], lines[HERE]

    lines_of(bundle, swap)


@found_by("events")
def drop_a_line(bundle):
    lines_of(bundle, lambda lines: lines.pop(HERE))


@found_by("events", SIZE - 1)
def drop_the_last_line(bundle):
    lines_of(bundle, lambda lines: lines.pop())


@found_by("events", SIZE)
def add_a_line(bundle):
    lines_of(bundle, lambda lines: lines.append(b'{"index":700,"event":{}}\n'))


# --- rows beside an event that tells of many ---------------------------------------------

ROWS = f"manifests/{BULK:012}.rows"


@found_by("manifest", BULK)
def edit_a_row(bundle):
    bundle.change(ROWS, lambda rows: rows.replace(b" 1\n", b" 0\n", 1))


@found_by("manifest", BULK)
def drop_a_row(bundle):
    bundle.change(ROWS, lambda rows: rows[:-35])


@found_by("manifest", BULK)
def repeat_a_row(bundle):
    bundle.change(ROWS, lambda rows: rows[:35] + rows[:-35])


@found_by("manifest", BULK)
def add_a_row(bundle):
    bundle.change(ROWS, lambda rows: rows + b"f" * 32 + b" 1\n")


@found_by("missing", BULK)
def take_the_rows_out(bundle):
    (bundle.path / ROWS).unlink()


@found_by("unexpected")
def put_rows_beside_an_event_that_names_none(bundle):
    bundle.write(f"manifests/{HERE:012}.rows", bundle.read(ROWS))


@found_by("unexpected", None)
def put_rows_beside_an_event_that_is_not_there(bundle):
    bundle.write(f"manifests/{SIZE:012}.rows", bundle.read(ROWS))


@found_by("entry", BULK)
def edit_a_row_and_the_root_that_its_event_names(bundle):
    edit_a_row(bundle)

    def name(entries):
        root = json.loads(entries[BULK])["manifest"]["root"]
        forged = manifest_of(bundle.read(ROWS)).root
        entries[BULK] = entries[BULK].replace(root.encode(), forged.encode())

    entries_of(bundle, name, "tile/entries/000")


# --- entries --------------------------------------------------------------------------


def entries_of(bundle, act, name=SECOND):
    entries = decode_entries(bundle.read(name))
    act(entries)
    bundle.write(name, encode_entries(entries))


@found_by("entry")
def edit_an_entry(bundle):
    entries_of(bundle, lambda entries: entries.__setitem__(44, turned(entries[44])))


@found_by("entry")
def edit_an_entry_and_its_line(bundle):
    edit_an_entry(bundle)
    edit_a_line(bundle)


@found_by("rewritten", 256)
def edit_an_entry_its_line_and_its_leaf(bundle):
    edit_an_entry_and_its_line(bundle)
    leaf = leaf_hash(decode_entries(bundle.read(SECOND))[44])
    bundle.change("tile/0/001", lambda data: data[: 44 * 32] + leaf + data[45 * 32 :])


@found_by("root", None)
def edit_an_entry_and_every_hash_above_it(bundle):
    edit_an_entry_its_line_and_its_leaf(bundle)
    bundle.change("tile/1/000.p/2", lambda data: data[:32] + fold(bundle.read("tile/0/001")))


@found_by("signature", None)
def edit_an_entry_and_sign_with_another_key(bundle):
    entries = bundle.entries()
    entries[HERE] = turned(entries[HERE])
    bundle.sign(bundle.lay_out(entries), bundle.thief)


@found_by("signature", None)
def lay_the_forgers_key_beside_it(bundle):
    edit_an_entry_and_sign_with_another_key(bundle)
    for name in ("key", "vkey", "key.txt", "README.md"):
        bundle.write(name, bundle.thief.vkey.encode())


@found_by("entry", 259)
def swap_two_entries(bundle):
    def swap(entries):
        entries[3], entries[200] = entries[200], entries[3]

    entries_of(bundle, swap)


@found_by("root", None)
def reorder_entries_with_every_hash_above_them(bundle):
    entries = bundle.entries()
    entries[3], entries[HERE] = entries[HERE], entries[3]
    bundle.lay_out(entries)


@found_by("entry", HERE)
def repeat_an_entry_over_its_neighbour(bundle):
    entries_of(bundle, lambda entries: entries.__setitem__(44, entries[43]))


@found_by("bundle")
def insert_an_entry(bundle):
    entries_of(bundle, lambda entries: entries.insert(44, entries[43]))


@found_by("bundle")
def remove_an_entry(bundle):
    entries_of(bundle, lambda entries: entries.pop(44))


@found_by("bundle", SIZE - 1)
def remove_the_last_entry(bundle):
    entries_of(bundle, lambda entries: entries.pop(), EDGE)


@found_by("bundle", SIZE)
def add_an_entry(bundle):
    entries_of(bundle, lambda entries: entries.append(b"{}"), EDGE)


@found_by("bundle", 511)
def cut_a_file_of_entries(bundle):
    bundle.change(SECOND, lambda data: data[:-1])


@found_by("entry", 0)
def swap_two_files_of_entries(bundle):
    one, other = bundle.read("tile/entries/000"), bundle.read(SECOND)
    bundle.write("tile/entries/000", other)
    bundle.write(SECOND, one)


# --- tiles ----------------------------------------------------------------------------


@found_by("tile")
def edit_a_leaf(bundle):
    bundle.change("tile/0/001", lambda data: flip(data, 44 * 32))


@found_by("tile", 512)
def edit_a_leaf_at_the_edge(bundle):
    bundle.change("tile/0/002.p/188", flip)


@found_by("tile", 256)
def edit_the_level_above(bundle):
    bundle.change("tile/1/000.p/2", lambda data: flip(data, 40))


@found_by("tile", 256)
def cut_a_hash_to_31_bytes(bundle):
    bundle.change("tile/0/001", lambda data: data[:-1])


@found_by("tile", 0)
def lengthen_a_tile(bundle):
    bundle.change("tile/0/000", lambda data: data + bytes(32))


@found_by("missing", 256)
def delete_a_tile(bundle):
    (bundle.path / "tile/0/001").unlink()


@found_by("unexpected", None)
def add_a_tile_beyond_the_end(bundle):
    bundle.write("tile/0/003", bytes(8192))


@found_by("tile", 0)
def swap_two_tiles(bundle):
    one, other = bundle.read("tile/0/000"), bundle.read("tile/0/001")
    bundle.write("tile/0/000", other)
    bundle.write("tile/0/001", one)


# --- the checkpoint -------------------------------------------------------------------


def note_of(bundle, old, new):
    bundle.change("checkpoint", lambda data: data.replace(old, new, 1))


def root_of(bundle):
    return bundle.read("checkpoint").split(b"\n")[2]


@found_by("signature", None)
def change_the_size(bundle):
    note_of(bundle, b"\n700\n", b"\n699\n")


@found_by("signature", None)
def change_the_root(bundle):
    root = root_of(bundle)
    note_of(bundle, root, base64.b64encode(flip(base64.b64decode(root))))


@found_by("checkpoint", None)
def cut_the_root_to_31_bytes(bundle):
    root = root_of(bundle)
    note_of(bundle, root, base64.b64encode(base64.b64decode(root)[:31]))


@found_by("origin", None)
def change_the_name_of_the_log(bundle):
    note_of(bundle, bundle.stage.settings.audit.origin.encode() + b"\n", b"other.example/log\n")


@found_by("checkpoint", None)
def take_every_signature_off(bundle):
    bundle.change("checkpoint", lambda data: data.partition("\u2014".encode())[0])


@found_by("signature", None)
def sign_with_another_key(bundle):
    root = base64.b64decode(root_of(bundle))
    head = Checkpoint(bundle.thief.name, SIZE, root)
    bundle.write("checkpoint", sign_checkpoint(head, bundle.thief).encode())


@found_by("unexpected", None)
def put_an_older_checkpoint_in_its_place(bundle):
    bundle.write("checkpoint", bundle.stage.old(BEFORE).read_bytes())


@found_by("missing", None)
def delete_the_checkpoint(bundle):
    (bundle.path / "checkpoint").unlink()


@found_by("signature", None)
def begin_an_empty_log(bundle):
    bundle.sign(bundle.lay_out([]), bundle.thief)


# --- what the key alone does not tell -------------------------------------------------


@found_by("rollback", BEFORE, old=SIZE)
def cut_the_end_off(bundle):
    bundle.lay_out(bundle.entries()[:BEFORE])
    put_an_older_checkpoint_in_its_place(bundle)


@found_by("rollback", 0, old=SIZE)
def empty_it_with_the_stolen_key(bundle):
    bundle.sign(bundle.lay_out([]), bundle.stage.stolen_key)


@found_by("fork", 0, old=BEFORE)
def edit_an_entry_with_the_stolen_key(bundle):
    entries = bundle.entries()
    entries[HERE] = turned(entries[HERE])
    bundle.sign(bundle.lay_out(entries), bundle.stage.stolen_key)


@found_by("fork", 0, old=SIZE)
def cut_the_end_off_and_grow_another_with_the_stolen_key(bundle):
    entries = bundle.entries()
    bundle.sign(bundle.lay_out(entries[:BEFORE] + entries[:150]), bundle.stage.stolen_key)


@found_by("witness", None, witness=True)
def drop_the_cosignature(bundle):
    lines = bundle.read("checkpoint").splitlines(keepends=True)
    bundle.write("checkpoint", b"".join(lines[:-1]))


@found_by("witness", None, witness=True)
def put_the_cosignature_of_another_size_under_it(bundle):
    drop_the_cosignature(bundle)
    line = WITNESS.cosign(bundle.stage.old(300).read_text().rpartition("\n\n")[0] + "\n", 1)
    bundle.change("checkpoint", lambda data: data + line.encode())


@found_by("witness", None, witness=True)
def cosign_as_a_witness_of_the_same_name(bundle):
    drop_the_cosignature(bundle)
    text = bundle.read("checkpoint").decode().rpartition("\n\n")[0] + "\n"
    line = Cosigner.from_seed(WITNESS.verifier.name, bytes(32)).cosign(text, 1)
    bundle.change("checkpoint", lambda data: data + line.encode())


# --- the matrix -----------------------------------------------------------------------


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """One export of each engine's registry."""
    made = {}

    def of(staged):
        kind = staged.settings.on_postgres
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("exported") / "bundle"
            asyncio.run(export(staged, made[kind]))
        return made[kind]

    return of


@pytest.fixture
def bundle(exported, staged, tmp_path):
    """An honest export of the registry of the stage, to be spoilt."""
    path = tmp_path / "bundle"
    shutil.copytree(exported(staged), path)
    return Bundle(path, staged)


def verified(yinyom, bundle, path=None, *, old=None, witness=False, key=None):
    earlier = () if old is None else ("--old", bundle.stage.old(old))
    cosigner = ("--witness", WITNESS.vkey) if witness else ()
    place = (path or bundle.path, "--key", key or bundle.stage.vkey)
    return yinyom("audit", "verify", *place, *earlier, *cosigner, stage=bundle.stage)


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_spoilt_export_is_found_and_the_place_named(bundle, yinyom, name):
    change, check, index, details = MUTATIONS[name]
    change(bundle)
    code, answer = verified(yinyom, bundle, **details)
    assert (code > 0, answer["ok"]) == (True, False)
    assert (check, index) in list(places(answer)), answer["findings"]


def test_what_an_export_alone_cannot_show_passes_without_help(bundle, yinyom):
    """A log cut short is a log, and who holds the key signs what he likes: hence `--old`."""
    for change in (cut_the_end_off, edit_an_entry_with_the_stolen_key):
        copy = Bundle(bundle.path.with_name(change.__name__), bundle.stage)
        shutil.copytree(bundle.path, copy.path)
        change(copy)
        assert verified(yinyom, copy)[0] == 0


def test_the_key_of_another_log_opens_nothing(bundle, yinyom):
    for signer in (bundle.thief, Signer.from_seed("other.example/log", bytes(32))):
        code, answer = verified(yinyom, bundle, key=signer.vkey)
        assert code == 1
        assert ("signature", None) in list(places(answer))


def test_the_matrix_has_forty_mutations_and_more():
    assert len(MUTATIONS) >= 40


# --- zips -----------------------------------------------------------------------------


def zipped(bundle, **more):
    path = bundle.path.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(bundle.path.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(bundle.path).as_posix())
        for name, data in more.items():
            archive.writestr(name, data)
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("way", ["honest", "cut", "flipped", "longer", "led", "doubled"])
def test_a_spoilt_zip_is_found(bundle, yinyom, way):
    path = zipped(bundle, **({"checkpoint": b"x"} if way == "doubled" else {}))
    data = path.read_bytes()
    spoilt = {
        "cut": data[:-40],
        "flipped": flip(data, data.index(b'"outcome"')),
        "longer": data + b"x",
        "led": b"x" + data,
    }
    path.write_bytes(spoilt.get(way, data))
    code, answer = verified(yinyom, bundle, path)
    assert (code == 0) is (way == "honest"), answer["findings"]


# --- a tree of three levels -----------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "at", "index"),
    [
        ("tile/0/100", 0, 25_600),
        ("tile/1/000", 32 * 5, 5 * 256),
        ("tile/1/001.p/1", 0, 65_536),
        ("tile/2/000.p/1", 0, 0),
    ],
)
def test_an_edited_tile_of_any_level_is_named(
    large_bundle, tmp_path, vkey, yinyom, staged_sqlite, name, at, index
):
    path = tmp_path / "bundle"
    shutil.copytree(large_bundle, path)
    (path / name).write_bytes(flip((path / name).read_bytes(), at))
    code, answer = yinyom("audit", "verify", path, "--key", vkey, stage=staged_sqlite)
    assert code == 1
    assert ("tile", index) in list(places(answer)), answer["findings"]


@pytest.fixture(scope="module")
def large_bundle(make_log, tmp_path_factory):
    from audit.export import write_bundle

    path = tmp_path_factory.mktemp("large") / "bundle"
    write_bundle(path, make_log(66_000))
    return path


# --- proofs of single events ----------------------------------------------------------


def base64_of(text, act):
    return base64.b64encode(act(base64.b64decode(text))).decode()


PROOFS = {
    "event edited": lambda p: p | {"event": base64_of(p["event"], turned)},
    "index shifted up": lambda p: p | {"index": p["index"] + 1},
    "index shifted down": lambda p: p | {"index": p["index"] - 1},
    "index beyond the end": lambda p: p | {"index": SIZE},
    "two hashes swapped": lambda p: p | {"hashes": [*p["hashes"][1::-1], *p["hashes"][2:]]},
    "a hash dropped": lambda p: p | {"hashes": p["hashes"][:-1]},
    "a hash added": lambda p: p | {"hashes": [*p["hashes"], p["hashes"][0]]},
    "a hash of 31 bytes": lambda p: (
        p | {"hashes": [base64_of(p["hashes"][0], lambda h: h[:31]), *p["hashes"][1:]]}
    ),
    "a hash flipped": lambda p: p | {"hashes": [base64_of(p["hashes"][0], flip), *p["hashes"][1:]]},
    "the size changed": lambda p: (
        p | {"checkpoint": p["checkpoint"].replace(f"\n{SIZE}\n", f"\n{SIZE - 1}\n")}
    ),
    "the signature gone": lambda p: p | {"checkpoint": p["checkpoint"].partition("\u2014")[0]},
    "no checkpoint": lambda p: {key: value for key, value in p.items() if key != "checkpoint"},
}
MIXED = ("event", "id", "hashes", "index")


@pytest.fixture(scope="session")
def proofs():
    """Proofs of two events, from each engine."""
    made = {}

    def of(staged):
        kind = staged.settings.on_postgres
        if kind not in made:
            made[kind] = asyncio.run(prove(staged))
        return made[kind]

    return of


async def prove(staged):
    from audit.proof import proof_document, prove_inclusion
    from tests.support.trail import read_trail

    trail = await read_trail(staged)
    async with open_world(staged.settings, background=False) as world:
        found = []
        for index in (HERE, 40):
            row = trail.event(index)
            async with world.runtime.database.read() as session:
                proof = await prove_inclusion(session, row["id"])
            found.append(proof_document(row["id"], row["body"], proof))
    return found


@pytest.mark.parametrize("name", ["honest", *PROOFS, *MIXED])
def test_a_spoilt_proof_is_refused(proofs, staged, tmp_path, yinyom, name):
    proof, other = proofs(staged)
    spoilt = proof | {name: other[name]} if name in MIXED else PROOFS.get(name, dict)(proof)
    file = tmp_path / "proof.json"
    file.write_text(json.dumps(spoilt))
    code, answer = yinyom("audit", "verify-proof", file, "--key", staged.vkey, stage=staged)
    assert (code, answer["ok"]) == ((0, True) if name == "honest" else (1, False))


def test_a_proof_signed_by_another_key_is_refused(proofs, staged, tmp_path, yinyom):
    file = tmp_path / "proof.json"
    file.write_text(json.dumps(proofs(staged)[0]))
    thief = Signer.from_seed(staged.settings.audit.origin, bytes(32)).vkey
    code, answer = yinyom("audit", "verify-proof", file, "--key", thief, stage=staged)
    assert (code, answer["ok"]) == (1, False)
