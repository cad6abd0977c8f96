"""What rotations there were, and which one has begun and not ended: the SQL of `vault_rotation`."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, select, update

from kernel import NotFoundError, ReadSession, Row, Statement, UnitOfWork, new_id
from vault.tables import vault_rotation

REWRAP = "rewrap"
RING = "ring"
SEAL = "seal"
KMS = "kms"

_BEGIN = Statement.for_dialect(
    lambda insert_into: (
        insert_into(vault_rotation)
        .values(
            id=bindparam("id"),
            kind=bindparam("kind"),
            began_us=bindparam("began_us"),
            ended_us=None,
            buckets=bindparam("buckets"),
            erasures=bindparam("erasures"),
            moved=0,
            oldest_root=0,
            newest_root=0,
        )
        .on_conflict_do_nothing()
    )
)
_OPEN = Statement(
    select(vault_rotation).where(
        vault_rotation.c.kind == bindparam("kind"), vault_rotation.c.ended_us.is_(None)
    )
)
_ONE = Statement(select(vault_rotation).where(vault_rotation.c.id == bindparam("rotation_id")))
_SET_ROOTS = Statement(
    update(vault_rotation)
    .where(vault_rotation.c.id == bindparam("rotation_id"))
    .values(oldest_root=bindparam("oldest"), newest_root=bindparam("newest"))
)
_COUNT = Statement(
    update(vault_rotation)
    .where(vault_rotation.c.id == bindparam("rotation_id"))
    .values(
        buckets=vault_rotation.c.buckets + bindparam("more_buckets"),
        moved=vault_rotation.c.moved + bindparam("more_keys"),
    )
)
_END = Statement(
    update(vault_rotation)
    .where(vault_rotation.c.id == bindparam("rotation_id"), vault_rotation.c.ended_us.is_(None))
    .values(ended_us=bindparam("at_us"))
)
_LAST = Statement(
    select(vault_rotation)
    .where(vault_rotation.c.kind == bindparam("kind"), vault_rotation.c.ended_us.is_not(None))
    .order_by(vault_rotation.c.ended_us.desc())
    .limit(1)
)


@dataclass(frozen=True, slots=True)
class Rotation:
    """One rotation: what it covers, and the ring roots it found and made (0 when it has none)."""

    id: str
    kind: str
    began_us: int
    ended_us: int | None
    buckets: int
    erasures: int
    moved: int
    oldest_root: int
    newest_root: int

    @property
    def destroyed_roots(self) -> Sequence[int]:
        """The versions of the ring root that it destroys."""
        return range(self.oldest_root, self.newest_root)


async def begin(
    work: UnitOfWork, kind: str, *, now_us: int, buckets: int = 0, erasures: int = 0
) -> bool:
    """Begin a rotation; False when one of this kind has begun and not ended."""
    done = await work.run(
        _BEGIN,
        id=new_id("rot", now_us),
        kind=kind,
        began_us=now_us,
        buckets=buckets,
        erasures=erasures,
    )
    return done == 1


async def open_one(session: ReadSession, kind: str) -> Rotation | None:
    """Give the rotation of a kind that has begun and not ended."""
    return _read(await session.first(_OPEN, kind=kind))


async def last(session: ReadSession, kind: str) -> Rotation | None:
    """Give the rotation of a kind that ended last."""
    return _read(await session.first(_LAST, kind=kind))


async def one(session: ReadSession, rotation_id: str) -> Rotation:
    """Give a rotation by its id."""
    found = _read(await session.first(_ONE, rotation_id=rotation_id))
    if found is None:
        raise NotFoundError("no such rotation", reason="rotation_unknown")
    return found


async def set_roots(work: UnitOfWork, rotation: Rotation, oldest: int, newest: int) -> None:
    """Note which ring roots a rotation found, and which one it made."""
    await work.run(_SET_ROOTS, rotation_id=rotation.id, oldest=oldest, newest=newest)


async def count(work: UnitOfWork, rotation: Rotation, buckets: int, keys: int) -> None:
    """Count buckets and member keys that a rotation moved."""
    await work.run(_COUNT, rotation_id=rotation.id, more_buckets=buckets, more_keys=keys)


async def end(work: UnitOfWork, rotation: Rotation, *, now_us: int) -> bool:
    """End a rotation; False when somebody else has."""
    return await work.run(_END, rotation_id=rotation.id, at_us=now_us) == 1


def _read(row: Row | None) -> Rotation | None:
    if row is None:
        return None
    return Rotation(**{name: row[name] for name in Rotation.__dataclass_fields__})
