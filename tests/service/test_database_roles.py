"""Two roles on PostgreSQL: the one at work does the whole job and cannot touch what is written."""

import json
import re

import asyncpg
import pytest
from sqlalchemy.exc import CompileError
from typer.testing import CliRunner

from kernel import ConfigurationError, metadata
from service.cli.main import app as cli
from service.commands import doctor
from service.database_roles import (
    SEQUENCES,
    WORKS,
    apply_grants,
    check_role,
    decided,
    grants,
    rights_of,
)
from service.runtime import Runtime
from service.schema import migrate
from service.settings import DatabaseSettings, Settings, redacted
from tests.support.statements import statements
from tests.support.world import open_world

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]


@pytest.fixture
async def separated(postgres_settings, postgres_server):
    """A registry whose servers work under a role that owns nothing."""
    owner = postgres_settings.database.url
    name = owner.rpartition("/")[2]
    role = f"app_{name}"
    postgres_server.run_sql(f"CREATE ROLE {role} LOGIN")
    database = DatabaseSettings(
        url=owner.replace("//yinyom@", f"//{role}@"), owner_url=owner, require_separate_role=True
    )
    settings = postgres_settings.model_copy(update={"database": database})
    await apply_grants(settings)
    yield settings
    postgres_server.run_sql(f"DROP OWNED BY {role}; ", name)
    postgres_server.run_sql(f"DROP ROLE {role}")


async def attempt(settings, *statements):
    connection = await asyncpg.connect(settings.database.url)
    try:
        async with connection.transaction():
            for statement in statements:
                await connection.execute(statement)
    finally:
        await connection.close()


def test_every_table_is_decided_on():
    """Who makes a table says here what the servers may do with it, and what the sequencer may."""
    assert set(WORKS) == set(metadata.tables) | {"alembic_version"}
    trail = {name for name in metadata.tables if name.startswith("audit_")}
    assert trail <= set(SEQUENCES)


def test_no_table_is_granted_what_no_statement_needs():
    """The union of both roles is what the code does, letter by letter."""
    needed = {table: {"s"} for table in metadata.tables}
    for statement in statements():
        try:
            sql = statement.compiled("postgresql").sql
        except CompileError:  # a statement of the other engine
            continue
        for table, letters in needed.items():
            letters.update(
                letter
                for letter, pattern in {
                    "i": rf"INSERT INTO {table}\b",
                    "u": rf"(?<!FOR )(?<!KEY )UPDATE {table}\b|INSERT INTO {table}\b.*DO UPDATE"
                    rf"|FROM {table}\b.*FOR (NO KEY UPDATE|UPDATE|SHARE)",
                    "d": rf"DELETE FROM {table}\b",
                }.items()
                if re.search(pattern, sql, re.DOTALL)
            )
    needed["audit_event"].remove("d")  # SQLite's and the owner's; the server deletes by a function
    granted = decided(Settings())
    assert {table: set(granted[table]) for table in needed} == needed


WIDER = {
    "GRANT UPDATE ON audit_leaf TO PUBLIC": "REVOKE UPDATE ON audit_leaf FROM PUBLIC",
    "GRANT TRUNCATE ON audit_pending TO {role}": "REVOKE TRUNCATE ON audit_pending FROM {role}",
    "GRANT UPDATE (body) ON audit_event TO {role}": "REVOKE UPDATE (body) ON audit_event "
    "FROM {role}",
    "GRANT EXECUTE ON FUNCTION yinyom_queue_event() TO PUBLIC": "REVOKE EXECUTE ON FUNCTION "
    "yinyom_queue_event() FROM PUBLIC",
    "ALTER ROLE {role} CREATEROLE": "ALTER ROLE {role} NOCREATEROLE",
    "ALTER SCHEMA public OWNER TO {role}": "ALTER SCHEMA public OWNER TO yinyom; "
    "GRANT USAGE ON SCHEMA public TO {role}",
    "GRANT yinyom TO {role}": "REVOKE yinyom FROM {role}",
    "REVOKE INSERT ON audit_event FROM {role}": "GRANT INSERT ON audit_event TO {role}",
}


async def test_a_role_that_may_more_or_less_than_was_decided_does_not_start(
    separated, postgres_server
):
    name = separated.database.owner_url.rpartition("/")[2]
    for way, back in WIDER.items():
        await check_role(separated)
        postgres_server.run_sql(way.format(role=f"app_{name}"), name)
        with pytest.raises(ConfigurationError) as refused:
            await check_role(separated)
        assert refused.value.reason in {"role_owns_tables", "role_rights"}, way
        postgres_server.run_sql(back.format(role=f"app_{name}"), name)
    await check_role(separated)


async def test_the_whole_job_is_done_under_the_role_that_owns_nothing(separated):
    async with open_world(separated) as world:
        crm = await world.app()
        member = await crm.register(phone="081-234-5678", consents={"marketing": "sms"})
        await crm.verify(member)
        assert (await crm.view(member, "marketing", "sms")).status_code == 200
        assert (await crm.withdraw(member, channel="sms")).status_code == 200
        assert (await crm.view(member, "marketing", "sms")).status_code == 403
        await world.erase(member)
        assert (await crm.view(member)).status_code == 404
        size = await world.runtime.sequencer.drain()
        assert size == len(await world.fetch("SELECT id FROM audit_event"))
        await world.runtime.keys.rotations.rewrap(lambda _done, _total: None)
        await world.runtime.housekeeping.sweep()
        said = await doctor(world.runtime, lambda _done, _total: None)
    states = {check["check"]: check["state"] for check in said["checks"]}
    assert states["database_role"] == "ok"
    assert states["log"] == "ok"


