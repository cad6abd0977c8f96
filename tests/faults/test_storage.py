"""A database that fails in the middle: a 503, nothing told, and no background task that dies."""

import asyncio
import sqlite3
from contextlib import asynccontextmanager

import pytest

from kernel import put_message
from members import CODE_WANTED
from tests.support.world import open_world

pytestmark = pytest.mark.anyio


class Failing:
    """A connection whose every query fails as SQLite does on a damaged file."""

    def __init__(self, connection):
        self._connection = connection

    def execute(self, sql, *parameters):
        if sql.lstrip().upper().startswith(("SELECT", "WITH", "INSERT", "UPDATE")):
            raise sqlite3.DatabaseError("database disk image is malformed")
        return self._connection.execute(sql, *parameters)

    def __getattr__(self, name):
        return getattr(self._connection, name)


async def test_a_corrupt_file_is_a_503_and_not_a_crash(sqlite_settings):
    async with open_world(sqlite_settings, background=False) as world:
        crm = await world.app()
        member = await crm.register(phone="081-234-5678")
        assert (await crm.view(member)).status_code == 200
        database = world.runtime.database
        genuine = database._writer, database._reader
        database._writer, database._reader = (Failing(each) for each in genuine)
        for request in (crm.view(member), crm.withdraw(member), world.http.get("/readyz")):
            answer = await request
            assert answer.status_code == 503
            assert "สมหญิง" not in answer.text
        database._writer, database._reader = genuine
        assert (await crm.view(member)).status_code == 200


async def test_a_code_is_sent_though_whoever_asked_for_it_went_away(world, monkeypatch):
    """Settling takes longer than a request waits: the delivery is not cut off after its commit."""
    monkeypatch.setattr("service.outbox._SETTLE_SECONDS", 0.05)
    courier, database = world.runtime.courier, world.runtime.database
    genuine, goes_on = database.unit_of_work, asyncio.Event()

    class Slow:
        def __getattr__(self, name):
            return getattr(database, name)

        @asynccontextmanager
        async def unit_of_work(self):
            async with genuine() as work:
                yield work
            await goes_on.wait()  # the commit is known; the sending comes next

    await courier.stop()
    courier._database = Slow()
    crm = await world.app()
    request = asyncio.create_task(crm.register(phone="081-234-5678"))
    member = await request
    assert world.codes() == []
    goes_on.set()
    await asyncio.wait(courier._settling)
    await crm.verify(member)


async def test_a_message_that_cannot_be_delivered_does_not_end_the_courier_or_a_request(world):
    crm = await world.app()
    async with world.runtime.database.unit_of_work() as work:
        await put_message(
            work, CODE_WANTED, {"contact_point_id": "cp_x", "kind": "pigeon"}, now_us=1
        )
    await crm.register(phone="081-234-5678")
    await world.until("SELECT 1 FROM outbox WHERE created_us = 1 AND attempts > 0")
    assert world.runtime.courier._task is not None
    assert not world.runtime.courier._task.done()
    await world.execute("DELETE FROM outbox WHERE created_us = 1")
    member = await crm.register(phone="082-222-2222")
    await crm.verify(member)


async def test_an_error_that_nobody_foresaw_does_not_end_the_worker(world, monkeypatch):
    worker = world.runtime.worker

    stumbled = asyncio.Event()

    async def stumble(*_):
        stumbled.set()
        raise RuntimeError("planted")

    monkeypatch.setattr(worker, "run_one", stumble)
    await asyncio.wait_for(stumbled.wait(), 90)
    monkeypatch.undo()
    assert worker._task is not None
    assert not worker._task.done()
