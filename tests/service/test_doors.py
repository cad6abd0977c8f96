"""The trail's doors, tried by whoever has the servers' password or the file: what must not pass.

A body that is not old enough or held, a hold made smaller, a row pushed out by another one, the
queue filled from beside: each way was open or half open once.
"""

import asyncio
import contextlib
import sqlite3
from contextlib import closing

import asyncpg
import pytest

from audit import Holds, HoldScope
from kernel import UnavailableError
from tests.support.world import DAY_US, JumpingClock, fetch, open_world

pytestmark = pytest.mark.anyio

REFUSED = (sqlite3.IntegrityError, asyncpg.IntegrityConstraintViolationError)
EVENT = (
    "INSERT INTO audit_event (id, recorded_us, actor, action, body) "
    "VALUES (:id, :us, 'sys_registry', 'retention.pruned', :body)"
)
LONG_AGO_US = 8 * 366 * DAY_US


async def place_of(world, action):
    rows = await world.fetch(
        "SELECT l.leaf_index, e.id, e.recorded_us FROM audit_event e "
        "JOIN audit_leaf l ON l.event_id = e.id WHERE e.action = :action",
        action=action,
    )
    return rows[0]


async def forge(world, us, body=b"{}"):
    await world.execute(EVENT, id="evt_forged", us=us, body=body)


def names(place, event, due_us):
    """Name one place in the log for deletion, with whatever days would fit."""
    at, us = place["leaf_index"], place["recorded_us"]
    return f"INSERT INTO audit_pruned VALUES ({at}, {at}, '{event}', {us}, {us + 1}, {due_us})"


async def test_nothing_of_the_running_month_goes_whoever_names_it(world):
    """Event, run and day are all forged to fit; only the database's own calendar says no."""
    await world.app()
    await world.runtime.sequencer.drain()
    place = await place_of(world, "client.add")
    due_us = place["recorded_us"] + 1
    await forge(world, due_us)
    await world.execute(names(place, "evt_forged", due_us))
    if not world.settings.on_postgres:  # its clock has whole seconds: that day must have come
        await world.until(f"SELECT 1 WHERE strftime('%s', 'now') * 1000000 >= {due_us}")
    with pytest.raises(REFUSED):
        await world.execute(f"DELETE FROM audit_event WHERE id = '{place['id']}'")
    assert (await place_of(world, "client.add"))["id"] == place["id"]


async def test_an_event_that_no_export_could_hold_is_refused(world):
    with pytest.raises(REFUSED):
        await forge(world, 1, b"x" * 65_536)
    await forge(world, 1, b"x" * 65_535)


@pytest.fixture
async def aged(settings):
    """A registry whose first events are eight years old, and its clock."""
    clock = JumpingClock()
    clock.jump_us = -LONG_AGO_US
    async with open_world(settings, clock=clock, background=False) as world:
        crm = await world.app()
        member = await crm.register(phone="081-234-5678")
        for _ in range(3):
            assert (await crm.view(member)).status_code == 200
        await world.runtime.sequencer.drain()
        clock.jump_us = 0
        yield world


async def hold(world, **scope):
    holds = Holds(world.runtime.database, world.runtime.audit, world.runtime.clock)
    async with world.runtime.database.unit_of_work() as work:
        return await holds.add(work, world.operator, HoldScope(**scope), "litigation")


async def bodies(world):
    rows = await world.fetch("SELECT count(*) AS n FROM audit_event WHERE action = 'member.view'")
    return rows[0]["n"]


async def test_no_body_is_deleted_by_hand_while_it_is_held(aged):
    """Event, run and day fit, and whoever deletes asks no plan: only the hold is in the way."""
    place = await place_of(aged, "member.view")
    await forge(aged, aged.runtime.clock.now_us())
    await aged.execute(names(place, "evt_forged", place["recorded_us"] + 1))
    delete = f"DELETE FROM audit_event WHERE id = '{place['id']}'"
    held = await hold(aged, action="member.view")
    with pytest.raises(REFUSED):
        await aged.execute(delete)
    holds = Holds(aged.runtime.database, aged.runtime.audit, aged.runtime.clock)
    async with aged.runtime.database.unit_of_work() as work:
        await holds.release(work, aged.operator, held)
    await aged.execute(delete)
    assert await bodies(aged) == 2


