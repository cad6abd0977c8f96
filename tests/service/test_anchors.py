"""Heads kept outside the database show that it was put back; who put it back cannot hide that."""

# ruff: noqa: F811 (fixtures are asked for by name)

import shutil
import sqlite3
from contextlib import closing

import pytest

from audit import AnchorVerdict, Signer, anchored, anchored_size
from audit.anchoring import anchor_folder, anchor_name
from audit.note import Checkpoint, open_checkpoint, sign_checkpoint
from audit.verify import verify_bundle
from backup import open_store
from kernel import ConfigurationError, UnavailableError, YinyomError
from service.anchors import Anchors
from service.commands import COMMANDS
from service.settings import AuditSettings
from tests.support.world import (  # noqa: F401 (fixtures)
    installed_sqlite,
    open_world,
    postgres_settings,
    settings,
    sqlite_settings,
)

pytestmark = pytest.mark.anyio


def with_anchors(settings, *addresses, **more):
    audit = AuditSettings(anchors=addresses, **more)
    return settings.model_copy(update={"audit": audit})


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "anchors"
    made.mkdir()
    return made


@pytest.fixture
def anchored_settings(settings, folder):
    return with_anchors(settings, f"folder:{folder}")


@pytest.fixture
def small(sqlite_settings, folder):
    return with_anchors(sqlite_settings, f"folder:{folder}")


async def command(world, name, **arguments):
    return await COMMANDS[name](world.runtime, lambda *_: None, **arguments)


async def events(world, count=1):
    async with world.runtime.database.unit_of_work() as work:
        for at in range(count):
            await world.runtime.audit.record(work, world.operator, "test.event", count=at)
    await world.runtime.sequencer.drain()


async def newest(world):
    return (await world.fetch("SELECT * FROM audit_checkpoint ORDER BY size DESC LIMIT 1"))[0]


def store_of(settings):
    return open_store(settings.audit.anchors[0], None)


def signer_of(world):
    return Signer.from_seed(world.runtime.audit.origin, world.runtime.vault.log_seeds()[1])


# --- putting heads there --------------------------------------------------------------


async def test_a_head_is_kept_once_under_its_size_and_the_receipt_says_where(anchored_settings):
    async with open_world(anchored_settings, background=False) as world:
        await events(world, 3)
        (told,) = await world.runtime.anchors.anchor()
        last = await newest(world)
        assert (told.verdict, told.size) == (AnchorVerdict.HELD, last["size"])
        await world.runtime.anchors.anchor()
        store = store_of(anchored_settings)
        origin = world.runtime.audit.origin
        assert await store.names(anchor_folder(origin)) == [anchor_name(origin, last["size"])]
        assert (await store.get(anchor_name(origin, last["size"]))).decode() == last["note"]
        (row,) = await world.fetch("SELECT * FROM audit_anchor")
        assert row["receipt"] == anchor_name(origin, last["size"])
        await events(world, 2)
        async with world.runtime.database.read() as session:
            assert (await anchored(session))[store.address][0] == last["size"]
            assert await anchored_size(session, [store.address]) == last["size"]
            assert await anchored_size(session, [store.address, "folder:/other"]) == 0


async def test_a_reply_that_was_lost_leaves_one_head_and_no_alarm(small, monkeypatch):
    async with open_world(small, background=False) as world:
        await events(world)
        (sink,) = world.runtime.anchors.sinks
        genuine = type(sink).put

        async def put_and_lose_the_answer(self, name, data):
            await genuine(self, name, data)
            raise UnavailableError("the answer was lost", reason="store_unavailable")

        monkeypatch.setattr(type(sink), "put", put_and_lose_the_answer)
        (told,) = await world.runtime.anchors.anchor()
        assert told.verdict is AnchorVerdict.UNREACHABLE
        monkeypatch.undo()
        (told,) = await world.runtime.anchors.anchor()
        assert (told.verdict, told.size) == (AnchorVerdict.HELD, (await newest(world))["size"])
        assert len(await sink.names("checkpoints/")) == 1
        assert not (await world.runtime.anchors.status())["alarm"]


async def test_an_anchor_that_is_away_stops_nobody_and_the_status_says_since_when(
    sqlite_settings, tmp_path
):
    away = with_anchors(sqlite_settings, f"folder:{tmp_path / 'not-mounted'}")
    async with open_world(away) as world:
        crm = await world.app()
        member = await crm.register(phone="081-234-5678")
        assert (await crm.view(member)).status_code == 200
        await world.runtime.anchors.anchor()
        ready = await world.http.get("/readyz")
        assert (ready.status_code, ready.json()["checks"]["anchors"]) == (200, "unreachable")
        told = await command(world, "doctor")
        (row,) = [check for check in told["checks"] if check["check"] == "anchors"]
        assert row["state"] == "warn"
        assert "not anchored since" in row["says"]


