"""Three roles on PostgreSQL: servers that cannot write the log, and one process that can."""

# ruff: noqa: F811 (fixtures are asked for by name)

import asyncio
import contextlib

import asyncpg
import pytest

from audit import SequencerElsewhere
from audit.detail_repository import drop_detail
from audit.verify import verify_bundle
from kernel import ConfigurationError, ConflictError, IntegrityError, YinyomError
from service.commands import COMMANDS, doctor
from service.database_roles import apply_grants, check_role
from service.settings import AuditSettings, DatabaseSettings
from tests.faults.test_canaries import Talk
from tests.support import mission as flows
from tests.support.console import office
from tests.support.emergency import break_glass
from tests.support.invariants import assert_log_is_whole
from tests.support.mission import JOINING, REGISTERED, SCOPES, Mission
from tests.support.reviews import review
from tests.support.stores import folder_store  # noqa: F401 (a fixture)
from tests.support.world import DAY_US, JumpingClock, open_world

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]

LONG_AGO_US = 8 * 366 * DAY_US


class Apart:
    """Settings of a server, of the process that sequences, and of the owner."""

    def __init__(self, owner, app, sequencer, folder):
        def as_role(role):
            return owner.database.url.replace("//yinyom@", f"//{role}@")

        anchors = (f"folder:{folder}",)
        both = {"url": as_role(app), "require_separate_role": True}
        self.owner = owner
        self.app, self.sequencer = app, sequencer
        self.sequencer_url = as_role(sequencer)
        self.worker = owner.model_copy(
            update={
                "database": DatabaseSettings(**both, sequencer_url=self.sequencer_url),
                "audit": AuditSettings(anchors=anchors),
            }
        )
        self.server = owner.model_copy(
            update={
                "database": DatabaseSettings(**both),
                "audit": AuditSettings(sequencer="elsewhere", anchors=anchors),
            }
        )


@pytest.fixture
async def apart(postgres_settings, postgres_server, tmp_path):
    """A registry whose servers may not write the log, and a place for its anchors."""
    name = postgres_settings.database.url.rpartition("/")[2]
    roles = [f"app_{name}", f"seq_{name}"]
    for role in roles:
        postgres_server.run_sql(f"CREATE ROLE {role} LOGIN")
    (tmp_path / "anchors").mkdir()
    made = Apart(postgres_settings, *roles, tmp_path / "anchors")
    granting = made.worker.database.model_copy(update={"owner_url": postgres_settings.database.url})
    await apply_grants(made.worker.model_copy(update={"database": granting}))
    yield made
    for role in roles:
        postgres_server.run_sql(f"DROP OWNED BY {role}", name)
        postgres_server.run_sql(f"DROP ROLE {role}")


async def command(world, name, **asked):
    return await COMMANDS[name](world.runtime, lambda _done, _total: None, **asked)


async def backed_up(world):
    """Make a backup, after the one that the other process may be making of its own accord."""
    while True:
        with contextlib.suppress(ConflictError):
            return await command(world, "backup.create")
        await asyncio.sleep(0.05)


async def test_the_whole_job_is_done_by_two_processes_with_those_rights_and_no_others(
    apart, folder_store, tmp_path
):
    async with open_world(apart.worker) as worker, open_world(apart.server) as server:
        assert isinstance(server.runtime.sequencer, SequencerElsewhere)
        crm = await server.app()
        member = await crm.register(phone="081-234-5678", consents={"marketing": "sms"})
        await crm.verify(member)
        assert (await crm.view(member, "marketing", "sms")).status_code == 200
        assert (await crm.withdraw(member, channel="sms")).status_code == 200
        other = await crm.register({"given_name": "ชัย"}, phone="082-345-6789")
        event = (await server.events("member.view"))[0]
        assert (await command(server, "audit.prove", event=event["id"]))["event"]
        held = await command(
            server,
            "audit.hold_add",
            reason="litigation",
            from_month=None,
            to_month=None,
            action=None,
            member=None,
        )
        await command(server, "audit.hold_release", hold=held["id"])
        await command(server, "backup.init", store=folder_store.address, recipients=[])
        assert (await backed_up(server))["generation"] >= 1
        await server.erase(member)
        assert (await crm.view(member)).status_code == 404
        assert (await crm.view(other)).status_code == 200
        await command(server, "vault.rewrap")
        await command(server, "vault.rotate_ring")
        assert (await command(server, "vault.reindex", kinds=["phone"]))["members"]
        await server.runtime.housekeeping.sweep()
        exported = await command(server, "audit.export", out=str(tmp_path / "bundle"))
        assert exported["events"] == (await command(server, "audit.checkpoint"))["size"]
        await command(worker, "audit.anchors")
        assert (await worker.runtime.anchors.status())["anchored_size"] > 0
        assert (await command(server, "audit.verify_db"))["ok"]
        for world in (server, worker):
            assert (await world.http.get("/readyz")).json()["ready"]
            said = await doctor(world.runtime, lambda _done, _total: None)
            assert not [check for check in said["checks"] if check["state"] == "bad"]
    async with open_world(apart.owner, background=False) as owner:
        await assert_log_is_whole(owner)


