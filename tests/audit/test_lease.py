"""One sequencer leads: others wait for its lease to end, and a leader that slept writes nothing."""

# ruff: noqa: F811 (fixtures are asked for by name)

import asyncio

import asyncpg
import pytest

from audit import (
    LogDamagedError,
    Sequencer,
    Signer,
    begin_new_origin,
    lease_repository,
    repository,
)
from kernel import UnavailableError
from service.runtime import open_database
from tests.support.invariants import assert_log_is_whole
from tests.support.world import (  # noqa: F401 (fixtures)
    installed_sqlite,
    open_world,
    postgres_settings,
    settings,
    sqlite_settings,
)

pytestmark = pytest.mark.anyio

HOUR_US = 3_600_000_000


class SetClock:
    """A clock that a test puts forward and back."""

    def __init__(self, clock):
        self._clock = clock
        self.shift_us = 0

    def now_us(self):
        return self._clock.now_us() + self.shift_us


@pytest.fixture
async def quiet(settings):
    async with open_world(settings, background=False) as opened:
        await opened.runtime.sequencer.stop()  # let go of whatever it led
        yield opened


def sequencer(world, clock=None, *, seconds=30.0, **details):
    runtime = world.runtime
    signer = Signer.from_seed(runtime.audit.origin, runtime.vault.log_seeds()[1])
    clock = clock or runtime.clock
    return Sequencer(runtime.database, signer, clock, lease_seconds=seconds, **details)


async def write(world, count=1):
    async with world.runtime.database.unit_of_work() as work:
        for at in range(count):
            await world.runtime.audit.record(work, world.operator, "test.event", count=at)


async def waiting(world):
    return len(await world.fetch("SELECT * FROM audit_pending"))


async def head(world):
    return (await world.fetch("SELECT * FROM audit_head"))[0]


async def test_while_one_leads_another_places_nothing(quiet):
    one, two = sequencer(quiet), sequencer(quiet)
    await write(quiet)
    assert await one.sequence_batch() == 1
    await write(quiet, 3)
    assert await two.sequence_batch() == 0
    assert (await waiting(quiet), two.state.leading, one.state.leading) == (3, False, True)
    assert await one.sequence_batch() == 3
    await assert_log_is_whole(quiet)


async def test_a_lease_that_ended_is_taken_under_a_higher_number_and_the_sleeper_follows(quiet):
    clock = SetClock(quiet.runtime.clock)
    one, two = sequencer(quiet, clock), sequencer(quiet, clock)
    await write(quiet)
    await one.sequence_batch()
    before = (await head(quiet))["fence"]
    clock.shift_us += 31_000_000  # the leader slept through its lease
    await write(quiet, 2)
    assert await two.sequence_batch() == 2
    assert (await head(quiet))["fence"] == before + 1
    await write(quiet, 2)
    assert await one.sequence_batch() == 0, "it woke up and leads no more"
    assert await waiting(quiet) == 2
    assert await two.sequence_batch() == 2
    await assert_log_is_whole(quiet)


async def test_a_stale_number_is_refused_inside_the_transaction_that_would_write(
    quiet, monkeypatch
):
    """The leader has read the head, slept, and another took the lease: nothing of it is stored."""
    one = sequencer(quiet)
    await write(quiet)
    await one.sequence_batch()
    await write(quiet, 2)
    before = await quiet.fetch("SELECT size FROM audit_checkpoint ORDER BY size")
    genuine = repository.place_leaves

    async def and_another_leads(work, *details):
        await genuine(work, *details)
        row = await lease_repository.head_row(work)
        taken = await lease_repository.take_lease(work, row["origin"], row["fence"], "seq_two", 0)
        assert taken == row["fence"] + 1

    monkeypatch.setattr(repository, "place_leaves", and_another_leads)
    with pytest.raises(UnavailableError):
        await one.sequence_batch()
    monkeypatch.undo()
    assert await waiting(quiet) == 2
    assert await quiet.fetch("SELECT size FROM audit_checkpoint ORDER BY size") == before
    await one.drain()
    await assert_log_is_whole(quiet)


