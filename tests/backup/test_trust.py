"""Whom a restore believes: never the store about itself, and never what is not its format."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from backup import FolderStore, UnknownSignerError, read_shelf
from backup.errors import MissingObjectError, OtherSchemaError
from backup.manifest import manifest_name, write_manifest
from kernel import ConfigurationError
from service.backups import SqliteStaging, pinned_key
from service.files import KEY_RING_FILE, KMS_ROOT_FILE
from service.restores import drill_backup, list_backups, plan_restore, verify_backup
from tests.support.stores import begin, create, kit_of
from tests.support.world import open_world

pytestmark = pytest.mark.anyio


def quiet(_done, _total):
    return None


@pytest.fixture
async def filled(sqlite_settings, folder_store):
    """A registry with one backup; gives settings, store folder and signer."""
    async with open_world(sqlite_settings, background=False) as world:
        crm = await world.app()
        await crm.register(phone="081-234-5678", consents={"marketing": "sms"})
        await begin(world, folder_store)
        await create(world)
        signer = world.runtime.backups._places.signer
    return sqlite_settings, Path(folder_store.address[7:]), signer


@pytest.fixture
def old_kit(filled, tmp_path):
    """A kit that opens the backups and does not say whose signature they bear."""
    settings, _, _ = filled
    kit = tmp_path / "old-kit.txt"
    lines = kit_of(settings).read_text().splitlines(keepends=True)
    kit.write_text("".join(line for line in lines if "Backup key" not in line))
    return kit


async def test_a_store_that_names_its_own_key_is_not_believed(
    filled, folder_store, restore, old_kit, tmp_path
):
    settings, _, signer = filled
    told = {"generation": None, "kit": old_kit, "progress": quiet}
    with pytest.raises(UnknownSignerError):
        await restore(settings, folder_store, kit=old_kit)
    with pytest.raises(UnknownSignerError):
        await plan_restore(settings, folder_store.address, allow_older=False, signer=None, **told)
    with pytest.raises(UnknownSignerError):
        await drill_backup(settings, folder_store.address, kit=old_kit, signer=None, progress=quiet)
    for level in (0, 1, 2):
        with pytest.raises(UnknownSignerError):
            await verify_backup(settings, folder_store.address, level=level, signer=None, **told)
    assert not (tmp_path / "restored").exists()
    listed = await list_backups(settings, folder_store.address, old_kit, None)
    assert listed["trusted"] is False
    listed = await list_backups(settings, folder_store.address, kit_of(settings), None)
    assert listed["trusted"] is True
    _, restored = await restore(settings, folder_store, kit=old_kit, signer=signer.vkey)
    assert restored["generation"] == 1


@pytest.mark.parametrize("schema", ["0000", "0001", "9999"])
async def test_a_backup_of_another_schema_is_refused_before_anything_is_made(
    filled, folder_store, restore, tmp_path, schema
):
    settings, folder, signer = filled
    shelf = await read_shelf(folder_store.open(), signer.vkey)
    other = write_manifest(replace(shelf.newest, schema=schema), signer)
    (folder / manifest_name(1)).write_bytes(other)
    with pytest.raises(OtherSchemaError, match=f"is of schema {schema}") as raised:
        await restore(settings, folder_store)
    assert raised.value.exit_code == 15
    with pytest.raises(OtherSchemaError):
        await plan_restore(
            settings,
            folder_store.address,
            generation=None,
            allow_older=False,
            kit=kit_of(settings),
            signer=None,
            progress=quiet,
        )
    assert not list(tmp_path.glob("*restor*"))


async def test_a_store_that_ends_before_the_registry_remembers_does_not_verify(
    filled, folder_store
):
    settings, _, signer = filled
    with pytest.raises(MissingObjectError, match="lost generation 2"):
        await verify_backup(
            settings,
            folder_store.address,
            level=0,
            generation=None,
            kit=None,
            signer=signer.vkey,
            progress=quiet,
            known=2,
        )


async def test_a_registry_may_move_to_another_store(filled, folder_store, tmp_path):
    settings, folder, _ = filled
    second = replace(folder_store, address=f"folder:{tmp_path / 'second'}")
    async with open_world(settings, background=False) as world:
        await begin(world, second)
        assert (await world.runtime.backups.status())["generation"] is None
        assert (await create(world))["generation"] == 1
        await begin(world, folder_store)
        assert (await create(world))["generation"] == 2
    assert (folder / manifest_name(2)).is_file()


async def test_no_manifest_names_an_entry_of_the_ledger_that_is_not_in_the_store(
    filled, folder_store, restore
):
    settings, _, _ = filled

    class Busy(FolderStore):
        """Somebody withdraws, and is chained, after the ledger was shipped for this backup."""

        async def get(self, name, version=None):
            if name == "format.json":
                await crm.withdraw(member, channel="sms")
                async with world.runtime.database.unit_of_work() as work:
                    await world.runtime.rights.place_waiting(work)
            return await super().get(name, version)

    async with open_world(settings, background=False) as world:
        crm = await world.app("till")
        member = await crm.register(phone="082-345-6789", consents={"marketing": "sms"})
        places = world.runtime.backups._places
        async with world.runtime.database.read() as session:
            place = await places.current(session)
        busy = Busy(Path(folder_store.address[7:]))
        places._known = replace(place, store=busy)
        made = await create(world)
        assert made["rights_position"] == 1
        shelf = await read_shelf(folder_store.open())
        assert shelf.newest.rights_objects == 1


async def test_a_draft_that_a_killed_writer_left_goes(tmp_path):
    folder = tmp_path / "store"
    folder.mkdir()
    store = FolderStore(folder)
    await store.put("keys/one", b"sealed")
    left, fresh = (folder / ".drafts" / name for name in ("drf_left", "drf_fresh"))
    for file in (left, fresh):
        file.write_bytes(b"a sealed page of a ring")
    long_ago = fresh.stat().st_mtime - 7_200
    os.utime(left, (long_ago, long_ago))
    await store.put("keys/two", b"sealed")
    assert not left.exists()
    assert fresh.exists()


async def test_a_drill_that_was_killed_leaves_no_key_that_opens_anything(
    filled, folder_store, tmp_path, monkeypatch
):
    settings, _, _ = filled
    left = tmp_path / "temporary"
    left.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(left))
    monkeypatch.setattr("service.restores.shutil.rmtree", lambda *_, **__: None)
    drilled = await drill_backup(
        settings, folder_store.address, kit=kit_of(settings), signer=None, progress=quiet
    )
    assert drilled["ok"]
    names = {file.name for file in left.rglob("*") if file.is_file()}
    assert KEY_RING_FILE in names
    assert KMS_ROOT_FILE not in names


async def test_a_link_where_the_draft_would_be_is_not_followed(tmp_path, sqlite_settings):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "mine").write_text("mine")
    (tmp_path / ".restored.restoring").symlink_to(precious)
    with pytest.raises(ConfigurationError):
        await SqliteStaging(sqlite_settings, tmp_path / "restored", 0).make()
    assert (precious / "mine").read_text() == "mine"


def test_the_kit_of_an_installation_names_the_key(sqlite_settings):
    assert pinned_key(kit_of(sqlite_settings)).startswith("backup.ring_")
