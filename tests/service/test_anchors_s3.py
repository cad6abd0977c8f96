"""Anchors in a bucket of a real S3 server: locked, written once, and told again when it was deaf."""

# ruff: noqa: F811 (fixtures are asked for by name)

import contextlib
import select
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest

from audit import AnchorVerdict
from audit.anchoring import anchor_folder, anchor_name
from service.commands import COMMANDS
from service.settings import AuditSettings
from tests.support.stores import BUCKET, s3_store, weed  # noqa: F401 (fixtures)
from tests.support.world import installed_sqlite, open_world, sqlite_settings  # noqa: F401

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


def anchored_in(settings, address, backup, **more):
    audit = AuditSettings(anchors=(address,), **more)
    return settings.model_copy(update={"audit": audit, "backup": backup})


@pytest.fixture
def locked(weed):
    """A bucket that was made with Object Lock."""
    bucket = f"trail-{time.monotonic_ns()}"
    weed.client().create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    return bucket


async def an_event(world):
    async with world.runtime.database.unit_of_work() as work:
        await world.runtime.audit.record(work, world.operator, "test.event")
    await world.runtime.sequencer.drain()
    return world.runtime.sequencer.state.size


class Deaf:
    """A way to the S3 server on which, while `loses`, the answer to a PUT never arrives."""

    def __init__(self, endpoint):
        there = urlsplit(endpoint)
        self._there = there.hostname, there.port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.loses = True
        self.lost = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listening.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client):
        with client, socket.create_connection(self._there) as server, contextlib.suppress(OSError):
            putting = False
            while True:
                ready, _, _ = select.select([client, server], [], [], 30)
                if client in ready:
                    data = client.recv(65_536)
                    if not data:
                        return
                    putting = putting or data.startswith(b"PUT ")
                    server.sendall(data)
                if server in ready:
                    data = server.recv(65_536)
                    if not data:
                        return
                    if putting and self.loses and b" 200 " in data.split(b"\r\n", 1)[0]:
                        self.lost += 1
                        return
                    client.sendall(data)
                if not ready:
                    return


@pytest.fixture
def deaf(weed):
    way = Deaf(weed.endpoint)
    yield way
    way.close()


async def test_a_head_in_a_locked_bucket_is_there_until_its_day(
    sqlite_settings, s3_store, locked, weed
):
    settings = anchored_in(
        sqlite_settings, f"s3://{locked}/r1", s3_store.backup, anchor_lock_days=2
    )
    async with open_world(settings, background=False) as world:
        size = await an_event(world)
        (told,) = await world.runtime.anchors.anchor()
        assert (told.verdict, told.size) == (AnchorVerdict.HELD, size)
        status = await world.runtime.anchors.status()
        assert status["anchors"][0]["locked"] is True
        assert (await world.runtime.anchors.opinion())[0] == "ok"
        origin = world.runtime.audit.origin
        key = f"r1/{anchor_name(origin, size)}"
        s3 = weed.client()
        head = s3.head_object(Bucket=locked, Key=key)
        assert head["ObjectLockMode"] == "COMPLIANCE"
        left = (head["ObjectLockRetainUntilDate"] - head["LastModified"]).total_seconds()
        assert 1.9 * 86_400 < left < 2.1 * 86_400
        with pytest.raises(s3.exceptions.ClientError):
            s3.delete_object(
                Bucket=locked,
                Key=key,
                VersionId=head["VersionId"],
                BypassGovernanceRetention=True,
            )
        (row,) = await world.fetch("SELECT receipt FROM audit_anchor")
        assert row["receipt"].endswith(f"?versionId={head['VersionId']}")
        # Whoever may write to the bucket can hide a locked head behind a newer version: an alarm.
        s3.put_object(Bucket=locked, Key=f"r1/{anchor_name(origin, size + 5)}", Body=b"anything")
        await an_event(world)
        assert (await world.runtime.anchors.anchor())[0].verdict is AnchorVerdict.SPOILED


