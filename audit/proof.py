"""That one stored event is in the signed log: making the proof, and checking it.

The check takes nothing for granted that lies in the database: the leaf is hashed anew from the
stored bytes, the path is climbed, and the root must be one that the log's own key has signed.
"""

from dataclasses import dataclass

from audit import repository
from audit.merkle import inclusion_proof, leaf_hash, verify_inclusion
from audit.note import Checkpoint, Verifier, open_checkpoint, split_note
from audit.tiles import TileNodes, tiles_for_inclusion
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
    tiles = {
        tile: await repository.read_tile(session, *tile)
        for tile in tiles_for_inclusion(index, size)
    }
    hashes = inclusion_proof(index, size, TileNodes(lambda level, n: tiles[level, n]))
    return InclusionProof(index, tuple(hashes), Checkpoint.parse(split_note(note)[0]), note)


def check_inclusion(body: bytes, proof: InclusionProof, vkey: str) -> Checkpoint:
    """Check a proof against the stored bytes of an event and the log's key.

    Gives the checkpoint whose signature was checked. `ProofError` or `NoteError` otherwise.
    """
    signed = open_checkpoint(proof.note, Verifier.from_vkey(vkey))
    verify_inclusion(proof.index, signed.size, leaf_hash(body), proof.hashes, signed.root)
    return signed