async def test_what_tells_of_a_deletion_is_never_deleted(aged):
    now_us = aged.runtime.clock.now_us()
    await aged.execute(EVENT, id="evt_old", us=now_us - LONG_AGO_US, body=b"{}")
    await aged.runtime.sequencer.drain()
    place = await place_of(aged, "retention.pruned")
    await forge(aged, now_us)
    await aged.execute(names(place, "evt_forged", place["recorded_us"] + 1))
    with pytest.raises(REFUSED):
        await aged.execute("DELETE FROM audit_event WHERE id = 'evt_old'")
    assert (await place_of(aged, "retention.pruned"))["id"] == "evt_old"


async def test_a_hold_is_released_once_and_never_made_smaller(aged):
    held = await hold(aged, action="member.view")
    changes = [
        "UPDATE audit_hold SET until_us = 1",
        "UPDATE audit_hold SET action = 'member.other'",
        "UPDATE audit_hold SET by_subject = 1",
        "UPDATE audit_hold SET id = 'hld_other', released_us = 1",
        "DELETE FROM audit_hold",
    ]
    for change in changes:
        with pytest.raises(REFUSED):
            await aged.execute(change)
    await aged.runtime.pruning.prune(aged.operator)
    assert await bodies(aged) == 3
    holds = Holds(aged.runtime.database, aged.runtime.audit, aged.runtime.clock)
    async with aged.runtime.database.unit_of_work() as work:
        await holds.release(work, aged.operator, held)
    for change in ("UPDATE audit_hold SET released_us = 1", "UPDATE audit_hold SET from_us = 1"):
        with pytest.raises(REFUSED):
            await aged.execute(change)
    await aged.runtime.pruning.prune(aged.operator)
    assert await bodies(aged) == 0


# --- deletion on PostgreSQL -----------------------------------------------------------


@pytest.fixture
async def old(postgres_settings):
    clock = JumpingClock()
    clock.jump_us = -LONG_AGO_US
    async with open_world(postgres_settings, clock=clock, background=False) as world:
        crm = await world.app()
        await crm.view(await crm.register(phone="081-234-5678"))
        await world.runtime.sequencer.drain()
        clock.jump_us = 0
        yield world


@contextlib.asynccontextmanager
async def connected(world):
    """A session of somebody else; it ends with the block, whatever it holds."""
    connection = await asyncpg.connect(world.settings.database.url)
    try:
        yield connection
    finally:
        connection.terminate()


@pytest.mark.postgres
async def test_only_the_transaction_that_tells_of_a_deletion_deletes(old):
    place = await place_of(old, "member.view")
    now_us = old.runtime.clock.now_us()
    await forge(old, now_us)
    await old.execute(names(place, "evt_forged", place["recorded_us"] + 1))
    with pytest.raises(REFUSED, match="no event of this transaction"):
        await old.execute("SELECT yinyom_prune('evt_forged')")
    assert (await place_of(old, "member.view"))["id"] == place["id"]


@pytest.mark.postgres
async def test_a_transaction_that_began_before_the_hold_does_not_get_past_it(old):
    """It would look for holds in the moment that it keeps, where there are none yet."""
    place = await place_of(old, "member.view")
    async with connected(old) as connection:
        transaction = connection.transaction(isolation="repeatable_read")
        await transaction.start()
        await connection.fetchval("SELECT count(*) FROM audit_hold")
        await hold(old, action="member.view")
        now_us = old.runtime.clock.now_us()
        forged = EVENT.replace(":id", "'evt_forged'").replace(":us", str(now_us))
        await connection.execute(forged.replace(":body", "'{}'"))
        await connection.execute(names(place, "evt_forged", place["recorded_us"] + 1))
        with pytest.raises(asyncpg.PostgresError, match="as they are now"):
            await connection.execute("SELECT yinyom_prune('evt_forged')")
    assert (await place_of(old, "member.view"))["id"] == place["id"]


