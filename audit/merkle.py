"""The Merkle tree of RFC 6962 section 2.1: hashes, roots, proofs and their verification.

It exists so that one 32-byte root commits to every event ever recorded. Kept out is whoever
owns the database and would like yesterday to have gone differently: without a proof that
these functions accept, an event is not in the log and a log is not the continuation of
another.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256

from audit.errors import ProofError

HASH_SIZE = 32
EMPTY_ROOT = sha256().digest()

NodeReader = Callable[[int, int], bytes]
"""Gives the hash of the perfect subtree `(level, index)`, that is of the leaves
`index << level` up to but not including `(index + 1) << level`."""


def leaf_hash(entry: bytes) -> bytes:
    """Hash one log entry; the 0x00 keeps a leaf from ever passing for a node."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two neighbouring subtrees into their parent."""
    return sha256(b"\x01" + left + right).digest()


def fold(nodes: bytes) -> bytes:
    """Hash concatenated neighbouring subtrees into their common root.

    All subtrees but the last must be perfect and of one height, and the last not higher: an
    odd one is carried up unchanged, which is the split at the largest power of two of
    RFC 6962. Nothing at all folds into the root of the empty tree.
    """
    if not nodes:
        return EMPTY_ROOT
    while len(nodes) > HASH_SIZE:
        even = len(nodes) & ~63
        parents = [sha256(b"\x01" + nodes[at : at + 64]).digest() for at in range(0, even, 64)]
        parents.append(nodes[even:])
        nodes = b"".join(parents)
    return nodes


def tree_root(size: int, read_node: NodeReader) -> bytes:
    """Give the root of the first `size` leaves."""
    return _range_root(0, size, read_node) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, read_node: NodeReader) -> list[bytes]:
    """Prove that leaf `index` is in the tree of `size` leaves (RFC 6962 section 2.1.1).

    The hashes come bottom first, at most 63 of them. `ProofError` when there is no such leaf.
    """
    if not 0 <= index < size:
        raise ProofError(f"there is no leaf {index} in a tree of {size}")
    proof: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            proof.append(_range_root(middle, end, read_node))
            end = middle
        else:
            proof.append(_range_root(start, middle, read_node))
            start = middle
    proof.reverse()
    return proof


def consistency_proof(old: int, size: int, read_node: NodeReader) -> list[bytes]:
    """Prove that the tree of `old` leaves is a prefix of that of `size` (section 2.1.2).

    `ProofError` when `old` is 0 or larger than `size`: the empty tree is a prefix of every
    tree, so there is nothing to prove, and a verifier that accepts such a "proof" has been
    fooled.
    """
    if not 0 < old <= size:
        raise ProofError(f"there is no consistency to prove from size {old} to {size}")
    proof: list[bytes] = []
    start, end = 0, size
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(_range_root(middle, end, read_node))
            end = middle
        else:
            proof.append(_range_root(start, middle, read_node))
            start = middle
    if start:
        proof.append(_range_root(start, end, read_node))
    proof.reverse()
    return proof


def verify_inclusion(
    index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes
) -> None:
    """Check an inclusion proof of a leaf hash (RFC 9162 section 2.1.3.2).

    Raises `ProofError`; returning at all means that the proof holds.
    """
    _require_hashes(leaf, root, *proof)
    verify_subtree_consistency(range(index, index + 1), size, leaf, root, proof)


def verify_consistency(
    old: int, size: int, old_root: bytes, root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the tree of `size` leaves continues that of `old` (RFC 9162, 2.1.4.2).

    Raises `ProofError`; returning at all means that the proof holds. Size 0 is refused, as
    the RFC's own steps would let any root pass for its continuation.
    """
    if old < 1:
        raise ProofError("the empty tree proves nothing about a later one")
    verify_subtree_consistency(range(old), size, old_root, root, proof)


def verify_subtree_inclusion(
    leaves: range, index: int, leaf: bytes, proof: Sequence[bytes], root: bytes
) -> None:
    """Check an inclusion proof of leaf `index` in the subtree of `leaves`; or `ProofError`."""
    _require_subtree(leaves)
    verify_inclusion(index - leaves.start, leaves.stop - leaves.start, leaf, proof, root)


def verify_subtree_consistency(
    leaves: range, size: int, subtree: bytes, root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the subtree of `leaves` is part of the tree of `size` leaves.

    The one algorithm behind the others: a single leaf is a subtree, and so is an earlier
    tree. Steps of draft-ietf-plants-merkle-tree-certs, where no leaves at all are part of
    every tree. Where nothing is computed (no leaves, or all of them) hashes are compared and
    not measured. Raises `ProofError`.
    """
    if leaves.stop > size:
        raise ProofError(f"a tree of {size} leaves has no leaf {leaves.stop - 1}")
    if leaves.start == leaves.stop:
        if proof or subtree != EMPTY_ROOT:
            raise ProofError("no leaves have the empty root and need no proof")
        return
    _require_subtree(leaves)
    if leaves == range(size):
        if proof or subtree != root:
            raise ProofError(f"two trees of size {size} have one root and need no proof")
        return
    _require_hashes(subtree, root, *proof)
    proven_subtree, proven_root = _climb(leaves, size, subtree, proof)
    if proven_subtree != subtree:
        raise ProofError("the proof does not lead to the earlier root")
    if proven_root != root:
        raise ProofError("the proof does not lead to the root of the tree")


def _climb(leaves: range, size: int, subtree: bytes, proof: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Walk a proof from the subtree's right end to the root, and give the roots it leads to."""
    first, last, edge = leaves.start, leaves.stop - 1, size - 1
    while first != last and (last & 1 or last == edge):
        first, last, edge = first >> 1, last >> 1, edge >> 1
    rest = iter(proof)
    seed = subtree if first == last else next(rest, subtree)
    inner = outer = seed
    for sibling in rest:
        if edge == 0:
            raise ProofError("the proof has more hashes than the tree has levels")
        if last & 1 or last == edge:
            if first < last:
                inner = node_hash(sibling, inner)
            outer = node_hash(sibling, outer)
            while not last & 1 and last:
                first, last, edge = first >> 1, last >> 1, edge >> 1
        else:
            outer = node_hash(outer, sibling)
        first, last, edge = first >> 1, last >> 1, edge >> 1
    if edge:
        raise ProofError("the proof has fewer hashes than the tree has levels")
    return inner, outer


def _split(width: int) -> int:
    """Give the largest power of two below `width`."""
    return 1 << (width - 1).bit_length() - 1


def _range_root(start: int, end: int, read_node: NodeReader) -> bytes:
    """Give the root of leaves `start..end`, where `start` is a multiple of their power of two."""
    hashes: list[bytes] = []
    while start < end:
        level = (end - start).bit_length() - 1
        hashes.append(read_node(level, start >> level))
        start += 1 << level
    root = hashes.pop()
    while hashes:
        root = node_hash(hashes.pop(), root)
    return root


def _require_hashes(*hashes: bytes) -> None:
    """Refuse anything that is not a SHA-256 digest, which RFC 9162's steps take for granted."""
    if any(len(each) != HASH_SIZE for each in hashes):
        raise ProofError("a hash is not 32 bytes long")


def _require_subtree(leaves: range) -> None:
    """Refuse leaves that do not begin at a multiple of the power of two that holds them."""
    width = leaves.stop - leaves.start
    if leaves.step != 1 or leaves.start < 0 or width < 1:
        raise ProofError("a subtree is a run of neighbouring leaves")
    if leaves.start % (1 << (width - 1).bit_length()):
        raise ProofError(f"leaves {leaves.start} up to {leaves.stop} are not a subtree")
