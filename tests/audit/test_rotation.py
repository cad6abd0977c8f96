"""The log's key is replaced at work: no fork, nothing lost, and the old key signs nothing more."""

# ruff: noqa: F811 (fixtures are asked for by name)

import asyncio

import pytest

from audit import (
    KeyRotation,
    KnownKeys,
    LogKey,
    NoteError,
    Sequencer,
    Signer,
    Verifier,
    export_log,
    hand_over,
    log_key_repository,
    repository,
    rotations,
    verify_stored_log,
)
from audit.note import Checkpoint, open_checkpoint, sign_checkpoint
from audit.sequencer import LogRekeyedError
from audit.verify import verify_bundle
from kernel import ConfigurationError, IntegrityError, UnavailableError
from service.commands import COMMANDS
from service.kms import open_ring
from service.log_key import log_key
from service.runtime import Runtime, open_database
from tests.support.invariants import assert_log_is_whole
from tests.support.world import (  # noqa: F401 (fixtures)
    installed_sqlite,
    open_world,
    postgres_settings,
    settings,
    sqlite_settings,
)
from vault import Vault

pytestmark = pytest.mark.anyio


@pytest.fixture
async def quiet(settings):
    async with open_world(settings, background=False) as opened:
        await opened.runtime.sequencer.stop()  # let go of whatever it led
        yield opened


async def rotate(world, **arguments):
    asked = {"confirmed": True, "operator": None, **arguments}
    return await COMMANDS["audit.rotate_key"](world.runtime, lambda *_: None, **asked)


async def write(world, count=1):
    async with world.runtime.database.unit_of_work() as work:
        for at in range(count):
            await world.runtime.audit.record(work, world.operator, "test.event", count=at)


async def head(world):
    return (await world.fetch("SELECT * FROM audit_head"))[0]


async def kept(world):
    async with world.runtime.database.read() as session:
        return await rotations(session)


def new_signer(world, number=7):
    return Signer.from_seed(world.runtime.audit.origin, bytes([number]) * 32)


async def exported(world, path):
    await export_log(world.runtime.database, path)
    return path


async def assert_sound(world):
    await world.runtime.sequencer.drain()
    await assert_log_is_whole(world)
    report, misleading = await verify_stored_log(world.runtime.database, world.runtime.audit)
    assert (report.findings, misleading) == ((), [])


async def test_the_log_goes_on_under_a_new_key_and_either_key_checks_all_of_it(quiet, tmp_path):
    runtime = quiet.runtime
    await write(quiet, 3)
    await runtime.sequencer.drain()
    before = (await quiet.fetch("SELECT note FROM audit_checkpoint ORDER BY size DESC LIMIT 1"))[0]
    old = runtime.audit.vkey
    told = await rotate(quiet)
    assert (told["done"], told["old_vkey"], told["vkey"]) == (True, old, runtime.audit.vkey)
    assert told["vkey"] != old
    await write(quiet, 3)
    await assert_sound(quiet)
    path = await exported(quiet, tmp_path / "log")
    for key in (old, told["vkey"]):
        report = verify_bundle(path, key, before["note"])
        assert (report.ok, len(report.keys)) == (True, 2)
    (event,) = await quiet.events("audit.key_rotated")
    (rotation,) = await kept(quiet)
    assert (rotation.event_id, rotation.size) == (event["id"], told["size"])
    assert event["resource"].startswith("sha256:")
    names = [each["action"] for each in await quiet.events() if "audit.key_" in each["action"]]
    assert sorted(names) == ["audit.key_destroyed", "audit.key_prepared", "audit.key_rotated"]
    with pytest.raises(NoteError):
        open_checkpoint((path / "checkpoint").read_text(), Verifier.from_vkey(old))


async def test_a_key_may_be_replaced_again_and_again(quiet, tmp_path):
    first = quiet.runtime.audit.vkey
    for _ in range(3):
        await rotate(quiet)
        await write(quiet)
    await assert_sound(quiet)
    path = await exported(quiet, tmp_path / "log.zip")
    assert len(verify_bundle(path, first).keys) == 4
    assert len(verify_bundle(path, first).findings) == 0
    assert list(quiet.runtime.vault.log_seeds()) == [4]


