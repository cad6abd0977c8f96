"""Worlds that the tests of every room may ask for: databases, foreign vectors, an event loop.

A PostgreSQL cluster is made once per run, on first use, and shared by all workers; a test that
asks gets a database of its own in it. A watcher ends the cluster when pytest ends, even by a
kill, so that no run leaves a server behind.
"""

import asyncio
import fcntl
import gc
import itertools
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

if TYPE_CHECKING:
    from service.settings import Settings

REPOSITORY = Path(__file__).resolve().parent.parent
RUN_FOLDER = "YINYOM_TEST_RUN_FOLDER"
RUN_PID = "YINYOM_TEST_RUN_PID"
START_ATTEMPTS = 3

WATCHER = """
while kill -0 "$1" 2>/dev/null; do sleep 1; done
folder=$2
shift 2
"$@" -m immediate stop
rm -rf "$folder"
rmdir "$(dirname "$folder")"
"""


# How long an example takes says something of the machine and nothing of the code.
hypothesis_settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """Make one folder for the run; the workers inherit its name."""
    gc.set_threshold(20_000)  # thousands of registries are opened: a sixth of the time is garbage
    if not hasattr(config, "workerinput"):
        folder = tempfile.mkdtemp(prefix="yinyom-tests-")
        Path(folder).chmod(0o711)  # the server's own user walks through, and lists nothing
        os.environ[RUN_FOLDER] = folder
        os.environ[RUN_PID] = str(os.getpid())


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        folder = Path(os.environ[RUN_FOLDER])
        if not any(folder.iterdir()):  # else the watcher clears up, once the server is down
            folder.rmdir()


# Whole folders and files that start servers, browsers, stores or processes to kill.
SLOW = (
    "tests/backup/",
    "tests/e2e/",
    "tests/faults/",
    "tests/audit/test_split_view.py",
    "tests/audit/test_strangers.py",
    "tests/members/test_import_counts.py",
    "tests/service/test_anchors",
    "tests/service/test_api_canaries.py",
    "tests/service/test_api_failing_database.py",
    "tests/service/test_cli",
    "tests/service/test_control.py",
    "tests/service/test_demo.py",
    "tests/service/test_kms.py",
    "tests/service/test_log_key_rotation.py",
    "tests/service/test_no_outbound.py",
    "tests/service/test_portal_pages.py",
    "tests/service/test_search_cli.py",
    "tests/service/test_start_refusals.py",
    "tests/service/test_surface.py",
    "tests/service/test_three_roles.py",
    "tests/vault/test_recovering.py",
    "test_schemathesis",
)
# What every change is tried on with PostgreSQL as well; all others wait for the whole run.
EVERY_DAY_ON_POSTGRES = ("tests/audit/", "tests/kernel/")


