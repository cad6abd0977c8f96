"""The tree of RFC 6962: strangers' vectors, and the RFC's own recursive definitions as oracle."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.errors import ProofError
from audit.merkle import (
    EMPTY_ROOT,
    consistency_proof,
    fold,
    inclusion_proof,
    leaf_hash,
    node_hash,
    tree_root,
    verify_consistency,
    verify_inclusion,
    verify_subtree_consistency,
    verify_subtree_inclusion,
)

LEAVES = [leaf_hash(b"%d" % index) for index in range(600)]
SIZES = st.integers(1, 600)


# The oracle: section 2.1 of RFC 6962, word for word as functions.


def split(n):
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def mth(leaves):
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return node_hash(mth(leaves[:k]), mth(leaves[k:]))


def path(m, leaves):
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m, leaves, whole):
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], whole=False), mth(leaves[:k])]


def read_node(level, index):
    perfect = LEAVES[index << level : (index + 1) << level]
    assert len(perfect) == 1 << level, "a reader is only asked for perfect subtrees"
    return mth(perfect)


# Vectors of transparency-dev/merkle.


def wrong_verdicts(vectors, verify):
    """Names of the vectors on which our verdict is not the expected one."""
    wrong = []
    for name, vector in vectors.items():
        given_hashes = {
            key: base64.b64decode(vector[key] or "")
            for key in ("leafHash", "root", "root1", "root2")
            if key in vector
        }
        proof = [base64.b64decode(each) for each in vector["proof"] or []]
        try:
            verify({**vector, **given_hashes, "proof": proof})
            refused = False
        except ProofError:
            refused = True
        if refused != vector["wantErr"]:
            wrong.append(name)
    return wrong


VERIFIERS = {
    "inclusion": lambda v: verify_inclusion(
        v["leafIdx"], v["treeSize"], v["leafHash"], v["proof"], v["root"]
    ),
    "consistency": lambda v: verify_consistency(
        v["size1"], v["size2"], v["root1"], v["root2"], v["proof"]
    ),
    "subtreeinclusion": lambda v: verify_subtree_inclusion(
        range(v["start"], v["end"]), v["leafIdx"], v["leafHash"], v["proof"], v["root"]
    ),
    "subtreeconsistency": lambda v: verify_subtree_consistency(
        range(v["start"], v["end"]), v["size"], v["root1"], v["root2"], v["proof"]
    ),
}


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("inclusion", 98),
        ("consistency", 98),
        ("subtreeinclusion", 204),
        ("subtreeconsistency", 118),
    ],
)
def test_every_vector_of_transparency_dev_gets_the_expected_verdict(merkle_vectors, name, count):
    vectors = merkle_vectors(name)
    assert len(vectors) == count
    assert wrong_verdicts(vectors, VERIFIERS[name]) == []


def test_hashes_are_those_of_rfc_6962_implementations():
    assert EMPTY_ROOT.hex().startswith("e3b0c44298fc1c14")
    assert leaf_hash(b"").hex().startswith("6e340b9cffb37a98")
    assert leaf_hash(b"L123456").hex().startswith("395aa064aa4c29f7")
    assert node_hash(b"N123", b"N456").hex().startswith("aa217fe888e47007")


def test_own_vectors_hold(own_vectors):
    roots = own_vectors("trees")["roots"]
    for size, root in roots.items():
        leaves = [leaf_hash(b"%d" % index) for index in range(int(size))]
        assert fold(b"".join(leaves)).hex() == root


# Refusals.


@pytest.mark.parametrize("index", [-1, 7, 8, 2**70])
def test_no_inclusion_is_proven_outside_the_tree(index):
    with pytest.raises(ProofError, match="no leaf"):
        inclusion_proof(index, 7, read_node)
    with pytest.raises(ProofError):
        verify_inclusion(index, 7, LEAVES[0], [], mth(LEAVES[:7]))


@pytest.mark.parametrize(("old", "size"), [(0, 5), (0, 0), (6, 5), (-1, 5)])
def test_no_consistency_is_proven_from_nothing_or_backwards(old, size):
    with pytest.raises(ProofError):
        consistency_proof(old, size, read_node)
    with pytest.raises(ProofError):
        verify_consistency(old, size, EMPTY_ROOT, EMPTY_ROOT, [])


def test_an_empty_old_tree_lets_no_root_pass_as_its_continuation():
    root = mth(LEAVES[:5])
    with pytest.raises(ProofError):
        verify_consistency(0, 5, EMPTY_ROOT, root, [root])


def test_a_hash_of_31_bytes_is_refused_wherever_it_stands():
    leaf, root, proof = LEAVES[2], mth(LEAVES[:5]), path(2, LEAVES[:5])
    cut = proof[1][:31]
    for bad in (
        (2, 5, leaf[:31], proof, root),
        (2, 5, leaf, [proof[0], cut, proof[2]], root),
        (2, 5, leaf, proof, root[:31]),
        (0, 1, b"", [], b""),
    ):
        with pytest.raises(ProofError, match="32 bytes"):
            verify_inclusion(*bad)
    old = mth(LEAVES[:3])
    steps = subproof(3, LEAVES[:5], whole=True)
    for roots in ((old[:31], root, steps), (old, root[:31], steps), (old, root, [cut, *steps[1:]])):
        with pytest.raises(ProofError, match="32 bytes"):
            verify_consistency(3, 5, *roots)


@pytest.mark.parametrize("leaves", [range(1, 3), range(2, 5), range(-2, 0), range(0, 4, 2)])
def test_leaves_that_are_not_a_subtree_are_refused(leaves):
    with pytest.raises(ProofError):
        verify_subtree_consistency(leaves, 8, LEAVES[0], LEAVES[1], [])
    with pytest.raises(ProofError):
        verify_subtree_inclusion(leaves, leaves.start, LEAVES[0], [], LEAVES[0])


@given(size=st.integers(2, 300), data=st.data())
def test_a_changed_inclusion_proof_is_refused(size, data):
    index = data.draw(st.integers(0, size - 1))
    proof, root, leaf = path(index, LEAVES[:size]), mth(LEAVES[:size]), LEAVES[index]
    at = data.draw(st.integers(0, len(proof) - 1))
    forged = [*proof[:at], LEAVES[599], *proof[at + 1 :]]
    for bad in (forged, proof[:-1], [*proof, root], proof[1:]):
        with pytest.raises(ProofError):
            verify_inclusion(index, size, leaf, bad, root)
    with pytest.raises(ProofError):
        verify_inclusion((index + 1) % size, size, leaf, proof, root)
    with pytest.raises(ProofError):
        verify_inclusion(index, size, LEAVES[599], proof, root)


@given(size=st.integers(2, 300), data=st.data())
def test_a_changed_history_has_no_consistency_proof(size, data):
    old = data.draw(st.integers(1, size - 1))
    proof = subproof(old, LEAVES[:size], whole=True)
    old_root, root = mth(LEAVES[:old]), mth(LEAVES[:size])
    rewritten = mth([LEAVES[599], *LEAVES[1:size]])
    for bad in (
        (old, size, old_root, rewritten, proof),
        (old, size, mth([LEAVES[599], *LEAVES[1:old]]), root, proof),
        (old, size, old_root, root, proof[:-1]),
        (old, size, old_root, root, [*proof, root]),
        (size, size, old_root, root, proof),
    ):
        with pytest.raises(ProofError):
            verify_consistency(*bad)


# Agreement with the oracle.


@given(size=SIZES)
def test_roots_are_those_of_the_recursive_definition(size):
    expected = mth(LEAVES[:size])
    assert fold(b"".join(LEAVES[:size])) == expected
    assert tree_root(size, read_node) == expected


def test_the_empty_tree_has_the_root_of_nothing():
    assert tree_root(0, read_node) == fold(b"") == EMPTY_ROOT


@settings(deadline=None)
@given(size=SIZES, data=st.data())
def test_inclusion_proofs_are_those_of_the_rfc_and_verify(size, data):
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, size, read_node)
    assert proof == path(index, LEAVES[:size])
    verify_inclusion(index, size, LEAVES[index], proof, mth(LEAVES[:size]))


@settings(deadline=None)
@given(size=SIZES, data=st.data())
def test_consistency_proofs_are_those_of_the_rfc_and_verify(size, data):
    old = data.draw(st.integers(1, size))
    proof = consistency_proof(old, size, read_node)
    assert proof == subproof(old, LEAVES[:size], whole=True)
    verify_consistency(old, size, mth(LEAVES[:old]), mth(LEAVES[:size]), proof)
