"""A sealed detail travels with the rows: what is gone since stays gone, what is lost is said."""

import pytest

from audit import Details, verify_stored_log
from kernel import ConflictError, NotFoundError
from tests.support.emergency import CANARY, break_glass
from tests.support.requests import staff
from tests.support.reviews import ROWS, findings, review, waiting
from tests.support.stores import begin, create
from tests.support.world import DAY_US, JumpingClock, open_world

pytestmark = pytest.mark.anyio


async def test_a_restore_brings_back_no_detail_that_is_gone_and_says_what_it_lost(
    stored_settings, kept, restore
):
    clock = JumpingClock()
    clock.jump_us = -3 * 366 * DAY_US
    async with open_world(stored_settings, clock=clock, background=False) as world:
        crm = await world.app()
        member = await crm.register(phone="081-234-5678")
        leaving = await crm.register(phone="082-345-6789")
        ids = [await world.member_id(one) for one in (member, leaving)]
        pruned = (await break_glass(world, ids[0])).audit_id
        clock.jump_us = 0
        await world.runtime.gatekeeper.refresh()
        there = (await break_glass(world, ids[0])).audit_id
        erased = (await break_glass(world, ids[1])).audit_id
        await begin(world, kept)
        first = await create(world)
        await world.runtime.pruning.prune(world.operator)
        await world.erase(leaving)
        lost = (await break_glass(world, ids[0])).audit_id
        await create(world)
    made, _ = await restore(stored_settings, kept, generation=first["generation"], allow_older=True)
    async with open_world(made) as world:
        rows = await world.fetch("SELECT * FROM audit_detail")
        state = {r["event_id"]: (r["ciphertext"] is None, r["member_id"] is None) for r in rows}
        assert state == {
            pruned: (True, True),
            there: (False, False),
            erased: (False, True),
            lost: (True, True),
        }
        told = await world.events("retention.detail_pruned")
        assert [(e["resource"], e["reason"]) for e in told] == [
            (pruned, "retention_ended"),
            (pruned, "restored"),
        ]
        (event,) = await world.events("retention.detail_lost")
        assert (event["resource"], event["reason"]) == (lost, "restored")
        runtime = world.runtime
        details = Details(runtime.database, runtime.vault, runtime.audit)
        assert await details.read(staff("auditor"), there) == CANARY
        for gone in (pruned, erased, lost):
            with pytest.raises(NotFoundError):
                await details.read(staff("auditor"), gone)
        await runtime.sequencer.drain()
        report, misleading = await verify_stored_log(runtime.database, runtime.audit)
        assert report.ok, report.findings
        assert not misleading


async def test_a_restore_forgets_no_review_and_opens_none_again(stored_settings, kept, restore):
    async with open_world(stored_settings, background=False) as world:
        crm = await world.app()
        member = await world.member_id(await crm.register(phone="081-234-5678"))
        reads = [(await break_glass(world, member)).audit_id for _ in range(3)]
        told = {reads[0]: await review(world, reads[0])}
        await begin(world, kept)
        first = await create(world)
        told[reads[1]] = await review(world, reads[1], "not_justified")
        later = (await break_glass(world, member)).audit_id
        told[later] = await review(world, later)
        await create(world)
    made, _ = await restore(stored_settings, kept, generation=first["generation"], allow_older=True)
    async with open_world(made) as world:
        rows = await world.fetch(ROWS)
        assert {row["event_id"]: row["reviewed_by"] for row in rows} == told
        assert await waiting(world) == [reads[2]]
        with pytest.raises(ConflictError):
            await review(world, reads[1])
        assert await findings(world) == []
