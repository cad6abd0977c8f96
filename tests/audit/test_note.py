"""Signed notes and checkpoints: strict in, exact out."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import NoteError
from audit.note import (
    COSIGNATURE_V1,
    Checkpoint,
    Cosigner,
    Signer,
    Verifier,
    open_checkpoint,
    open_note,
    sign_checkpoint,
    sign_note,
    split_note,
)

# The example in the documentation of Go's golang.org/x/mod/sumdb/note.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
GO_TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
GO_NOTE = (
    GO_TEXT + "\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2p"
    "ZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
GO_SECOND = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33"
    "WWd1RvMc+QQ=\n"
)
# The example of c2sp.org/signed-note, whose text has an empty line in it.
POEM = (
    "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n"
    "— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQ"
    "U0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"
)
SIGNER = Signer.from_seed("log.example/a", bytes(range(32)))
LOG = SIGNER.verifier
HEAD = Checkpoint("log.example/a", 7, bytes(range(32)))
NOTE = sign_checkpoint(HEAD, SIGNER)
BLOB = NOTE.split(" ")[-1].strip()


def test_gos_documented_note_opens_with_gos_documented_key():
    note = open_note(GO_NOTE, [Verifier.from_vkey(GO_VKEY)])
    assert note.text == GO_TEXT
    assert [verifier.vkey for verifier in note.signed_by] == [GO_VKEY]


def test_gos_documented_seed_signs_the_very_same_note():
    signer = Signer.from_seed("PeterNeumann", GO_SEED)
    assert signer.vkey == GO_VKEY
    assert sign_note(GO_TEXT, signer) == GO_NOTE


def test_signatures_by_unknown_keys_are_ignored():
    assert open_note(GO_NOTE + GO_SECOND, [Verifier.from_vkey(GO_VKEY)]).text == GO_TEXT


def test_the_text_ends_at_the_last_empty_line():
    text, signatures = split_note(POEM)
    assert text.endswith("sole:\n\ned è subito sera.\n")
    assert [(name, key_id.hex()) for name, key_id, _ in signatures] == [
        ("quasimodo.example/salvatore", "367ba04b")
    ]


def test_own_vectors_hold(own_vectors):
    vectors = own_vectors("notes")
    signer = Signer.from_seed(vectors["origin"], bytes.fromhex(vectors["seed"]))
    witness = Verifier.from_vkey(vectors["witness_vkey"])
    assert signer.vkey == vectors["vkey"]
    assert witness.kind == COSIGNATURE_V1
    for name, size in (("empty", 0), ("three", 3)):
        head = open_checkpoint(vectors[name], Verifier.from_vkey(vectors["vkey"]))
        assert (head.origin, head.size) == (vectors["origin"], size)
        assert sign_checkpoint(head, signer) == vectors[name]
    cosigned = open_note(vectors["three_cosigned"], [signer.verifier, witness])
    assert cosigned.signed_by == (signer.verifier, witness)


def test_a_note_that_no_known_key_signed_is_refused():
    with pytest.raises(NoteError, match="no known key"):
        open_note(POEM, [Verifier.from_vkey(GO_VKEY)])
    with pytest.raises(NoteError, match="no known key"):
        open_note(GO_NOTE, [])


def test_a_wrong_signature_of_a_known_key_condemns_a_note_that_others_signed_well():
    other = Signer.from_seed("log.example/b", bytes(32))
    forged = other.sign("another text\n")
    with pytest.raises(NoteError, match=r"log\.example/b"):
        open_note(NOTE + forged, [LOG, other.verifier])


def test_a_namesake_with_another_key_is_a_stranger():
    namesake = Signer.from_seed("log.example/a", bytes(32))
    with pytest.raises(NoteError, match="no known key"):
        open_checkpoint(sign_checkpoint(HEAD, namesake), LOG)


def test_a_cosignature_of_another_time_or_text_is_refused(own_vectors):
    vectors = own_vectors("notes")
    witness = Verifier.from_vkey(vectors["witness_vkey"])
    text, signatures = split_note(vectors["three_cosigned"])
    cosignature = signatures[1][2]
    assert witness.accepts(text, cosignature)
    later = (int.from_bytes(cosignature[:8]) + 1).to_bytes(8) + cosignature[8:]
    assert not witness.accepts(text, later)
    assert not witness.accepts(text.replace("3", "4", 1), cosignature)
    assert not witness.accepts(text, cosignature[:8])


@pytest.mark.parametrize("at", range(len(NOTE)))
def test_no_character_of_a_signed_checkpoint_can_be_changed(at):
    changed = NOTE[:at] + ("A" if NOTE[at] != "A" else "B") + NOTE[at + 1 :]
    with pytest.raises(NoteError):
        open_checkpoint(changed, LOG)


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n\n",
        NOTE[:-1],
        NOTE.replace("\n\n", "\n"),
        NOTE + "\n",
        NOTE + "no signature line\n",
        NOTE + "— log.example/x\n",
        NOTE + "— log.example/x !!!!\n",
        NOTE + "— log.example/x AAAAAA==\n",
        NOTE + "— log.example/x AAAAAAA\n",
        NOTE + "—  AAAAAAA=\n",
        NOTE + "— log+example AAAAAAA=\n",
        NOTE.replace("— ", "- "),
        NOTE.replace("\n", "\r\n"),
        "\t" + NOTE,
        NOTE + "— log.example/x AAAAAAA=\n" * 100,
        "x" * 1_000_001 + NOTE,
    ],
)
def test_a_malformed_note_is_refused_even_where_the_signature_would_fit(note):
    with pytest.raises(NoteError):
        open_note(note, [LOG])


@pytest.mark.parametrize(
    "body",
    [
        "",
        "log.example/a\n7\n",
        "log.example/a\n7\n" + "A" * 43 + "=",
        "\n7\n" + "A" * 43 + "=\n",
        "log.example/a\n07\n" + "A" * 43 + "=\n",
        "log.example/a\n-7\n" + "A" * 43 + "=\n",
        "log.example/a\n+7\n" + "A" * 43 + "=\n",
        "log.example/a\n7.0\n" + "A" * 43 + "=\n",
        "log.example/a\n٧\n" + "A" * 43 + "=\n",
        "log.example/a\n\n" + "A" * 43 + "=\n",
        "log.example/a\n9223372036854775808\n" + "A" * 43 + "=\n",
        "log.example/a\n" + "9" * 5000 + "\n" + "A" * 43 + "=\n",
        "log.example/a\n7\n" + "A" * 43 + "\n",
        "log.example/a\n7\n" + "A" * 42 + "B=\n",
        "log.example/a\n7\n" + "A" * 41 + "==\n",
        "log.example/a\n7\n" + "A" * 43 + "=\nan extension\n",
        "log.example/a\n7\n" + "A" * 43 + "=\n\n",
    ],
)
def test_a_checkpoint_that_could_be_read_in_two_ways_is_refused(body):
    with pytest.raises(NoteError):
        Checkpoint.parse(body)


@pytest.mark.parametrize(
    ("origin", "size", "root"),
    [("", 1, bytes(32)), ("a\nb", 1, bytes(32)), ("a", -1, bytes(32)), ("a", 2**63, bytes(32)),
     ("a", 1, bytes(31)), ("a", 1, bytes(33))],
)  # fmt: skip
def test_a_checkpoint_that_could_not_be_written_is_never_made(origin, size, root):
    with pytest.raises(NoteError):
        Checkpoint(origin, size, root)


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "PeterNeumann",
        "PeterNeumann+c74f20a3",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeuman+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+Ahpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10Q=",
        "Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ],
)
def test_a_verifier_key_with_anything_wrong_in_it_is_refused(vkey):
    with pytest.raises(NoteError):
        Verifier.from_vkey(vkey)


def test_a_log_signs_only_under_the_name_of_its_origin():
    with pytest.raises(NoteError, match="origin"):
        sign_checkpoint(Checkpoint("log.example/b", 7, bytes(32)), SIGNER)


def test_a_checkpoint_of_another_origin_is_refused_though_the_key_signed_it():
    stray = sign_note(Checkpoint("log.example/b", 7, bytes(32)).body(), SIGNER)
    with pytest.raises(NoteError, match="another log"):
        open_checkpoint(stray, LOG)


def test_no_checkpoint_is_opened_with_the_key_of_a_witness():
    """What a witness of the log's own name has signed says what it saw, and vouches for nothing."""
    seeing = Cosigner.from_seed(LOG.name, bytes(32))
    note = HEAD.body() + "\n" + seeing.cosign(HEAD.body(), 1_700_000_000)
    assert open_note(note, [seeing.verifier]).signed_by == (seeing.verifier,)
    with pytest.raises(NoteError, match="type 1"):
        open_checkpoint(note, seeing.verifier)


