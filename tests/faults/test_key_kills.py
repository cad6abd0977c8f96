"""kill -9 at each step of rotate, rewrap and seal: no member is lost, no erased member is back.

The child is killed before or after one function of the vault while members come, go and are read.
What is left is looked at as it is, then the command is run again and goes on from there.
"""

import json
import signal
import subprocess
import sys
import tempfile

import pytest

from service.kms import open_ring
from tests.faults.child import settings_of
from tests.faults.key_child import STEPS, act_on
from tests.faults.test_kill import (
    REPOSITORY,
    START_SECONDS,
    registry,  # noqa: F401 (a fixture)
    until_the_server_has_noticed,
)
from tests.support.invariants import assert_sound
from tests.support.world import open_world
from vault import ORDINARY, Vault

pytestmark = pytest.mark.anyio

EVERY_STEP = [
    pytest.param(act, step, when, id=f"{act}-{step.rpartition('.')[2].rpartition(':')[2]}-{when}")
    for act, steps in STEPS.items()
    for step in steps
    for when in ("before", "after")
]
FEW = {
    ("rewrap", "vault.rotation_repository:move_keys", "after"),
    ("rewrap", "vault.rotation_repository:drop_replaced", "after"),
    ("rotate", "vault.keyring:KeyRing.add_root", "after"),
    ("rotate", "vault.keyring:KeyRing.drop_roots", "after"),
    ("seal", "vault.rotation_repository:drop_replaced", "after"),
    ("seal", "keeping:refresh", "after"),
    ("seal", "vault.keyring:KeyRing.drop_roots", "after"),
    ("seal", "vault.keyring:KeyRing.seal_outer", "after"),
}


def run_until_killed(registry, act, step, when):  # noqa: F811 (the fixture's value)
    """Let a child work until it kills itself, and give what it told."""
    command = [sys.executable, "-m", "tests.faults.key_child", act, step, when]
    place = [str(registry.data_dir), *([registry.database.url] if registry.database.url else [])]
    with tempfile.TemporaryFile("w+") as complaints:
        child = subprocess.run(
            [*command, *place],
            stdout=subprocess.PIPE,
            stderr=complaints,
            cwd=REPOSITORY,
            text=True,
            timeout=4 * START_SECONDS,
            check=False,
        )
        complaints.seek(0)
        assert child.returncode == -signal.SIGKILL, complaints.read()
    lines = child.stdout.splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


async def assert_nobody_lost_and_nobody_back(world, told):
    """Whoever lives has keys that open, as a process that has just started sees it."""
    registered = {line["registered"] for line in told if "registered" in line}
    erased = {line["erased"] for line in told if "erased" in line}
    states = {
        row["id"]: (row["member_id"], row["state"])
        for row in await world.fetch(
            "SELECT pairwise_id.id, pairwise_id.member_id, member_gate.state FROM pairwise_id "
            "JOIN member_gate ON member_gate.member_id = pairwise_id.member_id"
        )
    }
    assert registered <= states.keys()
    vault = Vault(open_ring(world.settings))
    async with world.runtime.database.read() as session:
        for member_id, state in states.values():
            keys = await vault.keys_of(session, member_id)
            assert (ORDINARY in keys) == (state != "erased"), state
    assert all(states[member][1] == "erased" for member in erased)


async def survive(registry, act, step, when):  # noqa: F811 (the fixture's value)
    told = []
    for _ in range(2):
        told += run_until_killed(registry, act, step, when)
        await until_the_server_has_noticed(registry)
    settings = settings_of(str(registry.data_dir), registry.database.url)
    async with open_world(settings, background=False) as world:
        await assert_nobody_lost_and_nobody_back(world, told)
        await act_on(world, act)
        await assert_nobody_lost_and_nobody_back(world, told)
        assert await world.fetch("SELECT id FROM vault_rotation WHERE ended_us IS NULL") == []
        if act in {"rotate", "seal"}:
            assert len(open_ring(world.settings).versions) == 1
        await world.runtime.keys.rotations.rewrap(lambda _done, _total: None)
        await assert_sound(world)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("act", "step", "when"), [one for one in EVERY_STEP if tuple(one.values) in FEW]
)
async def test_a_kill_at_a_step_loses_nobody_and_brings_nobody_back(registry, act, step, when):  # noqa: F811
    await survive(registry, act, step, when)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("act", "step", "when"), EVERY_STEP)
async def test_a_kill_at_any_step_loses_nobody_and_brings_nobody_back(registry, act, step, when):  # noqa: F811
    await survive(registry, act, step, when)