async def test_a_privileged_event_is_anchored_soon_and_another_in_its_time(small):
    async with open_world(small) as world:
        await world.until("SELECT 1 FROM audit_anchor")  # the first head is due at once
        await events(world)
        before = await world.fetch("SELECT * FROM audit_anchor")
        assert not await world.runtime.anchors._is_due()
        await world.app()  # who may do what has changed
        await world.until(f"SELECT 1 FROM audit_anchor WHERE size > {before[-1]['size']}")


async def test_the_readiness_page_says_how_far_the_log_is_behind(small):
    async with open_world(small, background=False) as world:
        await events(world, 2)
        async with world.runtime.database.unit_of_work() as work:
            await world.runtime.audit.record(work, world.operator, "test.event")
        log = (await world.http.get("/readyz")).json()["log"]
        assert (log["waiting"], log["size"]) == (1, world.runtime.sequencer.state.size)
        assert log["lag_ms"] >= 0


def test_an_address_that_is_none_is_refused_at_the_start(sqlite_settings):
    verifier = Signer.from_seed("x.example/y", bytes(32)).verifier
    with pytest.raises(YinyomError, match="folder:PATH or s3:"):
        Anchors(with_anchors(sqlite_settings, "ftp://there"), None, verifier, None)


# --- a database that was put back -----------------------------------------------------


async def put_back(settings, tmp_path, *, later):
    """Anchor a log, copy the registry, let it grow and be anchored, and put the copy back."""
    old = tmp_path / "old"
    async with open_world(settings, background=False) as world:
        crm = await world.app()
        member = await crm.register(phone="081-234-5678")
        await events(world, 5)
        await world.runtime.anchors.anchor()
    shutil.copytree(settings.data_dir, old)
    async with open_world(settings, background=False) as world:
        await events(world, later)
        await world.runtime.anchors.anchor()
        lost = (await newest(world))["size"]
    shutil.rmtree(settings.data_dir)
    shutil.copytree(old, settings.data_dir)
    return crm, member, lost


async def test_a_database_older_than_its_newest_anchor_signs_nothing_and_discloses_nothing(
    small, tmp_path
):
    crm, member, _ = await put_back(small, tmp_path, later=7)
    async with open_world(small) as world:
        before = await newest(world)
        ready = await world.http.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["checks"]["sequencer"] == "log-older-than-anchor"
        answer = await crm.through(world).view(member)
        assert (answer.status_code, answer.json()["reason"]) == (
            503,
            "audit_log-older-than-anchor",
        )
        assert "data" not in answer.json()
        assert (await crm.through(world).withdraw(member)).status_code == 503
        with pytest.raises(UnavailableError) as caught:
            await world.app("another")
        assert "new-origin" in caught.value.diagnostics()
        told = await command(world, "doctor")
        (row,) = [check for check in told["checks"] if check["check"] == "sequencer"]
        assert (told["ok"], row["says"]) == (False, "log-older-than-anchor")
        report = await command(world, "audit.verify_db")
        assert not report["ok"]
        assert any("once had" in finding for finding in report["findings"])
        assert await newest(world) == before
    away = with_anchors(small)  # taking the anchor out of the settings opens nothing
    async with open_world(away, background=False) as world:
        assert world.runtime.sequencer.state.reason == "log-older-than-anchor"
        assert await newest(world) == before


async def test_a_database_put_back_while_its_anchor_was_away_is_stopped_when_it_comes_back(
    small, folder, tmp_path
):
    await put_back(small, tmp_path, later=4)
    folder.rename(tmp_path / "unmounted")
    async with open_world(small, background=False) as world:
        await events(world, 9)  # nobody could tell it, so it went on: a fork
        (tmp_path / "unmounted").rename(folder)
        (told,) = await world.runtime.anchors.anchor()
        assert told.verdict is AnchorVerdict.FORKED
        size = (await newest(world))["size"]
        world.runtime.audit.unblock()
        async with world.runtime.database.unit_of_work() as work:
            await world.runtime.audit.record(work, world.operator, "test.event")
        with pytest.raises(Exception, match="anchored"):
            await world.runtime.sequencer.drain()
        assert (await newest(world))["size"] == size


async def test_what_the_log_did_not_sign_raises_an_alarm_and_stops_nothing(small):
    async with open_world(small, background=False) as world:
        await events(world)
        origin = world.runtime.audit.origin
        (sink,) = world.runtime.anchors.sinks
        stranger = Signer.from_seed(origin, bytes(32))
        forged = sign_checkpoint(Checkpoint(origin, 10**6, bytes(32)), stranger)
        await sink.put(anchor_name(origin, 10**6), forged.encode())
        await sink.put(anchor_folder(origin) + "zzz", b"\xff")
        (told,) = await world.runtime.anchors.anchor()
        assert (told.verdict, told.size) == (AnchorVerdict.SPOILED, (await newest(world))["size"])
        assert await world.runtime.anchors.guard() is None
        await events(world, 2)
        assert (await world.runtime.anchors.opinion())[0] == "bad"
        report = await command(world, "audit.verify_db")
        assert not report["ok"]


