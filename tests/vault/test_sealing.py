"""Seal: after it no copy of an erased member's key opens, and every living one still does."""

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kernel import ConfigurationError, UnavailableError, new_id
from service.kms import key_provider, open_ring
from service.rotations import key_steps
from tests.support.world import open_world, recorded
from vault import (
    ORDINARY,
    PSEUDONYM,
    KeyRingError,
    RingFolder,
    UnreadableError,
    Vault,
    identities_of,
    open_key_ring,
)
from vault import rotation_log as log
from vault import rotation_repository as repository
from vault.contexts import bucket_context, key_context
from vault.rewrapping import Rewrapping
from vault.rotation import RingRoots

pytestmark = pytest.mark.anyio

KINDS = (ORDINARY, PSEUDONYM)
SHORT, LONG = 50, 1_000
STAYING = 20
BITS = 4


def silent(_done, _total):
    """Nobody looks."""


def many(world):
    return Vault(world.runtime.vault.buckets.ring, bucket_bits=BITS)


async def make_owners(world, count):
    owners = [new_id("mem") for _ in range(count)]
    vault = many(world)
    for at in range(0, count, 50):
        async with recorded(world.runtime.database) as work:
            for owner in owners[at : at + 50]:
                await vault.make_keys(work, owner, KINDS)
    return owners


async def erase(world, owners):
    for at in range(0, len(owners), 50):
        async with recorded(world.runtime.database) as work:
            for owner in owners[at : at + 50]:
                await world.runtime.vault.erase(work, owner, keep={})


async def opens(world, owner):
    vault = Vault(open_ring(world.settings))
    async with world.runtime.database.read() as session:
        return set(await vault.keys_of(session, owner))


async def key_rows(world):
    return await world.fetch("SELECT * FROM vault_key")


class Thief:
    """Has every byte that ever was on the disk of the database, and the keys that live now.

    For each key that was destroyed he looks for its wrapped bytes in what he has, and tries every
    bucket key he can open: the living rows, and the copies of old rows, under every root of every
    copy of the key ring file that he ever made.
    """

    def __init__(self, world, rows, buckets, ring_files):
        self._world = world
        self._rows = rows
        self._buckets = buckets
        self._ring_files = ring_files

    async def openable(self, haystacks):
        """Count the owners one of whose keys he opens."""
        living = await self._world.fetch("SELECT * FROM vault_bucket")
        kept = [*living, *(row for row in self._buckets if _lies_in(haystacks, row["wrapped"]))]
        ciphers = list(self._ciphers(kept))
        opened = set()
        for row in self._rows:
            if not _lies_in(haystacks, row["wrapped"]):
                continue
            place = key_context(
                "main",
                row["owner_id"],
                row["kind"],
                row["version"],
                row["bucket"],
                row["bucket_version"],
            )
            wrapped = bytes(row["wrapped"])
            for cipher in ciphers:
                try:
                    cipher.decrypt(wrapped[:12], wrapped[12:], place)
                except InvalidTag:
                    continue
                opened.add(row["owner_id"])
        return len(opened)

    def _ciphers(self, rows):
        for ring in self._rings():
            for row in rows:
                context = bucket_context(ring.tenant, row["bucket"], row["version"])
                try:
                    key = ring.unwrap(row["ring_version"], bytes(row["wrapped"]), context)
                except UnreadableError:
                    continue
                yield AESGCM(key)

    def _rings(self):
        settings = self._world.settings
        yield open_ring(settings)
        for file in self._ring_files:
            try:
                yield open_key_ring(file, key_provider(settings.kms, settings.keys_dir))
            except KeyRingError:
                continue


def _lies_in(haystacks, needle):
    needle = bytes(needle)
    return any(needle in hay or needle.hex().encode() in hay for hay in haystacks)


async def everything_on_disk(world, server, dump):
    """Heap, write-ahead log and a dump made before the erasure, as bytes."""
    settings = world.settings
    if not settings.on_postgres:
        return [file.read_bytes() for file in settings.data_dir.glob("registry.db*")] + [dump]
    server.run_sql("CHECKPOINT")
    data = server.folder / "data"
    oid = (await world.fetch("SELECT oid FROM pg_database WHERE datname = current_database()"))[0][
        "oid"
    ]
    files = [
        *(data / "base" / str(oid)).iterdir(),
        *(file for file in (data / "pg_wal").iterdir() if file.is_file()),
    ]
    return [file.read_bytes() for file in files] + [dump]


async def dumped(world, server):
    settings = world.settings
    if not settings.on_postgres:
        return settings.database_file.read_bytes() + b"".join(
            file.read_bytes() for file in settings.data_dir.glob("registry.db-wal")
        )
    url = settings.database.url
    command = [str(server.binaries / "pg_dump"), "--data-only", "-t", "vault_*", url]
    dumping = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    return dumping.stdout


