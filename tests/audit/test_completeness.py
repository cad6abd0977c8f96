"""No governed change without an event: what forgets to record cannot commit, raw SQL neither."""

import random
import re

import anyio
import asyncpg
import pytest
from sqlalchemy.exc import CompileError
from structlog.testing import capture_logs

from consent import repository as consent_repository
from kernel import IntegrityError, UnrecordedChangeError, metadata
from kernel.governance import writes_of
from tests.support.statements import placed_statements
from tests.support.world import open_world, plant_event
from vault import repository as vault_repository

pytestmark = pytest.mark.anyio

GOVERNED = sorted(name for name, table in metadata.tables.items() if table.info.get("governed"))
WRITES = re.compile(r"\b(?:INSERT INTO|UPDATE|DELETE FROM) \"?(\w+)")
GATE = "SELECT version, state FROM member_gate"


@pytest.fixture
async def member(world):
    return await (await world.app()).register(phone="081-234-5678", consents={"marketing": "sms"})


# --- the unit of work -----------------------------------------------------------------


async def test_a_governed_change_without_an_event_is_refused_and_rolled_back(world, member):
    member_id = await world.member_id(member)
    before = await world.fetch(GATE)
    with pytest.raises(UnrecordedChangeError, match="member_gate"):
        async with world.runtime.database.unit_of_work() as work:
            await world.runtime.consent.restrict(work, member_id, on=True)
    assert await world.fetch(GATE) == before
    assert await world.fetch("SELECT * FROM rights_ledger WHERE kind = 'restriction'") == []
    async with world.runtime.database.unit_of_work() as work:
        await world.runtime.consent.restrict(work, member_id, on=True)
        await plant_event(work)
    assert (await world.fetch(GATE))[0]["state"] != before[0]["state"]


async def test_a_refused_change_takes_no_neighbour_of_the_shared_commit_with_it(world, member):
    """On SQLite units of work share a commit; each stands in a savepoint of its own."""
    member_id = await world.member_id(member)
    database = world.runtime.database
    async with database.unit_of_work() as work:
        await plant_event(work)
        await consent_repository.bump_gate(work, member_id)
    before = (await world.fetch(GATE))[0]["version"]
    with pytest.raises(UnrecordedChangeError):
        async with database.unit_of_work() as work:
            await consent_repository.bump_gate(work, member_id)
    async with database.unit_of_work() as work:
        await plant_event(work)
        await consent_repository.bump_gate(work, member_id)
    assert (await world.fetch(GATE))[0]["version"] == before + 1


async def test_rows_given_back_and_rows_in_many_owe_an_event_as_well(world, member):
    member_id = await world.member_id(member)
    returning = world.runtime.database.unit_of_work
    with pytest.raises(UnrecordedChangeError, match="member_gate"):
        async with returning() as work:
            assert await consent_repository.bump_gate(work, member_id) is not None
    rows = await world.fetch("SELECT * FROM vault_bucket")
    buckets = [vault_repository.StoredBucket(9_000 + n, 1, 1, b"x") for n in range(2)]
    # What a batch touched on PostgreSQL is for the server's trigger to see.
    with pytest.raises((UnrecordedChangeError, IntegrityError)):
        async with returning() as work:
            await vault_repository.add_buckets(work, buckets)
    assert await world.fetch("SELECT * FROM vault_bucket") == rows


async def test_a_change_that_touches_no_row_owes_nothing(world):
    async with world.runtime.database.unit_of_work() as work:
        assert await consent_repository.bump_gate(work, "mem_nobody") is None


async def test_where_statements_stand_on_their_own_a_change_is_refused_before_it_runs(
    world, member
):
    member_id = await world.member_id(member)
    before = await world.fetch(GATE)
    with pytest.raises(UnrecordedChangeError, match="member_gate"):
        async with world.runtime.database.each_on_its_own() as work:
            await consent_repository.bump_gate(work, member_id)
    assert await world.fetch(GATE) == before


async def test_an_erasure_that_is_one_statement_is_known_for_what_it_writes():
    from vault.erasing_repository import _ALL_AT_ONCE

    assert _ALL_AT_ONCE.compiled("postgresql").writes.governed == {"vault_key"}


# --- every statement there is ---------------------------------------------------------


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_of_every_statement_it_is_known_which_governed_tables_it_writes(dialect):
    seen = 0
    for place, statement in placed_statements():
        try:
            compiled = statement.compiled(dialect)
        except CompileError:  # a statement of the other engine
            continue
        in_text = set(WRITES.findall(compiled.sql)) & set(GOVERNED)
        known = set() if compiled.writes is None else compiled.writes.governed
        assert in_text == known, place
        appends = "INSERT INTO audit_event" in compiled.sql
        assert appends == (compiled.writes is not None and compiled.writes.to_trail), place
        seen += bool(in_text)
    assert seen > 80


