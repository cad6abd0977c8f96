"""That one stored event is in the signed log: making the proof, and checking it.

The check takes nothing for granted that lies in the database: the leaf is hashed anew from the
stored bytes, the path is climbed, and the root must be one that the log's own key has signed.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from audit import repository
from audit.errors import ProofError
from audit.manifest import check_row, row_path, tokens_of
from audit.manifest_repository import rows_of
from audit.merkle import consistency_proof, inclusion_proof, leaf_hash, verify_inclusion
from audit.note import Checkpoint, Verifier, open_checkpoint, split_note
from audit.tiles import TileNodes, tiles_for_consistency, tiles_for_inclusion
from kernel import ReadSession


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """The path from one leaf to the root of a signed checkpoint; hashes bottom first."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: Checkpoint
    note: str


async def prove_inclusion(session: ReadSession, event_id: str) -> InclusionProof | None:
    """Prove that an event is under the newest checkpoint; None while it waits for one.

    Raises:
        AuditError: The tiles, the checkpoint or the leaves do not fit together.
    """
    index = await repository.leaf_index_of(session, event_id)
    last = await repository.last_checkpoint(session)
    if index is None or last is None or index >= last[0]:
        return None
    size, _, note = last
    nodes = await _nodes(session, tiles_for_inclusion(index, size))
    hashes = inclusion_proof(index, size, nodes)
    return InclusionProof(index, tuple(hashes), Checkpoint.parse(split_note(note)[0]), note)


@dataclass(frozen=True, slots=True)
class RowProof:
    """One row of an event's manifest, and the path from it to the root that the event names."""

    place: int
    row: bytes
    hashes: tuple[bytes, ...]

    def document(self) -> dict[str, Any]:
        """Write it for somebody else to check: plain JSON, hashes in base64."""
        hashes = [base64.b64encode(one).decode() for one in self.hashes]
        return {"place": self.place, "row": self.row.decode("ascii", "replace"), "hashes": hashes}


async def prove_row(session: ReadSession, event_id: str, tokens: Sequence[str]) -> RowProof | None:
    """Prove the row of one member among those of an event; None when the event has none of them.

    The rows are read whole and no index is asked: it could lead to another's.
    """
    stored = await rows_of(session, event_id)
    wanted = frozenset(tokens)
    for place, token in enumerate(() if stored is None else tokens_of(stored)):
        if stored is not None and token in wanted:
            row, hashes = row_path(stored, place)
            return RowProof(place, row, tuple(hashes))
    return None


async def prove_consistency(session: ReadSession, old: int, size: int) -> list[bytes]:
    """Prove that the log of `size` events continues the one of `old`; hashes in order.

    `TileError` when the tiles do not hold them.
    """
    nodes = await _nodes(session, tiles_for_consistency(old, size))
    return consistency_proof(old, size, nodes)


async def _nodes(session: ReadSession, places: Sequence[tuple[int, int]]) -> TileNodes:
    """Read the tiles that a proof needs."""
    tiles = await repository.tiles_at(session, places)
    return TileNodes(lambda level, n: tiles[level, n])


def check_inclusion(body: bytes, proof: InclusionProof, vkey: str) -> Checkpoint:
    """Check a proof against the stored bytes of an event and the log's key.

    Gives the checkpoint whose signature was checked. `ProofError` or `NoteError` otherwise.
    """
    signed = open_checkpoint(proof.note, Verifier.from_vkey(vkey))
    verify_inclusion(proof.index, signed.size, leaf_hash(body), proof.hashes, signed.root)
    return signed


def proof_document(
    event_id: str, body: bytes | None, proof: InclusionProof, *, leaf: bytes | None = None
) -> dict[str, Any]:
    """Write a proof for somebody else to check, with the event's bytes: plain JSON, base64.

    Where the event was deleted by rule, `leaf` is the hash that is left of it.
    """
    return {
        "id": event_id,
        "index": proof.index,
        "event": None if body is None else base64.b64encode(body).decode(),
        **({} if leaf is None else {"leaf": base64.b64encode(leaf).decode()}),
        "hashes": [base64.b64encode(one).decode() for one in proof.hashes],
        "checkpoint": proof.note,
    }


def check_document(document: object, vkey: str) -> tuple[dict[str, Any] | None, Checkpoint]:
    """Check a proof as `proof_document` wrote it with nothing but the log's key.

    Gives the event and the checkpoint it is under; in the event `row` (place, token, fields) where
    the proof is of one row of its manifest; None for the event where only its leaf hash
    is left, and then what the proof calls itself (`id`) is claimed and not proven. `ProofError`
    or `NoteError` otherwise.
    """
    if not isinstance(document, dict):
        raise ProofError("it is not a proof")
    index, hashes, note = (document.get(name) for name in ("index", "hashes", "checkpoint"))
    if type(index) is not int or index < 0:
        raise ProofError("the index is not the place of an event")
    if not isinstance(hashes, list) or not isinstance(note, str):
        raise ProofError("hashes or checkpoint are missing")
    signed = open_checkpoint(note, Verifier.from_vkey(vkey))
    path = [_unbase64(one) for one in hashes]
    if document.get("event") is None:
        if document.get("row") is not None:
            raise ProofError("a row without its event proves nothing")
        leaf = _unbase64(document.get("leaf"))
        verify_inclusion(index, signed.size, leaf, path, signed.root)
        return None, signed
    body = _unbase64(document.get("event"))
    verify_inclusion(index, signed.size, leaf_hash(body), path, signed.root)
    try:
        event = orjson.loads(body)
    except ValueError:
        raise ProofError("the event is not JSON") from None
    if not isinstance(event, dict) or event.get("id") != document.get("id"):
        raise ProofError("the proof is of another event than it says")
    event.pop("row", None)
    if document.get("row") is not None:
        event["row"] = _check_row(event, document["row"])
    return event, signed


def _check_row(event: dict[str, Any], said: object) -> dict[str, Any]:
    place, row, hashes = (
        said.get(name) if isinstance(said, dict) else None for name in ("place", "row", "hashes")
    )
    if type(place) is not int or not isinstance(row, str) or not isinstance(hashes, list):
        raise ProofError("the row is not of its format")
    path = [_unbase64(one) for one in hashes]
    read = check_row(event, row.encode("utf-8", "replace"), place, path)
    return read.document()


def _unbase64(text: object) -> bytes:
    try:
        return base64.b64decode(text if isinstance(text, str) else "?", validate=True)
    except ValueError:
        raise ProofError("event or hashes are not base64") from None
