"""Every no stands on the rights ledger with its change, or neither of them happened."""

import asyncio

import pytest

from audit import RightsKind, link_of
from audit.rights import GENESIS
from kernel import IntegrityError, UnavailableError

pytestmark = pytest.mark.anyio


async def entries(world):
    return await world.fetch("SELECT * FROM rights_ledger ORDER BY id")


async def place(world):
    """Chain what waits, unless the background of this world is at it already."""
    while True:
        try:
            async with world.runtime.database.unit_of_work() as work:
                return await world.runtime.rights.place_waiting(work)
        except IntegrityError:
            await asyncio.sleep(0.01)


async def test_withdrawing_erasing_and_restricting_leave_entries_that_name_nobody(world):
    crm = await world.app()
    member = await crm.register(consents={"marketing": "sms"}, phone="081-234-5678")
    assert await entries(world) == []  # a yes is not what a restore must not forget
    assert (await crm.withdraw(member, channel="sms")).status_code == 200
    await world.restrict(member)
    member_id = await world.member_id(member)
    await world.erase(member)
    kinds = [row["kind"] for row in await entries(world)]
    assert kinds == ["withdrawal", "restriction", "erasure"]
    for row in await entries(world):
        assert bytes(row["subject"]) == world.runtime.rights.tag(member_id)
        for trace in (member_id, member_id[4:], member.id, "812345678"):
            assert trace.encode() not in bytes(row["body"])


async def test_what_is_rolled_back_leaves_no_entry(world):
    crm = await world.app()
    member_id = await world.member_id(await crm.register(phone="081-234-5678"))
    with pytest.raises(RuntimeError):
        async with world.runtime.database.unit_of_work() as work:
            await world.runtime.members.erase(
                work, world.operator, member_id, now_us=world.runtime.clock.now_us()
            )
            raise RuntimeError
    assert await entries(world) == []


class Unreachable:
    async def announce(self, _session, _entry):
        raise UnavailableError("the backup store does not answer", reason="store_unavailable")


async def test_an_erasure_that_cannot_be_shipped_does_not_happen(world):
    crm = await world.app()
    member = await crm.register(phone="081-234-5678")
    world.runtime.rights.announce_through(Unreachable(), lambda: None)
    with pytest.raises(UnavailableError):
        await world.erase(member)
    assert await entries(world) == []
    assert (await crm.view(member)).status_code == 200


async def test_a_withdrawal_never_waits_for_the_store(world):
    crm = await world.app()
    member = await crm.register(consents={"marketing": "sms"}, phone="081-234-5678")
    world.runtime.rights.announce_through(Unreachable(), lambda: None)
    assert (await crm.withdraw(member, channel="sms")).status_code == 200
    assert [row["kind"] for row in await entries(world)] == ["withdrawal"]


async def test_entries_are_chained_in_order_and_once(world):
    async with world.runtime.database.unit_of_work() as work:
        for purpose in ("marketing", "profiling", "analytics"):
            await world.runtime.rights.record(
                work, RightsKind.OBJECTION, "mem_" + "0" * 26, {"purpose": purpose}
            )
    await place(world)
    assert await place(world) == 0
    link = GENESIS
    rows = await world.fetch("SELECT * FROM rights_ledger ORDER BY position")
    for position, row in enumerate(rows, 1):
        link = link_of(link, bytes(row["body"]))
        assert (row["position"], bytes(row["link"])) == (position, link)


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM rights_ledger",
        "UPDATE rights_ledger SET body = kind",
        "UPDATE rights_ledger SET kind = 'refusal', position = 9",
    ],
)
async def test_the_ledger_refuses_to_be_changed(world, change):
    async with world.runtime.database.unit_of_work() as work:
        await world.runtime.rights.record(work, RightsKind.ERASURE, "mem_" + "0" * 26, {})
    before = await entries(world)
    if world.settings.on_postgres:
        change = change.replace("= kind", "= kind::bytea")
    with pytest.raises(Exception, match="append-only"):
        await world.execute(change)
    assert [row["id"] for row in await entries(world)] == [row["id"] for row in before]
    await place(world)
    with pytest.raises(Exception, match="append-only"):
        await world.execute("UPDATE rights_ledger SET position = 7")