async def stolen(world, server, count, tmp_path):
    """Erase owners from whose every byte a thief had a copy."""
    owners = await make_owners(world, count + STAYING)
    gone, staying = owners[:count], owners[count:]
    rows = [row for row in await key_rows(world) if row["owner_id"] in set(gone)]
    buckets = await world.fetch("SELECT * FROM vault_bucket")
    dump = await dumped(world, server)
    copy = tmp_path / "stolen"
    copy.mkdir(mode=0o700)
    ring = shutil.copy2(world.settings.keys_dir / "key-ring.json", copy)
    await erase(world, gone)
    return Thief(world, rows, buckets, [Path(ring)]), dump, gone, staying


@pytest.fixture
def server(request, world):
    return request.getfixturevalue("postgres_server") if world.settings.on_postgres else None


async def no_copy_opens(world, server, count, tmp_path):
    thief, dump, gone, staying = await stolen(world, server, count, tmp_path)
    before = await thief.openable(await everything_on_disk(world, server, dump))
    assert before == count, "without a seal the thief finds them: this test can fail"
    done = await world.runtime.keys.sealing.run(silent)
    assert await thief.openable(await everything_on_disk(world, server, dump)) == 0
    for owner in staying:
        assert await opens(world, owner) == set(KINDS)
    for owner in gone[:5]:
        assert await opens(world, owner) == set()
    return done, thief


async def test_after_a_seal_no_copy_of_an_erased_members_key_opens(world, server, tmp_path):
    done, _thief = await no_copy_opens(world, server, SHORT, tmp_path)
    touched = {r["bucket"] for r in await world.fetch("SELECT bucket FROM vault_bucket")}
    assert done.erasures == SHORT * len(KINDS)
    assert 0 < done.buckets <= len(touched)
    assert list(done.destroyed_roots) == [1]
    (event,) = await world.events("vault.seal")
    assert event["count"] == done.erasures
    assert event["resource"] == "ring-root:1-1"
    assert event["reason"] == f"buckets:{done.buckets}"


@pytest.mark.long
@pytest.mark.timeout(1_200)
async def test_after_a_seal_none_of_a_thousand_erased_members_opens(world, server, tmp_path):
    await no_copy_opens(world, server, LONG, tmp_path)


async def test_a_rotation_alone_does_not_seal(world, server, tmp_path):
    """The thief kept the old rows, and the bucket keys above them live: only a seal ends that."""
    thief, dump, _gone, _staying = await stolen(world, server, 5, tmp_path)
    await world.runtime.keys.rotations.rotate_ring(silent)
    assert await thief.openable(await everything_on_disk(world, server, dump)) == 5


async def test_a_stolen_key_ring_file_opens_nothing_after_a_seal(world, server, tmp_path):
    _done, thief = await no_copy_opens(world, server, 3, tmp_path)
    (file,) = thief._ring_files
    with pytest.raises(KeyRingError):
        open_key_ring(file, key_provider(world.settings.kms, world.settings.keys_dir))


async def test_what_was_destroyed_after_a_rewrap_began_is_sealed_too(world, server, tmp_path):
    """The bucket had its new key from the rewrap when the member was erased."""
    owners = await make_owners(world, 6)
    async with recorded(world.runtime.database) as work:
        await log.begin(work, log.REWRAP, now_us=1)
        await repository.want_all(work)
    genuine = Rewrapping._move
    runtime = world.runtime
    rewrapping = Rewrapping(runtime.database, runtime.vault.buckets, key_steps(runtime.audit))
    async with world.runtime.database.read() as session:
        todo = await repository.wanted(session)
    async with recorded(world.runtime.database) as work:
        newest = await rewrapping._hold(work, todo)
        await world.runtime.vault.buckets.make(work, dict.fromkeys(newest, 2))
    await genuine(rewrapping, todo, lambda _keys: None)
    rows = await key_rows(world)
    assert {row["bucket_version"] for row in rows} == {2}
    buckets = await world.fetch("SELECT * FROM vault_bucket")
    dump = await dumped(world, server)
    await erase(world, owners[:3])
    await world.runtime.keys.sealing.run(silent)
    gone = [row for row in rows if row["owner_id"] in set(owners[:3])]
    thief = Thief(world, gone, buckets, [])
    assert await thief.openable(await everything_on_disk(world, server, dump)) == 0
    for owner in owners[3:]:
        assert await opens(world, owner) == set(KINDS)


async def test_a_seal_touches_only_buckets_from_which_a_key_was_destroyed(world):
    owners = await make_owners(world, 40)
    bucket = {r["owner_id"]: r["bucket"] for r in await key_rows(world)}
    await erase(world, owners[:1])
    await world.runtime.keys.sealing.run(silent)
    versions = {r["bucket"]: r["version"] for r in await world.fetch("SELECT * FROM vault_bucket")}
    assert {b for b, version in versions.items() if version > 1} == {bucket[owners[0]]}


async def test_nothing_destroyed_is_nothing_to_seal(world):
    owners = await make_owners(world, 3)
    assert await world.runtime.keys.sealing.run(silent) is None
    await erase(world, owners[:1])
    assert await world.runtime.keys.sealing.run(silent) is not None
    assert await world.runtime.keys.sealing.run(silent) is None
    assert world.runtime.vault.ring_version == 2
    assert len(await world.events("vault.seal")) == 1


