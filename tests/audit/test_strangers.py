"""Judges that share no line with us: Go's checksum database code, and the package aics-tlog.

Each accepts every honest export and refuses every tampered one. Where a judge is not
installed its tests are skipped and say so.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from audit.export import write_bundle
from audit.merkle import verify_consistency, verify_inclusion
from audit.note import Verifier, open_note
from tests.support.serving import yinyom

PROGRAM = Path(__file__).parents[1] / "interop" / "verify_tlog.go"
GO_LIBRARIES = Path("/usr/share/gocode")
SIZES = [0, 1, 2, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537, 70_000]
MANY = 100_001


@pytest.fixture(scope="session")
def go_judge(tmp_path_factory):
    """The judge in Go, built from Debian's packages without a network."""
    if shutil.which("go") is None:
        pytest.skip("Go is not installed (Debian: golang-go golang-golang-x-mod-dev)")
    if not (GO_LIBRARIES / "src/golang.org/x/mod/sumdb/tlog").is_dir():
        pytest.skip("x/mod is not installed (Debian: golang-golang-x-mod-dev)")
    folder = tmp_path_factory.mktemp("go")
    program = folder / "verify_tlog"
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOPATH": str(GO_LIBRARIES),
        "GOCACHE": str(folder / "cache"),
        "GOFLAGS": "",
        "CGO_ENABLED": "0",
    }
    built = subprocess.run(
        ["go", "build", "-o", program, PROGRAM],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr

    def judge(*arguments):
        done = subprocess.run(
            [program, *map(str, arguments)], capture_output=True, text=True, check=False
        )
        return done.returncode == 0, done.stdout + done.stderr

    return judge


@pytest.fixture(scope="session")
def aics():
    return pytest.importorskip("aics_tlog", reason="aics-tlog is not installed")


def aics_accepts(aics, bundle, vkey, old=None):
    """Signature, every tile, every entry and, if asked for, consistency."""
    note = aics.parse_note((bundle / "checkpoint").read_bytes())
    if not aics.verify_note(note, [aics.parse_vkey(vkey)]):
        return False
    head = aics.parse_checkpoint(note.text)
    reader = aics.FileSystemTileReader(bundle)
    try:
        aics.audit_tiles(reader, head.size, head.root)
    except (aics.TileVerificationError, aics.TileMissingError):
        return False
    if old is None:
        return True
    before = aics.parse_checkpoint(aics.parse_note(old).text)
    proof = aics.consistency_proof_from_tiles(reader, before.size, head.size)
    return aics.verify_consistency(before.size, head.size, before.root, head.root, proof)


@pytest.mark.parametrize("size", SIZES)
def test_go_accepts_an_honest_export(go_judge, export, vkey, size):
    accepted, said = go_judge(export(size), vkey)
    assert accepted, said
    assert said.startswith(f"{size} events")


@pytest.mark.parametrize("size", SIZES)
def test_aics_tlog_accepts_an_honest_export(aics, export, vkey, size):
    assert aics_accepts(aics, export(size), vkey)


@pytest.mark.parametrize("old", [1, 255, 256, 300, 65_537, 70_000])
def test_both_find_the_log_consistent_with_an_older_checkpoint(
    go_judge, aics, export, make_log, vkey, tmp_path, old
):
    bundle = export(70_000)
    note = make_log(old).checkpoint_note()
    (tmp_path / "old").write_text(note)
    accepted, said = go_judge(bundle, vkey, tmp_path / "old")
    assert accepted, said
    assert aics_accepts(aics, bundle, vkey, note)


def flip(path, at):
    data = path.read_bytes()
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


TAMPERS = {
    "an entry is edited": lambda b: flip(b / "tile/entries/100", 20),
    "an entry at the edge is edited": lambda b: flip(b / "tile/entries/273.p/112", 20),
    "a bundle goes on": lambda b: (b / "tile/entries/001").write_bytes(
        (b / "tile/entries/001").read_bytes() + b"\0\2{}"
    ),
    "a bundle is cut": lambda b: (b / "tile/entries/001").write_bytes(
        (b / "tile/entries/001").read_bytes()[:-1]
    ),
    "two bundles change places": lambda b: (
        (b / "tile/entries/001").rename(b / "aside"),
        (b / "tile/entries/002").rename(b / "tile/entries/001"),
        (b / "aside").rename(b / "tile/entries/002"),
    ),
    "a leaf is edited": lambda b: flip(b / "tile/0/100", 3_200),
    "an upper tile is edited": lambda b: flip(b / "tile/1/000", 3_200),
    "the edge is edited": lambda b: flip(b / "tile/2/000.p/1", 0),
    "a tile is cut by a byte": lambda b: (b / "tile/0/100").write_bytes(
        (b / "tile/0/100").read_bytes()[:-1]
    ),
    "a tile is missing": lambda b: (b / "tile/0/100").unlink(),
    "a bundle is missing": lambda b: (b / "tile/entries/100").unlink(),
    "the checkpoint counts fewer": lambda b: (b / "checkpoint").write_bytes(
        (b / "checkpoint").read_bytes().replace(b"\n70000\n", b"\n69888\n")
    ),
    "the root is edited": lambda b: flip(b / "checkpoint", 30),
    "the signature is edited": lambda b: flip(b / "checkpoint", -20),
}


@pytest.fixture(scope="module")
def honest(make_log, tmp_path_factory):
    from audit.export import write_bundle

    destination = tmp_path_factory.mktemp("honest") / "bundle"
    write_bundle(destination, make_log(70_000))
    return destination


@pytest.fixture
def tampered(honest, tmp_path):
    def make(name):
        bundle = tmp_path / "bundle"
        shutil.copytree(honest, bundle)
        TAMPERS[name](bundle)
        return bundle

    return make


@pytest.mark.parametrize("name", TAMPERS)
def test_go_refuses_a_tampered_export(go_judge, tampered, vkey, name):
    accepted, said = go_judge(tampered(name), vkey)
    assert not accepted
    assert said


@pytest.mark.parametrize("name", TAMPERS)
def test_aics_tlog_refuses_a_tampered_export(aics, tampered, vkey, name):
    bundle = tampered(name)
    try:
        accepted = aics_accepts(aics, bundle, vkey)
    except ValueError:
        accepted = False
    assert not accepted


def test_go_refuses_another_key_and_another_history(go_judge, export, make_log, vkey, tmp_path):
    bundle = export(300)
    other = make_log(0)
    other.append([b"{}", *make_log(300).stored[1:]])
    (tmp_path / "old").write_text(other.checkpoint_note())
    assert not go_judge(bundle, vkey, tmp_path / "old")[0]
    key = type(other.signer).from_seed("log.example/tests", bytes(32)).vkey
    assert not go_judge(bundle, key)[0]


def test_our_verifier_functions_accept_the_proofs_of_aics_tlog(aics, export, make_log):
    log = make_log(70_000)
    reader = aics.FileSystemTileReader(export(log))
    root = log.edge.root()
    for index in (0, 255, 256, 65_535, 65_536, 69_999):
        proof = aics.inclusion_proof_from_tiles(reader, index, 70_000)
        leaf = aics.leaf_hash(log.stored[index])
        verify_inclusion(index, 70_000, leaf, proof, root)
        old = index + 1
        steps = aics.consistency_proof_from_tiles(reader, old, 70_000)
        verify_consistency(old, 70_000, make_log(old).edge.root(), root, steps)


def test_a_cosignature_by_aics_tlog_is_understood(aics, make_log):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    log = make_log(5)
    note = log.checkpoint_note()
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(64, 96)))
    name = "witness.example/w1"
    origin = log.signer.name
    line = aics.sign_cosignature(key, name, 1_795_489_203, origin, 5, log.edge.root())[1]
    witness = Verifier.from_vkey(aics.format_vkey(aics.cosignature_vkey(name, key.public_key())))
    signed = aics.parse_note(note)
    cosigned = aics.Note(text=signed.text, signatures=(*signed.signatures, line)).serialise()
    opened = open_note(cosigned, [log.signer.verifier, witness])
    assert opened.signed_by == (log.signer.verifier, witness)