REFUSED = [
    "UPDATE audit_event SET action = 'other'",
    "DELETE FROM audit_event",
    "TRUNCATE audit_event",
    "UPDATE audit_leaf SET event_id = 'x'",
    "DELETE FROM audit_leaf",
    "UPDATE audit_checkpoint SET note = 'x'",
    "DELETE FROM audit_cosignature",
    "DELETE FROM audit_anchor",
    "INSERT INTO audit_pending VALUES ('evt_x')",
    (
        "CREATE TEMP TABLE mine (id text); CREATE TRIGGER queues AFTER INSERT ON mine "
        "FOR EACH ROW EXECUTE FUNCTION yinyom_queue_event()"
    ),
    "DELETE FROM rights_ledger",
    "UPDATE consent_event SET decision = 'given'",
    "DELETE FROM notice",
    "UPDATE alembic_version SET version_num = '0001'",
    "ALTER TABLE member DISABLE TRIGGER member_recorded",
    "DROP TRIGGER audit_event_frozen ON audit_event",
    "DROP TABLE audit_event",
    "CREATE TABLE public.mine (x int)",
    "ALTER FUNCTION yinyom_require_event() RENAME TO mine",
    "SET session_replication_role = replica",
]


async def test_what_is_written_is_out_of_the_reach_of_the_role_at_work(separated):
    for statement in REFUSED:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await attempt(separated, statement)


async def test_a_right_that_was_taken_from_the_servers_is_named(
    separated, postgres_server, monkeypatch
):
    monkeypatch.setattr("service.probe._FRESH_SECONDS", 0)
    name = separated.database.owner_url.rpartition("/")[2]
    async with open_world(separated) as world:
        postgres_server.run_sql(f"REVOKE INSERT ON audit_event FROM app_{name}", name)
        answer = await world.http.get("/readyz")
        assert (answer.status_code, answer.json()["checks"]["trail"]) == (503, "no_right")
        postgres_server.run_sql(f"GRANT INSERT ON audit_event TO app_{name}", name)


async def test_nor_does_it_change_a_member_without_an_event(separated):
    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="no event speaks"):
        await attempt(
            separated,
            "UPDATE client SET scopes = scopes, name = 'x'",
            "INSERT INTO registry_fact VALUES ('x', 'y')",
        )


async def test_a_role_that_owns_the_tables_does_not_start_where_a_separate_one_is_required(
    postgres_settings,
):
    database = postgres_settings.database.model_copy(update={"require_separate_role": True})
    with pytest.raises(ConfigurationError) as refused:
        await Runtime.open(postgres_settings.model_copy(update={"database": database}))
    assert refused.value.reason == "role_owns_tables"
    assert (await rights_of(postgres_settings.database.url, WORKS)).owned > 40


async def test_one_role_goes_on_working_and_the_doctor_says_so(postgres_settings):
    async with open_world(postgres_settings) as world:
        said = await doctor(world.runtime, lambda _done, _total: None)
    (role,) = [check for check in said["checks"] if check["check"] == "database_role"]
    assert role["state"] == "warn"


async def test_an_upgrade_migrates_as_the_owner_and_grants_again(separated, postgres_server):
    name = separated.database.owner_url.rpartition("/")[2]
    role = f"app_{name}"
    postgres_server.run_sql(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}", name)
    await migrate(separated)
    await check_role(separated)
    async with open_world(separated) as world:
        assert (await world.http.get("/livez")).status_code == 200


async def test_the_same_role_twice_is_refused(postgres_settings):
    database = DatabaseSettings(
        url=postgres_settings.database.url, owner_url=postgres_settings.database.url
    )
    with pytest.raises(ConfigurationError, match="same role"):
        await apply_grants(postgres_settings.model_copy(update={"database": database}))


def test_a_role_name_is_no_place_for_sql():
    for name in ('x"; DROP TABLE member; --', "", "a b", "Ä"):
        with pytest.raises(ConfigurationError):
            grants(name, WORKS)


def test_the_owners_password_is_not_shown(postgres_settings):
    database = DatabaseSettings(owner_url="postgresql://owner:secret@db/yinyom")
    shown = redacted(postgres_settings.model_copy(update={"database": database}))
    assert shown["database.owner_url"] == "postgresql://***@db/yinyom"


def test_the_command_shows_the_grants_of_the_role_in_the_url(postgres_settings, monkeypatch):
    monkeypatch.setenv("YINYOM_DATABASE__URL", "postgresql://shop_app@db/yinyom")
    asked = ["--data-dir", str(postgres_settings.data_dir), "database", "roles", "--json"]
    answer = json.loads(CliRunner().invoke(cli, asked).stdout)
    assert answer["role"] == "shop_app"
    assert 'GRANT SELECT, INSERT ON audit_event TO "shop_app"' in answer["statements"]
    monkeypatch.delenv("YINYOM_DATABASE__URL")
    refused = CliRunner().invoke(cli, asked)
    assert refused.exit_code == 3
