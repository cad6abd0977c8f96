"""A message exists exactly when its change committed, and forgets its content when delivered."""

import asyncio

import pytest
from sqlalchemy import select

from kernel import (
    Statement,
    mark_delivered,
    put_aside,
    put_message,
    stuck_messages,
    waiting_messages,
)
from kernel.tables import outbox

pytestmark = pytest.mark.anyio

NOW = 1_795_402_800_000_000
ROWS = Statement(select(outbox.c.id, outbox.c.payload, outbox.c.delivered_us))


async def put(database, *topics):
    async with database.unit_of_work() as work:
        for step, topic in enumerate(topics):
            await put_message(work, topic, {"member": topic}, now_us=NOW + step)


async def waiting(database, **options):
    async with database.unit_of_work() as work:
        return await waiting_messages(work, **{"now_us": NOW, **options})


async def test_a_message_of_a_failed_change_never_existed(database):
    with pytest.raises(LookupError):
        async with database.unit_of_work() as work:
            await put_message(work, "consent.withdrawn", {}, now_us=NOW)
            raise LookupError
    assert await waiting(database) == []


async def test_messages_wait_in_the_order_in_which_they_were_put(database):
    await put(database, "a", "b", "c")
    assert [message.topic for message in await waiting(database)] == ["a", "b", "c"]
    assert [message.topic for message in await waiting(database, most=2)] == ["a", "b"]


async def test_a_message_waits_until_it_is_marked_delivered(database):
    await put(database, "a", "b")
    first, second = await waiting(database)
    assert first.payload == {"member": "a"}
    async with database.unit_of_work() as work:
        await mark_delivered(work, first.id, now_us=NOW + 10)
    assert await waiting(database) == [second]


async def test_a_delivery_that_fails_leaves_the_message_waiting(database):
    await put(database, "a")
    with pytest.raises(LookupError):
        async with database.unit_of_work() as work:
            (message,) = await waiting_messages(work, now_us=NOW)
            await mark_delivered(work, message.id, now_us=NOW)
            raise LookupError
    assert len(await waiting(database)) == 1


async def test_a_delivered_message_keeps_nothing_of_what_it_carried(database):
    await put(database, "a")
    (message,) = await waiting(database)
    async with database.unit_of_work() as work:
        await mark_delivered(work, message.id, now_us=NOW + 10)
    async with database.read() as session:
        (row,) = await session.all(ROWS)
    assert (row["id"], bytes(row["payload"]), row["delivered_us"]) == (message.id, b"", NOW + 10)


async def test_two_workers_never_take_the_same_message(database):
    await put(database, "a", "b", "c", "d")
    taken = []

    async def work_once():
        async with database.unit_of_work() as work:
            for message in await waiting_messages(work, now_us=NOW, most=2):
                taken.append(message.topic)
                await mark_delivered(work, message.id, now_us=NOW)
            await asyncio.sleep(0.02)  # PostgreSQL: the other one must skip what we hold

    await asyncio.gather(work_once(), work_once())
    assert sorted(taken) == ["a", "b", "c", "d"]


async def test_a_message_put_aside_comes_back_in_its_time_and_holds_up_none_behind_it(database):
    await put(database, "a", "b")
    first, second = await waiting(database)
    async with database.unit_of_work() as work:
        assert await put_aside(work, first, next_us=NOW + 10)
        assert not await put_aside(work, first, next_us=NOW + 20)  # tried since it was taken
    assert await waiting(database) == [second]
    assert [m.topic for m in await waiting(database, now_us=NOW + 10)] == ["a", "b"]
    async with database.unit_of_work() as work:
        assert await stuck_messages(work, attempts=1) == 1
        assert await stuck_messages(work, attempts=2) == 0
