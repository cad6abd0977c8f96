"""kill -9 at any moment: the old state or the new one, never one between, and nothing told in vain.

A child works on a registry and says what it was answered; it is killed without warning, and what
is left is held against every rule of `tests.support.invariants`. The same registry goes through
several kills, so that a damage would be carried on.
"""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from members import PROFILES
from tests.faults.child import KINDS, settings_of
from tests.support.invariants import assert_import_is_exact, assert_sound
from tests.support.world import fetch, installed_on, open_world

pytestmark = pytest.mark.anyio

REPOSITORY = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
LONGEST_SECONDS = 0.7
HEADER = "รหัสสมาชิก,ชื่อ,นามสกุล,เบอร์โทรศัพท์,อีเมล,วันเกิด\n"
ROWS, ACCEPTED = 450, 420


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def registry(request, tmp_path):
    """A registry on SQLite, or on a PostgreSQL that keeps its promises on disk."""
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_settings")
        return
    server = request.getfixturevalue("durable_postgres_server")
    name = f"kill_{os.getpid()}_{time.monotonic_ns()}"

    def make(template):
        server.run_sql(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return server.url(name)

    yield installed_on(server, make, tmp_path)
    server.run_sql(f'DROP DATABASE "{name}" WITH (FORCE)')


def run_and_kill(registry, kind, seconds):
    """Let a child work for so long after its first answer, kill it, and give what it told."""
    command = [sys.executable, "-m", "tests.faults.child", kind, str(registry.data_dir)]
    with (
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(
            [*command, registry.database.url] if registry.database.url else command,
            stdout=subprocess.PIPE,
            stderr=complaints,
            cwd=REPOSITORY,
            text=True,
        ) as child,
    ):
        first = child.stdout.readline()
        time.sleep(seconds)
        child.send_signal(signal.SIGKILL)
        lines = [first, *child.stdout]
        child.wait(START_SECONDS)
        complaints.seek(0)
        assert child.returncode == -signal.SIGKILL, complaints.read()
    return [json.loads(line) for line in lines if line.endswith("\n")]


def write_file(registry):
    rows = [
        f"M{at:04},ชื่อ{at},นามสกุล{at},08{at:08},m{at}@example.com,12/05/2530\n"
        for at in range(ACCEPTED)
    ]
    rows += [f"M9{at:03},ไม่มี,เบอร์,,,12/05/2530\n" for at in range(ROWS - ACCEPTED)]
    random.Random(7).shuffle(rows)
    path = registry.data_dir / "members.csv"
    path.write_text(HEADER + "".join(rows), encoding="utf-8")
    return path


async def check(world, kind, told, before):
    """What was told must be there; what was not told is there whole or not at all."""
    await assert_sound(world)
    client = told[0]["client"]
    gates = {
        row["id"]: row["state"]
        for row in await world.fetch(
            "SELECT pairwise_id.id, member_gate.state FROM pairwise_id "
            "JOIN member_gate ON member_gate.member_id = pairwise_id.member_id "
            "WHERE pairwise_id.client_id = :client",
            client=client,
        )
    }
    if kind == "register":
        registered = {line["registered"] for line in told if "registered" in line}
        assert registered <= gates.keys()
        assert len(gates) - len(registered) <= 1
    elif kind == "erase":
        erased = {line["erased"] for line in told if "erased" in line}
        assert {gates[member] for member in erased} <= {"erased"}
        assert len([s for s in gates.values() if s == "erased"]) - len(erased) <= 1
    elif kind == "fulfil":
        await check_requests(world, told, gates)
    elif kind == "withdraw":
        decided = [line for line in told if "status" in line]
        rows = await world.fetch(
            "SELECT consent_state.status FROM consent_state "
            "JOIN pairwise_id ON pairwise_id.member_id = consent_state.member_id "
            "WHERE pairwise_id.client_id = :client",
            client=client,
        )
        if decided:
            other = {"given": "withdrawn", "withdrawn": "given"}[decided[-1]["status"]]
            assert [row["status"] for row in rows] in ([decided[-1]["status"]], [other])
            events = await world.fetch(
                "SELECT consent_event.id FROM consent_event "
                "JOIN pairwise_id ON pairwise_id.member_id = consent_event.member_id "
                "WHERE pairwise_id.client_id = :client",
                client=client,
            )
            moved_on = rows[0]["status"] == other
            assert len(events) == len(decided) + moved_on
    elif kind == "merge":
        merged = {line["merged"] for line in told if "merged" in line}
        undone = {line["undone"] for line in told if "undone" in line}
        states = {
            row["id"]: row["state"]
            for row in await world.fetch("SELECT id, state FROM member_merge")
        }
        assert merged <= states.keys()
        assert {states[one] for one in undone} <= {"undone"}
        assert len(await world.fetch("SELECT id FROM duplicate WHERE state = 'merged'")) == len(
            [one for one in states.values() if one == "merged"]
        )
        closed = await world.fetch("SELECT member_id FROM member_gate WHERE state = 'merged'")
        assert len(closed) == len([one for one in states.values() if one == "merged"])
    elif kind == "load":
        done = max((line["rows"] for line in told if "rows" in line), default=0)
        stored = await world.fetch("SELECT row_no FROM import_row")
        assert len(stored) >= max(done, before)
        return len(stored)
    else:
        read = {line["read"] for line in told if "read" in line}
        leaves = {row["event_id"] for row in await world.fetch("SELECT event_id FROM audit_leaf")}
        assert read <= leaves
    return 0


async def check_requests(world, told, gates):
    """A request and its member end together: both as they were, or both for good."""
    erased = {line["erased"]: line for line in told if "erased" in line}
    assert {gates[member] for member in erased} <= {"erased"}
    requests = {
        row["id"]: row
        for row in await world.fetch("SELECT id, member_id, state, results FROM rights_request")
    }
    for line in erased.values():
        assert requests[line["request"]]["state"] == "fulfilled"
        assert json.loads(bytes(requests[line["request"]]["results"]))
    states = await world.fetch("SELECT member_id, state FROM member_gate")
    closed = {row["member_id"] for row in states if row["state"] == "erased"}
    named = [row for row in requests.values() if row["member_id"] is not None]
    assert not closed & {row["member_id"] for row in named}
    nameless = [row for row in requests.values() if row["member_id"] is None]
    assert {row["state"] for row in nameless} <= {"fulfilled"}
    copies = await world.fetch("SELECT member_id FROM rights_export")
    assert not closed & {row["member_id"] for row in copies}


async def until_the_server_has_noticed(registry):
    """PostgreSQL ends what a killed client had begun, or commits it, a moment after the kill."""
    if not registry.on_postgres:
        return
    for _ in range(3_000):
        if not await fetch(
            registry,
            "SELECT 1 FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        ):
            return
        await asyncio.sleep(0.02)
    pytest.fail("the killed process still has connections")


async def survive(registry, kind, kills, seed):
    chance = random.Random(seed)
    if kind == "load":
        path = write_file(registry)
    stored = 0
    for _ in range(kills):
        told = run_and_kill(registry, kind, chance.uniform(0.01, LONGEST_SECONDS))
        await until_the_server_has_noticed(registry)
        settings = settings_of(str(registry.data_dir), registry.database.url)
        async with open_world(settings, background=False) as world:
            stored = await check(world, kind, told, stored)
    async with open_world(registry) as world:
        if kind == "load":
            report = await world.runtime.imports.run(
                world.operator, path, PROFILES["th"], brand="main", jurisdiction="TH"
            )
            assert (report.rows, report.accepted, report.quarantined) == (
                ROWS,
                ACCEPTED,
                ROWS - ACCEPTED,
            )
            await assert_import_is_exact(world, ROWS, ACCEPTED)
        crm = await world.app("after")
        member = await crm.register(phone="089-999-9999", consents={"marketing": "sms"})
        assert (await crm.view(member, "marketing", "sms")).status_code == 200
        assert (await world.http.get("/readyz")).status_code == 200
        await assert_sound(world)


SHORT = {
    "register": 1,
    "withdraw": 1,
    "erase": 1,
    "fulfil": 2,
    "load": 2,
    "merge": 2,
    "sequence": 2,
}
LONG = dict.fromkeys(KINDS, 40) | {"sequence": 100}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
async def test_a_killed_process_leaves_the_old_state_or_the_new_one(registry, kind):
    await survive(registry, kind, SHORT[kind], seed=kind)


@pytest.mark.long
@pytest.mark.timeout(3_000)
@pytest.mark.parametrize("kind", KINDS)
async def test_many_kills_leave_the_old_state_or_the_new_one(registry, kind):
    await survive(registry, kind, LONG[kind], seed=f"long {kind}")
