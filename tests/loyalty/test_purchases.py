"""Purchases in batches: good rows are kept, bad ones are named, repeats change nothing."""

import asyncio
import csv
import os
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.world import DAY_US, EVERYTHING, JumpingClock, open_world

pytestmark = pytest.mark.anyio

LOYALTY = (*EVERYTHING, "loyalty:write")
SHARED = Path(os.environ.get("YINYOM_SHARED", Path(__file__).resolve().parents[3] / "shared"))
AT = "2026-11-20T10:15:00+07:00"


def row(member, reference="r1", **changes):
    return {
        "member": member if isinstance(member, str) else member.id,
        "at": AT,
        "amount": "100.00",
        "currency": "THB",
        "reference": reference,
        **changes,
    }


async def buy(app, *rows, **headers):
    answer = await app.post("/v1/purchases", {"purchases": list(rows)}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def outcomes(report):
    return [(one["outcome"], one.get("reason")) for one in report["results"]]


async def account(world, member):
    async with world.runtime.database.read() as session:
        return await world.runtime.loyalty.account(session, await world.member_id(member))


@asynccontextmanager
async def a_world(settings, clock=None):
    async with open_world(settings, clock=clock, background=clock is None) as world:
        yield world, await world.app("crm", *LOYALTY)


BAD_ROWS = {
    "member.missing": {"member": None},
    "member.unknown": {"member": "sub_" + "0" * 26},
    "member.unknown of another kind": {"member": "081-234-5678"},
    "at.missing": {"at": None},
    "at.invalid": {"at": "yesterday"},
    "at.invalid without an offset": {"at": "2026-11-20T10:15:00"},
    "at.invalid day": {"at": "2026-02-30T10:15:00Z"},
    "at.future": {"at": "2126-11-20T10:15:00Z"},
    "amount.missing": {"amount": None},
    "amount.invalid": {"amount": "much"},
    "amount.invalid as a number": {"amount": 12.5},
    "amount.invalid below zero": {"amount": "-5.00"},
    "amount.invalid nothing": {"amount": "0.00"},
    "amount.invalid digits": {"amount": "١٢"},
    "amount.invalid places": {"amount": "1.0001"},
    "currency.invalid": {"currency": "baht"},
    "currency.missing": {"currency": None},
    "items.invalid": {"items": 0},
    "items.invalid text": {"items": "three"},
    "branch.invalid": {"branch": "Siam Paragon, 1st floor"},
    "reference.missing": {"reference": None},
    "reference.invalid": {"reference": "สมหญิง ใจดี"},
}


async def test_a_batch_keeps_its_good_rows_and_names_each_bad_one(world):
    crm = await world.app("crm", *LOYALTY)
    member = await crm.register()
    bad = [{**row(member, f"bad{at}"), **changes} for at, changes in enumerate(BAD_ROWS.values())]
    rows = [row(member, "first"), *bad, row(member, "last", amount="25.5")]
    report = await buy(crm, *rows)
    assert outcomes(report) == [
        ("accepted", None),
        *(("rejected", name.split(" ")[0]) for name in BAD_ROWS),
        ("accepted", None),
    ]
    assert (report["rows"], report["accepted"], report["repeated"], report["rejected"]) == (
        len(rows),
        2,
        0,
        len(BAD_ROWS),
    )
    stored = await world.fetch(
        "SELECT reference, amount_milli, points FROM purchase ORDER BY reference"
    )
    assert [tuple(one.values()) for one in stored] == [("first", 100_000, 4), ("last", 25_500, 1)]
    assert (await account(world, member)).points_balance == 5
    (event,) = await world.events("purchase.record")
    assert (event["count"], event["outcome"]) == (2, "partial")
    assert "subject" not in event


async def test_a_batch_of_bad_rows_only_changes_nothing(world):
    crm = await world.app("crm", *LOYALTY)
    report = await buy(crm, row("sub_" + "0" * 26))
    assert outcomes(report) == [("rejected", "member.unknown")]
    assert "audit_id" not in report
    assert await world.fetch("SELECT 1 FROM loyalty_account") == []
    assert await world.events("purchase.record") == []


async def test_the_same_batch_again_changes_nothing(world):
    crm = await world.app("crm", *LOYALTY)
    member = await crm.register()
    rows = [row(member, "a"), row(member, "b", branch="siam", items=2), row(member, "a")]
    first = await buy(crm, *rows)
    assert outcomes(first) == [("accepted", None), ("accepted", None), ("repeated", None)]
    before = await account(world, member)
    again = await buy(crm, *rows)
    assert outcomes(again) == [("repeated", None)] * 3
    assert await account(world, member) == before
    assert len(await world.fetch("SELECT 1 FROM purchase")) == 2
    assert len(await world.events("purchase.record")) == 1


async def test_a_reference_that_comes_again_with_other_content_is_named(world):
    crm = await world.app("crm", *LOYALTY)
    member, other = await crm.register(), await crm.register(phone="089-876-5432")
    await buy(crm, row(member, "a"))
    report = await buy(
        crm,
        row(member, "a", amount="100.01"),
        row(other, "a"),
        row(other, "b"),
        row(member, "b"),
    )
    assert outcomes(report) == [
        ("rejected", "reference.reused"),
        ("rejected", "reference.reused"),
        ("accepted", None),
        ("rejected", "reference.reused"),
    ]
    assert (await account(world, member)).purchases == 1


async def test_an_idempotency_key_gives_the_first_answer_again(world):
    crm = await world.app("crm", *LOYALTY)
    member = await crm.register()
    first = await buy(crm, row(member), **{"Idempotency-Key": "batch-1"})
    assert await buy(crm, row(member), **{"Idempotency-Key": "batch-1"}) == first


async def test_the_same_batch_at_once_is_counted_once(settings):
    async with open_world(settings) as here:
        crm = await here.app("crm", *LOYALTY)
        member, other = await crm.register(), await crm.register(phone="089-876-5432")
        rows = [row(one, f"{at}", amount="50") for at in range(20) for one in (member,)]
        rows += [row(other, f"o{at}", amount="50") for at in range(20)]
        answers = await asyncio.gather(
            *(
                crm.post("/v1/purchases", {"purchases": some})
                for some in (rows, rows[::-1], rows, rows[::-1])
            )
        )
        accepted = sum(one.json()["accepted"] for one in answers if one.status_code == 200)
        assert {one.status_code for one in answers} <= {200, 409}
        assert accepted == len(rows)
        for one in (member, other):
            found = await account(here, one)
            assert (found.purchases, found.points_balance) == (20, 40)


async def test_members_of_another_brand_or_client_are_unknown(world):
    crm = await world.app("crm", *LOYALTY)
    stranger = await world.app("else", *LOYALTY)
    member = await crm.register()
    assert outcomes(await buy(stranger, row(member))) == [("rejected", "member.unknown")]


async def test_two_clients_may_use_the_same_reference(world):
    crm = await world.app("crm", *LOYALTY)
    till = await world.app("till", *LOYALTY)
    member = await crm.register()
    sub = (await crm.post(f"/v1/members/{member.id}:introduce", {"to": till.id})).json()["id"]
    assert outcomes(await buy(crm, row(member, "1"))) == [("accepted", None)]
    assert outcomes(await buy(till, row(sub, "1"))) == [("accepted", None)]
    assert (await account(world, member)).purchases == 2


async def test_more_rows_than_a_batch_may_have_are_refused_whole(world):
    crm = await world.app("crm", *LOYALTY)
    member = await crm.register()
    rows = [row(member, f"r{at}") for at in range(1_001)]
    answer = await crm.post("/v1/purchases", {"purchases": rows})
    assert answer.status_code == 422
    assert await world.fetch("SELECT 1 FROM purchase") == []


async def test_purchases_of_a_restricted_member_are_stored_and_move_no_class(settings):
    clock = JumpingClock()
    async with a_world(settings, clock) as (world, crm):
        member = await crm.register()
        await buy(crm, row(member, "a"))
        before = await account(world, member)
        await world.restrict(member)
        await buy(crm, row(member, "b", amount="10000"))
        held = await account(world, member)
        assert (held.purchases, held.points_balance) == (2, 404)
        assert (held.tier, held.activity_class) == (before.tier, before.activity_class)
        assert await world.runtime.loyalty.review_due(world.operator) == 0
        await world.restrict(member, on=False)
        assert await world.runtime.loyalty.review_due(world.operator) == 1
        assert (await account(world, member)).tier == "silver"


async def test_time_alone_moves_the_activity_class(settings):
    clock = JumpingClock()
    async with a_world(settings, clock) as (world, crm):
        member = await crm.register()
        await buy(crm, row(member, "a"), row(member, "b"))
        seen = []
        for _ in range(4):
            seen.append((await account(world, member)).activity_class)
            clock.jump_us += 91 * DAY_US
            await world.runtime.loyalty.review_due(world.operator)
        assert seen == ["active", "lapsing", "dormant", "dormant"]
        assert await world.runtime.loyalty.review_due(world.operator) == 0


async def test_a_purchase_that_lies_back_does_not_become_the_last(world):
    crm = await world.app("crm", *LOYALTY)
    member = await crm.register()
    await buy(
        crm,
        row(member, "a", branch="new-shop"),
        row(member, "b", branch="old-shop", at="2001-05-05T00:00:00Z"),
    )
    found = await account(world, member)
    assert (found.branch, found.activity_class) == ("new-shop", "active")


async def test_a_currency_without_a_rule_earns_nothing(world):
    crm = await world.app("crm", *LOYALTY)
    member = await crm.register()
    report = await buy(crm, row(member, currency="JPY", amount="100000"))
    assert report["results"] == [{"row": 0, "outcome": "accepted", "points": 0}]
    assert (await account(world, member)).points_balance == 0


async def test_all_of_the_public_sample_is_taken_in_seconds_and_adds_up(settings):
    file = SHARED / "purchases" / "cdnow_sample.csv"
    file = file if file.is_file() else SHARED / "data" / "purchases" / "cdnow_sample.csv"
    if not file.is_file():
        pytest.skip(f"the purchases are not at {file}")
    with file.open(encoding="utf-8", newline="") as lines:
        read = list(csv.DictReader(lines))
    async with a_world(settings) as (world, crm):
        members = [await crm.register(phone=f"08{at:08d}") for at in range(40)]
        rows = [
            row(
                members[int(one["customer"]) % len(members)],
                f"cdnow-{at}",
                at=f"{one['date']}T12:00:00Z",
                amount=one["amount"],
                currency="USD",
                items=int(one["items"]),
            )
            for at, one in enumerate(read)
        ]
        nothing = [at for at, one in enumerate(read) if float(one["amount"]) == 0]
        reports = [await buy(crm, *rows[at : at + 1000]) for at in range(0, len(rows), 1000)]
        assert sum(one["rows"] for one in reports) == len(read) == 6_919
        rejected = [
            1000 * batch + one["row"]
            for batch, report in enumerate(reports)
            for one in report["results"]
            if one["outcome"] == "rejected"
        ]
        assert rejected == nothing
        (sums,) = await world.fetch(
            "SELECT COUNT(*) AS rows, SUM(points) AS points, SUM(amount_milli) AS milli FROM purchase"
        )
        assert int(sums["rows"]) == len(read) - len(nothing)
        (held,) = await world.fetch("SELECT SUM(points_balance) AS points FROM loyalty_account")
        assert int(held["points"]) == int(sums["points"]) > 100_000
        again = [await buy(crm, *rows[at : at + 1000]) for at in range(0, len(rows), 1000)]
        assert sum(one["repeated"] for one in again) == len(read) - len(nothing)
