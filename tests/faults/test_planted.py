"""Planted values and the very keys they lie under are then looked for in all that is on disk.

Plaintexts bear a mark that no file holds by chance; keys are caught at the moment they are
wrapped. Searched are the data directory, the write-ahead log, the heap, a dump, the server's own
log and ours. There is no core to search: none is written (tests/service/test_shield.py).
"""

import base64
import contextlib
import os
import sqlite3
import subprocess

import pytest

from tests.support.canaries import spellings, watched_log
from tests.support.world import open_world
from vault import keyring, service
from vault.buckets import BucketKeys

pytestmark = pytest.mark.anyio

MARK = "zq9planted"
FEW, MANY = 20, 200  # members of five values each


def silent(_done, _total):
    return None


def values_of(at):
    """Five values of one member, each with the mark as it is kept."""
    token = os.urandom(6).hex()
    return {
        "given_name": f"{MARK}{token}",
        "family_name": f"{MARK} ใจดี {token}",
        "address": f"99/{at} {MARK} {token} road",
        "notes": f"likes {MARK} {token}",
        "email": f"{MARK}.{token}@example.com",
    }


@pytest.fixture
def caught(monkeypatch):
    """Every key that is wrapped from now on, by the vault or by the ring."""
    keys = set()

    def catching(genuine, at):
        def wrap(*arguments):
            keys.add(bytes(arguments[at]))
            return genuine(*arguments)

        return wrap

    monkeypatch.setattr(service, "wrap", catching(service.wrap, 1))
    monkeypatch.setattr(keyring, "wrap", catching(keyring.wrap, 1))
    genuine = BucketKeys.unwrap

    def unwrap(buckets, *arguments):
        key = genuine(buckets, *arguments)
        keys.add(bytes(key))
        return key

    monkeypatch.setattr(BucketKeys, "unwrap", unwrap)
    return keys


def left_on_disk(world, server):
    """Everything a thief of the disk finds, by name."""
    settings = world.settings
    for file in sorted(settings.data_dir.rglob("*")):
        if file.is_file() and settings.keys_dir not in file.parents:
            yield f"data directory: {file.name}", file.read_bytes()
    if not settings.on_postgres:
        with contextlib.closing(sqlite3.connect(settings.database_file)) as connection:
            yield "dump", "\n".join(connection.iterdump()).encode()
        return
    database = settings.database.url.rpartition("/")[2]
    server.run_sql("CHECKPOINT")
    oid = server.run_sql(f"SELECT oid FROM pg_database WHERE datname = '{database}'")
    data = server.folder / "data"
    for file in [*(data / "base" / oid).iterdir(), *(data / "pg_wal").iterdir()]:
        if file.is_file():
            yield f"{file.parent.name}: {file.name}", file.read_bytes()
    yield "server's log", (server.folder / "server.log").read_bytes()
    dump = subprocess.run(
        [server.binaries / "pg_dump", settings.database.url], check=True, capture_output=True
    )
    yield "dump", dump.stdout


def needles_of(keys):
    for key in keys:
        yield key
        yield key.hex().encode()
        yield key.hex().upper().encode()
        yield base64.b64encode(key)[:40]


def marks():
    return [spelling for mark in (MARK, MARK.upper()) for spelling in spellings(mark)]


async def live(world, count):
    """Register, change, read and erase so many members, and replace every key above theirs."""
    crm = await world.app()
    for at in range(count):
        phone = f"08{10_000_000 + at}"
        member = await crm.register(values_of(at), phone=phone)
        if at % 4 == 0:
            changed = {"fields": {"notes": f"{MARK} {os.urandom(6).hex()}"}}
            answer = await crm.request("PATCH", f"/v1/members/{member.id}", json=changed)
            assert answer.status_code == 200, answer.text
        if at % 5 == 0:
            assert (await crm.view(member)).status_code == 200
        if at % 10 == 0:
            await world.erase(member)
    keys = world.runtime.keys
    await keys.rotations.rotate_ring(silent)
    await keys.rotations.rewrap(silent)
    await world.runtime.sequencer.drain()
    world.edge.flush_log()


async def hunt(settings, request, caught, count):
    server = request.getfixturevalue("postgres_server") if settings.on_postgres else None
    with watched_log() as log:
        async with open_world(settings) as world:
            await live(world, count)
            ring = world.runtime.vault.buckets.ring
            keys = caught | set(ring.secrets().values())
            haystacks = {**dict(left_on_disk(world, server)), "our log": log.getvalue()}
    assert len(keys) >= 2 * count + 8
    assert all(len(key) == 32 for key in keys)
    assert sum(map(len, haystacks.values())) > 1_000_000
    found = {
        name: sorted(needle[:40] for needle in [*marks(), *needles_of(keys)] if needle in data)
        for name, data in haystacks.items()
    }
    return {name: hits for name, hits in found.items() if hits}


def test_the_hunt_finds_what_is_planted():
    key = os.urandom(32)
    noise = os.urandom(4_096)
    for planted in needles_of({key}):
        assert any(needle in noise + planted + noise for needle in needles_of({key}))
    for planted in (MARK, MARK.upper()):
        for written in (planted.encode(), planted.encode().hex().encode()):
            assert any(needle in noise + written for needle in marks())
    assert not any(needle in noise for needle in [*marks(), *needles_of({key})])


@pytest.mark.slow
async def test_planted_values_and_their_keys_are_found_nowhere(settings, request, caught):
    assert await hunt(settings, request, caught, FEW) == {}


@pytest.mark.long
async def test_a_thousand_planted_values_and_their_keys_are_found_nowhere(
    settings, request, caught
):
    assert await hunt(settings, request, caught, MANY) == {}