def test_every_table_is_governed_or_named_with_its_reason(repository_root):
    page = (repository_root / "docs/formats/audit-log.md").read_text(encoding="utf-8")
    chapter = page.partition("### What is not governed")[2].partition("\n## ")[0]
    named = set()
    for line in chapter.splitlines():
        if line.startswith("| `"):
            tables, reason = line.strip("| ").split(" | ")
            assert len(reason) > 20
            named |= set(re.findall(r"`(\w+)`", tables))
    assert named == set(metadata.tables) - set(GOVERNED)


def test_a_read_is_of_no_interest():
    from consent.repository import _GATE

    assert writes_of(_GATE._build("sqlite")) is None


# --- raw SQL on PostgreSQL ------------------------------------------------------------

CHANGES = {
    "member_gate": "UPDATE member_gate SET state = 'erased'",
    "consent_state": "UPDATE consent_state SET status = 'given'",
    "vault_key": "DELETE FROM vault_key",
    "client": "UPDATE client SET scopes = scopes",
    "registry_fact": "INSERT INTO registry_fact (name, value) VALUES ('x', 'y')",
}
AN_EVENT = (
    "INSERT INTO audit_event (id, recorded_us, actor, action, body) "
    "VALUES ('evt_raw', 1, 'a', 'b', '{}')"
)
LOOKS_AT = "SELECT set_config('yinyom.event', (SELECT min(id) FROM audit_event), true)"


async def commit(settings, *statements):
    """Run statements as one transaction, as the owner."""
    connection = await asyncpg.connect(settings.database.url)
    try:
        async with connection.transaction():
            for statement in statements:
                await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
async def postgres_world(postgres_settings):
    async with open_world(postgres_settings, background=False) as world:
        crm = await world.app()
        await crm.register(phone="081-234-5678", consents={"marketing": "sms"})
        yield world


@pytest.mark.postgres
async def test_raw_sql_commits_no_governed_change_without_an_event(postgres_world):
    for table in CHANGES:
        await assert_guarded(postgres_world, table)


async def assert_guarded(postgres_world, table):
    settings = postgres_world.settings
    before = await postgres_world.fetch(f"SELECT * FROM {table} ORDER BY 1")
    ways_round = {
        "nothing": [],
        "a replica session": ["SET LOCAL session_replication_role = replica"],
        "an older event": [LOOKS_AT],
        "another event named": ["SELECT set_config('yinyom.event', 'evt_raw', true)"],
        "a trail of one's own": [
            "CREATE TEMP TABLE audit_event (id text)",
            "INSERT INTO pg_temp.audit_event VALUES ('evt_mine')",
            "SELECT set_config('yinyom.event', 'evt_mine', true)",
        ],
        "an event taken back": ["SAVEPOINT s", AN_EVENT, "ROLLBACK TO s"],
    }
    for way, before_it in ways_round.items():
        with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="no event speaks"):
            await commit(settings, *before_it, CHANGES[table])
        assert await postgres_world.fetch(f"SELECT * FROM {table} ORDER BY 1") == before, way
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await commit(settings, f"TRUNCATE {table}")
    await commit(settings, CHANGES[table], AN_EVENT.replace("evt_raw", f"evt_{table}"))


@pytest.mark.postgres
async def test_an_event_before_or_after_the_change_will_do(postgres_world):
    await commit(postgres_world.settings, AN_EVENT, CHANGES["member_gate"])
    second = AN_EVENT.replace("evt_raw", "evt_raw2")
    await commit(postgres_world.settings, CHANGES["consent_state"], second)
    there = await postgres_world.fetch("SELECT id FROM audit_event WHERE id LIKE 'evt_raw%'")
    assert {row["id"] for row in there} == {"evt_raw", "evt_raw2"}


@pytest.mark.postgres
async def test_a_temporary_table_swallows_no_event(postgres_world):
    """Whoever may make temporary tables could else have the queue filled beside the queue."""
    shadow = "CREATE TEMP TABLE audit_pending (event_id text)"
    await commit(postgres_world.settings, shadow, AN_EVENT)
    waiting = await postgres_world.fetch("SELECT event_id FROM audit_pending")
    assert "evt_raw" in {row["event_id"] for row in waiting}


GUARDS = """
SELECT relname, tgenabled = 'A' AND tgdeferrable AND tginitdeferred AS whole
FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
WHERE tgname = relname || '_recorded' ORDER BY relname
"""


@pytest.mark.postgres
async def test_every_governed_table_has_its_guard(postgres_world):
    found = await postgres_world.fetch(GUARDS)
    assert [row["relname"] for row in found] == GOVERNED
    assert all(row["whole"] for row in found)


