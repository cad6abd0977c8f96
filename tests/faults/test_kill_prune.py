"""kill -9 within a prune: each batch went whole with its event, or is there whole without one."""

import signal
import subprocess
import sys

import pytest

from audit import verify_stored_log
from tests.faults.test_kill import REPOSITORY, registry  # noqa: F401 (a fixture)
from tests.support.world import DAY_US, JumpingClock, open_world

pytestmark = pytest.mark.anyio

LONG_AGO_US = 8 * 366 * DAY_US
READINGS = 45
STEPS = [("name_runs", 2), ("delete_bodies", 2), ("stop_holds", 3)]


def prune_until_killed(registry, step, times):  # noqa: F811 (the fixture's value)
    command = [sys.executable, "-m", "tests.faults.prune_child", step, str(times)]
    place = [str(registry.data_dir), *filter(None, [registry.database.url])]
    return subprocess.run([*command, *place], cwd=REPOSITORY, check=False).returncode


async def told_and_gone(world):
    told = sum(event["count"] for event in await world.events("retention.pruned"))
    (gone,) = await world.fetch(
        "SELECT count(*) AS n FROM audit_leaf l "
        "WHERE NOT EXISTS (SELECT 1 FROM audit_event e WHERE e.id = l.event_id)"
    )
    return told, gone["n"]


async def test_a_killed_prune_goes_on_where_it_was(registry):  # noqa: F811
    clock = JumpingClock()
    clock.jump_us = -LONG_AGO_US
    async with open_world(registry, clock=clock, background=False) as world:
        async with world.runtime.database.unit_of_work() as work:
            for _ in range(READINGS):
                await world.runtime.audit.record(work, world.operator, "change.read")
        await world.runtime.sequencer.drain()
    for step, times in STEPS:
        assert prune_until_killed(registry, step, times) == -signal.SIGKILL
        async with open_world(registry, background=False) as world:
            await world.runtime.sequencer.drain()
            told, gone = await told_and_gone(world)
            assert told == gone < READINGS
            report, _ = await verify_stored_log(world.runtime.database, world.runtime.audit)
            assert report.ok, report.findings
    assert gone > 0
    async with open_world(registry, background=False) as world:
        await world.runtime.pruning.prune(world.operator)
        assert await world.events("change.read") == []
        told, gone = await told_and_gone(world)
        assert told == gone >= READINGS
