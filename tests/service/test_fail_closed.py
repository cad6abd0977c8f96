"""Where the trail cannot be written or signed nothing is told and nothing is changed.

Each fault on both engines: 503 with a reason and without a value, no row of any governed table
moves, the process stays alive and the log's key stays public; and once the fault is gone, all is
as before.
"""

import asyncio
import contextlib
import sqlite3

import asyncpg
import pytest

from audit import Cosigner
from kernel import metadata
from service.facts import FACT_POLICY
from service.kms import ring_file
from service.settings import AuditSettings, WitnessSettings
from service.watch import Watch
from tests.support.world import JumpingClock, open_world, registration

pytestmark = pytest.mark.anyio

GOVERNED = sorted(name for name, table in metadata.tables.items() if table.info.get("governed"))
TOLD = ("สมหญิง", "812345678")


async def state(world):
    """Everything that a change would change."""
    tables = [*GOVERNED, "audit_event", "outbox"]
    return {table: await world.fetch(f"SELECT count(*) AS n FROM {table}") for table in tables} | {
        "gates": await world.fetch("SELECT * FROM member_gate ORDER BY member_id")
    }


async def assert_closed(world, crm, member, *reasons):
    """Ask for a read, a change and a new member: nothing leaves and nothing commits."""
    before = await state(world)
    body = registration({"given_name": "สมหญิง", "phone": "081-234-5679"})
    for asked in (
        crm.view(member),
        crm.withdraw(member, channel="sms"),
        crm.post("/v1/members", body),
    ):
        answer = await asked
        assert answer.status_code == 503, answer.text
        assert answer.json()["reason"] in reasons
        assert answer.headers["retry-after"]
        assert not any(value in answer.text for value in TOLD)
    assert await state(world) == before
    assert (await world.http.get("/livez")).status_code == 200
    assert (await world.http.get("/v1/audit/key")).status_code == 200


async def assert_named(world, check, says):
    answer = await world.http.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"][check] == says


async def until_named(world, check, says):
    """Ask until readiness has the word: an answer is shared for some seconds."""
    for _ in range(2_000):
        answer = await world.http.get("/readyz")
        if answer.json()["checks"].get(check) == says:
            assert answer.status_code == 503
            return
        await asyncio.sleep(0.05)
    pytest.fail(f"{check} says {answer.json()['checks'][check]}, not {says}")


async def until_ready(world):
    for _ in range(2_000):
        answer = await world.http.get("/readyz")
        if answer.status_code == 200:
            return
        await asyncio.sleep(0.05)
    pytest.fail(str(answer.json()))


@pytest.fixture(autouse=True)
def asked_often(monkeypatch):
    """Let no test wait for an answer that is shared for seconds."""
    monkeypatch.setattr("service.probe._FRESH_SECONDS", 0.2)


async def assert_open(world, crm, member):
    assert (await crm.view(member)).status_code == 200
    assert (await crm.withdraw(member, channel="sms")).status_code == 200
    assert (await world.http.get("/readyz")).status_code == 200


async def begun(world):
    crm = await world.app()
    member = await crm.register(phone="081-234-5678", consents={"marketing": "sms"})
    assert (await crm.view(member)).status_code == 200
    return crm, member


def with_audit(settings, **audit):
    return settings.model_copy(update={"audit": AuditSettings(**audit)})


@contextlib.asynccontextmanager
async def full_disk(world):
    """The engine's own answer to a full disk, for whatever it would write."""
    if world.settings.on_postgres:
        await world.execute(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'; END $$"
        )
        for table in ("audit_event", "audit_head"):
            await world.execute(
                f"CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION full_disk()"
            )
        yield
        for table in ("audit_event", "audit_head"):
            await world.execute(f"DROP TRIGGER full_disk ON {table}")
        return
    writer = world.runtime.database._writer
    writer.execute("PRAGMA query_only=ON").fetchall()  # READONLY, told like FULL before any write
    yield
    writer.execute("PRAGMA query_only=OFF").fetchall()


