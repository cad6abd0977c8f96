"""A store is not trusted: whatever it changes, hides or invents is found, and nothing is restored."""

import shutil
from pathlib import Path

import pyrage
import pytest

from backup import TargetNotEmptyError, WrongKeyError
from backup.errors import (
    BadSignatureError,
    CorruptObjectError,
    LedgerGapError,
    MissingObjectError,
    OlderRefusedError,
    TruncatedManifestError,
)
from backup.reading import read_shelf
from service.backups import pinned_key
from service.restores import drill_backup, plan_restore, verify_backup
from tests.support.stores import begin, create, kit_of
from tests.support.world import open_world

pytestmark = pytest.mark.anyio


def quiet(_done, _total):
    return None


@pytest.fixture
async def filled(sqlite_settings, folder_store):
    """A registry with two backups and a withdrawal after them; gives settings and store folder."""
    settings = folder_store.used_by(sqlite_settings)
    async with open_world(settings) as world:
        crm = await world.app()
        member = await crm.register(phone="081-234-5678", consents={"marketing": "sms"})
        await begin(world, folder_store)
        await create(world)
        await crm.register(phone="082-345-6789")
        await create(world)
        await crm.withdraw(member, channel="sms")
    return settings, Path(folder_store.address[7:])


def flip(file: Path, at: float = 0.75) -> None:
    data = bytearray(file.read_bytes())
    data[int(len(data) * at)] ^= 1
    file.write_bytes(bytes(data))


def one_of(folder: Path, pattern: str) -> Path:
    return max(folder.glob(pattern))


async def newest(kept, folder: Path, pattern: str) -> Path:
    """An object of the newest backup; chunks of an older one may lie beside it."""
    if pattern.startswith("c/"):
        shelf = await read_shelf(kept.open())
        return folder / shelf.newest.tables["member"][0].name
    return one_of(folder, pattern)


async def refused(restore, kept, settings, error, **options):
    """A restore must raise, name what is wrong, and leave the target as it was."""
    with pytest.raises(error) as raised:
        await restore(settings, kept, **options)
    target = settings.data_dir.parent / "restored"
    assert not target.exists()
    assert not target.with_name(".restored.restoring").exists()
    return raised.value


@pytest.mark.parametrize("at", [0.02, 0.3, 0.75, 0.999])
@pytest.mark.parametrize(
    ("pattern", "error"),
    [
        ("c/*.age", CorruptObjectError),
        ("keys/00000002/*.age", CorruptObjectError),
        ("ledger/*.age", CorruptObjectError),
        ("audit/*.age", CorruptObjectError),
        ("m/00000002.json", (BadSignatureError, TruncatedManifestError, CorruptObjectError)),
    ],
)
async def test_one_flipped_bit_is_found_and_named(
    filled, folder_store, restore, pattern, error, at
):
    settings, folder = filled
    victim = await newest(folder_store, folder, pattern)
    flip(victim, at)
    raised = await refused(restore, folder_store, settings, error)
    assert victim.relative_to(folder).as_posix() in str(raised)


@pytest.mark.parametrize(
    ("pattern", "error"),
    [
        ("c/*.age", MissingObjectError),
        ("keys/00000002/*.age", MissingObjectError),
        ("ledger/00000001.age", LedgerGapError),
        ("m/00000001.json", MissingObjectError),
        ("format.json", Exception),
    ],
)
async def test_a_missing_object_is_found_and_named(filled, folder_store, restore, pattern, error):
    settings, folder = filled
    victim = await newest(folder_store, folder, pattern)
    if pattern.startswith("ledger"):
        shutil.copy(victim, folder / "ledger" / "00000003.age")
    victim.unlink()
    raised = await refused(restore, folder_store, settings, error)
    if pattern != "format.json":
        assert victim.name in str(raised)


async def test_a_ledger_cut_before_what_the_manifest_knows_is_a_gap(filled, folder_store, restore):
    settings, folder = filled
    async with open_world(settings) as world:
        await create(world)
    for file in (folder / "ledger").glob("*.age"):
        file.unlink()
    await refused(restore, folder_store, settings, LedgerGapError)


