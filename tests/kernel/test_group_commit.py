"""SQLite: units of work share a commit and nothing else; none returns before it is on disk."""

import asyncio
import sqlite3
from contextlib import closing

import pytest
from sqlalchemy import bindparam, insert, select

from kernel import Building, IntegrityError, Statement, UnavailableError
from kernel.sqlite import SqliteDatabase, connect, connect_read_only
from kernel.tables import registry_fact

pytestmark = pytest.mark.anyio

PUT = Statement(insert(registry_fact).values(name=bindparam("name"), value=bindparam("value")))
NAMES = Statement(select(registry_fact.c.name).order_by(registry_fact.c.name))
BIG = "x" * 100_000


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    ]
)
def anyio_backend(request):
    return request.param


@pytest.fixture
def commits(sqlite_database):
    """Counts the commits that reach the file."""
    seen = []
    sqlite_database._writer.set_trace_callback(
        lambda sql: seen.append(sql) if sql == "COMMIT" else None
    )
    return seen


@pytest.fixture
def on_disk(sqlite_file):
    """Read through a connection of our own what a crash would leave."""

    def read():
        with closing(sqlite3.connect(sqlite_file)) as connection:
            return {name for (name,) in connection.execute("SELECT name FROM registry_fact")}

    return read


async def put(database, name, value="1", *, fail=None, pause=None, seen=None):
    async with database.unit_of_work() as work:
        if seen is not None:
            work.after_commit(lambda: seen.append(name))
        await work.run(PUT, name=name, value=value)
        if pause is not None:
            await pause.wait()
        if fail is not None:
            raise fail
    return name


async def test_a_failure_leaves_its_neighbours_unharmed(sqlite_database, on_disk, commits):
    results = await asyncio.gather(
        put(sqlite_database, "before"),
        put(sqlite_database, "failing", fail=LookupError()),
        put(sqlite_database, "before"),  # a key that exists in the same batch
        put(sqlite_database, "after"),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [str, LookupError, IntegrityError, str]
    assert on_disk() == {"before", "after"}
    assert len(commits) == 1


async def test_requests_of_one_turn_share_one_commit(sqlite_database, on_disk, commits):
    wanted = {f"n{number}" for number in range(50)}
    assert set(await asyncio.gather(*(put(sqlite_database, name) for name in wanted))) == wanted
    assert on_disk() == wanted
    assert len(commits) == 1


async def test_none_returns_before_its_commit_is_on_disk(sqlite_database, on_disk):
    async def put_and_look(name):
        await put(sqlite_database, name)
        assert name in on_disk()

    await asyncio.gather(*(put_and_look(f"n{number}") for number in range(20)))


async def test_a_cancelled_request_leaves_its_neighbours_unharmed(sqlite_database, on_disk):
    slow = asyncio.create_task(put(sqlite_database, "slow", pause=asyncio.Event()))
    await asyncio.sleep(0)  # it is in its savepoint, and everybody else waits for its turn
    neighbours = [asyncio.create_task(put(sqlite_database, name)) for name in ("a", "b")]
    await asyncio.sleep(0.01)
    assert on_disk() == set()
    slow.cancel()
    assert await asyncio.gather(*neighbours) == ["a", "b"]
    with pytest.raises(asyncio.CancelledError):
        await slow
    assert on_disk() == {"a", "b"}


async def test_a_request_cancelled_in_the_queue_takes_no_turn(sqlite_database, on_disk):
    pause = asyncio.Event()
    first = asyncio.create_task(put(sqlite_database, "first", pause=pause))
    await asyncio.sleep(0)
    queued = asyncio.create_task(put(sqlite_database, "queued"))
    await asyncio.sleep(0)
    queued.cancel()
    pause.set()
    await first
    assert queued.cancelled()
    await put(sqlite_database, "next")
    assert on_disk() == {"first", "next"}


async def test_a_request_cancelled_while_it_waits_for_the_commit_harms_nobody(
    sqlite_database, on_disk
):
    impatient = asyncio.create_task(put(sqlite_database, "impatient"))
    patient = asyncio.create_task(put(sqlite_database, "patient"))
    await asyncio.sleep(0)  # both have left their savepoints; the commit is due next
    impatient.cancel()
    assert await patient == "patient"
    with pytest.raises(asyncio.CancelledError):
        await impatient
    assert "patient" in on_disk()


async def test_a_full_disk_fails_the_request_and_spares_its_neighbours(sqlite_database, on_disk):
    pages = sqlite_database._writer.execute("PRAGMA page_count").fetchone()[0]
    sqlite_database._writer.execute(f"PRAGMA max_page_count = {pages + 2}").fetchall()
    results = await asyncio.gather(
        put(sqlite_database, "small"),
        put(sqlite_database, "large", BIG),
        return_exceptions=True,
    )
    # SQLite may give up the whole transaction: then both must fail. Never: told stored, not there.
    assert isinstance(results[1], UnavailableError)
    assert results[1].reason == "database_unavailable"
    stored = {result for result in results if isinstance(result, str)}
    assert on_disk() == stored

    sqlite_database._writer.execute(f"PRAGMA max_page_count = {pages + 1000}").fetchall()
    assert await put(sqlite_database, "when there is room again", BIG)
    assert on_disk() == stored | {"when there is room again"}


async def test_a_request_that_hides_a_full_disk_is_not_told_it_was_stored(sqlite_database, on_disk):
    pages = sqlite_database._writer.execute("PRAGMA page_count").fetchone()[0]
    sqlite_database._writer.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    sqlite_database._writer.execute("PRAGMA cache_size = 1").fetchall()
    outcome = "stored"
    try:
        async with sqlite_database.unit_of_work() as work:
            for number in range(100):
                try:
                    await work.run(PUT, name=f"n{number}", value=BIG[:3000])
                except UnavailableError:
                    break
    except UnavailableError:
        outcome = "refused"
    assert (outcome == "stored") == bool(on_disk())


async def test_a_commit_that_fails_is_told_to_everyone_who_shared_it(
    sqlite_database, on_disk, monkeypatch
):
    seen = []
    real = sqlite_database._writer

    class DiesAtCommit:
        def execute(self, sql, *parameters):
            if sql == "COMMIT":
                raise sqlite3.OperationalError("disk I/O error")
            return real.execute(sql, *parameters)

        in_transaction = property(lambda _: real.in_transaction)

    monkeypatch.setattr(sqlite_database, "_writer", DiesAtCommit())
    results = await asyncio.gather(
        *(put(sqlite_database, name, seen=seen) for name in ("a", "b")), return_exceptions=True
    )
    monkeypatch.undo()
    assert [type(result) for result in results] == [UnavailableError, UnavailableError]
    assert seen == []
    assert on_disk() == set()
    await put(sqlite_database, "later")
    assert on_disk() == {"later"}


async def test_a_foreign_writer_is_reported_at_once(sqlite_database, sqlite_file, on_disk):
    with closing(sqlite3.connect(sqlite_file, isolation_level=None)) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError, match="SQLITE_BUSY"):
            await asyncio.wait_for(put(sqlite_database, "a"), timeout=2)
        foreign.execute("ROLLBACK")
    await put(sqlite_database, "b")
    assert on_disk() == {"b"}


