"""How the keys stand: which versions are in use, what rests under old ones, what a seal awaits."""

from dataclasses import dataclass

from kernel import ReadSession
from vault import rotation_log as log
from vault import rotation_repository as repository
from vault.rotation_log import Rotation


@dataclass(frozen=True, slots=True)
class RotationStatus:
    """What there is to know without opening any key.

    `roots` are (ring root version, bucket keys under it); `behind` counts member keys under a
    bucket key that is being replaced; `destroyed` and `touched` count keys destroyed since the
    last seal and the buckets they were in.
    """

    roots: tuple[tuple[int, int], ...]
    behind: int
    destroyed: int
    touched: int
    under_way: tuple[str, ...]
    last: dict[str, Rotation]


async def rotation_status(session: ReadSession) -> RotationStatus:
    """Look at how the keys stand."""
    kinds = (log.KMS, log.RING, log.REWRAP, log.SEAL)
    destroyed, touched = await repository.count_destroyed(session)
    found = {kind: await log.last(session, kind) for kind in kinds}
    return RotationStatus(
        roots=tuple(await repository.roots_in_use(session)),
        behind=sum(one.keys for one in await repository.wanted(session)),
        destroyed=destroyed,
        touched=touched,
        under_way=tuple([k for k in kinds if await log.open_one(session, k) is not None]),
        last={kind: one for kind, one in found.items() if one is not None},
    )