@pytest.mark.postgres
async def test_a_dump_that_is_read_back_has_every_guard(
    postgres_world, postgres_server, new_postgres_database
):
    server = postgres_server
    source = postgres_world.settings.database.url
    command = [server.binaries / "pg_dump", source]
    dump = (await anyio.run_process(command)).stdout.decode()
    url = new_postgres_database()
    server.run_sql(dump, url.rpartition("/")[2])
    read_back = postgres_world.settings.model_copy(
        update={"database": postgres_world.settings.database.model_copy(update={"url": url})}
    )
    found = await postgres_world.fetch(GUARDS)
    again = server.run_sql(
        f"SELECT count(*) FROM ({GUARDS}) AS g WHERE whole", url.rpartition("/")[2]
    )
    assert int(again) == len(found) == len(GOVERNED)
    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="no event speaks"):
        await commit(read_back, LOOKS_AT, CHANGES["member_gate"])
    await commit(read_back, AN_EVENT, CHANGES["member_gate"])


# --- what the API does, captured ------------------------------------------------------


async def capture(world):
    """Note, in the database, which transaction touched which governed table, and which event."""
    if world.settings.on_postgres:
        await world.execute("CREATE TABLE captured (tx text, what text)")
        await world.execute(
            "CREATE FUNCTION captures() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "INSERT INTO captured VALUES (pg_current_xact_id()::text, TG_TABLE_NAME); "
            "RETURN NULL; END $$"
        )
        for table in (*GOVERNED, "audit_event"):
            await world.execute(
                f"CREATE TRIGGER captures AFTER INSERT OR UPDATE OR DELETE ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION captures()"
            )
        return
    await world.execute("CREATE TABLE captured (tx text, what text)")
    for table in (*GOVERNED, "audit_event"):
        for change in ("INSERT", "UPDATE", "DELETE"):
            await world.execute(
                f"CREATE TRIGGER captures_{table}_{change} AFTER {change} ON {table} "
                f"BEGIN INSERT INTO captured VALUES ('', '{table}'); END"
            )


async def calls(world, crm, dice):
    """Random calls of an app, some of them refused."""
    members = []
    while True:
        kind = dice.choice(["register", "view", "withdraw", "give", "patch", "points", "nobody"])
        if kind == "register" or not members:
            phone = f"08{dice.randrange(10**8):08d}"
            members.append(await crm.register(phone=phone, consents={"marketing": "sms"}))
            yield kind
            continue
        member = dice.choice(members)
        path = f"/v1/members/{member.id}"
        if kind == "view":
            await crm.view(member, dice.choice(["membership", "marketing"]))
        elif kind == "withdraw":
            await crm.withdraw(member, channel="sms")
        elif kind == "give":
            given = {"decisions": [world.decision("marketing", "sms")]}
            await crm.post(f"{path}/consents", given)
        elif kind == "patch":
            etag = (await crm.get(path)).headers.get("etag", '"1"')
            changed = {"fields": {"given_name": dice.choice(["Mali", "มาลี", ""])}}
            await crm.patch(path, changed, headers={"If-Match": etag})
        elif kind == "points":
            entry = {"points": dice.randrange(-5, 50), "reference": f"r-{dice.randrange(10)}"}
            await crm.post(f"{path}/points:earn", entry)
        else:
            await crm.view("sub_nobody")
        yield kind


@pytest.mark.parametrize("seed", [5, pytest.param(500, marks=pytest.mark.long)])
async def test_whatever_an_app_calls_every_change_of_the_database_bears_its_event(settings, seed):
    dice = random.Random(seed)
    async with open_world(settings, background=False) as world:
        await capture(world)
        crm = await world.app()
        done = 0
        async for kind in calls(world, crm, dice):
            rows = await world.fetch("SELECT tx, what FROM captured")
            await world.execute("DELETE FROM captured")
            changed = {row["tx"] for row in rows if row["what"] != "audit_event"}
            recorded = {row["tx"] for row in rows if row["what"] == "audit_event"}
            assert changed <= recorded, kind
            done += 1
            if done >= (30 if seed == 5 else 500):
                break


async def test_a_defect_that_has_a_name_is_told_to_the_log_and_not_to_the_client(world):
    crm = await world.app("shop")
    known = (await crm.register(phone="081-234-5679", consents={"marketing": "sms"})).id

    async def forget(*_given, **_named):
        raise UnrecordedChangeError("changed without an event: consent_state")

    world.runtime.consent.withdraw = forget
    with capture_logs() as told:
        answer = await crm.withdraw(known, channel="sms")
    assert (answer.status_code, answer.json()["title"]) == (500, UnrecordedChangeError.title)
    (crash,) = [one for one in told if one["event"] == "crash"]
    assert crash["error_type"] == "UnrecordedChangeError"
    assert crash["request_id"] == answer.json()["request_id"]
