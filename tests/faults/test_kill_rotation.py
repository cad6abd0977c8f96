"""kill -9 within a rotation of the log's key: begun, done, or gone on with; never a second history.

A child replaces the key, while members are read, until a step of the rotation kills it or somebody
does. After each kill the log is whole under the key that its head names, everything told is in it,
anybody who has the first key can check all of it, and the same command ends what was begun.
"""

import asyncio
import json
import random
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from audit import export_log, rotations, verify_stored_log, vkey_digest
from audit.verify import verify_bundle
from service.commands import COMMANDS
from service.kms import open_ring
from tests.faults.rotation_child import STEPS, rotating_settings
from tests.faults.test_kill import (
    REPOSITORY,
    START_SECONDS,
    registry,  # noqa: F401 (a fixture)
    until_the_server_has_noticed,
)
from tests.support.invariants import assert_sound
from tests.support.world import open_world

pytestmark = pytest.mark.anyio

EVERY_STEP = [(step, when) for step in STEPS for when in ("before", "after")]
FEW = [("seed", "after"), ("head", "after"), ("handing over", "after")]
KILLS = 40
LONGEST_SECONDS = 0.6


def begin(registry, step, when, complaints):  # noqa: F811 (the fixture's value)
    command = [sys.executable, "-m", "tests.faults.rotation_child", step, when]
    place = [str(registry.data_dir), *filter(None, [registry.database.url])]
    return subprocess.Popen(
        [*command, *place], stdout=subprocess.PIPE, stderr=complaints, cwd=REPOSITORY, text=True
    )


def rotate_until_killed(registry, step, when, seconds=None):  # noqa: F811
    """Let a child rotate until a step kills it, or so long after it began; gives what it told."""
    with (
        tempfile.TemporaryFile("w+") as complaints,
        begin(registry, step, when, complaints) as child,
    ):
        lines = [child.stdout.readline()]
        if seconds is not None:
            time.sleep(seconds)
            child.send_signal(signal.SIGKILL)
        lines += [*child.stdout]
        child.wait(4 * START_SECONDS)
        complaints.seek(0)
        assert child.returncode == -signal.SIGKILL, complaints.read()
    return [json.loads(line) for line in lines if line.endswith("\n")]


def settings_after(registry):  # noqa: F811
    return rotating_settings(str(registry.data_dir), registry.database.url)


async def rotate(world):
    asked = {"confirmed": True, "operator": None}
    return await COMMANDS["audit.rotate_key"](world.runtime, lambda *_: None, **asked)


async def assert_whole(world, told, path):
    """The key of the head is the last of one succession, and nothing that was told is lost."""
    runtime = world.runtime
    await assert_sound(world)
    async with runtime.database.read() as session:
        kept = await rotations(session)
    first = next(line["began"] for line in told if "began" in line)
    keys = [first, *(each.new_vkey for each in kept)]
    assert [each.old_vkey for each in kept] == keys[:-1]
    assert runtime.audit.vkey == keys[-1]
    assert {line["rotated"] for line in told if "rotated" in line} <= set(keys)
    leaves = {
        row["event_id"]: row["leaf_index"]
        for row in await world.fetch("SELECT event_id, leaf_index FROM audit_leaf")
    }
    assert {line["read"] for line in told if "read" in line} <= leaves.keys()
    rotated = await world.events("audit.key_rotated")
    assert {each["id"] for each in rotated} == {each.event_id for each in kept}
    assert [leaves[each.event_id] for each in kept] == [each.size - 1 for each in kept]
    report, misleading = await verify_stored_log(runtime.database, runtime.audit)
    assert (report.findings, misleading) == ((), [])
    _, wrong, silent = await runtime.anchors.check_all()
    assert (wrong, silent) == ([], [])
    await export_log(runtime.database, path)
    for key in {keys[0], keys[-1]}:
        assert verify_bundle(path, key).findings == ()
    return keys


async def assert_gone_on_with(world):
    """The command that was cut short is run again: it ends what was begun, or does it anew."""
    before = world.runtime.audit.vkey
    told = await rotate(world)
    if told["size"] is None:
        assert told["vkey"] == before
        told = await rotate(world)
    assert told["vkey"] != before
    ring = open_ring(world.settings)
    assert len(ring.log_seeds()) == 1
    await world.runtime.ring_backups.prove(world.settings.data_dir / "recovery-kit.txt")
    prepared = {event["resource"] for event in await world.events("audit.key_prepared")}
    destroyed = {event["resource"] for event in await world.events("audit.key_destroyed")}
    async with world.runtime.database.read() as session:
        kept = await rotations(session)
    assert {vkey_digest(each.new_vkey) for each in kept} == prepared
    assert {vkey_digest(each.old_vkey) for each in kept} == destroyed


async def survive(registry, tmp_path, kills):  # noqa: F811
    told = []
    for number, (step, when, seconds) in enumerate(kills):
        told += rotate_until_killed(registry, step, when, seconds)
        await until_the_server_has_noticed(registry)
        async with open_world(settings_after(registry), background=False) as world:
            await assert_whole(world, told, tmp_path / f"bundle-{number}")
    async with open_world(settings_after(registry), background=False) as world:
        await assert_gone_on_with(world)
        await assert_whole(world, told, tmp_path / "bundle")


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_rotation_that_is_killed_leaves_one_key_at_work_and_goes_on(
    sqlite_settings, tmp_path
):
    await survive(sqlite_settings, tmp_path, [(*one, None) for one in FEW])


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("step", "when"), EVERY_STEP)
async def test_a_rotation_that_is_killed_at_any_step_goes_on(registry, tmp_path, step, when):  # noqa: F811
    await survive(registry, tmp_path, [(step, when, None)] * 2)


@pytest.mark.long
@pytest.mark.timeout(3_000)
async def test_many_rotations_killed_at_any_moment_go_on(registry, tmp_path):  # noqa: F811
    chance = random.Random("rotation")
    moments = [("-", "-", chance.uniform(0, LONGEST_SECONDS)) for _ in range(KILLS)]
    await survive(registry, tmp_path, moments)


@pytest.mark.long
@pytest.mark.postgres
@pytest.mark.timeout(600)
@pytest.mark.parametrize("step", ["head", "handing over", "dropped"])
async def test_another_process_goes_on_under_whichever_key_the_kill_left(registry, tmp_path, step):  # noqa: F811
    if not registry.on_postgres:
        pytest.skip("SQLite has one process")
    async with open_world(settings_after(registry)) as other:
        crm = await other.app("other", "members:write", "purpose:membership")
        member = await crm.register(phone="082-345-6789")
        told = await asyncio.to_thread(rotate_until_killed, registry, step, "after")
        for _ in range(3):
            assert (await crm.view(member)).status_code == 200
        await other.runtime.sequencer.drain()
        await assert_whole(other, told, tmp_path / "bundle")