async def test_a_unit_of_work_that_outlives_the_turn_holds_the_commit_back(
    sqlite_database, on_disk, commits
):
    pause = asyncio.Event()
    quick = asyncio.create_task(put(sqlite_database, "quick"))
    slow = asyncio.create_task(put(sqlite_database, "slow", pause=pause))
    await asyncio.sleep(0.02)
    assert on_disk() == set()
    assert not quick.done()
    pause.set()
    await asyncio.gather(quick, slow)
    assert on_disk() == {"quick", "slow"}
    assert len(commits) == 1


async def test_reactions_of_a_batch_run_in_the_order_of_their_units(sqlite_database):
    seen = []
    await asyncio.gather(
        put(sqlite_database, "a", seen=seen),
        put(sqlite_database, "b", seen=seen, fail=None),
        put(sqlite_database, "a", seen=seen),
        return_exceptions=True,
    )
    assert seen == ["a", "b"]


async def test_closing_keeps_what_was_promised(sqlite_file, on_disk):
    database = SqliteDatabase(sqlite_file, owes=Building)
    tasks = [asyncio.create_task(put(database, name)) for name in ("a", "b")]
    await asyncio.sleep(0)
    await database.close()
    assert await asyncio.gather(*tasks) == ["a", "b"]
    assert on_disk() == {"a", "b"}


def test_the_file_is_opened_for_durability_and_for_erasure(sqlite_file):
    with closing(connect(sqlite_file)) as connection:
        wanted = {
            "journal_mode": "wal",
            "synchronous": 2,  # FULL
            "secure_delete": 1,
            "foreign_keys": 1,
            "recursive_triggers": 1,
            "trusted_schema": 0,
        }
        for pragma, value in wanted.items():
            assert connection.execute(f"PRAGMA {pragma}").fetchone()[0] == value, pragma


def test_the_reading_connection_cannot_write(sqlite_file):
    with (
        closing(connect_read_only(sqlite_file)) as connection,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        connection.execute("DELETE FROM registry_fact")
