"""Dropping checkpoints that say nothing others do not say, and only those.

A log that signs twenty heads a second would keep millions that nobody asks for. What stays: the
newest, the first of every hour, whatever a witness signed, whatever an anchor holds, and every
checkpoint of the last day. The database's own guard decides; this only proposes. A head that was
dropped here and kept elsewhere is checked as before: consistency is proven from tiles.
"""

from audit import anchor_repository, repository
from kernel import Clock, Database, IntegrityError

_DAY_US = 24 * 3_600_000_000
_AT_ONCE = 1_000


async def drop_old_checkpoints(database: Database, clock: Clock) -> int:
    """Drop what may go; gives how many checkpoints went."""
    dropped, after = 0, -1
    async with database.read() as session:
        head = await repository.last_checkpoint(session)
    below = 0 if head is None else head[0]
    before_us = clock.now_us() - _DAY_US
    while True:
        async with database.read() as session:
            sizes = await anchor_repository.droppable_checkpoints(
                session, after=after, below=below, before_us=before_us, most=_AT_ONCE
            )
        if not sizes:
            return dropped
        try:
            async with database.unit_of_work() as work:
                await anchor_repository.drop_checkpoints(work, sizes)
        except IntegrityError:  # the clocks differ, or one was anchored now: the next round
            return dropped
        dropped, after = dropped + len(sizes), sizes[-1]
