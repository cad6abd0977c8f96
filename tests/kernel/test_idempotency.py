"""A repeated request finds what the first one stored, also when the two race."""

import asyncio
from dataclasses import replace

import pytest

from kernel import (
    IdempotencyKey,
    StoredResult,
    claim_idempotency_key,
    forget_old_idempotency_keys,
    remember_result,
    set_fact,
)
from kernel.repository import IDEMPOTENCY_WINDOW_US

pytestmark = pytest.mark.anyio

NOW = 1_795_402_800_000_000
KEY = IdempotencyKey("cli_a", "POST /v1/members", b"key digest", b"body digest")


async def answer(database, key, result, *, fail=None):
    """Do what an endpoint does: claim, work, remember; or replay."""
    async with database.unit_of_work() as work:
        stored = await claim_idempotency_key(work, key, now_us=NOW)
        if stored is not None:
            return stored
        await set_fact(work, f"done by {result}", "1")
        await asyncio.sleep(0.02)
        if fail is not None:
            raise fail
        await remember_result(work, key, status=201, result={"id": result})
    return None


async def test_the_first_claim_is_free_and_the_second_gets_its_result(database):
    assert await answer(database, KEY, "mem_1") is None
    assert await answer(database, KEY, "mem_2") == StoredResult(
        b"body digest", 201, {"id": "mem_1"}
    )


async def test_of_two_racing_claims_one_works_and_the_other_replays(database):
    results = await asyncio.gather(*(answer(database, KEY, f"mem_{n}") for n in range(4)))
    workers = [number for number, result in enumerate(results) if result is None]
    assert len(workers) == 1
    assert {result.result["id"] for result in results if result} == {f"mem_{workers[0]}"}


async def test_a_claim_whose_work_failed_leaves_the_key_free(database):
    with pytest.raises(LookupError):
        await answer(database, KEY, "mem_1", fail=LookupError())
    assert await answer(database, KEY, "mem_2") is None


async def test_a_racing_claim_takes_over_when_the_first_one_fails(database):
    claimed = asyncio.Event()

    async def first():
        async with database.unit_of_work() as work:
            assert await claim_idempotency_key(work, KEY, now_us=NOW) is None
            claimed.set()
            await asyncio.sleep(0.02)
            raise LookupError

    failing = asyncio.create_task(first())
    await claimed.wait()
    assert await answer(database, KEY, "mem_2") is None
    with pytest.raises(LookupError):
        await failing


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, caller="cli_b"),
        replace(KEY, route="POST /v1/purchases"),
        replace(KEY, key_hash=b"another key"),
    ],
    ids=["caller", "route", "key"],
)
async def test_a_key_belongs_to_one_caller_and_one_route(database, other):
    assert await answer(database, KEY, "mem_1") is None
    assert await answer(database, other, "mem_2") is None


async def test_the_same_key_with_another_body_can_be_told_apart(database):
    await answer(database, KEY, "mem_1")
    stored = await answer(database, replace(KEY, request_hash=b"another body"), "mem_2")
    assert stored.request_hash == b"body digest"


async def test_a_claim_that_stored_no_answer_yet_has_no_status(database):
    async with database.unit_of_work() as work:
        assert await claim_idempotency_key(work, KEY, now_us=NOW) is None
    async with database.unit_of_work() as work:
        stored = await claim_idempotency_key(work, KEY, now_us=NOW)
    assert stored == StoredResult(b"body digest", None, {})


async def test_keys_are_forgotten_after_a_day_and_not_before(database):
    await answer(database, KEY, "mem_1")
    async with database.unit_of_work() as work:
        last_moment = NOW + IDEMPOTENCY_WINDOW_US
        assert await forget_old_idempotency_keys(work, now_us=last_moment) == 0
        assert await forget_old_idempotency_keys(work, now_us=last_moment + 1) == 1
    assert await answer(database, KEY, "mem_2") is None