async def test_a_key_whose_retention_ended_is_sealed_as_well(world):
    owners = await make_owners(world, 3)
    async with recorded(world.runtime.database) as work:
        await world.runtime.vault.erase(work, owners[0], keep={PSEUDONYM: 1, ORDINARY: 1})
    assert await world.runtime.keys.sealing.run(silent) is None
    await world.runtime.housekeeping.sweep()
    done = await world.runtime.keys.sealing.run(silent)
    assert done.erasures >= 1


async def test_the_ring_backup_after_a_seal_opens_with_the_kit_and_knows_nobody_erased(world):
    owners = await make_owners(world, 4)
    await erase(world, owners[:1])
    await world.runtime.keys.sealing.run(silent)
    folder = RingFolder(world.settings.keys_dir / "ring-backup")
    kit = identities_of(world.settings.data_dir / "recovery-kit.txt")
    ring = folder.open(folder.newest(), kit)
    assert ring.id == world.runtime.vault.ring_id
    assert {key.owner_id for key in ring.each()} == set(owners[1:])


async def test_without_a_kit_nothing_is_destroyed(world):
    owners = await make_owners(world, 4)
    await erase(world, owners[:1])
    (world.settings.keys_dir / "recovery-kits.json").unlink()
    with pytest.raises(ConfigurationError, match="no recovery kit"):
        await world.runtime.keys.sealing.run(silent)
    assert 1 in open_ring(world.settings).versions
    for owner in owners[1:]:
        assert await opens(world, owner) == set(KINDS)


async def test_a_backup_that_does_not_read_back_destroys_nothing(world, monkeypatch):
    owners = await make_owners(world, 4)
    await erase(world, owners[:1])
    folder = world.runtime.ring_backups._folder
    write = folder.write
    monkeypatch.setattr(folder, "write", lambda file, sealed: write(file, sealed[:-1]))
    sealing = world.runtime.keys.sealing
    with pytest.raises(KeyRingError, match="does not open"):
        await sealing.run(silent)
    assert 1 in open_ring(world.settings).versions
    monkeypatch.undo()
    assert await sealing.run(silent) is not None
    assert open_ring(world.settings).versions == (2,)


STEPS = ("add_for", "run", "move_everything", "refresh", "drop", "seal_outer", "end")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_seal_cut_short_anywhere_is_gone_on_with(world, server, monkeypatch, step, when):
    """As a crash would, but in one process; the kills are in tests/faults."""
    owners = await make_owners(world, 10)
    gone, staying = owners[:4], owners[4:]
    rows = [row for row in await key_rows(world) if row["owner_id"] in set(gone)]
    buckets = await world.fetch("SELECT * FROM vault_bucket")
    dump = await dumped(world, server)
    await erase(world, gone)
    sealing = world.runtime.keys.sealing
    place, name = {
        "add_for": (RingRoots, "add_for"),
        "run": (Rewrapping, "run"),
        "move_everything": (RingRoots, "move_everything"),
        "refresh": (type(sealing._keeping), "refresh"),
        "drop": (RingRoots, "drop"),
        "seal_outer": (type(world.runtime.vault.buckets.ring), "seal_outer"),
        "end": (log, "end"),
    }[step]
    genuine = getattr(place, name)

    async def cut(*arguments, **named):
        if when == "after":
            await genuine(*arguments, **named)
        raise UnavailableError("the power went")

    def cut_at_once(*arguments):
        if when == "after":
            genuine(*arguments)
        raise UnavailableError("the power went")

    monkeypatch.setattr(place, name, cut_at_once if step == "seal_outer" else cut)
    with pytest.raises(UnavailableError):
        await sealing.run(silent)
    for owner in staying:
        assert await opens(world, owner) == set(KINDS)
    monkeypatch.undo()
    done = await sealing.run(silent)
    assert done.erasures == 8
    assert open_ring(world.settings).versions == (2,)
    for owner in staying:
        assert await opens(world, owner) == set(KINDS)
    thief = Thief(world, rows, buckets, [])
    assert await thief.openable(await everything_on_disk(world, server, dump)) == 0
    assert len(await world.events("vault.seal")) == 1


async def test_the_nightly_seal_waits_for_its_hour(world):
    keys = world.runtime.keys
    owners = await make_owners(world, 3)
    await erase(world, owners[:1])
    keys._every_us = 0
    assert await keys.seal_when_due() is None
    keys._every_us = 3_600_000_000
    assert await keys.seal_when_due() is not None
    await erase(world, owners[1:2])
    assert await keys.seal_when_due() is None


async def test_another_process_reads_through_a_seal(postgres_settings):
    async with (
        open_world(postgres_settings) as world,
        open_world(postgres_settings, background=False) as other,
    ):
        crm = await world.app()
        there = crm.through(other)
        member, gone = await crm.register(phone="081-234-5678"), await crm.register()
        await world.erase(gone)
        assert (await there.view(member)).status_code == 200
        await world.runtime.keys.sealing.run(silent)
        assert (await there.view(member)).status_code == 200
        assert (await there.view(gone)).status_code == 404
        new = await there.register(given_name="ใหม่")
        assert (await crm.view(new)).status_code == 200
