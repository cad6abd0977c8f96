"""A store that attacks: it cuts short, exchanges, hides and invents. None of it gets through."""

from pathlib import Path

import pytest

from backup import Chosen, FolderStore, Identities, read_shelf
from backup.errors import BackupError
from backup.reading import check_hashes, check_presence
from service.backups import SqliteStaging
from service.restores import _restore
from tests.support.stores import begin, create, kit_of
from tests.support.world import open_world

pytestmark = pytest.mark.anyio


class Liar(FolderStore):
    """Answers like a store, and lies about one kind of thing."""

    def __init__(self, root: Path, lie: str) -> None:
        super().__init__(root)
        self._lie = lie

    async def get(self, name, version=None):
        data = await super().get(name, version)
        if self._lie == "cuts chunks short" and name.startswith("c/"):
            return data[:-40]
        if self._lie == "gives one chunk for all" and name.startswith("c/"):
            return await super().get((await super().names("c/"))[0])
        if self._lie == "gives an old ring" and name.startswith("keys/00000002/"):
            old = await super().names("keys/00000001/")
            return await super().get(old[int(name.split("/")[2][:4])])
        if self._lie == "gives an old manifest" and name == "m/00000002.json":
            return await super().get("m/00000001.json")
        if self._lie == "gives one ledger object twice" and name == "ledger/00000002.age":
            return await super().get("ledger/00000001.age")
        return data

    async def size(self, name, version=None):
        if self._lie == "denies a chunk" and name.startswith("c/"):
            return None
        return await super().size(name, version)


LIES = (
    "cuts chunks short",
    "gives one chunk for all",
    "gives an old ring",
    "gives an old manifest",
    "gives one ledger object twice",
    "denies a chunk",
)


@pytest.fixture
async def filled(sqlite_settings, folder_store):
    async with open_world(sqlite_settings, background=False) as world:
        crm = await world.app()
        member = await crm.register(phone="081-234-5678", consents={"marketing": "sms"})
        await begin(world, folder_store)
        await create(world)
        for _ in range(2):
            await crm.withdraw(member, channel="sms")
            await world.runtime.shipping.flush()
        await crm.register(phone="082-345-6789")
        await create(world)
    return sqlite_settings, Path(folder_store.address[7:])


@pytest.mark.parametrize("lie", LIES)
async def test_no_lie_gets_into_a_restored_registry(filled, tmp_path, lie):
    settings, folder = filled
    target = tmp_path / "restored"

    async def believe():
        shelf = await read_shelf(Liar(folder, lie))
        chosen = Chosen(shelf, shelf.newest, Identities.of_kit(kit_of(settings)))
        await _restore(settings, chosen).run(SqliteStaging(settings, target, 0), lambda *_: None)

    with pytest.raises(BackupError):
        await believe()
    assert not target.exists()


async def test_a_stale_list_hides_no_generation(filled):
    _, folder = filled

    class Stale(FolderStore):
        async def names(self, prefix):
            return (await super().names(prefix))[:1]

    shelf = await read_shelf(Stale(folder))
    assert shelf.newest.generation == 2
    await check_presence(shelf, shelf.newest, lambda *_: None)
    await check_hashes(shelf, shelf.newest, lambda *_: None)
