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


async def assert_closed(world, crm, member, reason):
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
        assert answer.json()["reason"] == reason
        assert answer.headers["retry-after"]
        assert not any(value in answer.text for value in TOLD)
    assert await state(world) == before
    assert (await world.http.get("/livez")).status_code == 200
    assert (await world.http.get("/v1/audit/key")).status_code == 200


async def assert_named(world, check, says):
    answer = await world.http.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"][check] == says


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
            # PostgreSQL's sequencer touches nothing while nothing waits: there the answers alone tell.
            if not world.settings.on_postgres:
                for _ in range(400):  # until the sequencer has to write as well
                    answer = await world.http.get("/readyz")
                    if answer.status_code == 503:
                        break
                    await asyncio.sleep(0.05)
                assert answer.json()["checks"]["sequencer"] == "database_unavailable"
        for _ in range(400):
            if (await world.http.get("/readyz")).status_code == 200:
                break
            await asyncio.sleep(0.05)
        await assert_open(world, crm, member)


async def test_a_locked_trail_stops_disclosure_and_change(settings, monkeypatch):
    monkeypatch.setattr("kernel.postgres.STATEMENT_TIMEOUT_MS", 300)
    async with open_world(settings, background=False) as world:
        crm, member = await begun(world)
        async with locked(world):
            await assert_closed(world, crm, member, "database_unavailable")
        assert (await crm.view(member)).status_code == 200


@contextlib.asynccontextmanager
async def locked(world):
    """Somebody else holds the trail."""
    if world.settings.on_postgres:
        connection = await asyncpg.connect(world.settings.database.url)
        await connection.execute("BEGIN; LOCK TABLE audit_event IN EXCLUSIVE MODE")
        yield
        await connection.close()
        return
    with contextlib.closing(sqlite3.connect(world.settings.database_file)) as file:
        file.isolation_level = None
        file.execute("BEGIN IMMEDIATE")
        yield
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
