"""Ring backups and recovery kits: what brings members back when the KMS root is gone."""

import re

import msgpack
import pyrage
import pytest

from kernel import ConfigurationError
from service.commands import doctor
from service.setup import set_up
from service.vault_commands import vault_kit_check, vault_kit_issue, vault_kits
from tests.support.stores import begin
from tests.support.world import DAY_US, JumpingClock, open_world, recorded
from vault import KeyRingError, RecoveryKits, read_ring, write_recovery_kit

pytestmark = pytest.mark.anyio


def quiet(_done: int, _total: int) -> None:
    """No bar in a test."""


def kit_of(settings):
    return settings.data_dir / "recovery-kit.txt"


def identity_of(kit):
    (line,) = re.findall("^AGE-SECRET-KEY-1[0-9A-Z]+$", kit.read_text(), re.MULTILINE)
    return pyrage.x25519.Identity.from_str(line)


def set_folders(settings):
    return sorted(p for p in (settings.keys_dir / "ring-backup").iterdir() if p.name.isdecimal())


def opened(settings, kit=None, folder=None):
    """The newest ring backup as any tool that reads age and msgpack sees it."""
    identity = identity_of(kit or kit_of(settings))
    folder = folder or set_folders(settings)[-1]
    files = sorted(folder.glob("[0-9]*.age")) + sorted(folder.glob("more-*.age"))
    return [pyrage.decrypt(file.read_bytes(), [identity]) for file in files]


def owners(pages):
    return {row[0] for page in map(msgpack.unpackb, pages) for row in page.get("keys", ())}


async def checks(world):
    return {one["check"]: one for one in (await doctor(world.runtime, quiet))["checks"]}


# --- what is in it --------------------------------------------------------------------


async def test_a_ring_backup_holds_living_keys_and_no_ring_root(world):
    await world.rest()
    crm = await world.app()
    member = await world.member_id(await crm.register())
    await world.runtime.ring_backups.refresh()
    pages = opened(world.settings)
    head = msgpack.unpackb(pages[0])
    assert head.keys() == {"format", "id", "tenant", "version", "secrets"}
    ring = world.runtime.vault.buckets.ring
    assert head["secrets"] == ring.secrets()
    assert member in owners(pages)
    everything = b"".join(pages)
    (root,) = [bytes.fromhex(one) for one in roots(ring)]
    assert root not in everything


def roots(ring):
    import json

    return json.loads(ring.material())["roots"].values()


async def test_a_kit_opens_no_erased_member_once_the_ring_backup_is_fresh(world):
    await world.rest()
    crm = await world.app()
    member = await crm.register()
    await world.runtime.ring_backups.refresh()
    member_id = await world.erase(member)
    await world.runtime.ring_backups.refresh()
    kinds = {
        row[1]
        for page in map(msgpack.unpackb, opened(world.settings))
        for row in page.get("keys", ())
        if row[0] == member_id
    }
    assert "ordinary" not in kinds


async def test_older_ring_backups_go_after_their_days(settings):
    clock = JumpingClock()
    async with open_world(settings, clock=clock) as world:
        await world.rest()
        backups = world.runtime.ring_backups
        await backups.refresh()
        first = set_folders(settings)
        clock.jump_us += 6 * DAY_US
        await backups.refresh()
        assert set_folders(settings)[: len(first)] == first
        clock.jump_us += 8 * DAY_US
        await backups.refresh()
        assert not set(first) & set(set_folders(settings))
        assert len(set_folders(settings)) == 2


async def test_who_registers_is_in_no_ring_backup_until_it_is_added_to(world):
    await world.rest()
    crm = await world.app()
    backups = world.runtime.ring_backups
    await backups.refresh()
    member = await world.member_id(await crm.register())
    assert (await backups.state()).waiting == 1
    assert member not in owners(opened(world.settings))
    assert await backups.append() == 1
    assert (await backups.state()).waiting == 0
    assert member in owners(opened(world.settings))
    assert await backups.append() == 0


async def test_a_further_key_of_a_known_member_waits_too(world):
    await world.rest()
    crm = await world.app()
    member = await world.member_id(await crm.register())
    backups = world.runtime.ring_backups
    await backups.refresh()
    async with recorded(world.runtime.database) as work:
        await world.runtime.vault.make_keys(work, member, ["fiscal"])
    assert (await backups.state()).waiting == 1
    await backups.append()
    ring = read_ring(opened(world.settings))
    assert {key.kind for key in ring.each() if key.owner_id == member} >= {"ordinary", "fiscal"}


