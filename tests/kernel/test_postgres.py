"""PostgreSQL: a connection is clean when it is lent, or it is not lent at all."""

import asyncio
import contextlib

import asyncpg
import pytest
from sqlalchemy import bindparam, func, insert, select

from kernel import Building, ConfigurationError, IntegrityError, Statement, UnavailableError
from kernel.postgres import PostgresDatabase, driver_dsn
from kernel.tables import registry_fact

PUT = Statement(insert(registry_fact).values(name=bindparam("name"), value=bindparam("value")))
NAMES = Statement(select(registry_fact.c.name).order_by(registry_fact.c.name))
LOCK = Statement(
    select(registry_fact.c.value).where(registry_fact.c.name == bindparam("name")).with_for_update()
)
SLEEP = Statement(select(func.pg_sleep(bindparam("seconds"))))
PID = Statement(select(func.pg_backend_pid().label("pid")))
SETTING = Statement(select(func.current_setting(bindparam("name")).label("value")))


@pytest.fixture
async def one(postgres_url):
    """A database with a single connection to lend: whatever leaks, the next one meets it."""
    database = PostgresDatabase(postgres_url, pool_size=1, owes=Building)
    yield database
    await database.close()


@pytest.fixture
async def outside(postgres_url):
    """Somebody else's connection."""
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


class LostItsPlace:
    """A connection whose server went away between two states of the driver's protocol."""

    def __init__(self, connection):
        self._connection = connection

    async def execute(self, _sql):
        raise asyncpg.InternalClientError(
            "cannot switch to state 15; another operation (2) is in progress"
        )

    def __getattr__(self, name):
        return getattr(self._connection, name)


@pytest.mark.parametrize("url", ["", "mysql://u@h/d", "sqlite:///x.db", "postgresqlx://u@h/d"])
def test_an_engine_we_do_not_know_is_a_configuration_error(url):
    with pytest.raises(ConfigurationError):
        driver_dsn(url)


def test_a_refused_url_is_not_repeated_with_its_password():
    with pytest.raises(ConfigurationError) as caught:
        driver_dsn("mysql://user:hunter2@host/db")
    assert "hunter2" not in caught.value.diagnostics()


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_every_spelling_of_postgresql_is_understood(scheme):
    assert driver_dsn(f"{scheme}://u:p@h:5/d") == "postgresql://u:p@h:5/d"


@pytest.mark.anyio
async def test_a_server_that_is_not_there_is_unavailable():
    nowhere = PostgresDatabase("postgresql://nobody@127.0.0.1:1/none", pool_size=1)
    for _ in range(3):  # each failure gives its place in the pool back
        with pytest.raises(UnavailableError, match="cannot be reached"):
            async with asyncio.timeout(60):
                async with nowhere.unit_of_work():
                    pytest.fail("there is nothing to work on")


