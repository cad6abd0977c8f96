"""Bucket keys: cached for speed, and never one that the database did not keep.

A member's key wrapped under a bucket key that was rolled back could be opened by nobody, after
the next start: the member would be lost.
"""

import asyncio
import sqlite3

import pytest

from kernel import UnavailableError, new_id
from kernel.postgres import PostgresDatabase
from service.kms import open_ring
from tests.support.world import open_world, recorded
from vault import ORDINARY, PSEUDONYM, UnreadableError, Vault, buckets

pytestmark = pytest.mark.anyio

KINDS = (ORDINARY, PSEUDONYM)


class GoneError(Exception):
    """The unit of work failed after it had made a bucket."""


@pytest.fixture
def vault(world):
    return Vault(open_ring(world.settings))


def after_a_restart(world):
    """A vault that has nothing in RAM, as the next process has."""
    return Vault(open_ring(world.settings))


async def opens_after_a_restart(world, owner):
    fresh = after_a_restart(world)
    async with world.runtime.database.read() as session:
        return set(await fresh.keys_of(session, owner)) == set(KINDS)


async def test_a_rolled_back_bucket_never_wraps_a_member_key(world, vault):
    database = world.runtime.database
    with pytest.raises(GoneError):
        async with recorded(database) as work:
            await vault.make_keys(work, new_id("mem"), KINDS)
            raise GoneError
    owner = new_id("mem")
    async with recorded(database) as work:
        await vault.make_keys(work, owner, KINDS)
    assert await opens_after_a_restart(world, owner)


async def test_a_bucket_read_back_in_its_own_failed_unit_of_work_is_forgotten(world, vault):
    """As an import does: register a row, fetch its keys to seal the leftovers, then fail."""
    database = world.runtime.database
    lost = new_id("mem")
    with pytest.raises(GoneError):
        async with recorded(database) as work:
            await vault.make_keys(work, lost, KINDS)
            assert set(await vault.keys_of(work, lost)) == set(KINDS)
            raise GoneError
    owner = new_id("mem")
    async with recorded(database) as work:
        await vault.make_keys(work, owner, KINDS)
        await vault.keys_of(work, owner)
    assert await opens_after_a_restart(world, owner)


async def test_a_worker_that_saw_a_lost_bucket_reads_what_another_worker_made_instead(world, vault):
    database = world.runtime.database
    with pytest.raises(GoneError):
        async with recorded(database) as work:
            lost = new_id("mem")
            await vault.make_keys(work, lost, KINDS)
            await vault.keys_of(work, lost)
            raise GoneError
    owner = new_id("mem")
    async with recorded(database) as work:
        await after_a_restart(world).make_keys(work, owner, KINDS)
    async with database.read() as session:
        assert set(await vault.keys_of(session, owner)) == set(KINDS)


async def test_a_commit_that_fails_takes_the_bucket_seen_by_its_neighbour_with_it(
    sqlite_settings,
):
    """On SQLite neighbours in one group commit see each other before it is durable."""
    async with open_world(sqlite_settings, background=False) as world:
        vault, database = world.runtime.vault, world.runtime.database
        first = new_id("mem")

        async def make():
            async with recorded(database) as work:
                await vault.make_keys(work, first, KINDS)

        async def look():
            async with recorded(database) as work:
                assert set(await vault.keys_of(work, first)) == set(KINDS)

        class NoCommit:
            def __init__(self, connection):
                self._connection = connection

            def execute(self, sql, *parameters):
                if sql == "COMMIT":
                    raise sqlite3.OperationalError("disk I/O error")
                return self._connection.execute(sql, *parameters)

            def __getattr__(self, name):
                return getattr(self._connection, name)

        genuine = database._writer
        database._writer = NoCommit(genuine)
        failed = await asyncio.gather(make(), look(), return_exceptions=True)
        database._writer = genuine
        assert [type(each) for each in failed] == [UnavailableError, UnavailableError]
        owner = new_id("mem")
        async with recorded(database) as work:
            await vault.make_keys(work, owner, KINDS)
        assert await opens_after_a_restart(world, owner)