async def test_the_next_key_can_be_told_before_it_signs(quiet):
    before = await head(quiet)
    told = await rotate(quiet, confirmed=False)
    again = await rotate(quiet, confirmed=False)
    assert (told["done"], told["vkey"]) == (False, again["vkey"])
    assert (await head(quiet))["vkey"] == before["vkey"] == quiet.runtime.audit.vkey
    assert (await rotate(quiet))["vkey"] == told["vkey"]
    await assert_sound(quiet)


async def test_the_old_seed_is_gone_from_the_ring_and_the_backups_signer_stays(quiet):
    runtime = quiet.runtime
    (old,) = runtime.vault.log_seeds().values()
    signer = runtime.vault.backup_seed()
    await rotate(quiet)
    ring = open_ring(quiet.settings)
    assert old not in ring.secrets().values()
    assert ring.backup_seed() == signer
    backup = await runtime.ring_backups.prove(quiet.settings.data_dir / "recovery-kit.txt")
    assert backup.number >= 2


async def test_a_paused_leader_with_the_old_key_signs_nothing_and_says_why(quiet):
    stale = Sequencer(quiet.runtime.database, quiet.runtime.log_key.signer, quiet.runtime.clock)
    await write(quiet)
    await stale.sequence_batch()
    assert stale.state.leading
    await rotate(quiet)
    await write(quiet, 2)
    size = (await head(quiet))["size"]
    with pytest.raises(LogRekeyedError):
        await stale.sequence_batch()
    assert (await head(quiet))["size"] == size
    await assert_sound(quiet)


async def test_a_paused_leader_takes_the_new_key_out_of_the_ring(quiet):
    other = Vault(open_ring(quiet.settings))
    key = log_key(quiet.runtime.log_key.signer, other)
    sleeper = Sequencer(quiet.runtime.database, key, quiet.runtime.clock)
    await write(quiet)
    await sleeper.sequence_batch()
    await rotate(quiet)
    await write(quiet, 2)
    assert await sleeper.sequence_batch() > 0
    assert key.vkey == quiet.runtime.audit.vkey
    await assert_sound(quiet)


async def test_no_process_is_led_back_to_a_key_that_ended(quiet):
    """Whoever owns the database can write the old key into the head; the ring may still have it."""
    ring = quiet.runtime.vault.buckets.ring
    old = quiet.runtime.audit.vkey
    ring.add_log_seed(1)
    new = Signer.from_seed(quiet.runtime.audit.origin, ring.log_seeds()[2])
    await hand_over(quiet.runtime.sequencer, quiet.runtime.audit, new, quiet.operator)
    await quiet.execute("UPDATE audit_head SET vkey = :old", old=old)
    await write(quiet)
    with pytest.raises(LogRekeyedError):
        await quiet.runtime.sequencer.sequence_batch()
    assert quiet.runtime.audit.vkey == new.vkey
    report, _ = await verify_stored_log(quiet.runtime.database, quiet.runtime.audit)
    assert [each.code for each in report.findings] == ["rotation"]
    await quiet.execute("UPDATE audit_head SET vkey = :new", new=new.vkey)
    await assert_sound(quiet)


async def test_a_batch_that_read_the_head_before_the_rotation_stores_nothing(quiet, monkeypatch):
    """The leader has read its head, slept in its transaction, and the key was replaced."""
    runtime = quiet.runtime
    stale = Sequencer(runtime.database, runtime.log_key.signer, runtime.clock)
    await write(quiet, 2)
    before = await quiet.fetch("SELECT size FROM audit_checkpoint ORDER BY size")
    genuine = repository.place_leaves

    async def and_the_key_is_replaced(work, *details):
        await genuine(work, *details)
        row = (await work.all(log_key_repository._SIGNED_BY))[0]
        assert row["vkey"] == runtime.audit.vkey
        size, fence = (await head_of(work))[:2]
        rotation = log_key_repository.KeyRotation(size, runtime.audit.origin, "", "", "", "", 0)
        assert await log_key_repository.rekey_head(work, rotation, size, fence)

    async def head_of(work):
        from audit import lease_repository

        row = await lease_repository.head_row(work)
        return row["size"], row["fence"]

    monkeypatch.setattr(repository, "place_leaves", and_the_key_is_replaced)
    with pytest.raises(UnavailableError):
        await stale.sequence_batch()
    monkeypatch.undo()
    assert await quiet.fetch("SELECT size FROM audit_checkpoint ORDER BY size") == before
    await assert_sound(quiet)


