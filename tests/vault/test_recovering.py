"""The KMS root is lost: kit, newest ring backup and live database bring the members back."""

import contextlib

import pytest

import service.recovering
from audit import RightsKind
from kernel import ConfigurationError, UnavailableError
from service.kms import open_ring
from service.recovering import recover
from service.vault_commands import vault_verify
from tests.support.stores import begin, create
from tests.support.world import App, open_world, recorded
from vault import KeyRingError, RingFolder, identities_of, write_recovery_kit
from vault.recovering import Recovering
from vault.ring_backups import RingBackups

pytestmark = pytest.mark.anyio


def quiet(_done: int, _total: int) -> None:
    """No bar in a test."""


def kit_of(settings):
    return settings.data_dir / "recovery-kit.txt"


def lose_the_root(settings):
    (settings.keys_dir / "kms-root").unlink()


async def recovered(settings, **options):
    options = {"ring_folder_at": None, "accept_loss": False, "progress": quiet, **options}
    return await recover(settings, options.pop("kit", kit_of(settings)), **options)


async def again(world, crm: App) -> App:
    app = App(world, world.http, {"client_id": crm.id, "client_secret": crm.secret})
    await app.sign_in()
    return app


async def three(settings, background=True):
    """A registry with a member, one who is erased, and one who is in the added pages only."""
    async with open_world(settings) as world:
        crm = await world.app()
        kept = await crm.register({"given_name": "สมหญิง"}, consents={"marketing": "sms"})
        erased = await crm.register(phone="081-555-0001")
        await world.runtime.ring_backups.refresh()
        late = await crm.register({"given_name": "สมชาย", "phone": "081-555-0002"})
        await world.runtime.ring_backups.append()
        erased_id = await world.erase(erased)
    return crm, kept, late, erased_id


async def keys_of(world, member_id):
    rows = await world.fetch("SELECT kind FROM vault_key WHERE owner_id = :id", id=member_id)
    return {row["kind"] for row in rows}


async def test_members_are_back_and_the_erased_are_not(settings):
    crm, kept, late, erased_id = await three(settings)
    lose_the_root(settings)
    with pytest.raises(KeyRingError):
        open_ring(settings)
    answer = await recovered(settings)
    assert (answer["lost"], answer["ring_version"]) == (0, 2)
    async with open_world(settings) as world:
        app = await again(world, crm)
        for member, name in ((kept, "สมหญิง"), (late, "สมชาย")):
            seen = await app.view(member)
            assert seen.status_code == 200, seen.text
            assert seen.json()["data"]["given_name"] == name
        assert "ordinary" not in await keys_of(world, erased_id)
        # The index key came back with the secrets: who registers again is found to be known.
        twin = await app.register(phone="081-555-0002")
        assert [one["id"] for one in twin.answer["duplicates"]] == [late.id]
        assert (await vault_verify(world.runtime, quiet))["ok"]


async def test_the_log_goes_on_under_the_same_key_and_says_what_happened(settings):
    await three(settings)
    async with open_world(settings) as world:
        vkey = world.runtime.audit.vkey
        before = len(await world.events())
    lose_the_root(settings)
    answer = await recovered(settings)
    assert answer["vkey"] == vkey
    async with open_world(settings) as world:
        (event,) = await world.events("vault.recover")
        assert event["count"] == answer["keys"]
        assert len(await world.events()) > before
        await world.runtime.sequencer.drain()
        assert (await vault_verify(world.runtime, quiet))["log_ok"]


async def test_a_member_erased_after_the_newest_ring_backup_stays_erased(settings):
    async with open_world(settings) as world:
        crm = await world.app()
        member = await crm.register()
        await world.runtime.ring_backups.refresh()
        member_id = await world.erase(member)
    lose_the_root(settings)
    await recovered(settings)
    async with open_world(settings) as world:
        assert "ordinary" not in await keys_of(world, member_id)


async def test_a_row_that_somebody_put_back_for_an_erased_member_brings_nobody_back(settings):
    async with open_world(settings) as world:
        crm = await world.app()
        member = await crm.register()
        await world.runtime.ring_backups.refresh()
        member_id = await world.member_id(member)
        (row,) = await world.fetch(
            "SELECT * FROM vault_key WHERE owner_id = :id AND kind = 'ordinary'", id=member_id
        )
        await world.erase(member)
        letters = dict(zip("abcdefghij", row.values(), strict=False))
        places = ", ".join(f":{letter}" for letter in letters)
        await world.execute(
            f"INSERT INTO vault_key ({', '.join(row)}) VALUES ({places})", **letters
        )
    lose_the_root(settings)
    answer = await recovered(settings)
    assert answer["erased"] == 1
    async with open_world(settings) as world:
        assert "ordinary" not in await keys_of(world, member_id)


async def test_who_is_in_no_ring_backup_is_lost_only_when_somebody_says_so(settings):
    async with open_world(settings) as world:
        crm = await world.app()
        kept = await crm.register()
        await world.runtime.ring_backups.refresh()
        await world.rest()
        lost = await crm.register(phone="081-555-0001")
        lost_id = await world.member_id(lost)
    lose_the_root(settings)
    with pytest.raises(ConfigurationError, match="1 members") as caught:
        await recovered(settings)
    assert "--accept-loss" in caught.value.remedy
    answer = await recovered(settings, accept_loss=True)
    assert answer["members_lost"] == 1
    async with open_world(settings) as world:
        app = await again(world, crm)
        assert (await app.view(kept)).status_code == 200
        assert await keys_of(world, lost_id) == set()
        named = (await vault_verify(world.runtime, quiet))["named"]
        assert [(one["member"], one["finding"]) for one in named] == [(lost_id, "key_gone")]