@pytest.mark.postgres
async def test_two_workers_that_make_the_same_bucket_at_once_agree_on_one(postgres_settings):
    async with open_world(postgres_settings, background=False) as world:
        vaults = [after_a_restart(world) for _ in range(4)]
        databases = [PostgresDatabase(postgres_settings.database.url) for _ in vaults]
        owners = [new_id("mem") for _ in vaults]
        together = asyncio.Barrier(len(vaults))

        async def register(vault, database, owner):
            async with recorded(database) as work:
                await together.wait()
                await vault.make_keys(work, owner, KINDS)

        await asyncio.gather(*map(register, vaults, databases, owners))
        for database in databases:
            await database.close()
        assert len(await world.fetch("SELECT bucket FROM vault_bucket")) == 1
        for owner in owners:
            assert await opens_after_a_restart(world, owner)


@pytest.mark.postgres
async def test_a_worker_whose_rival_rolls_back_makes_the_bucket_itself(postgres_settings):
    async with open_world(postgres_settings, background=False) as world:
        winner, waiting = after_a_restart(world), after_a_restart(world)
        database, owner = world.runtime.database, new_id("mem")
        made = asyncio.Event()

        async def fail_later():
            with pytest.raises(GoneError):
                async with recorded(database) as work:
                    await winner.make_keys(work, new_id("mem"), KINDS)
                    made.set()
                    await asyncio.sleep(0.2)
                    raise GoneError

        async def wait_for_it():
            await made.wait()
            async with recorded(database) as work:
                await waiting.make_keys(work, owner, KINDS)

        await asyncio.gather(fail_later(), wait_for_it())
        assert await opens_after_a_restart(world, owner)


async def test_every_bucket_of_many_is_made_once_and_found_again(sqlite_settings):
    async with open_world(sqlite_settings, background=False) as world:
        many = Vault(open_ring(world.settings), bucket_bits=3)
        owners = [new_id("mem") for _ in range(60)]
        for owner in owners:
            async with recorded(world.runtime.database) as work:
                await many.make_keys(work, owner, KINDS)
        buckets = await world.fetch("SELECT DISTINCT bucket FROM vault_key")
        assert {row["bucket"] for row in buckets} == set(range(8))
        # Fewer bits later: the stored bucket counts, not the setting of the day.
        for owner in owners:
            assert await opens_after_a_restart(world, owner)


async def test_the_cache_is_bounded(sqlite_settings, monkeypatch):
    monkeypatch.setattr(buckets, "_CACHE_SIZE", 3)
    async with open_world(sqlite_settings, background=False) as world:
        many = Vault(open_ring(world.settings), bucket_bits=4)
        owners = [new_id("mem") for _ in range(40)]
        for owner in owners:
            async with recorded(world.runtime.database) as work:
                await many.make_keys(work, owner, KINDS)
            assert len(many.buckets._held) <= 3
        async with world.runtime.database.read() as session:
            for owner in owners:
                assert set(await many.keys_of(session, owner)) == set(KINDS)


async def test_a_bucket_key_is_forgotten_after_minutes(sqlite_settings, monkeypatch):
    now = 1_000.0
    monkeypatch.setattr(buckets.time, "monotonic", lambda: now)
    async with open_world(sqlite_settings, background=False) as world:
        vault, owner = world.runtime.vault, new_id("mem")
        async with recorded(world.runtime.database) as work:
            await vault.make_keys(work, owner, KINDS)
        await world.execute("DELETE FROM vault_bucket")
        async with world.runtime.database.read() as session:
            assert set(await vault.keys_of(session, owner)) == set(KINDS)
            now += 601
            with pytest.raises(UnreadableError):
                await vault.keys_of(session, owner)
