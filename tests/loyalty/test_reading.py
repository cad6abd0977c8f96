"""What members see of their own account, their copy of it, and races that must lose nothing."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from disclosure import SelfAccess, self_caller
from kernel import new_id
from tests.support.world import EVERYTHING, open_world

pytestmark = pytest.mark.anyio
LOYALTY = (*EVERYTHING, "loyalty:write")
PURCHASE = {
    "at": "2026-11-20T10:15:00+07:00",
    "amount": "250.50",
    "currency": "THB",
    "items": 2,
    "branch": "siam",
    "reference": "bill-1",
}


@pytest.fixture
async def crm(world):
    return await world.app("crm", *LOYALTY)


async def a_buyer(crm):
    member = await crm.register(
        given_name="สมหญิง", phone="081-234-5678", consents={"profiling": None}
    )
    await crm.post("/v1/purchases", {"purchases": [{"member": member.id, **PURCHASE}]})
    await crm.post("/v1/tags/gift_buyer:set", {"members": [member.id]})
    await crm.post(f"/v1/members/{member.id}/coupons", {"offer": "welcome"})
    return member


async def own_view(world, member_id):
    rt = world.runtime
    await rt.gatekeeper.refresh()
    access = SelfAccess(rt.database, rt.vault, rt.audit, rt.pack, rt.access, rt.consent, rt.members)
    who = self_caller("main", "portal", new_id("req"))
    return await access.outline(who, member_id, rt.gatekeeper.epochs())


async def test_members_see_their_account_and_the_event_names_its_fields(world, crm):
    member = await a_buyer(crm)
    member_id = await world.member_id(member)
    view = await own_view(world, member_id)
    shown = {value.field.key: value.outline for value in view.values if value.source == "loyalty"}
    assert shown == {
        "tier": "member",
        "points_balance": "10",
        "branch": "siam",
        "activity_class": "new",
        "tags": "gift_buyer",
        "coupons": "1",
    }
    (event,) = await world.events("member.view_self")
    assert set(shown) < set(event["fields"])


async def test_a_restriction_does_not_keep_members_from_their_own_account(world, crm):
    member = await a_buyer(crm)
    await world.restrict(member)
    view = await own_view(world, await world.member_id(member))
    assert "points_balance" in {value.field.key for value in view.values}


async def test_the_copy_holds_every_row_and_nothing_of_anybody_else(world, crm):
    member, other = await a_buyer(crm), await crm.register(phone="089-876-5432")
    await crm.post(
        f"/v1/members/{other.id}/points", {"kind": "earn", "points": 9, "reference": "other"}
    )
    async with world.runtime.database.read() as session:
        copy = await world.runtime.loyalty.history(session, await world.member_id(member))
    assert copy["account"]["points_balance"] == 10
    assert [(one["kind"], one["points"]) for one in copy["points"]] == [("earn", 10)]
    (bought,) = copy["purchases"]
    assert (bought["amount"], bought["currency"], bought["reference"]) == (
        "250.50",
        "THB",
        "bill-1",
    )
    assert [one["offer"] for one in copy["coupons"]] == ["welcome"]
    assert "other" not in str(copy)


async def test_who_never_took_part_has_nothing_to_copy_and_nothing_to_see(world, crm):
    member = await crm.register(phone="081-234-5678")
    seen = (await crm.get(f"/v1/members/{member.id}/loyalty")).json()
    assert seen["data"] == {}
    assert set(seen["omitted"].values()) == {"not_held"}
    assert (await crm.get(f"/v1/members/{member.id}/coupons")).json()["coupons"] == []
    async with world.runtime.database.read() as session:
        assert await world.runtime.loyalty.history(session, await world.member_id(member)) == {}


async def test_a_coupon_that_two_tills_use_at_once_is_used_once(settings):
    async with AsyncExitStack() as open_worlds:
        here = await open_worlds.enter_async_context(open_world(settings))
        there = here
        if settings.on_postgres:
            there = await open_worlds.enter_async_context(open_world(settings))
        crm = await here.app("crm", *LOYALTY)
        member = await crm.register(phone="081-234-5678")
        path = f"/v1/members/{member.id}/coupons"
        coupon = (await crm.post(path, {"offer": "welcome"})).json()["id"]
        answers = await asyncio.gather(
            *(app.post(f"{path}/{coupon}:use") for app in (crm, crm.through(there)) * 3)
        )
        assert sorted(one.status_code for one in answers) == [200, 409, 409, 409, 409, 409]
        seen = (await crm.get(f"/v1/members/{member.id}/loyalty")).json()
        assert seen["data"]["coupons"] == 0


async def test_an_erasure_among_earnings_leaves_no_row_that_leads_to_the_member(settings):
    async with open_world(settings) as world:
        crm = await world.app("crm", *LOYALTY)
        member = await crm.register(phone="081-234-5678")
        member_id = await world.member_id(member)

        async def earn(at):
            body = {"kind": "earn", "points": 5, "reference": f"e{at}"}
            return (await crm.post(f"/v1/members/{member.id}/points", body)).status_code

        async def erase_in_between():
            await asyncio.sleep(0)
            await world.erase(member)

        first = [earn(at) for at in range(6)]
        later = [earn(at) for at in range(6, 12)]
        codes = await asyncio.gather(*first, erase_in_between(), *later)
        assert {code for code in codes if code is not None} <= {200, 404}
        assert await earn(99) == 404
        for table in ("loyalty_account", "points_lot"):
            assert await world.fetch(f"SELECT 1 FROM {table}") == [], table
        entries = await world.fetch("SELECT member_id, reference FROM points_entry")
        assert {tuple(row.values()) for row in entries} <= {(None, None)}
        assert member_id not in str(entries)