async def test_a_head_of_this_size_with_another_root_under_the_logs_own_key_is_a_fork(small):
    async with open_world(small, background=False) as world:
        await events(world)
        size, signer = (await newest(world))["size"], signer_of(world)
        (sink,) = world.runtime.anchors.sinks
        other = sign_checkpoint(Checkpoint(signer.name, size, bytes(32)), signer)
        await sink.put(anchor_name(signer.name, size), other.encode())
        (told,) = await world.runtime.anchors.anchor()
        assert told.verdict is AnchorVerdict.FORKED
        assert world.runtime.sequencer.state.reason == "log-forked"


async def test_the_check_of_the_database_holds_every_anchor_against_the_log(small, folder):
    async with open_world(small, background=False) as world:
        for _ in range(3):
            await events(world, 100)
            await world.runtime.anchors.anchor()
        report = await command(world, "audit.verify_db")
        assert (report["ok"], report["anchors"], report["silent"]) == (True, 3, [])
        world.runtime.anchors.sinks[0]._root = folder / "not-mounted"
        report = await command(world, "audit.verify_db")
        assert (report["ok"], report["anchors"]) == (True, 0)
        assert report["silent"] == [f"folder:{folder}"]


# --- another name ---------------------------------------------------------------------


async def test_a_sound_log_is_given_no_other_name(small):
    async with open_world(small, background=False) as world:
        await events(world)
        with pytest.raises(Exception, match="needs no other name"):
            await command(world, "audit.new_origin", confirmed=True, operator=None)


async def test_the_new_name_begins_with_an_event_that_names_the_old_head_and_who_decided(
    small, tmp_path
):
    crm, member, lost = await put_back(small, tmp_path, later=7)
    async with open_world(small, background=False) as world:
        old, old_vkey, last = (
            world.runtime.audit.origin,
            world.runtime.audit.vkey,
            await newest(world),
        )
        added = await world.fetch("SELECT id FROM staff")
        operator = added[0]["id"] if added else None
        told = await command(world, "audit.new_origin", confirmed=False, operator=operator)
        assert (told["done"], told["new"], told["size"]) == (False, f"{old}/2", last["size"])
        assert (await world.fetch("SELECT origin FROM audit_head"))[0]["origin"] == old
        made = await command(world, "audit.new_origin", confirmed=True, operator=operator)
        assert made["done"]
    async with open_world(small) as world:
        assert world.runtime.audit.origin == f"{old}/2"
        assert (await world.http.get("/readyz")).status_code == 200
        assert (await crm.through(world).view(member)).status_code == 200
        (event,) = await world.events("audit.new_origin")
        assert event["resource"] == f"sha256:{bytes(last['root']).hex()}"
        assert event["count"] == last["size"]
        leaf = await world.fetch(
            "SELECT leaf_index FROM audit_leaf WHERE event_id = :id", id=event["id"]
        )
        assert leaf[0]["leaf_index"] == last["size"]
        first = await world.fetch(
            "SELECT note FROM audit_checkpoint WHERE size = :size", size=last["size"] + 1
        )
        assert open_checkpoint(first[0]["note"], signer_of(world).verifier).origin == f"{old}/2"
        await world.runtime.sequencer.drain()
        await world.runtime.anchors.anchor()
        report = await command(world, "audit.verify_db")
        assert report["ok"], report["findings"]
        ended = tmp_path / "ended"
        answer = await command(world, "audit.export_ended", out=str(ended), origin=old)
        assert (answer["events"], answer["vkey"]) == (last["size"], old_vkey)
        assert verify_bundle(ended, old_vkey).ok
        whole = tmp_path / "whole"
        await command(world, "audit.export", out=str(whole))
        assert verify_bundle(whole, world.runtime.audit.vkey).ok
        await world.unguard("audit_origin")
        await world.execute("UPDATE audit_origin SET size = size - 1")
        assert not (await command(world, "audit.verify_db"))["ok"]
        names = await world.runtime.anchors.sinks[0].names(anchor_folder(old))
        assert names[-1] == anchor_name(old, lost), "the old name's anchors stay as they were"


async def test_a_process_that_knows_the_old_name_alone_signs_nothing_more(small, tmp_path):
    await put_back(small, tmp_path, later=2)
    async with open_world(small, background=False) as world:
        await command(world, "audit.new_origin", confirmed=True, operator=None)
        assert world.runtime.sequencer.state.reason == "log-renamed"
        world.runtime.audit.unblock()
        async with world.runtime.database.unit_of_work() as work:
            await world.runtime.audit.record(work, world.operator, "test.event")
        with pytest.raises(Exception, match="another name"):
            await world.runtime.sequencer.drain()