@pytest.mark.postgres
async def test_a_leader_that_sleeps_within_a_statement_does_not_hold_the_head_for_good(
    postgres_settings, monkeypatch
):
    """The server's own timeouts leave that session alone: it is neither idle nor at work."""
    async with open_world(postgres_settings, background=False) as world:
        await world.runtime.sequencer.stop()
        await write(world)
        one = sequencer(world)
        asleep = await asyncpg.connect(postgres_settings.database.url)
        try:
            await asleep.execute("BEGIN; SELECT * FROM audit_head FOR UPDATE")
            busy = asyncio.create_task(asleep.execute("SELECT pg_sleep(2)"))
            await world.until(
                "SELECT 1 FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event = 'PgSleep'"
            )
            monkeypatch.setattr(lease_repository, "SILENT_SECONDS", 0.0)
            assert await one.sequence_batch() == 0, "another has the head"
            await busy  # who is at work is left at work
            await asleep.prepare("DELETE FROM audit_pending")
            monkeypatch.setattr(lease_repository, "SILENT_SECONDS", 3_600.0)
            assert await one.sequence_batch() == 0
            assert await asleep.fetchval("SELECT 1") == 1, "it was silent for a moment only"
            await asleep.prepare("DELETE FROM audit_pending")
            monkeypatch.setattr(lease_repository, "SILENT_SECONDS", 0.0)
            assert await one.sequence_batch() == 0
            while await waiting(world):
                await one.sequence_batch()
                await asyncio.sleep(0.02)
            with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
                await asleep.execute("COMMIT")
        finally:
            asleep.terminate()
        await assert_log_is_whole(world)


async def test_a_clock_put_back_an_hour_holds_nobody_up(quiet):
    clock = SetClock(quiet.runtime.clock)
    one, two = sequencer(quiet, clock), sequencer(quiet, clock)
    await write(quiet)
    await one.sequence_batch()
    clock.shift_us -= HOUR_US  # and the leader is gone
    await write(quiet, 2)
    assert await two.sequence_batch() == 2
    await assert_log_is_whole(quiet)


async def test_a_sequencer_that_stops_lets_go_at_once(quiet):
    one, two = sequencer(quiet), sequencer(quiet)
    await write(quiet)
    await one.start(background=False)
    await one.stop()
    await write(quiet)
    assert await two.sequence_batch() == 1
    await assert_log_is_whole(quiet)


async def test_who_waits_for_a_dead_leader_has_its_turn_when_the_lease_ends(quiet):
    dead, heir = sequencer(quiet, seconds=0.3), sequencer(quiet, seconds=0.3)
    await write(quiet)
    await dead.sequence_batch()
    await write(quiet, 4)
    await heir.drain()
    assert await waiting(quiet) == 0
    await assert_log_is_whole(quiet)


@pytest.mark.parametrize("reason", ["log-older-than-anchor", "log-forked"])
async def test_a_log_that_was_refused_is_signed_by_nobody_and_after_no_start(quiet, reason):
    one, two = sequencer(quiet), sequencer(quiet)
    await write(quiet)
    await one.drain()
    await one.refuse(reason)
    await write(quiet, 2)
    for each in (one, two, sequencer(quiet)):
        await each.start(background=False)
        assert each.state.reason == reason
    assert await waiting(quiet) == 2
    assert (await head(quiet))["refused"] == reason


@pytest.mark.postgres
async def test_of_two_processes_in_the_background_one_leads_and_nothing_is_lost(postgres_settings):
    async with open_world(postgres_settings, background=False) as world:
        databases = [open_database(postgres_settings) for _ in range(2)]
        signer = Signer.from_seed(world.runtime.audit.origin, world.runtime.vault.log_seeds()[1])
        both = [
            Sequencer(
                each,
                signer,
                world.runtime.clock,
                batch_size=7,
                poll_seconds=0.005,
                lease_seconds=30,
            )
            for each in databases
        ]
        for each in both:
            await each.start()
        for _ in range(30):
            await write(world, 5)
            await asyncio.sleep(0)
        await world.until("SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM audit_pending)")
        assert sorted(each.state.leading for each in both) == [False, True]
        leader, other = sorted(both, key=lambda each: not each.state.leading)
        await leader.stop()
        await write(world, 5)
        await world.until("SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM audit_pending)")
        await other.stop()
        await assert_log_is_whole(world)
        for each in databases:
            await each.close()


async def test_a_new_name_taken_while_a_leader_lives_stops_it_at_its_next_batch(quiet):
    """Whoever leads under the old name is told, and what it would sign is signed under the new."""
    leader, other = sequencer(quiet), sequencer(quiet)
    await write(quiet)
    assert await leader.sequence_batch() == 1
    old = leader.state.size
    seed = quiet.runtime.vault.signing_seed("audit-signing")
    origin = quiet.runtime.audit.origin
    new = Signer.from_seed(f"{origin}/2", seed)
    named = await begin_new_origin(
        other,
        Signer.from_seed(origin, seed),
        new,
        quiet.runtime.clock,
        quiet.runtime.pack.digest,
        quiet.operator,
    )
    assert named.size == old
    await write(quiet, 2)
    with pytest.raises(LogDamagedError, match="another name"):
        await leader.sequence_batch()
    assert await waiting(quiet) == 2
    rows = await quiet.fetch("SELECT size, note FROM audit_checkpoint ORDER BY size")
    assert [row["note"].splitlines()[0] for row in rows if row["size"] > old] == [f"{origin}/2"]
    heir = Sequencer(quiet.runtime.database, new, quiet.runtime.clock, lease_seconds=30)
    assert await heir.sequence_batch() == 2
