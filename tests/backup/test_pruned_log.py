"""A log of which bodies went by rule travels, comes back, and says the same as before."""

import pytest

from audit import Holds, HoldScope, verify_stored_log
from tests.support.stores import begin, create
from tests.support.world import DAY_US, JumpingClock, open_world

pytestmark = pytest.mark.anyio

LONG_AGO_US = 8 * 366 * DAY_US


def holds_of(world):
    return Holds(world.runtime.database, world.runtime.audit, world.runtime.clock)


@pytest.fixture
async def shipped(stored_settings, kept, request):
    """A store with a backup; the member was read long ago, and the bodies were pruned since."""
    clock = JumpingClock()
    clock.jump_us = -LONG_AGO_US
    before, held = request.param
    async with open_world(stored_settings, clock=clock, background=False) as world:
        crm = await world.app()
        member = await crm.register(phone="081-234-5678")
        for _ in range(3):
            await crm.view(member)
        await world.runtime.sequencer.drain()
        clock.jump_us = 0
        await begin(world, kept)
        if before:
            await create(world)
        await world.runtime.pruning.prune(world.operator)
        await world.runtime.sequencer.drain()
        if held:
            async with world.runtime.database.unit_of_work() as work:
                scope = HoldScope(action="member.view")
                await holds_of(world).add(work, world.operator, scope, "litigation")
        await create(world)
        return await world.fetch("SELECT * FROM audit_pruned ORDER BY 1")


@pytest.mark.parametrize(
    "shipped",
    [(False, False), (True, False), (True, True)],
    ids=["pruned first", "shipped first", "held since"],
    indirect=True,
)
async def test_a_restored_log_has_forgotten_what_was_pruned(
    shipped, stored_settings, kept, restore, request
):
    made, _ = await restore(stored_settings, kept)
    async with open_world(made) as world:
        (event,) = await world.events("retention.pruned")
        assert await world.fetch("SELECT first_index, last_index FROM audit_pruned ORDER BY 1") == [
            {"first_index": run["first_index"], "last_index": run["last_index"]} for run in shipped
        ]
        assert len(await world.events("member.view")) == (
            3 if "held since" in request.node.name else 0
        )
        await world.runtime.sequencer.drain()
        report, misleading = await verify_stored_log(world.runtime.database, world.runtime.audit)
        assert report.ok, report.findings
        assert misleading == []
        if "held since" not in request.node.name:
            assert report.pruned == event["count"]
        assert await world.runtime.pruning.prune(world.operator) == []