async def test_a_server_neither_sequences_nor_prunes_nor_anchors_and_says_so(apart):
    async with open_world(apart.server) as server:
        await server.app()
        waiting = await server.fetch("SELECT event_id FROM audit_pending")
        assert waiting
        assert await server.runtime.anchors.anchor() == []
        with pytest.raises(ConfigurationError, match="another process"):
            await command(server, "audit.prune", before=None, dry_run=False)
        await server.runtime.worker._schedule()
        assert await server.fetch("SELECT event_id FROM audit_pending") == waiting
        assert not server.runtime.worker._acts.keys() & {"trail_retention", "audit_checkpoints"}


async def test_a_server_takes_no_job_that_it_has_no_right_to(apart):
    async with open_world(apart.worker, background=False) as worker:
        for kind in ("trail_retention", "audit_checkpoints"):
            worker.runtime.worker._due_us = {kind: 0}
            worker.runtime.worker._every_us = {kind: DAY_US}
            await worker.runtime.worker._schedule()
        async with open_world(apart.server, background=False) as server:
            assert not await server.runtime.worker.run_one()
        assert await worker.runtime.worker.run_one()
        assert await worker.runtime.worker.run_one()
        failed = await worker.fetch("SELECT kind FROM job WHERE failure IS NOT NULL")
        assert failed == []


async def drop_by_hand(world, event_id):
    """Drop a detail as a server would that somebody has taken over, with an event that says so."""
    runtime = world.runtime
    async with runtime.database.unit_of_work() as work:
        by = await runtime.audit.record(
            work, world.operator, "retention.detail_pruned", resource=event_id
        )
        due_us = runtime.clock.now_us() - DAY_US
        await drop_detail(work, event_id, dropped_by=by, due_us=due_us)


async def test_the_process_that_sequences_prunes_what_is_due(apart):
    clock = JumpingClock()
    clock.jump_us = -LONG_AGO_US
    async with (
        open_world(apart.worker, clock=clock, background=False) as worker,
        open_world(apart.server, clock=clock, background=False) as server,
    ):
        crm = await server.app()
        member = await crm.register(phone="081-234-5678")
        await crm.view(member)
        opened = await break_glass(server, await server.member_id(member))
        await worker.runtime.sequencer.drain()
        await worker.runtime.anchors.anchor()
        clock.jump_us = 0
        with pytest.raises(IntegrityError):
            await drop_by_hand(server, opened.audit_id)
        told = await command(worker, "audit.prune", before=None, dry_run=False)
        assert told["bodies"]
        assert told["details"] == 1
        newer = await break_glass(server, await server.member_id(member))
        assert await review(server, newer.audit_id)
        assert await server.events("member.view") == []
        assert (await command(server, "audit.verify_db"))["ok"]


async def test_a_new_name_begins_where_the_log_is_sequenced_while_servers_go_on(apart):
    async with open_world(apart.server) as server:
        async with open_world(apart.worker) as worker:
            await server.app()
            await worker.runtime.sequencer.refuse("log-forked")
            asked = {"confirmed": True, "operator": None}
            with pytest.raises(ConfigurationError, match="another process"):
                await command(server, "audit.new_origin", **asked)
            assert (await command(worker, "audit.new_origin", **asked))["done"]
        await server.until("SELECT 1 FROM audit_head WHERE origin LIKE '%/2'")
        assert await server.runtime.sequencer.drain()
        assert server.runtime.sequencer.state.reason == "log-renamed"
    async with open_world(apart.worker) as worker, open_world(apart.server) as server:
        await server.app("other")
        await server.runtime.sequencer.drain()
        assert await server.fetch("SELECT event_id FROM audit_pending") == []
        assert (await command(worker, "audit.verify_db"))["ok"]


