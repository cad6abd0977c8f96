"""kill -9 within a chunk of an export: its event with the rows is in the trail, or nothing left.

A child exports an audience and says of each line that it has gone out, until it is killed. Whoever
is in a line then stands in exactly one manifest of that client; whoever stands in one and in no
line is of the one chunk that was under way.
"""

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict

import pytest

from audit import EventFilter, export_log, verify_stored_log
from audit.verify import verify_bundle
from service.evidence import key_of_member
from tests.faults.export_child import IN_CHUNK, SCOPES, STEPS
from tests.faults.test_kill import (
    REPOSITORY,
    START_SECONDS,
    registry,  # noqa: F401 (a fixture)
    until_the_server_has_noticed,
)
from tests.support.invariants import assert_sound
from tests.support.world import open_world

pytestmark = pytest.mark.anyio

MEMBERS = 13  # two whole chunks and a part of one
EVERY_STEP = [(step, when) for step in STEPS for when in ("before", "after")]
FEW = [("rows", "after"), ("opening", "before")]
KILLS = 40
LONGEST_SECONDS = 0.4
ROUNDS = 3


def export_until_killed(registry, step, when, nth, seconds=None):  # noqa: F811
    """Let a child export until a step kills it, or so long after it began; gives what it told."""
    command = [sys.executable, "-m", "tests.faults.export_child", step, when, str(nth)]
    place = [str(registry.data_dir), *filter(None, [registry.database.url])]
    with (
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(
            [*command, *place], stdout=subprocess.PIPE, stderr=complaints, cwd=REPOSITORY, text=True
        ) as child,
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


async def some_members(registry):  # noqa: F811
    async with open_world(registry, background=False) as world:
        crm = await world.app("crm", "members:write", "purpose:marketing")
        for at in range(MEMBERS):
            await crm.register(phone=f"081-{at:07}", consents={"marketing": "sms"})


async def manifests_about(world, client, member_id):
    """Every event with rows that tells this member of an export to this client."""
    _, tokens = await key_of_member(world.runtime, member_id)
    wanted = EventFilter(actor=client, action="audience.export", subjects=tokens)
    async with world.runtime.database.read() as session:
        found = await world.runtime.audit.search(session, wanted)
    return [event for event in found.events if "manifest" in event]


async def assert_told_as_it_left(world, told):
    """Who has left stands in a manifest once for each time; what else stands there is one chunk."""
    client = told[0]["client"]
    lines = [line["out"] for line in told[1:]]
    left = defaultdict(int)
    for line in lines:
        if "id" in line:
            left[line["id"]] += 1
    ended = [line for line in lines if "end" in line]
    surplus = 0
    known = await world.fetch(
        "SELECT id, member_id FROM pairwise_id WHERE client_id = :client", client=client
    )
    assert left.keys() <= {row["id"] for row in known}
    for row in known:
        named = len(await manifests_about(world, client, row["member_id"]))
        assert named >= left[row["id"]], "a line left the registry and stands nowhere"
        surplus += named - left[row["id"]]
    assert surplus <= IN_CHUNK, "more than the chunk under way was told of and never left"
    events = [
        event
        for event in await world.events("audience.export")
        if event["actor"]["id"] == client and "manifest" in event
    ]
    assert sum(event["manifest"]["rows"] for event in events) == sum(left.values()) + surplus
    ends = [e for e in await world.events("audience.export.end") if e["actor"]["id"] == client]
    assert len(ends) - len(ended) in {0, 1}
    assert {line["audit_id"] for line in ended} <= {event["id"] for event in ends}
    return surplus


async def assert_whole(world, path):
    await assert_sound(world)
    report, misleading = await verify_stored_log(world.runtime.database, world.runtime.audit)
    assert (report.findings, misleading) == ((), [])
    await export_log(world.runtime.database, path)
    assert verify_bundle(path, world.runtime.audit.vkey).findings == ()


async def survive(registry, tmp_path, kills):  # noqa: F811
    await some_members(registry)
    unsent = []
    for number, kill in enumerate(kills):
        told = export_until_killed(registry, *kill)
        await until_the_server_has_noticed(registry)
        async with open_world(registry, background=False) as world:
            unsent.append(await assert_told_as_it_left(world, told))
            await assert_whole(world, tmp_path / f"bundle-{number}")
    async with open_world(registry) as world:
        app = await world.app("after", *SCOPES)
        answer = await app.post("/v1/audiences:export", {"purpose": "marketing", "channel": "sms"})
        *lines, last = map(json.loads, answer.text.splitlines())
        assert (len(lines), last["end"]) == (MEMBERS, True)
    return unsent


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_what_left_a_killed_export_stands_in_the_trail_and_no_chunk_by_halves(
    sqlite_settings, tmp_path
):
    unsent = await survive(sqlite_settings, tmp_path, [(*one, 2) for one in FEW])
    assert unsent == [0, IN_CHUNK]


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("step", "when"), EVERY_STEP)
async def test_an_export_killed_at_any_step_of_a_chunk(registry, tmp_path, step, when):  # noqa: F811
    unsent = await survive(registry, tmp_path, [(step, when, nth) for nth in (1, ROUNDS)])
    uncommitted = (step, when) in EVERY_STEP[:6] or (step, when) == ("handing out", "after")
    assert (unsent == [0, 0]) == uncommitted


@pytest.mark.long
@pytest.mark.timeout(3_000)
async def test_many_exports_killed_at_any_moment(registry, tmp_path):  # noqa: F811
    chance = random.Random("export")
    moments = [("-", "-", 0, chance.uniform(0, LONGEST_SECONDS)) for _ in range(KILLS)]
    await survive(registry, tmp_path, moments)


async def test_a_line_that_no_manifest_tells_of_is_noticed(sqlite_settings):
    """The check of all these tests can fail."""
    await some_members(sqlite_settings)
    async with open_world(sqlite_settings, background=False) as world:
        app = await world.app("sender", *SCOPES)
        answer = await app.post("/v1/audiences:export", {"purpose": "marketing", "channel": "sms"})
        told = [
            {"client": app.id},
            *({"out": json.loads(line)} for line in answer.text.splitlines()),
        ]
        await assert_told_as_it_left(world, told)
        await world.unguard("audit_manifest_token")
        await world.execute(
            "DELETE FROM audit_manifest_token WHERE token = (SELECT min(token) FROM audit_manifest_token)"
        )
        with pytest.raises(AssertionError, match="stands nowhere"):
            await assert_told_as_it_left(world, told)
