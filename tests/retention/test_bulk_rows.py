"""The rows of a disclosure to many go with what their event said, by the same rule and hold."""

import pytest

from audit import (
    Holds,
    HoldScope,
    Shown,
    draft_bulk,
    export_log,
    record_bulk,
    verify_stored_log,
)
from audit.verify import verify_bundle
from tests.service.test_doors import REFUSED, forge, names, place_of
from tests.support.world import DAY_US, JumpingClock, open_world

pytestmark = pytest.mark.anyio

LONG_AGO_US = 8 * 366 * DAY_US
DELETE = "DELETE FROM audit_event WHERE id IN (SELECT event_id FROM audit_manifest)"


async def key_of(world, member):
    member_id = await world.member_id(member)
    async with world.runtime.database.read() as session:
        return await world.runtime.members.pseudonym(session, member_id)


@pytest.fixture
async def aged(settings):
    """A registry eight years after it disclosed three members in one event."""
    clock = JumpingClock()
    clock.jump_us = -LONG_AGO_US
    async with open_world(settings, clock=clock, background=False) as world:
        crm = await world.app()
        world.members = [await crm.register(phone=f"081-234-567{at}") for at in range(3)]
        shown = [
            Shown(await world.member_id(one), await key_of(world, one), ("phone",))
            for one in world.members
        ]
        caller = world.caller(crm)
        (bulk,) = draft_bulk(world.runtime.audit, caller, "audience.export", shown)
        async with world.runtime.database.unit_of_work() as work:
            await record_bulk(world.runtime.audit, work, bulk)
        await world.runtime.sequencer.drain()
        clock.jump_us = 0
        await crm.sign_in()
        world.crm = crm
        yield world


async def rows(world):
    stored = await world.fetch("SELECT event_id FROM audit_manifest")
    index = await world.fetch("SELECT event_id FROM audit_manifest_token")
    return len(stored), len(index)


async def prune(world):
    await world.runtime.pruning.prune(world.operator)
    await world.runtime.sequencer.drain()


async def test_rows_go_with_their_event_and_the_log_verifies(aged, tmp_path):
    assert await rows(aged) == (1, 3)
    await prune(aged)
    assert await rows(aged) == (0, 0)
    runtime = aged.runtime
    await export_log(runtime.database, tmp_path / "log")
    report = verify_bundle(tmp_path / "log", runtime.audit.vkey)
    assert report.findings == ()
    assert report.pruned > 0
    report, misleading = await verify_stored_log(runtime.database, runtime.audit)
    assert (report.findings, misleading) == ((), [])
    path = f"/v1/members/{aged.members[0].id}/disclosures"
    assert (await aged.crm.get(path)).json()["disclosures"] == []


async def test_a_hold_on_one_member_keeps_the_rows_they_are_in(aged):
    key = await key_of(aged, aged.members[1])
    holds = Holds(aged.runtime.database, aged.runtime.audit, aged.runtime.clock)
    async with aged.runtime.database.unit_of_work() as work:
        hold = await holds.add(work, aged.operator, HoldScope(member=key), "litigation")
    await prune(aged)
    assert await rows(aged) == (1, 3)
    # By hand, and with everything else in order: only the hold on one of three is in the way.
    place = await place_of(aged, "audience.export")
    await forge(aged, aged.runtime.clock.now_us())
    await aged.execute(names(place, "evt_forged", place["recorded_us"] + 1))
    with pytest.raises(REFUSED):
        await aged.execute(DELETE)
    async with aged.runtime.database.unit_of_work() as work:
        await holds.release(work, aged.operator, hold)
    await aged.execute(DELETE)
    assert await rows(aged) == (0, 0)


async def test_a_hold_on_somebody_else_keeps_nothing(aged):
    other = await aged.crm.register(phone="085-345-6789")
    holds = Holds(aged.runtime.database, aged.runtime.audit, aged.runtime.clock)
    async with aged.runtime.database.unit_of_work() as work:
        scope = HoldScope(member=await key_of(aged, other))
        await holds.add(work, aged.operator, scope, "litigation")
    await prune(aged)
    assert await rows(aged) == (0, 0)