async def test_a_full_disk_stops_disclosure_and_change(settings):
    async with open_world(settings) as world:
        crm, member = await begun(world)
        async with full_disk(world):
            await assert_closed(world, crm, member, "database_unavailable")
            says = "disk_full" if world.settings.on_postgres else "read_only"
            await until_named(world, "trail", says)
        await until_ready(world)
        await assert_open(world, crm, member)


async def test_a_locked_trail_stops_disclosure_and_change(settings, monkeypatch):
    monkeypatch.setattr("kernel.postgres.STATEMENT_TIMEOUT_MS", 300)
    async with open_world(settings) as world:
        crm, member = await begun(world)
        async with locked(world):
            await assert_closed(world, crm, member, "database_unavailable")
            await until_named(world, "trail", "locked")
            # Reads pass all the while on PostgreSQL; the watch spares everybody the waiting.
            assert await Watch(world.runtime).look() == "audit_locked"
            # SQLite has to begin before anybody can say why.
            at_once = "audit_locked" if world.settings.on_postgres else "database_unavailable"
            await assert_closed(world, crm, member, at_once)
        await until_ready(world)
        assert await Watch(world.runtime).look() is None
        await assert_open(world, crm, member)


@pytest.mark.postgres
async def test_a_log_that_somebody_holds_locked_is_named_by_its_sequencer(
    postgres_settings, monkeypatch
):
    monkeypatch.setattr("kernel.postgres.STATEMENT_TIMEOUT_MS", 300)
    async with open_world(postgres_settings) as world:
        crm, member = await begun(world)
        await world.runtime.sequencer.drain()
        connection = await asyncpg.connect(world.settings.database.url)
        await connection.execute("BEGIN; LOCK TABLE audit_leaf IN EXCLUSIVE MODE")
        try:
            assert (await crm.view(member)).status_code == 200, "its event waits"
            await until_named(world, "sequencer", "database_unavailable")
        finally:
            await connection.close()
        await until_ready(world)
        await assert_open(world, crm, member)


async def test_a_database_that_is_read_only_is_named_and_closed(settings):
    async with open_world(settings) as world:
        crm, member = await begun(world)
        async with read_only(world):
            await until_named(world, "trail", "read_only")
            assert await Watch(world.runtime).look() == "audit_read_only"
            # Whatever locks a row first is told by the database itself.
            await assert_closed(world, crm, member, "audit_read_only", "database_unavailable")
        await until_ready(world)
        assert await Watch(world.runtime).look() is None
        await assert_open(world, crm, member)


@contextlib.asynccontextmanager
async def read_only(world):
    """The database as a standby is, or one whose file system was mounted read only."""
    database = world.runtime.database
    if not world.settings.on_postgres:
        database._writer.execute("PRAGMA query_only=ON").fetchall()
        try:
            yield
        finally:
            database._writer.execute("PRAGMA query_only=OFF").fetchall()
        return
    await set_read_only(world.settings, "on")
    try:
        yield
    finally:
        await set_read_only(world.settings, "off")


async def set_read_only(settings, state):
    name = settings.database.url.rpartition("/")[2]
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    connection = await asyncpg.connect(settings.database.url)
    await connection.execute("SET default_transaction_read_only = off")
    await connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {state}')
    await connection.execute(f"SELECT pg_terminate_backend(pid) {others}")
    await connection.close()


async def test_a_missing_key_ring_and_another_configuration_are_named(settings):
    async with open_world(settings) as world:
        await until_ready(world)
        ring = ring_file(world.settings)
        ring.rename(ring.with_suffix(".away"))
        await until_named(world, "keys", "missing")
        ring.with_suffix(".away").rename(ring)
        await until_ready(world)
        for column, table, says in (
            ("version_num", "alembic_version", "other_schema"),
            ("value", "registry_fact", "policy_changed"),
        ):
            where = "" if table == "alembic_version" else f" WHERE name = '{FACT_POLICY}'"
            (before,) = await world.fetch(f"SELECT {column} AS v FROM {table}{where}")
            await world.execute(f"UPDATE {table} SET {column} = '9999'{where}")
            await until_named(world, "configuration", says)
            await world.execute(f"UPDATE {table} SET {column} = '{before['v']}'{where}")
            await until_ready(world)