CRASHES = {
    "the event": (repository, "append_event"),
    "the leaf": (repository, "place_leaves"),
    "the tiles": (repository, "store_tiles"),
    "the overlap": (repository, "add_checkpoint"),
    "the rotation": (log_key_repository, "add_rotation"),
    "the head": (log_key_repository, "rekey_head"),
}


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(step, marks=() if step in {"the overlap", "the head"} else pytest.mark.long)
        for step in CRASHES
    ],
)
async def test_a_crash_within_the_handing_over_leaves_the_old_key_at_work(quiet, monkeypatch, step):
    module, name = CRASHES[step]
    old = quiet.runtime.audit.vkey
    await write(quiet, 2)
    await rotate(quiet, confirmed=False)
    await quiet.runtime.sequencer.drain()
    genuine = getattr(module, name)

    async def then_die(*details, **named):
        await genuine(*details, **named)
        raise RuntimeError("power cut")

    monkeypatch.setattr(module, name, then_die)
    with pytest.raises(RuntimeError):
        await hand_over(
            quiet.runtime.sequencer, quiet.runtime.audit, new_signer(quiet), quiet.operator
        )
    monkeypatch.undo()
    assert (await head(quiet))["vkey"] == old == quiet.runtime.audit.vkey
    assert await kept(quiet) == []
    await assert_sound(quiet)
    await rotate(quiet)
    await assert_sound(quiet)


async def test_a_crash_after_the_handing_over_is_finished_by_the_same_command(settings):
    async with open_world(settings, background=False) as world:
        ring = world.runtime.vault.buckets.ring
        ring.add_log_seed(1)
        new = Signer.from_seed(world.runtime.audit.origin, ring.log_seeds()[2])
        await hand_over(world.runtime.sequencer, world.runtime.audit, new, world.operator)
    async with open_world(settings, background=False) as world:
        assert world.runtime.audit.vkey == new.vkey
        assert list(world.runtime.vault.log_seeds()) == [1, 2]
        told = await rotate(world)
        assert (told["done"], told["destroyed"], told["vkey"]) == (True, 1, new.vkey)
        assert list(world.runtime.vault.log_seeds()) == [2]
        await assert_sound(world)


async def test_a_ring_without_the_logs_key_opens_nothing(settings):
    async with open_world(settings, background=False) as world:
        keys = world.settings.keys_dir
        before = (keys / "key-ring.json").read_bytes()
        ring = world.runtime.vault.buckets.ring
        ring.add_log_seed(1)
        new = Signer.from_seed(world.runtime.audit.origin, ring.log_seeds()[2])
        await hand_over(world.runtime.sequencer, world.runtime.audit, new, world.operator)
        await world.runtime.sequencer.drain()
    after = (keys / "key-ring.json").read_bytes()
    (keys / "key-ring.json").write_bytes(before)
    with pytest.raises(ConfigurationError) as refused:
        await Runtime.open(settings)
    assert refused.value.reason == "log_rekeyed"
    (keys / "key-ring.json").write_bytes(after)
    async with open_world(settings, background=False) as world:
        await assert_sound(world)


async def test_the_kept_rotation_can_be_neither_changed_nor_replaced(quiet):
    await rotate(quiet)
    for statement in (
        "UPDATE audit_key SET new_vkey = 'x'",
        "DELETE FROM audit_key",
        "INSERT INTO audit_key SELECT * FROM audit_key",
    ):
        with pytest.raises(IntegrityError):
            async with quiet.runtime.database.unit_of_work() as work:
                from sqlalchemy import text

                from kernel import Statement

                await work.run(Statement(text(statement)))
    assert len(await kept(quiet)) == 1


async def test_a_forged_rotation_in_the_table_is_found(quiet):
    await rotate(quiet)
    await quiet.unguard("audit_key")
    await quiet.execute("UPDATE audit_key SET old_vkey = :evil", evil=new_signer(quiet).vkey)
    report, _ = await verify_stored_log(quiet.runtime.database, quiet.runtime.audit)
    assert "rotation" in {each.code for each in report.findings}


