"""The queue: filled behind a registration and by a scan, each opening on record, no value stored."""

import asyncio

import pytest

from service.tasks import system_caller
from tests.support.world import EVERYTHING

pytestmark = pytest.mark.anyio
SOMYING = {"given_name": "สมหญิง", "family_name": "ใจดี", "birth_date": "1990-05-12"}


async def queue(world, crm):
    """Wait until the background has looked at everybody, then read the queue."""
    for _ in range(4_000):
        waiting = await world.fetch("SELECT id FROM outbox WHERE delivered_us IS NULL")
        jobs = await world.fetch("SELECT id FROM job WHERE kind = 'duplicates' AND state <> 'done'")
        if not waiting and not jobs:
            break
        await asyncio.sleep(0.02)
    answer = await crm.get("/v1/duplicates")
    assert answer.status_code == 200, answer.text
    return answer.json()["duplicates"]


async def test_a_second_registration_of_one_person_waits_in_the_queue(world):
    crm = await world.app("crm", *EVERYTHING, "duplicates:resolve")
    one = await crm.register(SOMYING, phone="081-234-5678")
    other = await crm.register(SOMYING, phone="0812345678", email="s@example.com")
    (pair,) = await queue(world, crm)
    assert set(pair["members"]) == {one.id, other.id}
    assert pair["reasons"] == ["phone", "given_name", "family_name", "birth_date"]
    read = await world.events("member.match_read")
    assert len(read) == 2
    assert {event["purpose"] for event in read} == {"record_accuracy"}


async def test_a_family_that_shares_a_phone_is_not_in_the_queue(world):
    crm = await world.app("crm", *EVERYTHING)
    await crm.register(SOMYING, phone="081-234-5678")
    await crm.register(
        {**SOMYING, "given_name": "ก้อง", "birth_date": "2015-01-02"}, phone="081-234-5678"
    )
    assert await queue(world, crm) == []


async def test_who_shares_nothing_is_not_opened(world):
    crm = await world.app("crm", *EVERYTHING)
    await crm.register(SOMYING, phone="081-234-5678")
    await crm.register(SOMYING, phone="089-999-9999")
    assert await queue(world, crm) == []
    assert await world.events("member.match_read") == []


async def test_a_scan_finds_who_shares_only_name_and_birth_date(world):
    crm = await world.app("crm", *EVERYTHING)
    await crm.register(SOMYING, phone="081-234-5678")
    await crm.register(SOMYING, phone="089-999-9999")
    scanned = await world.runtime.matching.scan(system_caller("cli", "main"))
    assert (scanned.members, scanned.pairs, scanned.new, scanned.waiting) == (2, 1, 1, 1)
    assert len(await world.events("member.match_read")) == 2
    again = await world.runtime.matching.scan(system_caller("cli", "main"))
    assert (again.pairs, again.new, again.waiting) == (1, 0, 1)


async def test_a_dismissed_pair_is_not_proposed_again(world):
    crm = await world.app("crm", *EVERYTHING, "duplicates:resolve")
    await crm.register(SOMYING, phone="081-234-5678")
    other = await crm.register(SOMYING, phone="081-234-5678")
    (pair,) = await queue(world, crm)
    await crm.post(f"/v1/duplicates/{pair['id']}:dismiss")
    await crm.patch(f"/v1/members/{other.id}", {"fields": {"postcode": "10110"}})
    assert await queue(world, crm) == []
    decided = (await crm.get("/v1/duplicates", params={"state": "dismissed"})).json()
    assert [one["id"] for one in decided["duplicates"]] == [pair["id"]]


async def test_a_restricted_member_is_not_opened_for_comparing(world):
    crm = await world.app("crm", *EVERYTHING)
    one = await crm.register(SOMYING, phone="081-234-5678")
    await world.restrict(one)
    await crm.register(SOMYING, phone="081-234-5678")
    assert await queue(world, crm) == []
    assert len(await world.events("member.match_read")) == 1


async def test_without_the_scope_nobody_sees_the_queue_or_decides(world):
    crm = await world.app("crm", "members:write", "duplicates:read")
    till = await world.app("till", "members:write")
    assert (await till.get("/v1/duplicates")).status_code == 403
    answer = await crm.post("/v1/duplicates/dup_01m834me8bfjwbgnk89sr02kdz:merge", {})
    assert answer.status_code == 403


async def test_no_row_of_the_queue_holds_a_value(world):
    crm = await world.app("crm", *EVERYTHING)
    await crm.register({**SOMYING, "given_name": "Canary"}, phone="081-234-5678")
    await crm.register({**SOMYING, "given_name": "Canary"}, phone="081-234-5678")
    assert len(await queue(world, crm)) == 1
    stored = str(
        [
            {k: bytes(v) if isinstance(v, (bytes, memoryview)) else v for k, v in row.items()}
            for row in await world.fetch("SELECT * FROM duplicate")
        ]
    )
    for canary in ("Canary", "812345678", "1990"):
        assert canary not in stored