async def test_a_key_given_while_a_ring_backup_is_made_still_waits(world):
    await world.rest()
    crm = await world.app()
    backups, vault = world.runtime.ring_backups, world.runtime.vault
    inner, late = vault.sealed_pages, []

    async def slowly(session, seal):
        async for page in inner(session, seal):
            yield page
        late.append(await world.member_id(await crm.register()))

    vault.sealed_pages = slowly
    await backups.refresh()
    assert late[0] not in owners(opened(world.settings))
    assert (await backups.state()).waiting == 1


async def test_the_worker_adds_and_makes_whole_again(settings):
    clock = JumpingClock()
    async with open_world(settings, clock=clock) as world:
        await world.rest()
        crm = await world.app()
        backups = world.runtime.ring_backups
        before = (await backups.state()).newest.number
        await crm.register()
        await backups.come_round(DAY_US)
        state = await backups.state()
        assert (state.newest.number, state.waiting, len(state.newest.added)) == (before, 0, 1)
        clock.jump_us += DAY_US
        await backups.come_round(DAY_US)
        assert (await backups.state()).newest.number == before + 1


async def test_a_ring_backup_that_reads_back_wrong_does_not_count(world, monkeypatch):
    await world.rest()
    backups = world.runtime.ring_backups
    before = (await backups.state()).newest
    real = backups._folder.write

    def short(file, sealed):
        real(file, sealed[:-1])

    monkeypatch.setattr(backups._folder, "write", short)
    with pytest.raises(KeyRingError, match="does not open"):
        await backups.refresh()
    assert (await backups.state()).newest == before
    monkeypatch.undo()
    await backups.refresh()
    assert not list((world.settings.keys_dir / "ring-backup").glob(".draft-*"))


async def test_nothing_on_the_machine_opens_a_ring_backup_once_the_kit_is_away(world):
    await world.rest()
    kit_of(world.settings).rename(world.settings.data_dir.parent / "stick.txt")
    await world.runtime.ring_backups.refresh()
    for file in world.settings.data_dir.rglob("*"):
        if file.is_file() and not file.name.endswith(".age"):
            assert b"AGE-SECRET-KEY-" not in file.read_bytes()


# --- kits -----------------------------------------------------------------------------


async def test_a_kit_is_tried_on_the_newest_ring_backup_and_that_is_on_record(world):
    await world.rest()
    crm = await world.app()
    await crm.register()
    await world.runtime.ring_backups.refresh()
    proof = await vault_kit_check(world.runtime, quiet, kit=str(kit_of(world.settings)))
    assert proof["canaries"] > 0
    assert (await vault_kits(world.runtime, quiet))["kits"][0]["proven"]
    (event,) = await world.events("vault.kit_check")
    assert event["count"] == proof["keys"]


async def test_another_kit_opens_nothing_and_the_error_says_which_one_does(world, tmp_path):
    other = tmp_path / "other.txt"
    write_recovery_kit(other, "main", "ring_x")
    with pytest.raises(KeyRingError, match="does not open") as caught:
        await vault_kit_check(world.runtime, quiet, kit=str(other))
    known = world.runtime.ring_backups.kits.recipients()
    assert known[0] in caught.value.remedy


async def test_two_kits_open_it_each_and_one_that_was_dropped_opens_the_next_no_more(
    world, tmp_path
):
    second = tmp_path / "second.txt"
    await vault_kit_issue(world.runtime, quiet, new=str(second), add=[], drop=[])
    first = kit_of(world.settings)
    assert opened(world.settings, first) == opened(world.settings, second)
    gone = str(identity_of(first).to_public())
    await vault_kit_issue(world.runtime, quiet, new=None, add=[], drop=[gone])
    opened(world.settings, second)
    with pytest.raises(pyrage.DecryptError):
        opened(world.settings, first)


async def test_the_last_kit_is_not_dropped(world):
    only = str(identity_of(kit_of(world.settings)).to_public())
    with pytest.raises(Exception, match="somebody must"):
        await vault_kit_issue(world.runtime, quiet, new=None, add=[], drop=[only])
    assert world.runtime.ring_backups.kits.recipients() == [only]


async def test_a_key_of_whoever_writes_to_the_database_gets_no_ring_backup(world):
    stranger = str(pyrage.x25519.Identity.generate().to_public())
    facts = await world.fetch("SELECT name, value FROM registry_fact")
    assert not any("age1" in str(fact["value"]) for fact in facts)
    await world.execute("UPDATE registry_fact SET value = :value WHERE name <> ''", value=stranger)
    made = await world.runtime.ring_backups.refresh()
    assert stranger not in made.recipients