async def test_the_overlap_is_where_tiles_are(quiet):
    await rotate(quiet)
    (rotation,) = await kept(quiet)
    note = await quiet.http.get("/audit/log/rotation/1/checkpoint")
    keys = await quiet.http.get("/audit/log/rotation/1/keys")
    assert (note.status_code, note.text) == (200, rotation.note)
    assert keys.text == f"{rotation.old_vkey}\n{rotation.new_vkey}\n"
    for path in ("rotation/2/keys", "rotation/0/keys", "rotation/1/other", "rotation/9999/keys"):
        assert (await quiet.http.get(f"/audit/log/{path}")).status_code == 404
    assert (await quiet.http.get("/v1/audit/key")).text.strip() == rotation.new_vkey


async def test_a_key_is_replaced_under_two_sequencers_and_writers_and_nothing_forks(
    settings, tmp_path
):
    """Two processes sequence, four write, and the key is replaced twice in the middle of it."""
    async with open_world(settings) as world:
        first = world.runtime.audit.vkey
        own = open_database(settings) if settings.on_postgres else None  # SQLite has one writer
        key = log_key(world.runtime.log_key.signer, Vault(open_ring(settings)))
        second = Sequencer(
            own or world.runtime.database,
            key,
            world.runtime.clock,
            batch_size=3,
            poll_seconds=0.005,
            lease_seconds=0.2 if settings.on_postgres else 0,
        )
        stop = asyncio.Event()
        written = most = 0

        async def write_on():
            nonlocal written
            while not stop.is_set():
                if written >= most:  # however slow the machine is, there is only so much to check
                    await asyncio.sleep(0.002)
                    continue
                await write(world, 2)
                written += 2

        async def until_written(goal):
            nonlocal most
            most = goal + 80
            while written < goal:  # noqa: ASYNC110 (the count is what is waited for)
                await asyncio.sleep(0.01)

        await second.start()
        writers = [asyncio.create_task(write_on()) for _ in range(4)]
        try:
            for goal in (60, 160):
                await until_written(goal)
                await rotate(world)
            await until_written(written + 60)
        finally:
            stop.set()
            await asyncio.gather(*writers)
            await second.stop()
            if own is not None:
                await own.close()
        await world.rest()
        await assert_sound(world)
        assert len(await world.events("test.event")) == written
        assert len(await kept(world)) == 2
        assert (key.vkey == world.runtime.audit.vkey) or not second.state.failures
        path = await exported(world, tmp_path / "log")
        report = verify_bundle(path, first)
        assert (report.findings, len(report.keys)) == ((), 3)


def test_a_fixed_key_is_no_other_one():
    signer, other = (Signer.from_seed("log.example", bytes([at]) * 32) for at in (1, 2))
    key = LogKey(signer)
    assert key.adopt(signer.vkey)
    assert not key.adopt(other.vkey)
    assert not LogKey(signer, lambda _: other).adopt("something else")
    assert LogKey.of(key) is key


def test_no_key_is_known_by_a_rotation_that_leads_elsewhere_or_that_one_of_two_signed():
    """Whoever may add to the table of successions makes no key of theirs the log's."""
    first, second, now, evil = (
        Signer.from_seed("log.example", bytes([at]) * 32) for at in range(4)
    )

    def rotation(size, old, new, *signers):
        note = sign_checkpoint(Checkpoint(old.name, size, bytes(32)), *(signers or (old, new)))
        return KeyRotation(size, old.name, old.vkey, new.vkey, note, "evt_x", 1)

    true = [rotation(3, first, second), rotation(7, second, now)]
    known = KnownKeys.leading_to(now.verifier, true)
    assert known.publics == {one.verifier.public for one in (first, second, now)}
    for forged in (
        [*true, rotation(9, evil, second)],
        [*true, rotation(9, evil, now, evil)],
        [*true, rotation(9, evil, now, now)],
    ):
        assert KnownKeys.leading_to(now.verifier, forged).publics == {now.verifier.public}
    between = [rotation(3, evil, first), rotation(7, second, now)]
    assert KnownKeys.leading_to(now.verifier, between).publics == {
        second.verifier.public,
        now.verifier.public,
    }