ROTATION = {"confirmed": True, "operator": None}


async def test_where_the_log_is_sequenced_its_key_is_replaced_while_servers_go_on(
    apart, folder_store, tmp_path
):
    async with open_world(apart.worker) as worker, open_world(apart.server) as server:
        crm = await server.app()
        member = await crm.register(phone="081-234-5678")
        await command(server, "backup.init", store=folder_store.address, recipients=[])
        with pytest.raises(ConfigurationError, match="another process"):
            await command(server, "audit.rotate_key", **ROTATION)
        assert await server.events("audit.key_prepared") == []
        told = await command(worker, "audit.rotate_key", **ROTATION)
        assert (told["done"], told["destroyed"]) == (True, 1)
        assert (await crm.view(member)).status_code == 200
        event = (await server.events("member.view"))[0]
        proof = await command(server, "audit.prove", event=event["id"])
        assert (server.runtime.audit.vkey, worker.runtime.audit.vkey) == (told["vkey"],) * 2
        assert proof["event"]
        assert (await backed_up(server))["generation"] >= 1
        await command(server, "audit.export", out=str(tmp_path / "bundle"))
        for key in (told["old_vkey"], told["vkey"]):
            assert verify_bundle(tmp_path / "bundle", key).findings == ()
        for world in (server, worker):
            assert (await command(world, "audit.verify_db"))["ok"]
            assert (await world.http.get("/readyz")).json()["ready"]


async def test_without_the_right_to_it_no_key_is_replaced_and_the_old_one_goes_on(
    apart, postgres_server, monkeypatch
):
    monkeypatch.setattr("audit.handing_over._ATTEMPTS", 3)
    name = apart.owner.database.url.rpartition("/")[2]
    for right in ("INSERT ON audit_key", "UPDATE ON audit_head"):
        postgres_server.run_sql(f"REVOKE {right} FROM {apart.sequencer}", name)
        with pytest.raises(ConfigurationError, match="fewer rights"):
            await check_role(apart.worker)
        postgres_server.run_sql(f"GRANT {right} TO {apart.sequencer}", name)
    async with open_world(apart.worker) as worker:
        await worker.app()
        old = worker.runtime.audit.vkey
        postgres_server.run_sql(f"REVOKE INSERT ON audit_key FROM {apart.sequencer}", name)
        with pytest.raises(YinyomError):
            await command(worker, "audit.rotate_key", **ROTATION)
        assert worker.runtime.audit.vkey == old
        assert await worker.fetch("SELECT * FROM audit_key") == []
        assert await worker.events("audit.key_rotated") == []
        assert (await command(worker, "audit.verify_db"))["ok"]
        postgres_server.run_sql(f"GRANT INSERT ON audit_key TO {apart.sequencer}", name)
        told = await command(worker, "audit.rotate_key", **ROTATION)
        assert (told["old_vkey"], told["done"]) == (old, True)
        assert (await command(worker, "audit.verify_db"))["ok"]