def test_only_a_whole_text_is_signed():
    with pytest.raises(NoteError, match="newline"):
        sign_note("no newline at the end", SIGNER)
    with pytest.raises(NoteError, match="control"):
        sign_note("a\ttab\n", SIGNER)
    with pytest.raises(NoteError, match="signature"):
        sign_note("unsigned\n")


def test_a_signing_key_is_32_bytes_and_is_not_shown():
    with pytest.raises(NoteError):
        Signer.from_seed("log.example/a", bytes(31))
    seed = bytes(range(32))
    assert seed.hex() not in repr(SIGNER)
    assert repr(seed)[2:-1] not in repr(SIGNER)


@given(
    origin=st.text(st.characters(min_codepoint=33, exclude_categories=["C", "Z"]), min_size=1),
    size=st.integers(0, 2**63 - 1),
    root=st.binary(min_size=32, max_size=32),
)
def test_a_checkpoint_survives_signing_and_opening(origin, size, root):
    head = Checkpoint(origin, size, root)
    assert Checkpoint.parse(head.body()) == head
    if "+" not in origin:
        signer = Signer.from_seed(origin, bytes(32))
        assert open_checkpoint(sign_checkpoint(head, signer), signer.verifier) == head
        assert Verifier.from_vkey(f" {signer.vkey}\n") == signer.verifier


@given(st.text())
def test_no_text_breaks_the_reader_of_notes(text):
    with pytest.raises(NoteError):
        open_note(text, [LOG])