@pytest.mark.postgres
async def test_a_hold_that_is_placed_during_a_prune_waits_for_it_and_then_stands(old):
    async with connected(old) as connection:
        await connection.execute("BEGIN; SELECT yinyom_stop_holds()")
        placing = asyncio.create_task(hold(old, action="member.view"))
        await old.until_waiting_for_a_lock()
        assert not placing.done()
        await connection.execute("COMMIT")
    await placing
    await old.runtime.pruning.prune(old.operator)
    assert (await place_of(old, "member.view"))["id"]


@pytest.mark.postgres
async def test_of_two_prunes_at_once_the_second_waits_and_finds_nothing_to_do(old):
    async with connected(old) as connection:
        await connection.execute("BEGIN; SELECT yinyom_stop_holds()")
        both = [
            asyncio.create_task(old.runtime.pruning.prune(old.operator, before="2100-01"))
            for _ in range(2)
        ]
        await old.until(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() "
            "AND wait_event_type = 'Lock' HAVING count(*) = 2"
        )
        await connection.execute("COMMIT")
    first, second = await asyncio.gather(*both)
    assert sorted(sum(each.bodies for each in found) > 0 for found in (first, second)) == [
        False,
        True,
    ]


OPEN = {
    "triggers that a replica session skips": "SELECT tgname AS name FROM pg_trigger "
    "WHERE NOT tgisinternal AND tgenabled <> 'A'",
    "functions with the caller's path": "SELECT proname AS name FROM pg_proc "
    "WHERE pronamespace = 'public'::regnamespace "
    "AND NOT coalesce(proconfig @> ARRAY['search_path=public, pg_temp'], false)",
    "functions that anybody may call": "SELECT proname AS name FROM pg_proc "
    "WHERE pronamespace = 'public'::regnamespace "
    "AND has_function_privilege('public', oid, 'EXECUTE')",
    "tables that anybody may touch": "SELECT relname AS name FROM pg_class "
    "WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' "
    "AND has_table_privilege('public', oid, 'SELECT,INSERT,UPDATE,DELETE,TRUNCATE')",
}


@pytest.mark.postgres
async def test_every_trigger_stands_always_and_every_function_is_shut(postgres_settings):
    """Those of later migrations too: who adds one is told here what it needs."""
    for what, sql in OPEN.items():
        assert await fetch(postgres_settings, sql) == [], what


# --- rows pushed out on SQLite --------------------------------------------------------

SEEDS = {
    "audit_anchor": "(1, 'folder:/a', 'r1', 1), (2, 'folder:/a', 'r2', 2)",
    "audit_origin": "('a', 1, 'n1', 'k', 'evt_a', 1), ('b', 2, 'n2', 'k', 'evt_b', 2)",
    "audit_cosignature": "(1, 'w', 'l1', 1), (2, 'w', 'l2', 2)",
    "audit_hold": "('h1', 'litigation', 1, 9, 'a', 0, 1, NULL, 'main'), "
    "('h2', 'litigation', 1, 9, 'b', 0, 1, NULL, 'main')",
    "audit_pruned": "(1, 2, 'evt_a', 0, 1, 1), (4, 5, 'evt_b', 0, 1, 1)",
    "rights_ledger": "('r1', 'k', x'00', 1, x'00', 1, x'00'), ('r2', 'k', x'00', 1, x'00', "
    "NULL, NULL)",
}
PUSHES = {
    "audit_anchor": [
        "INSERT OR REPLACE INTO audit_anchor VALUES (1, 'folder:/a', 'other', 9)",
        (
            "INSERT INTO audit_anchor VALUES (1, 'folder:/a', 'other', 9) "
            "ON CONFLICT (size, sink) DO UPDATE SET receipt = 'other'"
        ),
        (
            "INSERT OR REPLACE INTO audit_anchor (rowid, size, sink, receipt, anchored_us) "
            "SELECT rowid, 7, sink, 'other', 9 FROM audit_anchor WHERE size = 1"
        ),
        "UPDATE OR REPLACE audit_anchor SET size = 2 WHERE size = 1",
    ],
    "audit_origin": [
        "INSERT OR REPLACE INTO audit_origin VALUES ('a', 9, 'other', 'k', 'evt_x', 9)",
        (
            "INSERT OR REPLACE INTO audit_origin (rowid, origin, size, note, vkey, event_id, "
            "closed_us) SELECT rowid, 'c', 9, 'other', 'k', 'e', 9 FROM audit_origin LIMIT 1"
        ),
        "UPDATE OR REPLACE audit_origin SET origin = 'b' WHERE origin = 'a'",
    ],
    "audit_cosignature": [
        "UPDATE OR REPLACE audit_cosignature SET size = 2 WHERE size = 1",
        (
            "UPDATE OR REPLACE audit_cosignature SET rowid = "
            "(SELECT max(rowid) FROM audit_cosignature) WHERE size = 1"
        ),
    ],
    "audit_hold": [
        "UPDATE OR REPLACE audit_hold SET id = 'h2', released_us = 1 WHERE id = 'h1'",
        (
            "UPDATE OR REPLACE audit_hold SET released_us = 1, rowid = "
            "(SELECT max(rowid) FROM audit_hold) WHERE id = 'h1'"
        ),
        "INSERT OR REPLACE INTO audit_hold VALUES ('h1', 'other', 1, 1, 'z', 0, 1, 1, 'main')",
    ],
    "audit_pruned": [
        "INSERT OR REPLACE INTO audit_pruned VALUES (1, 9, 'evt_x', 0, 1, 1)",
        "UPDATE OR REPLACE audit_pruned SET first_index = 4 WHERE first_index = 1",
    ],
    "rights_ledger": [
        "UPDATE OR REPLACE rights_ledger SET position = 1, link = x'01' WHERE id = 'r2'",
        (
            "UPDATE OR REPLACE rights_ledger SET position = 2, rowid = "
            "(SELECT rowid FROM rights_ledger WHERE id = 'r1') WHERE id = 'r2'"
        ),
    ],
}