async def test_one_role_for_servers_and_sequencer_may_replace_the_key_and_forge_no_succession(
    postgres_settings, postgres_server
):
    """With two roles the servers sequence; what they wrote stays out of their reach all the same."""
    url = postgres_settings.database.url
    name = url.rpartition("/")[2]
    role = f"app_{name}"
    postgres_server.run_sql(f"CREATE ROLE {role} LOGIN")
    database = DatabaseSettings(
        url=url.replace("//yinyom@", f"//{role}@"), owner_url=url, require_separate_role=True
    )
    settings = postgres_settings.model_copy(update={"database": database})
    await apply_grants(settings)
    try:
        async with open_world(settings) as world:
            told = await command(world, "audit.rotate_key", **ROTATION)
            assert told["done"]
            connection = await asyncpg.connect(database.url)
            for statement in ("UPDATE audit_key SET new_vkey = 'x'", "DELETE FROM audit_key"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
            await connection.close()
            assert (await command(world, "audit.verify_db"))["ok"]
    finally:
        postgres_server.run_sql(f"DROP OWNED BY {role}", name)
        postgres_server.run_sql(f"DROP ROLE {role}")


@pytest.mark.long
@pytest.mark.timeout(3_000)
async def test_no_flow_of_the_mission_needs_a_right_that_servers_have_not_got(apart, tmp_path):
    async with open_world(apart.worker), office(apart.server, clock=JumpingClock()) as at:
        mission = Mission(at, Talk(await at.world.app("mission", *SCOPES)))
        made = [await flows.lives(mission, number) for number in REGISTERED]
        subs = [one["id"] for one in made]
        await mission.settle()
        await flows.out_to_apps(mission, subs)
        for number in REGISTERED:
            await flows.goes_on(mission, number, made[number])
        await flows.brought_in(mission, tmp_path)
        await flows.matched(mission)
        await flows.guarded(mission)
        for number in JOINING:
            await flows.joined(mission, number)
        await flows.stumbles(mission)
        await mission.settle()


# --- what each may not ----------------------------------------------------------------

LOG_WRITES = [
    "INSERT INTO audit_leaf VALUES (99, 'evt_x', 'x')",
    "UPDATE audit_head SET size = 0",
    "UPDATE audit_head SET lease_until_us = 0",
    "INSERT INTO audit_head (origin, size) VALUES ('x', 0)",
    "INSERT INTO audit_checkpoint VALUES (99, 'x', 'x', 1)",
    "DELETE FROM audit_checkpoint",
    "UPDATE audit_tile SET data = 'x'",
    "DELETE FROM audit_pending",
    "INSERT INTO audit_pending VALUES ('evt_x')",
    "INSERT INTO audit_anchor VALUES (1, 'x', 'x', 1)",
    "INSERT INTO audit_origin VALUES ('x', 1, 'x', 'x', 'x', 1)",
    "INSERT INTO audit_pruned VALUES (0, 0, 'x', 0, 1, 1)",
    "INSERT INTO audit_cosignature VALUES (1, 'w', 'l', 1)",
    "INSERT INTO audit_key VALUES (9, 'x', 'x', 'x', 'x', 'evt_x', 1)",
    "UPDATE audit_key SET new_vkey = 'x'",
    "DELETE FROM audit_key",
    "UPDATE audit_head SET vkey = 'x'",
    "SELECT yinyom_prune('evt_x')",
    "SELECT yinyom_stop_holds()",
]
MEMBER_DATA = [
    "SELECT * FROM member",
    "SELECT * FROM vault_key",
    "SELECT * FROM contact_point",
    "UPDATE member_gate SET state = 'erased'",
    "UPDATE audit_hold SET released_us = 1",
    "DELETE FROM audit_hold_subject",
    "DELETE FROM audit_event",
    "UPDATE audit_leaf SET leaf_hash = 'x'",
    "INSERT INTO audit_pending VALUES ('evt_x')",
    "INSERT INTO staff (id) VALUES ('x')",
    "UPDATE audit_key SET new_vkey = 'x'",
    "DELETE FROM audit_key",
    "TRUNCATE audit_key",
]


async def test_the_servers_role_reaches_nothing_of_the_log_and_the_sequencers_no_member(apart):
    for url, statements in (
        (apart.server.database.url, LOG_WRITES),
        (apart.sequencer_url, MEMBER_DATA),
    ):
        connection = await asyncpg.connect(url)
        for statement in statements:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
        await connection.close()


async def test_a_sequencers_role_that_may_more_does_not_start(apart, postgres_server):
    name = apart.owner.database.url.rpartition("/")[2]
    await check_role(apart.worker)
    postgres_server.run_sql(f"GRANT SELECT ON member TO {apart.sequencer}", name)
    with pytest.raises(ConfigurationError, match=r"sequencer_url has more"):
        await check_role(apart.worker)


async def test_two_roles_of_one_name_are_refused(apart):
    database = apart.worker.database.model_copy(
        update={
            "owner_url": apart.owner.database.url,
            "sequencer_url": apart.worker.database.url,
        }
    )
    with pytest.raises(ConfigurationError, match="same role"):
        await apply_grants(apart.worker.model_copy(update={"database": database}))


async def test_on_sqlite_there_is_no_elsewhere(sqlite_settings):
    audit = AuditSettings(sequencer="elsewhere")
    with pytest.raises(ConfigurationError, match="one process"):
        await check_role(sqlite_settings.model_copy(update={"audit": audit}))
