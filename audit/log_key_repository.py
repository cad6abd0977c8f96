"""All SQL of the keys that the log was signed with: which one now, and how each followed another.

The head's own row names the key, so whoever has that row locked knows by which key it may move.
"""

from contextlib import suppress

from sqlalchemy import bindparam, func, insert, select, union, update

from audit.errors import NoteError
from audit.log_key import KeyRotation, KnownKeys
from audit.note import Verifier
from audit.tables import audit_head, audit_key, audit_origin
from kernel import ReadSession, Statement, UnitOfWork

_SIGNED_BY = Statement(select(audit_head.c.vkey))
_REKEY = Statement(
    update(audit_head)
    .where(
        audit_head.c.origin == bindparam("of_origin"),
        audit_head.c.size == bindparam("old_size"),
        audit_head.c.fence == bindparam("of_fence"),
    )
    .values(
        size=bindparam("new_size"),
        vkey=bindparam("new_vkey"),
        fence=audit_head.c.fence + 1,
        lease_until_us=0,
    )
)
_ADD = Statement(insert(audit_key).values({c.name: bindparam(c.name) for c in audit_key.columns}))
_ROTATIONS = Statement(select(audit_key).order_by(audit_key.c.size))
_ON_RECORD = Statement(
    union(
        select(audit_head.c.vkey),
        select(audit_key.c.old_vkey),
        select(audit_key.c.new_vkey),
        select(audit_origin.c.vkey),
    )
)
_LAST = Statement(select(func.max(audit_key.c.size).label("size")))


async def signed_by(session: ReadSession) -> str | None:
    """Give the verifier key text that the next head is signed with; None before it was written."""
    row = await session.first(_SIGNED_BY)
    return None if row is None else row["vkey"]


async def rekey_head(work: UnitOfWork, rotation: KeyRotation, old_size: int, fence: int) -> bool:
    """Move the head under the new key and end every lease; False when it has moved meanwhile."""
    moved = {"old_size": old_size, "of_fence": fence, "new_size": rotation.size}
    changed = await work.run(_REKEY, of_origin=rotation.origin, new_vkey=rotation.new_vkey, **moved)
    return changed == 1


async def add_rotation(work: UnitOfWork, rotation: KeyRotation) -> None:
    """Remember how one key followed another."""
    values = {name: getattr(rotation, name) for name in KeyRotation.__slots__}
    await work.run(_ADD, **values)


async def rotations(session: ReadSession) -> list[KeyRotation]:
    """Give every rotation of the log's key, the oldest first."""
    return [KeyRotation(**dict(row)) for row in await session.all(_ROTATIONS)]


async def last_rotation(session: ReadSession) -> int:
    """Give the size of the newest overlap checkpoint; 0 while the log has its first key."""
    row = await session.first(_LAST)
    return 0 if row is None or row["size"] is None else int(row["size"])


async def known_keys(session: ReadSession, current: Verifier) -> KnownKeys:
    """Give what a trusted key knows of the keys before it."""
    return KnownKeys.leading_to(current, await rotations(session))


async def own_keys(session: ReadSession) -> frozenset[bytes]:
    """Give every public key of which anything here says that the log is or was signed with it.

    Proven or not: whoever broke the way to an ended key does not make a stranger's key of it.
    """
    found = set()
    for row in await session.all(_ON_RECORD):
        with suppress(NoteError):  # no key at all; `audit verify --db` names it
            found.add(Verifier.from_vkey(row["vkey"] or "").public)
    return frozenset(found)
