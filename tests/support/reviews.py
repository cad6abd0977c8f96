"""Reviews of emergencies for tests: somebody looks, what waits, and what nobody has looked at."""

from typing import Any

from audit import REVIEWED, verify_stored_log
from kernel import Caller
from service.reviews import reviews_of
from tests.support.requests import staff
from tests.support.world import World

ROWS = "SELECT event_id, reviewed_by FROM audit_review"


async def review(
    world: World, event: str, outcome: str = "justified", caller: Caller | None = None
) -> str:
    """Review a read as an officer, somebody else each time."""
    async with world.runtime.database.unit_of_work() as work:
        return await reviews_of(world.runtime).review(work, caller or staff(), event, outcome)


async def waiting(world: World, brand: str = "main", **details: Any) -> list[str]:
    """The reads that wait for a second person."""
    async with world.runtime.database.read() as session:
        found = await reviews_of(world.runtime).waiting(session, brand, **{"most": 50, **details})
    return [one.event["id"] for one in found]


async def nothing_reviewed(world: World, event: str) -> bool:
    """Whether a read waits, and no review of any is in the log or beside it."""
    told = await world.events(REVIEWED)
    return await world.fetch(ROWS) == [] and told == [] and event in await waiting(world)


async def findings(world: World) -> list[tuple[str, str]]:
    """What the check of the log where it lies finds."""
    await world.runtime.sequencer.drain()
    report, _ = await verify_stored_log(world.runtime.database, world.runtime.audit)
    return [(one.code, one.detail) for one in report.findings]