async def test_a_registry_that_opens_is_not_recovered(sqlite_settings):
    await three(sqlite_settings)
    with pytest.raises(ConfigurationError, match="nothing to recover"):
        await recovered(sqlite_settings)


async def test_another_kit_changes_nothing(sqlite_settings, tmp_path):
    await three(sqlite_settings)
    lose_the_root(sqlite_settings)
    other = tmp_path / "other.txt"
    write_recovery_kit(other, "main", "ring_x")
    with pytest.raises(KeyRingError, match="does not open"):
        await recovered(sqlite_settings, kit=other)
    assert not (sqlite_settings.keys_dir / "recovering").exists()


async def test_a_running_server_is_not_recovered_under_its_feet(sqlite_settings):
    async with open_world(sqlite_settings):
        with pytest.raises(ConfigurationError, match="another process"):
            await recovered(sqlite_settings)


async def test_the_whole_folder_of_keys_may_be_lost_but_for_the_ring_backup(settings, tmp_path):
    crm, kept, _, _ = await three(settings)
    elsewhere = tmp_path / "elsewhere"
    (settings.keys_dir / "ring-backup").rename(elsewhere)
    for file in settings.keys_dir.iterdir():
        file.unlink()
    answer = await recovered(settings, ring_folder_at=elsewhere)
    assert answer["lost"] == 0
    async with open_world(settings) as world:
        assert (await (await again(world, crm)).view(kept)).status_code == 200
        assert (await world.runtime.ring_backups.state()).newest is not None


async def test_backups_made_before_can_be_restored_afterwards(
    sqlite_settings, folder_store, restore
):
    async with open_world(folder_store.used_by(sqlite_settings)) as world:
        crm = await world.app()
        member = await crm.register()
        await world.runtime.ring_backups.append()
        await begin(world, folder_store)
        await create(world)
    lose_the_root(sqlite_settings)
    await recovered(sqlite_settings)
    async with open_world(folder_store.used_by(sqlite_settings)) as world:
        await create(world)
    made, _ = await restore(sqlite_settings, folder_store)
    async with open_world(made) as world:
        assert (await (await again(world, crm)).view(member)).status_code == 200


STEPS = {
    "_new_ring": service.recovering,
    "_make_buckets": Recovering,
    "_move": Recovering,
    "run": Recovering,
    "_put_in_place": service.recovering,
    "refresh": RingBackups,
    "prove": RingBackups,
    "_sweep": service.recovering,
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_recovery_cut_short_anywhere_is_gone_on_with(settings, monkeypatch, step, when):
    crm, kept, late, erased_id = await three(settings)
    lose_the_root(settings)
    place = STEPS[step]
    genuine = getattr(place, step)

    async def cut(*arguments, **named):
        if when == "after":
            await genuine(*arguments, **named)
        raise UnavailableError("the power went")

    def cut_at_once(*arguments):
        if when == "after":
            genuine(*arguments)
        raise UnavailableError("the power went")

    monkeypatch.setattr(place, step, cut_at_once if place is service.recovering else cut)
    with pytest.raises(UnavailableError):
        await recovered(settings)
    monkeypatch.undo()
    with contextlib.suppress(ConfigurationError):  # only sweeping up was left to do
        await recovered(settings)
    assert not (settings.keys_dir / "recovering").exists()
    folder = RingFolder(settings.keys_dir / "ring-backup")
    backup = folder.open(folder.newest(), identities_of(kit_of(settings)))
    assert backup.version == open_ring(settings).version
    async with open_world(settings) as world:
        app = await again(world, crm)
        for member in (kept, late):
            assert (await app.view(member)).status_code == 200
        assert "ordinary" not in await keys_of(world, erased_id)
        assert len(await world.events("vault.recover")) == 1


async def test_an_old_ring_backup_with_the_kit_opens_no_key_of_a_ring_root(settings):
    """The kit and every ring backup together hold no root of any version."""
    await three(settings)
    async with open_world(settings) as world:
        ring = world.runtime.vault.buckets.ring
        folder = RingFolder(settings.keys_dir / "ring-backup")
        for one in folder.sets():
            backup = folder.open(one, identities_of(kit_of(settings)))
            names = set(backup.secrets())
            assert not any(name.startswith("root") for name in names)
            assert backup.id == ring.id


async def test_an_erasure_that_only_the_ledger_knows_counts(settings):
    async with open_world(settings) as world:
        crm = await world.app()
        member_id = await world.member_id(await crm.register())
        await world.runtime.ring_backups.refresh()
        runtime = world.runtime
        async with recorded(runtime.database) as work:
            await runtime.rights.record(work, RightsKind.ERASURE, member_id, {})
    lose_the_root(settings)
    answer = await recovered(settings)
    assert answer["erased"] > 0
    async with open_world(settings) as world:
        assert await keys_of(world, member_id) == set()
