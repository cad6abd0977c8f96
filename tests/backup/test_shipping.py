"""The ledger on its way to the store: an erasure before it is done, a withdrawal never late."""

import shutil
from pathlib import Path

import pytest

from audit import RightsKind
from backup import Identities, read_ledger, read_shelf
from kernel import UnavailableError
from tests.support.stores import begin, create, kit_of
from tests.support.world import JumpingClock, open_world

pytestmark = pytest.mark.anyio


def take_away(folder, away):
    folder.rename(away)
    folder.write_text("a file where the folder was")


def bring_back(folder, away):
    folder.unlink()
    away.rename(folder)


async def shipped(world, kept):
    shelf = await read_shelf(kept.open())
    identities = Identities.of_kit(kit_of(world.settings))
    return await read_ledger(shelf.store, identities, shelf.vkey, shelf.newest)


async def test_an_erasure_is_in_the_store_before_it_is_done(stored_settings, kept):
    async with open_world(stored_settings, background=False) as world:
        crm = await world.app()
        member = await crm.register(phone="081-234-5678")
        await begin(world, kept)
        await create(world)
        member_id = await world.erase(member)
        ledger = await shipped(world, kept)  # nobody has flushed anything
        assert [e.kind for e in ledger.unplaced] == [RightsKind.ERASURE]
        assert ledger.unplaced[0].subject == world.runtime.rights.tag(member_id)
        await world.runtime.shipping.flush()
        ledger = await shipped(world, kept)
        assert [p.entry.kind for p in ledger.placed] == [RightsKind.ERASURE]
        assert ledger.unplaced == []


async def test_while_the_store_is_gone_nobody_is_erased_and_everybody_may_withdraw(
    sqlite_settings, folder_store
):
    async with open_world(sqlite_settings, background=False) as world:
        crm = await world.app()
        member = await crm.register(phone="081-234-5678", consents={"marketing": "sms"})
        await begin(world, folder_store)
        await create(world)
        folder = Path(folder_store.address[7:])
        away = folder.with_name("away")
        take_away(folder, away)
        with pytest.raises(UnavailableError):
            await world.erase(member)
        assert (await crm.view(member)).status_code == 200
        assert (await crm.withdraw(member, channel="sms")).status_code == 200
        with pytest.raises(UnavailableError):
            await world.runtime.shipping.flush()
        assert (await world.http.get("/readyz")).json()["checks"]["rights_ledger"] != "ok"
        bring_back(folder, away)
        await world.runtime.shipping.flush()
        ledger = await shipped(world, folder_store)
        assert [p.entry.kind for p in ledger.placed] == [RightsKind.WITHDRAWAL]


async def test_an_erasure_that_was_rolled_back_is_voided_and_not_repeated_by_a_restore(
    sqlite_settings, folder_store, restore
):
    clock = JumpingClock()
    async with open_world(sqlite_settings, clock=clock, background=False) as world:
        crm = await world.app()
        member = await crm.register({"given_name": "ชัย"}, phone="081-234-5678")
        await begin(world, folder_store)
        await create(world)
        member_id = await world.member_id(member)
        with pytest.raises(RuntimeError):
            async with world.runtime.database.unit_of_work() as work:
                await world.runtime.members.erase(
                    work, world.operator, member_id, now_us=clock.now_us()
                )
                raise RuntimeError
        assert len((await shipped(world, folder_store)).unplaced) == 1
        copy = Path(folder_store.address[7:]).with_name("copy")
        shutil.copytree(Path(folder_store.address[7:]), copy)
        clock.jump_us = 3_600_000_000
        await world.runtime.shipping.flush()
        assert (await shipped(world, folder_store)).unplaced == []
    _, told = await restore(sqlite_settings, folder_store)
    assert told["erased_again"] == 0
    # Not yet voided, it might have committed: then who asked to be erased is not brought back.
    folder_store.address = f"folder:{copy}"
    _, told = await restore(sqlite_settings, folder_store, name="second")
    assert told["erased_again"] == 1


@pytest.mark.parametrize("target", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def test_one_engine_restores_what_the_other_wrote(stored_settings, kept, restore, target):
    async with open_world(stored_settings) as world:
        crm = await world.app()
        member = await crm.register({"given_name": "ชัย"}, phone="081-234-5678")
        await begin(world, kept)
        await create(world)
    made, _ = await restore(stored_settings, kept, engine=target)
    async with open_world(made) as world:
        again = type(crm)(world, world.http, {"client_id": crm.id, "client_secret": crm.secret})
        await again.sign_in()
        assert (await again.view(member)).json()["data"]["given_name"] == "ชัย"
