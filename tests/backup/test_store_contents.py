"""What lies in a store: nothing in the clear, nothing that opens who was erased, and plain age."""

import asyncio
import shutil
import subprocess
from pathlib import Path

import orjson
import pyrage
import pytest
import zstandard

from backup import Identities, read_newest_ring, read_shelf
from backup.reading import fetch
from tests.support.stores import begin, create, kit_of
from tests.support.world import DAY_US, JumpingClock, open_world

pytestmark = pytest.mark.anyio
CANARIES = 1_000


def files_of(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


async def test_a_thousand_canaries_leave_no_trace_in_the_store(sqlite_settings, folder_store):
    canaries: list[bytes] = []
    async with open_world(folder_store.used_by(sqlite_settings)) as world:
        crm = await world.app()
        await begin(world, folder_store)
        for at in range(CANARIES // 4):
            name, phone, mail = f"Canary{at:04}", f"08{at:08}", f"canary{at:04}@example.com"
            line = f"U{at:032x}"
            member = await crm.register(
                {"given_name": name, "phone": phone, "email": mail, "line_uid": line},
                consents={"marketing": "sms"},
            )
            if at % 50 == 0:
                await crm.withdraw(member, channel="sms")
            canaries += [name.encode(), phone[1:].encode(), mail.encode(), line.encode()]
        await create(world)
    folder = Path(folder_store.address[7:])
    files = files_of(folder)
    assert len(canaries) == CANARIES
    assert len(files) > 20
    for file in files:
        data = file.read_bytes() + file.name.encode()
        assert [canary for canary in canaries if canary in data] == []
        assert b"mem_" not in data
        assert b"sub_" not in data
        if file.suffix == ".age":
            assert data.startswith(b"age-encryption.org/v1\n")


async def test_after_the_next_ring_nothing_in_the_store_opens_who_was_erased(stored_settings, kept):
    clock = JumpingClock()
    async with open_world(stored_settings, clock=clock, background=False) as world:
        crm = await world.app()
        gone = await crm.register(phone="081-234-5678")
        await crm.register(phone="082-345-6789")
        await begin(world, kept)
        await create(world)
        gone_id = await world.erase(gone)
        await create(world)
        identities = Identities.of_kit(kit_of(world.settings))
        store = kept.open()
        shelf = await read_shelf(store)
        ring = await read_newest_ring(shelf, identities)
        held = {(key.owner_id, key.kind) for key in ring.each()}
        assert (gone_id, "ordinary") not in held
        assert any(kind == "ordinary" for _, kind in held)
        old = shelf.manifests[0].ring
        assert await store.size(old[0].name) is not None
        clock.jump_us = 16 * DAY_US
        await create(world)
        for page in old:
            assert await store.size(page.name, page.version) is None
        status = await world.runtime.backups.status()
        assert status["generation"] == 3


async def test_stock_tools_open_an_object(sqlite_settings, folder_store, tmp_path):
    async with open_world(sqlite_settings, background=False) as world:
        await (await world.app()).register(phone="081-234-5678")
        await begin(world, folder_store)
        await create(world)
    shelf = await read_shelf(folder_store.open())
    stored = shelf.newest.tables["member"][0]
    sealed = await fetch(shelf.store, stored)
    kit = kit_of(sqlite_settings)
    age, zstd = shutil.which("age"), shutil.which("zstd")
    if age and zstd:

        def opened() -> bytes:
            decrypt = [age, "--decrypt", "--identity", str(kit)]
            compressed = subprocess.run(decrypt, input=sealed, capture_output=True, check=True)
            unpack = [zstd, "-d", "-c"]
            plain = subprocess.run(unpack, input=compressed.stdout, capture_output=True, check=True)
            return plain.stdout

        plain = await asyncio.to_thread(opened)
    else:
        lines = kit.read_text().splitlines()
        identity = next(line for line in lines if line.startswith("AGE-SECRET-KEY-"))
        opener = [pyrage.x25519.Identity.from_str(identity)]
        plain = zstandard.ZstdDecompressor().decompress(
            pyrage.decrypt(sealed, opener), max_output_size=1 << 24
        )
    header = orjson.loads(plain.split(b"\n", 1)[0])
    assert (header["kind"], header["table"], header["rows"]) == ("rows", "member", 1)


async def test_an_unchanged_chunk_is_stored_once(sqlite_settings, folder_store):
    async with open_world(sqlite_settings, background=False) as world:
        await (await world.app()).register(phone="081-234-5678")
        await begin(world, folder_store)
        first = await create(world)
        second = await create(world)
    assert second["generation"] == 2
    assert second["written_objects"] < first["written_objects"] / 2


async def test_a_store_beside_the_keys_is_refused(sqlite_settings, folder_store):
    async with open_world(sqlite_settings, background=False) as world:
        for place in (world.settings.data_dir / "store", world.settings.data_dir.parent):
            folder_store.address = f"folder:{place}"
            with pytest.raises(Exception, match="in or around the folder of data and keys"):
                await begin(world, folder_store)
        assert (await world.runtime.backups.status())["configured"] is False


async def test_a_store_of_another_registry_is_refused(sqlite_settings, folder_store, tmp_path):
    async with open_world(sqlite_settings, background=False) as world:
        await begin(world, folder_store)
        file = Path(folder_store.address[7:]) / "format.json"
        file.write_text(file.read_text().replace("backup.ring", "backup.gnir"))
        with pytest.raises(Exception, match="another signing key"):
            await begin(world, folder_store)