async def test_two_objects_that_change_places_are_found(filled, folder_store, restore):
    settings, folder = filled
    shelf = await read_shelf(folder_store.open())
    one, other = (
        folder / next(o.name for o in shelf.newest.tables[t]) for t in ("member", "member_gate")
    )
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    await refused(restore, folder_store, settings, CorruptObjectError)


async def test_a_truncated_manifest_is_not_a_backup(filled, folder_store, restore):
    settings, folder = filled
    manifest = folder / "m/00000002.json"
    manifest.write_bytes(manifest.read_bytes()[:-200])
    await refused(restore, folder_store, settings, TruncatedManifestError)


async def test_a_manifest_by_another_key_is_refused_even_with_its_own_format_file(
    filled, folder_store, restore
):
    settings, folder = filled
    format_file = folder / "format.json"
    other = "backup.ring_x+00000000+AAAA"
    format_file.write_text(format_file.read_text().replace("backup.ring", "backup.gnir"))
    raised = await refused(restore, folder_store, settings, BadSignatureError)
    assert "format.json" in str(raised)
    assert other not in str(raised)


async def test_another_kit_does_not_open_it_and_learns_whose_it_is(
    filled, folder_store, restore, tmp_path
):
    settings, _ = filled
    identity = pyrage.x25519.Identity.generate()
    kit = tmp_path / "another-kit.txt"
    kit.write_text(f"{identity}\n")
    signer = pinned_key(kit_of(settings))
    raised = await refused(restore, folder_store, settings, WrongKeyError, kit=kit, signer=signer)
    mine = [line for line in kit_of(settings).read_text().splitlines() if "Recipient" in line]
    assert mine[0].split()[-1] in str(raised)
    assert str(identity.to_public()) in str(raised)


async def test_an_older_generation_must_be_meant(filled, folder_store, restore):
    settings, _ = filled
    await refused(restore, folder_store, settings, OlderRefusedError, generation=1)
    _, told = await restore(settings, folder_store, generation=1, allow_older=True)
    assert told["generation"] == 1
    assert told["replayed"] == {"withdrawal": 1}


async def test_a_target_with_something_in_it_is_left_alone(filled, folder_store, restore):
    settings, _ = filled
    target = settings.data_dir.parent / "restored"
    target.mkdir()
    (target / "mine").write_text("mine")
    with pytest.raises(TargetNotEmptyError):
        await restore(settings, folder_store)
    assert [file.name for file in target.iterdir()] == ["mine"]


async def test_a_hidden_newest_generation_is_noticed_by_the_next_backup(filled, folder_store):
    settings, folder = filled
    (folder / "m/00000002.json").unlink()
    async with open_world(settings) as world:
        with pytest.raises(MissingObjectError, match="lost generation 2"):
            await create(world)


@pytest.mark.parametrize("level", [0, 1, 2])
async def test_verify_passes_what_is_whole_and_each_level_finds_its_damage(
    filled, folder_store, level
):
    settings, folder = filled
    options = {"generation": None, "kit": kit_of(settings), "signer": None, "progress": quiet}
    answer = await verify_backup(settings, folder_store.address, level=level, **options)
    assert answer["ok"]
    assert answer["generation"] == 2
    victim = await newest(folder_store, folder, "c/*.age")
    if level:
        flip(victim)
    else:
        victim.unlink()
    with pytest.raises((CorruptObjectError, MissingObjectError)):
        await verify_backup(settings, folder_store.address, level=level, **options)


async def test_a_plan_and_a_drill_say_what_a_restore_would_do(filled, folder_store):
    settings, folder = filled
    before = sorted(file.name for file in folder.rglob("*"))
    plan = await plan_restore(
        settings,
        folder_store.address,
        generation=None,
        allow_older=False,
        kit=kit_of(settings),
        signer=None,
        progress=quiet,
    )
    assert plan["rights_to_replay"] == {"withdrawal": 1}
    drilled = await drill_backup(
        settings, folder_store.address, kit=kit_of(settings), signer=None, progress=quiet
    )
    assert drilled["ok"]
    assert drilled["rows"] == plan["rows"]
    assert drilled["replayed"] == {"withdrawal": 1}
    assert sorted(file.name for file in folder.rglob("*")) == before