async def test_a_database_put_back_twice_takes_no_name_twice(small, tmp_path):
    await put_back(small, tmp_path, later=2)
    before = tmp_path / "before"
    shutil.copytree(small.data_dir, before)
    for number in (2, 3):
        async with open_world(small, background=False) as world:
            made = await command(world, "audit.new_origin", confirmed=True, operator=None)
            assert made["new"].endswith(f"/{number}")
        async with open_world(small, background=False) as world:
            await events(world)
            await world.runtime.anchors.anchor()
        shutil.rmtree(small.data_dir)
        shutil.copytree(before, small.data_dir)


async def test_a_log_that_continues_another_configured_name_is_refused(small, tmp_path):
    audit = small.audit.model_copy(update={"origin": "yinyom.local"})
    other = small.model_copy(update={"audit": audit})
    with pytest.raises(ConfigurationError):
        async with open_world(other, background=False):
            pass


# --- dropping checkpoints -------------------------------------------------------------

HOUR_US = 3_600_000_000


async def test_old_heads_are_dropped_but_for_the_first_of_an_hour_and_those_others_hold(
    anchored_settings, tmp_path
):
    async with open_world(anchored_settings, background=False) as world:
        now_us = world.runtime.clock.now_us()
        began_us = (now_us // HOUR_US - 72) * HOUR_US
        first = (await newest(world))["size"]
        at_us = {}
        signer = signer_of(world)
        for at in range(30):
            await events(world)
            at_us[(await newest(world))["size"]] = began_us + at * HOUR_US // 10
        earlier = (await newest(world))["note"]
        held = sorted(at_us)[13], sorted(at_us)[14]
        await age(world, at_us)
        await world.execute(
            "INSERT INTO audit_anchor VALUES (:size, 'folder:x', 'x', 1)", size=held[0]
        )
        await world.execute(
            "INSERT INTO audit_cosignature VALUES (:size, 'w', 'x', 1)", size=held[1]
        )
        await events(world)
        before = {row["size"] for row in await world.fetch("SELECT size FROM audit_checkpoint")}
        from audit import drop_old_checkpoints

        dropped = await drop_old_checkpoints(world.runtime.database, world.runtime.clock)
        after = {row["size"] for row in await world.fetch("SELECT size FROM audit_checkpoint")}
        firsts = {
            min(size for size, us in at_us.items() if us // HOUR_US == hour)
            for hour in {us // HOUR_US for us in at_us.values()}
        }
        young = before - at_us.keys()
        assert after == young | firsts | set(held)
        assert dropped == len(before) - len(after) > 20
        assert await drop_old_checkpoints(world.runtime.database, world.runtime.clock) == 0
        # A head kept elsewhere is checked as before: its proof comes from tiles.
        bundle = tmp_path / "bundle"
        await command(world, "audit.export", out=str(bundle))
        gone = max(before - after)
        assert gone > first
        note = sign_checkpoint(await checkpoint_at(world, signer, gone), signer)
        report = verify_bundle(bundle, signer.vkey, note)
        assert report.ok, report.findings
        assert verify_bundle(bundle, signer.vkey, earlier).ok
        for size in after:
            with pytest.raises(Exception, match="append-only"):
                await world.execute("DELETE FROM audit_checkpoint WHERE size = :size", size=size)


async def checkpoint_at(world, signer, size):
    from audit.anchoring import root_at

    async with world.runtime.database.read() as session:
        return Checkpoint(signer.name, size, await root_at(session, size))


async def age(world, at_us):
    """Put checkpoints back in time, past their guard, which stands again afterwards."""
    if world.settings.on_postgres:
        await world.execute("ALTER TABLE audit_checkpoint DISABLE TRIGGER USER")
        for size, us in at_us.items():
            await world.execute(
                "UPDATE audit_checkpoint SET created_us = :us WHERE size = :size", us=us, size=size
            )
        for trigger in ("frozen", "kept"):
            await world.execute(
                f"ALTER TABLE audit_checkpoint ENABLE ALWAYS TRIGGER audit_checkpoint_{trigger}"
            )
        return
    with closing(sqlite3.connect(world.settings.database_file, timeout=5)) as file, file:
        (sql,) = file.execute(
            "SELECT sql FROM sqlite_master WHERE name = 'audit_checkpoint_no_update'"
        ).fetchone()
        file.execute("DROP TRIGGER audit_checkpoint_no_update")
        file.executemany(
            "UPDATE audit_checkpoint SET created_us = ? WHERE size = ?",
            [(us, size) for size, us in at_us.items()],
        )
        file.execute(sql)