@pytest.mark.postgres
@pytest.mark.anyio
class TestConnections:
    async def test_a_request_cancelled_in_its_transaction_leaves_neither_rows_nor_locks(
        self, one, outside
    ):
        async with one.unit_of_work() as work:
            await work.run(PUT, name="locked", value="1")

        inside = asyncio.Event()

        async def slow():
            async with one.unit_of_work() as work:
                await work.first(LOCK, name="locked")
                await work.run(PUT, name="half done", value="1")
                inside.set()
                await work.first(SLEEP, seconds=30)

        task = asyncio.create_task(slow())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        async with asyncio.timeout(60):
            async with one.unit_of_work() as work:
                assert await work.first(LOCK, name="locked") is not None
                assert [row["name"] for row in await work.all(NAMES)] == ["locked"]
        in_transaction = await outside.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
            " AND datname = current_database()"
        )
        assert in_transaction == 0

    async def test_a_connection_whose_request_was_cancelled_is_never_lent_again(self, one):
        async with one.read() as session:
            before = (await session.first(PID))["pid"]

        async def slow():
            async with one.read() as session:
                await session.first(SLEEP, seconds=30)

        task = asyncio.create_task(slow())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(60):
            async with one.read() as session:
                assert (await session.first(PID))["pid"] != before

    async def test_a_request_cancelled_while_it_waits_for_a_connection_takes_none(self, one):
        async with one.read():
            waiting = asyncio.create_task(one.read().__aenter__())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        async with asyncio.timeout(60):
            async with one.read() as session:
                assert await session.first(PID) is not None

    async def test_a_failed_unit_of_work_gives_a_clean_connection_back(self, one):
        async with one.read() as session:
            before = (await session.first(PID))["pid"]
        with pytest.raises(LookupError):
            async with one.unit_of_work() as work:
                await work.run(PUT, name="a", value="1")
                raise LookupError
        async with one.unit_of_work() as work:
            assert (await work.first(PID))["pid"] == before
            assert await work.all(NAMES) == []

    async def test_a_broken_connection_is_reported_and_replaced(self, one, outside):
        with pytest.raises(UnavailableError) as caught:
            async with one.unit_of_work() as work:
                await work.run(PUT, name="a", value="1")
                pid = (await work.first(PID))["pid"]
                await outside.execute("SELECT pg_terminate_backend($1, 5000)", pid)
                await work.run(PUT, name="b", value="1")
        assert caught.value.reason == "database_unavailable"
        async with one.unit_of_work() as work:
            assert (await work.first(PID))["pid"] != pid
            assert await work.all(NAMES) == []

    async def test_a_connection_that_broke_while_nobody_had_it_is_replaced(self, one, outside):
        async with one.read() as session:
            pid = (await session.first(PID))["pid"]
        await outside.execute("SELECT pg_terminate_backend($1, 5000)", pid)
        await asyncio.sleep(0.05)  # the driver hears of it from the event loop
        async with one.read() as session:
            assert (await session.first(PID))["pid"] != pid

    async def test_a_commit_that_does_not_arrive_is_an_error(self, one, outside):
        seen = []
        with pytest.raises(UnavailableError):
            async with one.unit_of_work() as work:
                work.after_commit(lambda: seen.append("never"))
                await work.run(PUT, name="a", value="1")
                pid = (await work.first(PID))["pid"]
                await outside.execute("SELECT pg_terminate_backend($1, 5000)", pid)
        assert seen == []
        assert await outside.fetchval("SELECT count(*) FROM registry_fact") == 0

    async def test_a_driver_that_lost_its_place_is_reported_and_its_connection_not_lent_again(
        self, one
    ):
        lease = one.unit_of_work()
        work = await lease.__aenter__()
        pid = (await work.first(PID))["pid"]
        lease._connection = LostItsPlace(lease._connection)
        with pytest.raises(UnavailableError):
            await lease.__aexit__(None, None, None)
        async with one.read() as session:
            assert (await session.first(PID))["pid"] != pid

    async def test_a_change_whose_failure_was_hidden_is_not_taken_for_a_commit(self, one, outside):
        seen = []
        with pytest.raises(UnavailableError, match="rolled the change back"):
            async with one.unit_of_work() as work:
                work.after_commit(lambda: seen.append("never"))
                await work.run(PUT, name="a", value="1")
                with contextlib.suppress(IntegrityError):
                    await work.run(PUT, name="a", value="2")
        assert seen == []
        assert await outside.fetchval("SELECT count(*) FROM registry_fact") == 0

    async def test_a_statement_that_takes_too_long_is_unavailable(self, one, monkeypatch):
        monkeypatch.setattr("kernel.postgres.STATEMENT_TIMEOUT_MS", 50)
        with pytest.raises(UnavailableError, match="57014"):
            async with one.read() as session:
                await session.first(SLEEP, seconds=30)

    async def test_a_commit_waits_for_the_disk(self, one):
        async with one.read() as session:
            row = await session.first(SETTING, name="synchronous_commit")
        assert row["value"] == "on"

    async def test_no_more_connections_are_open_than_the_pool_has_room_for(
        self, postgres_url, outside
    ):
        database = PostgresDatabase(postgres_url, pool_size=3, owes=Building)

        async def work(number):
            async with database.unit_of_work() as unit:
                await unit.run(PUT, name=str(number), value="1")

        await asyncio.gather(*(work(number) for number in range(30)))
        opened = await outside.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'yinyom'"
        )
        assert opened == 3
        assert await outside.fetchval("SELECT count(*) FROM registry_fact") == 30
        await database.close()