# --- a hundred thousand events --------------------------------------------------------


@pytest.fixture(scope="module")
def many(make_log, tmp_path_factory):
    """An honest export of more than a hundred thousand events."""
    destination = tmp_path_factory.mktemp("many") / "bundle"
    write_bundle(destination, make_log(MANY))
    return destination


def judged(go_judge, aics, bundle, vkey):
    """What each of three says: Go's code, aics-tlog, and `yinyom audit verify`, a program apart."""
    try:
        foreign = aics_accepts(aics, bundle, vkey)
    except ValueError:
        foreign = False
    ours = yinyom("audit", "verify", bundle, "--key", vkey, "--json", data_dir=bundle.parent)
    return go_judge(bundle, vkey)[0], foreign, ours.code, ours.answer


def test_three_verifiers_accept_a_hundred_thousand_events(go_judge, aics, many, vkey):
    go, foreign, code, answer = judged(go_judge, aics, many, vkey)
    assert (go, foreign, code) == (True, True, 0)
    assert (answer["size"], answer["findings"]) == (MANY, [])


MANY_TAMPERS = {
    "an entry": ("tile/entries/300", 20, 76_800, "entry"),
    "the last entry": ("tile/entries/390.p/161", 10, 99_840, "entry"),
    "a leaf": ("tile/0/300", 32 * 7, 76_807, "tile"),
    "the level above": ("tile/1/001.p/134", 32 * 9, 65_536 + 9 * 256, "tile"),
    "the top": ("tile/2/000.p/1", 0, 0, "tile"),
}


@pytest.mark.parametrize("name", MANY_TAMPERS)
def test_three_verifiers_refuse_a_tampered_copy_of_them(go_judge, aics, many, vkey, tmp_path, name):
    file, at, index, check = MANY_TAMPERS[name]
    bundle = tmp_path / "bundle"
    shutil.copytree(many, bundle)
    flip(bundle / file, at)
    go, foreign, code, answer = judged(go_judge, aics, bundle, vkey)
    assert (go, foreign, code) == (False, False, 1)
    assert answer["first_bad_index"] == index
    assert any(str(finding).startswith(f"{check}: event {index}") for finding in answer["findings"])