@pytest.mark.parametrize(
    "text", [b"", b"# only a comment\n", b"AGE-SECRET-KEY-1QQQ\n", b"\xff\xfe\x00", b"hello"]
)
async def test_a_kit_that_is_none_is_refused(sqlite_settings, text):
    async with open_world(sqlite_settings) as world:
        kit = kit_of(world.settings)
        kit.write_bytes(text)
        with pytest.raises(KeyRingError):
            await world.runtime.ring_backups.prove(kit)


async def test_a_kit_that_others_may_read_is_refused(sqlite_settings):
    async with open_world(sqlite_settings) as world:
        kit_of(world.settings).chmod(0o644)
        with pytest.raises(KeyRingError, match="other users"):
            await world.runtime.ring_backups.prove(kit_of(world.settings))


@pytest.mark.parametrize("damage", [b"", b"x", None])
async def test_a_damaged_or_missing_page_is_refused(sqlite_settings, damage):
    async with open_world(sqlite_settings) as world:
        page = set_folders(sqlite_settings)[-1] / "0000.age"
        whole = page.read_bytes()
        page.unlink()
        if damage is not None:
            page.write_bytes(damage + whole[:-1])
        with pytest.raises(KeyRingError, match=r"damaged|cannot be read"):
            await world.runtime.ring_backups.prove(kit_of(world.settings))


async def test_keys_that_are_not_the_living_ones_are_noticed(world):
    await world.rest()
    crm = await world.app()
    member = await world.member_id(await crm.register())
    await world.runtime.ring_backups.refresh()
    await world.execute("DELETE FROM vault_key WHERE owner_id = :id", id=member)
    async with recorded(world.runtime.database) as work:
        await world.runtime.vault.make_keys(work, member, ["ordinary", "pseudonym"])
    with pytest.raises(KeyRingError, match="other keys"):
        await world.runtime.ring_backups.prove(kit_of(world.settings))


async def test_init_ends_with_a_kit_that_has_opened_a_ring_backup(sqlite_settings):
    kits = RecoveryKits(sqlite_settings.keys_dir / "recovery-kits.json")
    (kit,) = kits.all()
    assert kit.proven_us is not None
    assert kit.recipient == str(identity_of(kit_of(sqlite_settings)).to_public())


async def test_init_refuses_a_kit_that_does_not_open_the_ring_backup(sqlite_settings):
    kit_of(sqlite_settings).unlink()
    write_recovery_kit(kit_of(sqlite_settings), "main", "ring_x")
    with pytest.raises(ConfigurationError, match="does not open"):
        await set_up(sqlite_settings)


# --- the doctor -----------------------------------------------------------------------


async def test_the_doctor_is_content_with_a_registry_that_was_just_made(world):
    answer = await doctor(world.runtime, quiet)
    assert answer["ok"]
    assert {one["check"] for one in answer["checks"]} >= {
        "key_ring",
        "key_versions",
        "ring_backup",
        "members_in_no_ring_backup",
        "recovery_kit",
        "recovery_kit_proven",
        "key_files",
        "core_dumps",
        "drill",
    }


async def test_the_doctor_says_who_is_in_no_ring_backup_and_how_old_it_is(settings):
    clock = JumpingClock()
    async with open_world(settings, clock=clock) as world:
        await world.rest()
        crm = await world.app()
        await crm.register()
        assert (await checks(world))["members_in_no_ring_backup"]["says"].startswith("1 members")
        clock.jump_us += 3 * DAY_US
        old = (await checks(world))["ring_backup"]
        assert old["state"] == "bad"
        hours = re.search(r"([0-9]+) h old", old["says"])
        assert int(hours[1]) >= 72


async def test_the_doctor_warns_of_backups_that_open_to_no_kit(sqlite_settings, folder_store):
    async with open_world(sqlite_settings) as world:
        await world.rest()
        await begin(world, folder_store)
        assert (await checks(world))["backup_recipients"]["state"] == "ok"
        stranger = str(pyrage.x25519.Identity.generate().to_public())
        await world.execute(
            "UPDATE registry_fact SET value = value || ' ' || :stranger "
            "WHERE name = 'backup_recipients'",
            stranger=stranger,
        )
        found = (await checks(world))["backup_recipients"]
        assert found["state"] == "warn"
        assert stranger in found["says"]


async def test_the_doctor_names_a_key_file_that_others_may_read(sqlite_settings):
    async with open_world(sqlite_settings) as world:
        (world.settings.keys_dir / "recovery-kits.json").chmod(0o640)
        found = (await doctor(world.runtime, quiet))["checks"]
        modes = next(one for one in found if one["check"] == "key_files")
        assert modes["state"] == "bad"
        assert "recovery-kits.json" in modes["says"]
