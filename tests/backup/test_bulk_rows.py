"""The rows of a disclosure to many travel with their event, and come back as they were."""

import msgpack
import pytest

from audit import LogDamagedError, log_bodies, rebuild, verify_stored_log
from tests.disclosure.test_audience import AUDIENCES, export, some_members
from tests.support.stores import begin, create
from tests.support.world import open_world

pytestmark = pytest.mark.anyio


async def test_a_restored_registry_has_the_rows_and_every_member_finds_them(
    stored_settings, kept, restore
):
    async with open_world(stored_settings, background=False) as world:
        crm = await world.app("crm", *AUDIENCES, "audit:read")
        (member, *_) = await some_members(crm, 3)
        await export(crm)
        await world.runtime.sequencer.drain()
        await begin(world, kept)
        await create(world)
        before = await world.fetch("SELECT * FROM audit_manifest")
        index = await world.fetch("SELECT * FROM audit_manifest_token ORDER BY place")
        (event,) = [one for one in await world.events("audience.export") if "manifest" in one]
        member_id = await world.member_id(member)
    made, _ = await restore(stored_settings, kept)
    async with open_world(made) as world:
        assert await world.fetch("SELECT * FROM audit_manifest") == before
        assert await world.fetch("SELECT * FROM audit_manifest_token ORDER BY place") == index
        runtime = world.runtime
        report, misleading = await verify_stored_log(runtime.database, runtime.audit)
        assert (report.findings, misleading) == ((), [])
        async with runtime.database.read() as session:
            key = await runtime.members.pseudonym(session, member_id)
            (found,) = await runtime.audit.disclosures(session, key, since_us=0)
        assert found["id"] == event["id"]


async def test_rows_that_are_not_those_of_the_event_are_not_taken_back(world):
    crm = await world.app("crm", *AUDIENCES)
    await some_members(crm, 2)
    await export(crm)
    size = await world.runtime.sequencer.drain()
    async with world.runtime.database.read() as session:
        shipped = await log_bodies(session, 0, size)
    assert list(msgpack.unpackb(msgpack.packb(shipped), use_list=False)) == shipped
    (at,) = [at for at, one in enumerate(shipped) if isinstance(one, tuple)]
    body, rows = shipped[at]
    edge = rebuild.TreeEdge()
    for forged in (body, (body, rows[35:]), (body, rows[::-1]), (shipped[0], rows)):
        with pytest.raises(LogDamagedError):
            await rebuild._append(world.runtime.database, edge, [forged])


async def test_very_many_rows_are_shipped_in_portions(world, monkeypatch):
    crm = await world.app("crm", *AUDIENCES)
    await some_members(crm, 2)
    for _ in range(3):
        await export(crm)
    size = await world.runtime.sequencer.drain()
    monkeypatch.setattr(rebuild, "_MOST_BYTES", 1)
    shipped = []
    while len(shipped) < size:
        async with world.runtime.database.read() as session:
            portion = await log_bodies(session, len(shipped), size)
        assert sum(isinstance(one, tuple) for one in portion) <= 1
        shipped += portion
    assert sum(isinstance(one, tuple) for one in shipped) == 3
