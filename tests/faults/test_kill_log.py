"""kill -9 of what the log stands on: database backends, witnesses, leaders that sleep.

After each: no event that was answered is lost, none is there twice, every head that was ever signed
is a head of the one tree, and business rows and events say the same.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from audit import WitnessVerdict
from kernel import UnavailableError, YinyomError
from service.settings import AuditSettings, WitnessSettings
from service.witnesses import Witnesses
from tests.conftest import _cluster
from tests.faults.child import settings_of
from tests.support.invariants import assert_every_head_is_a_prefix, assert_sound
from tests.support.serving import COMMAND, environment, free_port
from tests.support.world import fetch, installed_on, open_world

pytestmark = pytest.mark.anyio

REPOSITORY = Path(__file__).resolve().parents[2]
LEASE_OUT_SECONDS = 150.0
"""The server drops a transaction that sleeps after half a minute; several may wait in a row."""
MANY = 200


@pytest.fixture(scope="session")
def killed_postgres_server():
    """A cluster of its own: a backend that is killed takes every connection of it along."""
    return _cluster("killed-postgres", durable=True)


@pytest.fixture
def on_postgres(killed_postgres_server, tmp_path):
    name = f"log_{os.getpid()}_{time.monotonic_ns()}"

    def make(template):
        killed_postgres_server.run_sql(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return killed_postgres_server.url(name)

    made = installed_on(killed_postgres_server, make, tmp_path)
    yield settings_of(str(made.data_dir), made.database.url)
    killed_postgres_server.run_sql(f'DROP DATABASE "{name}" WITH (FORCE)')


async def events_are_in_the_log(world, told):
    leaves = {row["event_id"] for row in await world.fetch("SELECT event_id FROM audit_leaf")}
    assert told <= leaves


# --- database backends ----------------------------------------------------------------


@dataclass
class Work:
    """Members registered and events recorded; what was answered has to be there."""

    world: object
    crm: object
    registered: set = field(default_factory=set)
    told: set = field(default_factory=set)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    ends: bool = False

    async def register(self, mark):
        at = 0
        while not self.ends:
            at += 1
            with contextlib.suppress(AssertionError, httpx2.HTTPError):  # 503 while it is away
                member = await self.crm.register(
                    {"given_name": f"คน{at}"}, phone=f"08{mark}{at % 10**7:07}"
                )
                self.registered.add(member.id)
            await asyncio.sleep(0.01)

    async def record(self):
        runtime = self.world.runtime
        while not self.ends:
            with contextlib.suppress(YinyomError):
                async with runtime.database.unit_of_work() as work:
                    event = await runtime.audit.record(work, self.world.operator, "test.event")
                self.told.add(str(event))
                self.heard.set()
            await asyncio.sleep(0.005)


async def kill_a_backend(settings, chance):
    """Kill one that works on this database, as the kernel would when memory is short."""
    for _ in range(1_000):
        with contextlib.suppress(Exception):
            pids = [
                row["pid"]
                for row in await fetch(
                    settings,
                    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
                    "AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
                )
            ]
            if pids:
                os.kill(chance.choice(pids), signal.SIGKILL)
                return
        await asyncio.sleep(0.05)
    pytest.fail("there is no backend to kill")


async def until_it_answers(settings):
    for _ in range(2_000):
        with contextlib.suppress(Exception):
            await fetch(settings, "SELECT 1")
            return
        await asyncio.sleep(0.05)
    pytest.fail("PostgreSQL does not come back")


async def survive_backends(settings, kills, seed):
    chance = random.Random(seed)
    async with open_world(settings) as world:
        crm = await world.app()
        work = Work(world, crm)
        tasks = [asyncio.create_task(each) for each in (work.register(1), work.record())]
        for _ in range(kills):
            work.heard.clear()
            await asyncio.wait_for(work.heard.wait(), LEASE_OUT_SECONDS)
            await asyncio.sleep(chance.uniform(0, 0.3))
            await kill_a_backend(settings, chance)
            await until_it_answers(settings)
        work.ends = True
        await asyncio.gather(*tasks)
        await until_it_answers(settings)
        await world.until("SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM audit_pending)")
        await assert_sound(world)
        await events_are_in_the_log(world, work.told)
        known = {row["id"] for row in await world.fetch("SELECT id FROM pairwise_id")}
        assert work.registered <= known


@pytest.mark.slow
@pytest.mark.postgres
async def test_a_killed_backend_takes_no_event_and_no_member_along(on_postgres):
    await survive_backends(on_postgres, 2, "backend")


@pytest.mark.long
@pytest.mark.postgres
@pytest.mark.timeout(3_000)
async def test_many_killed_backends_take_nothing_along(on_postgres):
    await survive_backends(on_postgres, MANY, "long backend")


# --- a leader that sleeps -------------------------------------------------------------


@contextlib.contextmanager
def a_worker(settings):
    """Another process of the registry, that reads members and so writes events."""
    command = [sys.executable, "-m", "tests.faults.child", "sequence", str(settings.data_dir)]
    with subprocess.Popen(
        [*command, settings.database.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=REPOSITORY,
        text=True,
    ) as child:
        try:
            yield child
        finally:
            child.send_signal(signal.SIGKILL)
            child.send_signal(signal.SIGCONT)


async def survive_sleep(settings, seconds, seed):
    """The leader stops in the middle of its work; another leads; it wakes up and writes on."""
    chance = random.Random(seed)
    told = set()
    with a_worker(settings) as sleeper:
        await asyncio.to_thread(sleeper.stdout.readline)
        for _ in range(10):
            line = await asyncio.to_thread(sleeper.stdout.readline)
            told |= {json.loads(line).get("read")} - {None}
        (before,) = await fetch(settings, "SELECT fence, holder, size FROM audit_head")
        await asyncio.sleep(chance.uniform(0, 0.1))
        sleeper.send_signal(signal.SIGSTOP)
        async with open_world(settings) as world:
            until = time.monotonic() + LEASE_OUT_SECONDS
            while True:
                with contextlib.suppress(UnavailableError):
                    async with world.runtime.database.unit_of_work() as work:
                        event = await world.runtime.audit.record(work, world.operator, "test.event")
                    told.add(str(event))
                if world.runtime.sequencer.state.leading:
                    break
                assert time.monotonic() < until, "nobody took the lease"
                await asyncio.sleep(0.2)
            (meanwhile,) = await fetch(settings, "SELECT fence, holder, size FROM audit_head")
            assert meanwhile["fence"] > before["fence"]
            assert meanwhile["holder"] != before["holder"]
            await asyncio.sleep(seconds)
            sleeper.send_signal(signal.SIGCONT)
            # Its events find their places, whoever leads by now; then it is killed.
            line = ""
            with contextlib.suppress(TimeoutError):
                line = await asyncio.wait_for(asyncio.to_thread(sleeper.stdout.readline), 10)
            sleeper.send_signal(signal.SIGKILL)
            rest = await asyncio.to_thread(sleeper.stdout.read)
            for each in (line, *rest.splitlines(keepends=True)):
                if each.endswith("\n"):
                    told |= {json.loads(each).get("read")} - {None}
            await world.until("SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM audit_pending)")
            await assert_sound(world)
            await events_are_in_the_log(world, told)


@pytest.mark.slow
@pytest.mark.postgres
async def test_a_leader_that_slept_finds_another_and_forks_nothing(on_postgres):
    await survive_sleep(on_postgres, 0, "sleep")


@pytest.mark.long
@pytest.mark.postgres
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(5))
async def test_a_leader_that_slept_half_a_minute_forks_nothing(on_postgres, seed):
    await survive_sleep(on_postgres, 30, f"long sleep {seed}")


# --- witnesses ------------------------------------------------------------------------


def start_witness(folder, vkey, port):
    process = subprocess.Popen(
        [*COMMAND, "audit", "witness", str(folder), "--log", vkey, "--port", str(port), "--json"],
        env=environment(),
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    return process, json.loads(process.stdout.readline())


async def survive_witness(settings, tmp_path, kills, seed):
    """A witness is killed while it signs; what it remembers is never behind what it has signed."""
    chance, port = random.Random(seed), free_port()
    async with open_world(settings, background=False) as world:
        runtime = world.runtime
        signed = 0
        for _ in range(kills):
            process, said = start_witness(tmp_path / "w", runtime.audit.vkey, port)
            one = WitnessSettings(url=said["url"], vkey=said["vkey"])
            witnesses = Witnesses(AuditSettings(witnesses=(one,)), runtime.database, runtime.clock)

            async def ask(witnesses=witnesses):
                async with runtime.database.unit_of_work() as work:
                    await runtime.audit.record(work, world.operator, "test.event")
                await runtime.sequencer.drain()
                (told,) = await witnesses.ask()
                assert not told.verdict.alarming
                return told

            try:
                for _ in range(3_000):
                    told = await ask()
                    if told.verdict is WitnessVerdict.COSIGNED:
                        break
                    await asyncio.sleep(0.02)
                assert told.verdict is WitnessVerdict.COSIGNED
                assert told.size > signed
                dying = asyncio.create_task(kill_later(process, chance.uniform(0, 0.15)))
                while not dying.done():
                    told = await ask()
                    signed = max(signed, told.size or 0)
            finally:
                process.kill()
                process.wait(120)
                process.stdout.close()
        rows = await world.fetch("SELECT size FROM audit_cosignature")
        assert max(row["size"] for row in rows) >= signed
        await assert_sound(world)


async def kill_later(process, seconds):
    await asyncio.sleep(seconds)
    process.kill()


@pytest.mark.slow
async def test_a_killed_witness_remembers_all_that_it_signed(sqlite_settings, tmp_path):
    await survive_witness(sqlite_settings, tmp_path, 2, "witness")


@pytest.mark.long
@pytest.mark.timeout(3_000)
async def test_many_killed_witnesses_remember_all_that_they_signed(sqlite_settings, tmp_path):
    await survive_witness(sqlite_settings, tmp_path, MANY, "long witness")


async def test_a_head_that_is_no_head_of_the_tree_is_called_a_fork(sqlite_settings):
    """The check of all these tests can fail."""
    async with open_world(sqlite_settings, background=False) as world:
        async with world.runtime.database.unit_of_work() as work:
            await world.runtime.audit.record(work, world.operator, "test.event")
        await world.runtime.sequencer.drain()
        leaves = await world.fetch("SELECT leaf_hash FROM audit_leaf ORDER BY leaf_index")
        hashes = [bytes(row["leaf_hash"]) for row in leaves]
        await assert_every_head_is_a_prefix(world, hashes)
        with pytest.raises(AssertionError, match="a fork"):
            await assert_every_head_is_a_prefix(world, [*hashes[:-1], bytes(32)])
