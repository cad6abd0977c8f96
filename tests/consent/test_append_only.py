"""What was decided, and the words it was decided on, cannot be changed by SQL: both engines.

The tests speak to the database as its owner. An owner can take a guard off on purpose; what is
shown here is that nobody changes the record by accident, by a clever insert, or by a session
setting that switches ordinary triggers off.
"""

import sqlite3
from contextlib import closing

import asyncpg
import pytest

from tests.support.world import open_world

pytestmark = pytest.mark.anyio

KEYS = {
    "consent_event": "id",
    "notice": "revision",
    "audit_event": "id",
    "audit_leaf": "leaf_index",
    "audit_checkpoint": "size",
}
COLUMN = {
    "consent_event": ("decision", "'given'"),
    "notice": ("text", "'other words'"),
    "audit_event": ("action", "'other.act'"),
    "audit_leaf": ("event_id", "'evt_other'"),
    "audit_checkpoint": ("note", "'other'"),
}


@pytest.fixture
async def used(world):
    """A registry in which something was decided and sequenced."""
    crm = await world.app()
    member = await crm.register(phone="081-234-5678", consents={"marketing": "sms"})
    await crm.withdraw(member)
    await world.runtime.sequencer.drain()
    await world.until("SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM audit_pending)")
    return world


def refused(error):
    return isinstance(error, sqlite3.IntegrityError | asyncpg.IntegrityConstraintViolationError)


async def assert_refused(world, table, *statements):
    before = await world.fetch(f"SELECT * FROM {table} ORDER BY 1")
    assert before, "nothing to protect"
    for statement in statements:
        with pytest.raises((sqlite3.IntegrityError, asyncpg.PostgresError)) as caught:
            await world.execute(statement)
        assert refused(caught.value), statement
    assert await world.fetch(f"SELECT * FROM {table} ORDER BY 1") == before


@pytest.mark.parametrize("table", KEYS)
async def test_a_row_can_be_neither_changed_nor_deleted(used, table):
    column, value = COLUMN[table]
    await assert_refused(
        used,
        table,
        f"UPDATE {table} SET {column} = {value}",
        f"DELETE FROM {table}",
        f"DELETE FROM {table} WHERE {KEYS[table]} = (SELECT min({KEYS[table]}) FROM {table})",
    )


@pytest.mark.postgres
@pytest.mark.parametrize("table", KEYS)
async def test_postgresql_truncates_nothing_and_a_replica_session_is_no_way_round(
    postgres_settings, table
):
    async with open_world(postgres_settings) as world:
        crm = await world.app()
        await crm.register(phone="081-234-5678", consents={"marketing": "sms"})
        await world.runtime.sequencer.drain()
        column, value = COLUMN[table]
        await assert_refused(
            world,
            table,
            f"TRUNCATE {table}",
            f"SET session_replication_role = replica; UPDATE {table} SET {column} = {value}",
            f"SET session_replication_role = replica; DELETE FROM {table}",
            f"SET session_replication_role = replica; TRUNCATE {table}",
            f"INSERT INTO {table} SELECT * FROM {table} "
            f"ON CONFLICT ({KEYS[table]}) DO UPDATE SET {column} = {value}",
        )


@pytest.mark.postgres
async def test_a_replica_session_cannot_write_an_event_past_the_queue(postgres_settings):
    async with open_world(postgres_settings, background=False) as world:
        await world.runtime.sequencer.drain()
        await world.execute(
            "SET session_replication_role = replica; INSERT INTO audit_event "
            "(id, recorded_us, actor, action, body) VALUES ('evt_x', 1, 'a', 'b', '{}')"
        )
        assert [row["event_id"] for row in await world.fetch("SELECT * FROM audit_pending")] == [
            "evt_x"
        ]


def replacements(connection, table):
    """Every way of pushing the first row of a table out by inserting another."""
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    first = connection.execute(f"SELECT {', '.join(columns)} FROM {table} LIMIT 1").fetchone()
    changed, value = COLUMN[table]
    named = dict(zip(columns, first, strict=True))
    marks = ", ".join("?" * len(columns))
    over_key = [value.strip("'") if name == changed else named[name] for name in columns]
    yield f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}) VALUES ({marks})", over_key
    yield f"REPLACE INTO {table} ({', '.join(columns)}) VALUES ({marks})", over_key
    other_key = {**named, KEYS[table]: _other(named[KEYS[table]])}
    has_rowid = "WITHOUT ROWID" not in str(
        connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", [table]).fetchone()[0]
    )
    if has_rowid:
        target = f"{table} (rowid, {', '.join(columns)})"
        first_row = f"(SELECT rowid FROM {table} LIMIT 1)"
        yield (
            f"INSERT OR REPLACE INTO {target} VALUES ({first_row}, {marks})",
            list(other_key.values()),
        )
    if table == "audit_leaf":  # the second unique key
        yield (
            f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}) VALUES ({marks})",
            list(other_key.values()),
        )
    yield (
        f"UPDATE OR REPLACE {table} SET {KEYS[table]} = {KEYS[table]}",
        [],
    )


def _other(key):
    return key + 1_000 if isinstance(key, int) else key + "x"


@pytest.mark.parametrize("table", KEYS)
async def test_sqlite_replaces_nothing_by_an_insert_whatever_the_connection_left_off(
    sqlite_settings, table
):
    """REPLACE deletes without asking the delete trigger, unless a pragma is on."""
    async with open_world(sqlite_settings) as world:
        crm = await world.app()
        member = await crm.register(phone="081-234-5678", consents={"marketing": "sms"})
        await crm.withdraw(member)
        await world.runtime.sequencer.drain()
    with closing(sqlite3.connect(sqlite_settings.database_file)) as plain:
        before = plain.execute(f"SELECT * FROM {table}").fetchall()
        for statement, parameters in list(replacements(plain, table)):
            with pytest.raises(sqlite3.IntegrityError):
                plain.execute(statement, parameters)
            plain.rollback()
        assert plain.execute(f"SELECT * FROM {table}").fetchall() == before


async def test_notices_are_offered_again_without_harm(used):
    before = await used.fetch("SELECT * FROM notice ORDER BY revision")
    async with used.runtime.database.unit_of_work() as work:
        await used.runtime.consent.publish_notices(work)
    assert await used.fetch("SELECT * FROM notice ORDER BY revision") == before
