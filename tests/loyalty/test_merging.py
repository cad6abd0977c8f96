"""Two records become one: points, purchases, coupons and tags move, and can move back."""

import pytest

from kernel import new_id
from members.repository import propose_pair
from tests.support.world import EVERYTHING, recorded

pytestmark = pytest.mark.anyio
SCOPES = (*EVERYTHING, "duplicates:resolve", "loyalty:write")


@pytest.fixture
async def crm(world):
    return await world.app("crm", *SCOPES)


async def two(crm):
    """An older and a newer record of one person, both with a consent for profiling."""
    return [
        await crm.register(given_name="สมหญิง", phone=phone, consents={"profiling": None})
        for phone in ("081-234-5678", "089-111-2222")
    ]


async def merge(world, crm, one, other):
    ids = [await world.member_id(one), await world.member_id(other)]
    now_us = world.runtime.clock.now_us()
    pair = new_id("dup", now_us)
    async with recorded(world.runtime.database) as work:
        await propose_pair(work, pair, "main", tuple(ids), 90, ["phone", "name"], now_us=now_us)
    answer = await crm.post(f"/v1/duplicates/{pair}:merge", {})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def undo(crm, merged):
    answer = await crm.post(f"/v1/merges/{merged['merge_id']}:undo", {})
    assert answer.status_code == 200, answer.text


async def points(crm, member, kind, count, reference):
    answer = await crm.post(
        f"/v1/members/{member.id}/points", {"kind": kind, "points": count, "reference": reference}
    )
    assert answer.status_code == 200, answer.text


async def buy(crm, member, reference, branch):
    answer = await crm.post(
        "/v1/purchases",
        {
            "purchases": [
                {
                    "member": member.id,
                    "at": f"2026-11-{10 + len(reference)}T10:00:00Z",
                    "amount": "100",
                    "currency": "THB",
                    "branch": branch,
                    "reference": reference,
                }
            ]
        },
    )
    assert answer.json()["accepted"] == 1, answer.text


async def loyalty_of(crm, member):
    answer = await crm.get(f"/v1/members/{member.id}/loyalty")
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def adds_up(world):
    for table, column in (("points_entry", "points"), ("points_lot", "remaining")):
        rows = await world.fetch(
            f"SELECT member_id, SUM({column}) AS points FROM {table} GROUP BY member_id"
        )
        held = await world.fetch("SELECT member_id, points_balance FROM loyalty_account")
        sums = {row["member_id"]: int(row["points"]) for row in rows}
        for row in held:
            assert row["points_balance"] == sums.pop(row["member_id"], 0), table
        assert not any(sums.values()), table


async def test_a_merge_moves_all_of_it_and_its_undo_gives_all_of_it_back(world, crm):
    old, new = await two(crm)
    await points(crm, old, "earn", 150, "o1")
    await points(crm, new, "earn", 60, "n1")
    await buy(crm, old, "o", "siam")
    await buy(crm, new, "nn", "ari")
    await crm.post(f"/v1/members/{new.id}/coupons", {"offer": "welcome"})
    await crm.post("/v1/tags/gift_buyer:set", {"members": [new.id]})
    await crm.post("/v1/tags/event_guest:set", {"members": [old.id, new.id]})
    before = [await loyalty_of(crm, old), await loyalty_of(crm, new)]

    merged = await merge(world, crm, old, new)
    assert await loyalty_of(crm, old) == {
        "tier": "silver",
        "points_balance": 218,
        "branch": "ari",
        "activity_class": "active",
        "tags": ["event_guest", "gift_buyer"],
        "coupons": 1,
    }
    assert await loyalty_of(crm, new) == await loyalty_of(crm, old), "both ids name one member"
    await adds_up(world)

    await undo(crm, merged)
    assert [await loyalty_of(crm, old), await loyalty_of(crm, new)] == before
    await adds_up(world)


async def test_what_was_used_in_between_is_settled_on_both_ledgers(world, crm):
    old, new = await two(crm)
    await points(crm, old, "earn", 100, "o1")
    await points(crm, new, "earn", 60, "n1")
    merged = await merge(world, crm, old, new)
    await points(crm, old, "redeem", 130, "both")
    await undo(crm, merged)
    left = [(await loyalty_of(crm, one))["points_balance"] for one in (old, new)]
    assert sum(left) == 30
    await adds_up(world)


async def test_purchases_go_on_under_both_ids_after_a_merge(world, crm):
    old, new = await two(crm)
    await points(crm, old, "earn", 1, "o1")
    await merge(world, crm, old, new)
    await buy(crm, new, "n", "ari")
    await buy(crm, old, "oo", "siam")
    assert (await loyalty_of(crm, old))["points_balance"] == 9
    await adds_up(world)


async def test_a_merge_takes_off_a_tag_that_one_of_the_two_had_refused(world, crm):
    old, new = await two(crm)
    await crm.post("/v1/tags/gift_buyer:set", {"members": [new.id]})
    await crm.withdraw(old, "profiling")
    await merge(world, crm, old, new)
    await world.until("SELECT 1 FROM loyalty_account WHERE tags = '[]'")


async def test_an_erasure_after_a_merge_leaves_nothing_that_leads_to_either(world, crm):
    old, new = await two(crm)
    ids = {await world.member_id(old), await world.member_id(new)}
    await points(crm, old, "earn", 100, "o1")
    await points(crm, new, "earn", 60, "n1")
    await merge(world, crm, old, new)
    await world.erase(old)
    for table in ("loyalty_account", "points_entry", "points_lot", "purchase", "loyalty_merge"):
        rows = await world.fetch(f"SELECT * FROM {table}")
        assert not [row for row in rows if ids & set(map(str, row.values()))], table
