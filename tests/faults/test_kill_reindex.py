"""kill -9 in a re-index: whoever could be found is found, whoever is erased is not, and it goes on.

The child re-indexes while members join and go, and dies at a step or at any moment. What is left
is held against the rules of `tests.support.invariants`, which know every version of an index;
then the next process ends what was begun.
"""

import json
import random
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from kernel import MemberId
from members.identifiers import identifier
from members.normalise import Formats
from tests.faults.child import settings_of
from tests.faults.reindex_child import STEPS, WHENEVER
from tests.faults.test_kill import (  # noqa: F401 (a fixture)
    LONGEST_SECONDS,
    REPOSITORY,
    START_SECONDS,
    registry,
    until_the_server_has_noticed,
)
from tests.support.invariants import assert_sound
from tests.support.world import open_world
from vault import IndexState

pytestmark = pytest.mark.anyio

TH = Formats("TH", "iso", "TH", None)
SHORT = ("the second page is done", "look-ups ask the new version", "some old tags are gone")


def run_until_killed(settings, step, seconds=None):
    """Let a child work until it dies, or for so long after its first answer; give what it told."""
    arguments = [step, str(settings.data_dir)]
    if settings.database.url:
        arguments.append(settings.database.url)
    with (
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(
            [sys.executable, "-m", "tests.faults.reindex_child", *arguments],
            stdout=subprocess.PIPE,
            stderr=complaints,
            cwd=REPOSITORY,
            text=True,
        ) as child,
    ):
        lines = []
        if seconds is not None:
            lines.append(child.stdout.readline())
            time.sleep(seconds)
            child.send_signal(signal.SIGKILL)
        lines += child.stdout
        child.wait(START_SECONDS)
        complaints.seek(0)
        assert child.returncode == -signal.SIGKILL, complaints.read()
    return [json.loads(line) for line in lines if line.endswith("\n")]


async def check(world, told):
    """Every answer that was given holds: found, signed in, kept from messages, or gone."""
    phones = {line["registered"]: line["phone"] for line in told if "registered" in line}
    erased = {line["erased"] for line in told if "erased" in line}
    verified = {line["verified"] for line in told if "verified" in line}
    owner = {
        row["id"]: MemberId(row["member_id"])
        for row in await world.fetch("SELECT id, member_id FROM pairwise_id")
    }
    states = {
        row["member_id"]: row["state"]
        for row in await world.fetch("SELECT member_id, state FROM member_gate")
    }
    tags = world.runtime.vault.tags
    async with world.runtime.database.read() as session:
        for known, phone in phones.items():
            one = owner[known]
            found = await tags.find(session, identifier("phone", f"+66{phone[1:]}"))
            if known in erased or states[one] == "erased":
                assert list(found) == []
                continue
            assert list(found) == [one]
            if known in verified:
                point = await world.runtime.members.contact_points.sign_in_point(
                    session, "phone", phone, TH
                )
                assert point is not None
                assert point.member_id == one
        for line in told:
            if "objected" in line and states[owner[line["objected"]]] != "erased":
                assert line["status"] == 201
                suppressions = world.runtime.consent.suppressions
                assert await suppressions.of_member(session, owner[line["objected"]])


async def end_what_was_begun(settings, told):
    async with open_world(settings) as world:
        await world.runtime.reindex.renew(world.operator, ["phone"])
        await check(world, told)
        async with world.runtime.database.read() as session:
            indexes = await world.runtime.vault.tags.versions(session)
        assert {one.state for one in indexes.all()} == {IndexState.LIVE}
        kept = await world.fetch("SELECT DISTINCT index_version AS v FROM vault_tag")
        assert {row["v"] for row in kept} <= {indexes.live("phone").version}
        await assert_sound(world)


async def die_and_go_on(settings, step, seconds=None):
    told = run_until_killed(settings, step, seconds)
    await until_the_server_has_noticed(settings)
    quick = settings_of(str(settings.data_dir), settings.database.url)
    async with open_world(quick, background=False) as world:
        await check(world, told)
        await assert_sound(world)
    return told


@pytest.mark.slow
@pytest.mark.parametrize("step", SHORT)
async def test_a_re_index_killed_at_a_step_is_ended_by_the_next(registry, step):  # noqa: F811
    told = await die_and_go_on(registry, step)
    assert any("erased" in line for line in told)
    await end_what_was_begun(registry, told)


@pytest.mark.long
@pytest.mark.timeout(3_000)
async def test_a_re_index_killed_at_every_step_in_turn_is_ended_by_the_next(
    registry,  # noqa: F811
):
    """One registry goes through all of them, so that a damage would be carried on."""
    told = []
    for step in STEPS:
        told += await die_and_go_on(registry, step)
        await end_what_was_begun(registry, told)


@pytest.mark.long
@pytest.mark.timeout(3_000)
async def test_a_re_index_killed_whenever_is_ended_by_the_next(registry):  # noqa: F811
    chance = random.Random("whenever")
    told = []
    for _ in range(20):
        told += await die_and_go_on(registry, WHENEVER, chance.uniform(0.05, 3 * LONGEST_SECONDS))
    await end_what_was_begun(registry, told)
