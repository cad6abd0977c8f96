"""The proof of one event, as a stranger with the log's key and nothing else checks it."""

import base64
import json

import pytest

from audit import AuditError, InclusionProof, Signer, check_document, proof_document
from audit.manifest import manifest_of, row_path, write_rows
from audit.merkle import leaf_hash, node_hash
from audit.note import Checkpoint, sign_checkpoint
from audit.proof import RowProof

EVENTS = [b'{"id":"evt_a"}', b'{"id":"evt_b"}', b"no event"]
LOG = Signer.from_seed("log.example/yinyom", b"k" * 32)
OTHER = Signer.from_seed("log.example/yinyom", b"o" * 32)


def proof_of(index, event_id, signer=LOG):
    a, b, c = map(leaf_hash, EVENTS)
    head = Checkpoint(signer.name, 3, node_hash(node_hash(a, b), c))
    path = {0: (b, c), 1: (a, c), 2: (node_hash(a, b),)}[index]
    note = sign_checkpoint(head, signer)
    return proof_document(event_id, EVENTS[index], InclusionProof(index, path, head, note))


def test_a_proof_gives_the_event_and_the_head_it_is_under():
    event, head = check_document(proof_of(1, "evt_b"), LOG.vkey)
    assert (event, head.size) == ({"id": "evt_b"}, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "evt_a"},
        {"index": 0},
        {"index": -1},
        {"index": 10**30},
        {"index": True},
        {"index": None},
        {"event": base64.b64encode(EVENTS[0]).decode()},
        {"event": "not base64"},
        {"event": None},
        {"hashes": []},
        {"hashes": None},
        {"hashes": ["", ""]},
        {"hashes": [1, 2]},
        {"hashes": proof_of(1, "evt_b")["hashes"][::-1]},
        {"hashes": proof_of(1, "evt_b")["hashes"] * 2},
        {"checkpoint": proof_of(1, "evt_b")["checkpoint"].replace("\n3\n", "\n4\n")},
        {"checkpoint": proof_of(1, "evt_b", OTHER)["checkpoint"]},
        {"checkpoint": ""},
        {"checkpoint": None},
    ],
)
def test_a_changed_proof_is_refused(change):
    with pytest.raises(AuditError):
        check_document(proof_of(1, "evt_b") | change, LOG.vkey)


def bulk_proof(**changes):
    """The proof of the third of five rows, under an event that is the whole log."""
    fields, rows = write_rows({f"{at * 7919:032x}": ["phone"] for at in range(5)})
    said = {"id": "evt_m", "fields": list(fields), "manifest": manifest_of(rows)._asdict()}
    raw = json.dumps(said).encode()
    note = sign_checkpoint(Checkpoint(LOG.name, 1, leaf_hash(raw)), LOG)
    head = Checkpoint(LOG.name, 1, leaf_hash(raw))
    document = proof_document("evt_m", raw, InclusionProof(0, (), head, note))
    row, path = row_path(rows, 2)
    return document | {"row": RowProof(2, row, tuple(path)).document() | changes}


def test_a_row_is_proven_with_its_event():
    event, _ = check_document(bulk_proof(), LOG.vkey)
    assert event["row"] == {"place": 2, "token": f"{2 * 7919:032x}", "fields": ["phone"]}
    assert "row" not in check_document(bulk_proof() | {"row": None}, LOG.vkey)[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"place": 1},
        {"place": -1},
        {"place": True},
        {"place": None},
        {"row": f"{3 * 7919:032x} 1"},
        {"row": f"{2 * 7919:032x} 0"},
        {"row": ""},
        {"row": "\udcff"},
        {"row": None},
        {"hashes": []},
        {"hashes": None},
        {"hashes": [1]},
        {"hashes": bulk_proof()["row"]["hashes"][::-1]},
    ],
)
def test_a_changed_row_is_refused(changes):
    with pytest.raises(AuditError):
        check_document(bulk_proof(**changes), LOG.vkey)


@pytest.mark.parametrize("said", [[], "row", 7, True])
def test_a_row_that_is_none_is_refused(said):
    with pytest.raises(AuditError):
        check_document(bulk_proof() | {"row": said}, LOG.vkey)


def test_a_row_under_an_event_without_rows_or_without_the_event_is_refused():
    row = bulk_proof()["row"]
    with pytest.raises(AuditError):
        check_document(proof_of(1, "evt_b") | {"row": row}, LOG.vkey)
    leaf = base64.b64encode(leaf_hash(base64.b64decode(bulk_proof()["event"]))).decode()
    with pytest.raises(AuditError):
        check_document(bulk_proof() | {"event": None, "leaf": leaf}, LOG.vkey)


@pytest.mark.parametrize("document", [None, [], "evt_b", {}, {"index": 1}])
def test_what_is_no_proof_is_refused(document):
    with pytest.raises(AuditError):
        check_document(document, LOG.vkey)


def test_a_leaf_that_is_no_event_proves_no_event():
    with pytest.raises(AuditError):
        check_document(proof_of(2, None), LOG.vkey)
