"""The proof of one event, as a stranger with the log's key and nothing else checks it."""

import base64

import pytest

from audit import AuditError, InclusionProof, Signer, check_document, proof_document
from audit.merkle import leaf_hash, node_hash
from audit.note import Checkpoint, sign_checkpoint

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


@pytest.mark.parametrize("document", [None, [], "evt_b", {}, {"index": 1}])
def test_what_is_no_proof_is_refused(document):
    with pytest.raises(AuditError):
        check_document(document, LOG.vkey)


def test_a_leaf_that_is_no_event_proves_no_event():
    with pytest.raises(AuditError):
        check_document(proof_of(2, None), LOG.vkey)