async def test_a_bucket_without_a_lock_takes_heads_and_the_doctor_says_so(
    sqlite_settings, s3_store
):
    settings = anchored_in(sqlite_settings, s3_store.address, s3_store.backup)
    async with open_world(settings, background=False) as world:
        for _ in range(2):
            size = await an_event(world)
            await world.runtime.anchors.anchor()
        names = await s3_store.open().names(anchor_folder(world.runtime.audit.origin))
        assert names[-1] == anchor_name(world.runtime.audit.origin, size)
        assert len(names) == 2
        doctor = await COMMANDS["doctor"](world.runtime, lambda *_: None)
        (row,) = [check for check in doctor["checks"] if check["check"] == "anchors"]
        assert row["state"] == "warn"
        assert "no Object Lock" in row["says"]
        report = await COMMANDS["audit.verify_db"](world.runtime, lambda *_: None)
        assert (report["ok"], report["anchors"]) == (True, 2)


async def test_the_server_answered_200_and_nobody_heard_it(sqlite_settings, s3_store, deaf):
    backup = s3_store.backup.model_copy(update={"s3_endpoint": deaf.endpoint})
    settings = anchored_in(sqlite_settings, s3_store.address, backup)
    async with open_world(settings, background=False) as world:
        size = await an_event(world)
        (told,) = await world.runtime.anchors.anchor()
        assert deaf.lost >= 1, "an answer was lost"
        # The client's own second try finds the name taken, by these very bytes.
        assert told.verdict in {AnchorVerdict.HELD, AnchorVerdict.UNREACHABLE}
        deaf.loses = False
        (told,) = await world.runtime.anchors.anchor()
        assert (told.verdict, told.size) == (AnchorVerdict.HELD, size)
        store = s3_store.open()
        assert len(await store.names(anchor_folder(world.runtime.audit.origin))) == 1
        assert not (await world.runtime.anchors.status())["alarm"]
        assert world.runtime.sequencer.state.reason is None


async def test_a_restore_that_the_anchors_know_more_than_may_not_be_signed(
    sqlite_settings, s3_store, tmp_path
):
    from service.restores import restore_backup
    from service.settings import Settings
    from tests.support.stores import begin, create, kit_of

    folder = tmp_path / "anchors"
    folder.mkdir()
    address = f"folder:{folder}"
    settings = anchored_in(sqlite_settings, address, s3_store.backup)
    async with open_world(settings, background=False) as world:
        crm = await world.app()
        member = await crm.register(phone="081-234-5678")
        await begin(world, s3_store)
        await create(world)
        for _ in range(3):
            await an_event(world)
        await world.runtime.anchors.anchor()
        old, lost = world.runtime.audit.origin, world.runtime.sequencer.state.size
    target = tmp_path / "restored"

    async def restore():
        return await restore_backup(
            settings,
            s3_store.address,
            into=target,
            database_url="",
            generation=None,
            allow_older=False,
            kit=kit_of(settings),
            signer=None,
            progress=lambda *_: None,
        )

    folder.rename(tmp_path / "away")
    with pytest.raises(Exception, match="anchor"):
        await restore()
    assert not target.exists()
    (tmp_path / "away").rename(folder)
    told = await restore()
    assert told["log_refused"] == "log-older-than-anchor"
    made = anchored_in(Settings(data_dir=target), address, s3_store.backup)
    async with open_world(made, background=False) as world:
        assert world.runtime.sequencer.state.reason == "log-older-than-anchor"
        assert world.runtime.sequencer.state.size < lost
        heads = await world.fetch("SELECT size FROM audit_checkpoint")
        assert len(heads) == 1, "nothing was signed on top of what was shipped"
        answer = await COMMANDS["audit.new_origin"](
            world.runtime, lambda *_: None, confirmed=True, operator=None
        )
        assert answer["new"] == f"{old}/2"
    async with open_world(made, background=False) as world:
        await world.runtime.sequencer.drain()
        report = await COMMANDS["audit.verify_db"](world.runtime, lambda *_: None)
        assert report["ok"], report["findings"]
        assert [e["action"] for e in await world.events("backup.restore")] == ["backup.restore"]
        again = type(crm)(world, world.http, {"client_id": crm.id, "client_secret": crm.secret})
        await again.sign_in()
        assert (await again.view(member)).status_code == 200