@pytest.mark.parametrize("table", PUSHES)
def test_no_row_is_pushed_out_by_another_whatever_the_connection_left_off(
    table, migrated_sqlite_file, tmp_path
):
    """REPLACE deletes without asking a delete trigger, in an insert and in an update alike."""
    copy = tmp_path / "copy.db"
    copy.write_bytes(migrated_sqlite_file.read_bytes())
    with closing(sqlite3.connect(copy)) as plain:
        plain.execute(f"INSERT INTO {table} VALUES {SEEDS[table]}")
        plain.commit()
        before = plain.execute(f"SELECT rowid, * FROM {table}").fetchall()
        for push in PUSHES[table]:
            try:
                plain.execute(push)
            except sqlite3.IntegrityError:
                plain.rollback()
            else:  # passed over without an error is as good
                plain.commit()
            assert plain.execute(f"SELECT rowid, * FROM {table}").fetchall() == before, push


async def test_an_entry_of_points_is_pushed_out_by_no_other(sqlite_settings):
    async with open_world(sqlite_settings, background=False) as world:
        crm = await world.app("crm", "members:write", "loyalty:write", "purpose:membership")
        member = await crm.register(phone="081-234-5678")
        for at in range(2):
            asked = {"kind": "earn", "points": 5, "reference": f"r{at}"}
            answer = await crm.post(f"/v1/members/{member.id}/points", asked)
            assert answer.status_code < 300, answer.text
        with pytest.raises(sqlite3.IntegrityError):
            await world.execute(
                "UPDATE OR REPLACE points_entry SET rowid = (SELECT max(rowid) FROM points_entry) "
                "WHERE rowid = (SELECT min(rowid) FROM points_entry)"
            )
        assert len(await world.fetch("SELECT id FROM points_entry")) == 2


async def test_an_anchor_that_is_offered_again_is_no_error(world):
    from audit import anchor_repository

    for at in (1, 2):
        async with world.runtime.database.unit_of_work() as work:
            await anchor_repository.add_anchor(work, 0, "folder:/a", f"r{at}", at)
    (row,) = await world.fetch("SELECT receipt FROM audit_anchor")
    assert row["receipt"] == "r1"


async def test_a_pruning_that_the_database_refuses_is_told_as_such(aged, monkeypatch):
    """Bodies that were not there: the event that would tell of them is taken back."""
    from audit import retention_repository

    async def nothing(*_details):
        return 0

    monkeypatch.setattr(retention_repository, "delete_bodies", nothing)
    with pytest.raises(UnavailableError):
        await aged.runtime.pruning.prune(aged.operator)
    assert await aged.events("retention.pruned") == []