async def test_asking_leaves_no_row_and_all_who_ask_share_an_answer(settings, monkeypatch):
    monkeypatch.setattr("service.probe._FRESH_SECONDS", 60)
    async with open_world(settings) as world:
        await world.runtime.sequencer.drain()
        before = await state(world)
        genuine, tried = type(world.runtime.database).try_write, []

        async def counted(self, *details, **values):
            tried.append(1)
            return await genuine(self, *details, **values)

        monkeypatch.setattr(type(world.runtime.database), "try_write", counted)
        answers = await asyncio.gather(*(world.http.get("/readyz") for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}
        assert len(tried) == 1
        assert await state(world) == before
        assert await world.fetch("SELECT * FROM audit_pending") == []


@pytest.mark.postgres
async def test_readiness_answers_though_every_connection_is_taken(postgres_settings, monkeypatch):
    # What waits for the only connection gets none however long; the trail has one of its own.
    for part in ("health", "probe"):
        monkeypatch.setattr(f"service.{part}._ANSWER_SECONDS", 0.3)
    monkeypatch.setattr("kernel.postgres._TRIAL_MS", 60_000)
    database = postgres_settings.database.model_copy(update={"pool_size": 1})
    one = postgres_settings.model_copy(update={"database": database})
    async with open_world(one, background=False) as world:
        async with world.runtime.database.unit_of_work():
            answer = await world.http.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["checks"]["database"] == "slow"
        assert answer.json()["checks"]["trail"] == "ok", "it asks over a connection of its own"


@contextlib.asynccontextmanager
async def locked(world):
    """Somebody else holds the trail."""
    if world.settings.on_postgres:
        connection = await asyncpg.connect(world.settings.database.url)
        await connection.execute("BEGIN; LOCK TABLE audit_event IN EXCLUSIVE MODE")
        try:
            yield
        finally:
            await connection.close()
        return
    with contextlib.closing(sqlite3.connect(world.settings.database_file)) as file:
        file.isolation_level = None
        file.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            file.execute("ROLLBACK")


async def test_a_queue_above_its_cap_stops_disclosure_and_change(settings, monkeypatch):
    async with open_world(with_audit(settings, pending_limit=2)) as world:
        monkeypatch.setattr(world.runtime.sequencer, "sequence_batch", idle)
        crm, member = await begun(world)
        assert await Watch(world.runtime).look() == "audit_behind"
        await assert_closed(world, crm, member, "audit_behind")
        await assert_named(world, "audit_queue", "behind")


async def idle():
    """Sequence nothing, and seem well."""
    return 0


async def test_a_queue_too_old_stops_it_as_well_and_opens_when_it_is_done(settings, monkeypatch):
    clock = JumpingClock()
    async with open_world(with_audit(settings, pending_seconds=5), clock=clock) as world:
        monkeypatch.setattr(world.runtime.sequencer, "sequence_batch", idle)
        crm, member = await begun(world)
        clock.jump_us = 6_000_000
        watch = Watch(world.runtime)
        assert await watch.look() == "audit_behind"
        await assert_closed(world, crm, member, "audit_behind")
        monkeypatch.undo()
        await world.until("SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM audit_pending)")
        assert await watch.look() is None
        await assert_open(world, crm, member)


async def test_a_dead_sequencer_stops_disclosure_and_change(settings):
    async with open_world(settings) as world:
        crm, member = await begun(world)
        watch = Watch(world.runtime)
        assert await watch.look() is None
        world.runtime.sequencer._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await world.runtime.sequencer._task
        world.runtime.sequencer._task = None
        assert await watch.look() == "audit_stopped"
        await assert_closed(world, crm, member, "audit_stopped")
        await assert_named(world, "sequencer", "stopped")


async def test_a_witness_that_is_away_stops_nothing(settings):
    key = Cosigner.from_seed("witness.example", bytes(32)).vkey
    audit = AuditSettings(witnesses=(WitnessSettings(url="http://127.0.0.1:9", vkey=key),))
    async with open_world(settings.model_copy(update={"audit": audit})) as world:
        crm, member = await begun(world)
        await world.runtime.witnesses.ask()
        assert await Watch(world.runtime).look() is None
        await assert_open(world, crm, member)