# Each command is a process of a second: of engines, and of a server that is open or none, the
# two pairs in which both differ are enough for every day.
LONG = ("[alone-postgres", "[beside a server-sqlite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out of the fast run what starts other programs."""
    for item in items:
        where = item.path.as_posix()
        on_postgres = item.get_closest_marker("postgres") is not None
        if any(part in where for part in SLOW) or (
            on_postgres and not any(part in where for part in EVERY_DAY_ON_POSTGRES)
        ):
            item.add_marker(pytest.mark.slow)
        if item.path.name == "test_cli.py" and any(pair in item.name for pair in LONG):
            item.add_marker(pytest.mark.long)


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="session")
def repository_root() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of law, data and vectors that stands beside the repository."""
    folder = Path(os.environ.get("YINYOM_SHARED") or REPOSITORY.parent / "shared")
    if not folder.is_dir():
        pytest.skip("no shared folder; set YINYOM_SHARED or lay it beside the repository")
    return folder


@pytest.fixture(scope="session")
def vectors_dir() -> Path:
    """Test vectors that nobody on this project wrote."""
    named = os.environ.get("YINYOM_VECTORS")
    shared = Path(os.environ.get("YINYOM_SHARED") or REPOSITORY.parent / "shared")
    folder = Path(named) if named else shared / "vectors"
    if not folder.is_dir():
        pytest.skip("no foreign vectors; set YINYOM_VECTORS or lay shared/vectors there")
    return folder


# --- PostgreSQL -----------------------------------------------------------------------


@dataclass(frozen=True)
class PostgresServer:
    """A running throw-away cluster; the superuser `yinyom` needs no password."""

    binaries: Path
    folder: Path
    port: int

    @property
    def as_files(self) -> str:
        """Without fsync, copying a template's files is quicker than writing its pages as WAL."""
        version = self.binaries.parent.name
        return "STRATEGY file_copy" if version.isdigit() and int(version) >= 15 else ""

    def url(self, database: str) -> str:
        return f"postgresql://yinyom@127.0.0.1:{self.port}/{database}"

    def run_sql(self, sql: str, database: str = "postgres") -> str:
        """Run statements with psql, in one go, and give what it prints."""
        return subprocess.run(
            [
                *(self.binaries / "psql", "--no-psqlrc", "--quiet", "--tuples-only"),
                *("--no-align", "--set=ON_ERROR_STOP=1", self.url(database)),
            ],
            input=sql,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    def template(self, name: str, fill: Callable[[str], object]) -> str:
        """Make, once per run, a database to copy others from; `fill` is given its URL."""
        draft = f"{name}_draft"
        with (self.folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.run_sql(f"SELECT 1 FROM pg_database WHERE datname = '{name}'"):
                self.run_sql(f'DROP DATABASE IF EXISTS "{draft}"')
                self.run_sql(f'CREATE DATABASE "{draft}"')
                fill(self.url(draft))
                self.run_sql(f'ALTER DATABASE "{draft}" RENAME TO "{name}"')
        return name


def _postgres_binaries() -> Path:
    versions = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"),
        key=lambda file: int(file.parts[-3]),
    )
    on_path = shutil.which("initdb")
    candidates = [*versions, *([Path(on_path).resolve()] if on_path else [])]
    if not candidates:
        pytest.skip("no PostgreSQL server binaries; install the package postgresql")
    return candidates[-1].parent


def _as_server_user() -> list[str]:
    """PostgreSQL refuses to run as root; the package brings a user for it."""
    return ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start_cluster(binaries: Path, folder: Path, *, durable: bool) -> int:
    home = folder / "home"
    home.mkdir()
    if os.geteuid() == 0:
        shutil.chown(home, "postgres")
    data = home / "data"
    control = [*_as_server_user(), str(binaries / "pg_ctl"), "-D", str(data)]
    subprocess.run(
        [
            *(*_as_server_user(), binaries / "initdb", "-D", data, "-A", "trust", "-U", "yinyom"),
            *("-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"),
        ],
        check=True,
        capture_output=True,
        cwd="/",
    )
    durability = "-c fsync=on" if durable else "-c fsync=off -c full_page_writes=off"
    for attempt in range(START_ATTEMPTS):
        port = _free_port()
        options = (
            f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={home} "
            f"-c max_connections=200 -c timezone=UTC {durability}"
        )
        started = subprocess.run(
            [*control, "-w", "-o", options, "-l", str(home / "server.log"), "start"],
            check=attempt == START_ATTEMPTS - 1,  # until then, somebody else may have the port
            stdout=subprocess.DEVNULL,
            cwd="/",
        )
        if started.returncode == 0:
            break
    watching = f"({WATCHER}) >/dev/null 2>&1 &"
    subprocess.run(
        ["sh", "-c", watching, "watcher", os.environ[RUN_PID], str(folder), *control],
        check=True,
        start_new_session=True,
        cwd="/",
    )
    return port


def _cluster(name: str, *, durable: bool) -> PostgresServer:
    """Join the run's cluster of this name, or be the first and start it."""
    binaries = _postgres_binaries()
    folder = Path(os.environ[RUN_FOLDER]) / name
    folder.mkdir(mode=0o711, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            port = int((folder / "port").read_text())
        except FileNotFoundError:
            port = _start_cluster(binaries, folder, durable=durable)
            (folder / "port").write_text(str(port))
    return PostgresServer(binaries, folder / "home", port)


@pytest.fixture(scope="session")
def postgres_server() -> PostgresServer:
    """A cluster that forgets fsync: right for behaviour, wrong for faults and for timings."""
    return _cluster("postgres", durable=False)


@pytest.fixture(scope="session")
def durable_postgres_server() -> PostgresServer:
    """A cluster that keeps its promises on disk, for fault tests."""
    return _cluster("durable-postgres", durable=True)


_numbers = itertools.count(1)


@pytest.fixture
def new_postgres_database(postgres_server: PostgresServer) -> Iterator[Callable[..., str]]:
    """A maker of databases, empty or copied from a template, dropped after the test."""
    made = []

    def make(template: str = "template1") -> str:
        name = f"test_{os.getpid()}_{next(_numbers)}"
        postgres_server.run_sql(
            f'CREATE DATABASE "{name}" TEMPLATE "{template}" {postgres_server.as_files}'
        )
        made.append(name)
        return postgres_server.url(name)

    yield make
    for name in made:
        postgres_server.run_sql(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def postgres_database_url(new_postgres_database: Callable[..., str]) -> str:
    """The URL of a fresh, empty database."""
    return new_postgres_database()


# --- both engines ---------------------------------------------------------------------


@dataclass(frozen=True)
class Engine:
    """What a test hands to `database.url`: empty for SQLite in the data directory."""

    kind: str
    url: str


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Run the test once on SQLite and once on PostgreSQL, with nothing in the database."""
    if request.param == "sqlite":
        return Engine("sqlite", "")
    return Engine("postgres", request.getfixturevalue("postgres_database_url"))


@pytest.fixture(scope="session")
def migrated_sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry file with the newest schema and nothing in it; copy it, never write to it."""
    from service.schema import migrate
    from service.settings import Settings

    settings = Settings(data_dir=tmp_path_factory.mktemp("migrated"))
    asyncio.run(migrate(settings))
    return settings.database_file


@pytest.fixture
def migrated_postgres_url(
    postgres_server: PostgresServer, new_postgres_database: Callable[..., str]
) -> str:
    """The URL of a fresh database with the newest schema and nothing in it."""
    from service.schema import migrate
    from service.settings import DatabaseSettings, Settings

    def fill(url: str) -> None:
        asyncio.run(migrate(Settings(database=DatabaseSettings(url=url))))

    return new_postgres_database(postgres_server.template("migrated", fill))


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def migrated_settings(request: pytest.FixtureRequest, tmp_path: Path) -> "Settings":
    """Settings of an empty registry, once on SQLite and once on PostgreSQL, schema in place."""
    from service.settings import DatabaseSettings, Settings

    data_dir = tmp_path / "yinyom-data"
    data_dir.mkdir(mode=0o700)
    if request.param == "postgres":
        url = request.getfixturevalue("migrated_postgres_url")
        return Settings(data_dir=data_dir, database=DatabaseSettings(url=url))
    settings = Settings(data_dir=data_dir)
    shutil.copyfile(request.getfixturevalue("migrated_sqlite_file"), settings.database_file)
    settings.database_file.chmod(0o600)
    return settings
