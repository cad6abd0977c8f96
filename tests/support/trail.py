"""The trail in the hands of whoever owns the database: read whole, changed at will, written back.

A forger here knows the formats as well as we do. What he changes he carries on consistently as
far as the mutation says: leaves, tiles, checkpoints, signed with a key of his own or with a
stolen one. Guards are taken off for his writing and put back, so that nothing gives him away but
what he wrote.
"""

import asyncio
import contextlib
import copy
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import typer.testing

from audit import (
    Cosigner,
    Shown,
    Signer,
    Witness,
    ask_witness,
    draft_bulk,
    export_log,
    record_bulk,
)
from audit.merkle import leaf_hash
from audit.note import Checkpoint, sign_checkpoint
from audit.tiles import TreeEdge
from kernel import Caller, SystemClock
from service.cli.main import app
from service.runtime import open_database
from service.settings import DatabaseSettings, Settings
from service.setup import set_up
from tests.support.world import World, fetch, open_world
from vault import PSEUDONYM, OwnerKey

TABLES = {
    "audit_event": "id",
    "audit_leaf": "leaf_index",
    "audit_tile": "level, n",
    "audit_checkpoint": "size",
    "audit_cosignature": "size, witness",
    "audit_head": "origin",
    "audit_pending": "event_id",
    "audit_manifest": "event_id",
    "audit_manifest_token": "event_id, place",
}
BULK = 200
"""The event of the staged log that tells of five members, with rows beside it."""
SIZES = (256, 300, 511, 600, 700)
"""Checkpoints of the staged log; the one of 300 and the newest were kept outside."""
WITNESS = Cosigner.from_seed("witness.example/tamper", bytes(range(64, 96)))


@dataclass(frozen=True)
class Stage:
    """A closed registry with a log of 700 events, and what others kept of it outside."""

    settings: Settings
    outside: Path

    @property
    def vkey(self) -> str:
        return (self.outside / "vkey").read_text()

    @property
    def stolen_key(self) -> Signer:
        """The log's own signing key, as somebody has it who was in the server."""
        seed = (self.outside / "stolen").read_bytes()
        return Signer.from_seed(self.settings.audit.origin, seed)

    def old(self, size: int) -> Path:
        return self.outside / f"{size}.note"

    async def ask_the_witness(self) -> str:
        """Show the newest head to the witness that signed 300 and 700; gives how that ended."""
        database = open_database(self.settings)
        witness = witness_of(self)
        try:

            async def post(body: bytes) -> tuple[int, str]:
                reply = witness.add_checkpoint(body)
                return reply.status, reply.text

            asked = await ask_witness(database, SystemClock(), WITNESS.verifier, post)
        finally:
            await database.close()
        return asked.verdict.value


def witness_of(stage: Stage) -> Witness:
    signer = stage.stolen_key
    return Witness(WITNESS, [signer.verifier], stage.outside / "witness.db", SystemClock())


def fill(settings: Settings, outside: Path) -> None:
    """Let a registry live until its log counts 700 events, and keep its heads outside."""
    outside.mkdir()
    asyncio.run(_fill(settings, outside))


async def _fill(settings: Settings, outside: Path) -> None:
    stage = Stage(settings, outside)
    async with open_world(settings, background=False) as world:
        crm = await world.app()
        for at in range(3):
            member = await crm.register(phone=f"081-234-567{at}", consents={"marketing": "sms"})
            for _ in range(20):
                await crm.view(member)
        await tell_of_many(world)
        (outside / "vkey").write_text(world.runtime.audit.vkey)
        (outside / "stolen").write_bytes(world.runtime.vault.log_seeds()[1])
        for size in SIZES:
            await grow(world, size)
            (row,) = await world.fetch(
                "SELECT note FROM audit_checkpoint WHERE size = :size", size=size
            )
            stage.old(size).write_text(row["note"])
            if size in {300, SIZES[-1]}:
                assert await stage.ask_the_witness() == "cosigned"


async def tell_of_many(world: World) -> None:
    """Write events up to the one that tells of five members, without a place in the log yet."""
    (row,) = await world.fetch("SELECT count(*) AS count FROM audit_event")
    audit = world.runtime.audit
    shown = [
        Shown(f"mem_{at}", OwnerKey(f"mem_{at}", PSEUDONYM, 1, at.to_bytes(32)), ("phone",))
        for at in range(5)
    ]
    async with world.runtime.database.unit_of_work() as work:
        for at in range(BULK - row["count"]):
            await write_event(audit, work, world.operator, at)
        (bulk,) = draft_bulk(audit, world.operator, "audience.export", shown)
        await record_bulk(audit, work, bulk)


async def grow(world: World, size: int) -> None:
    """Write events until the log has this size."""
    waiting = await world.fetch("SELECT count(*) AS count FROM audit_event")
    async with world.runtime.database.unit_of_work() as work:
        for at in range(size - waiting[0]["count"]):
            await write_event(world.runtime.audit, work, world.operator, at)
    assert await world.runtime.sequencer.drain() == size


async def write_event(audit: Any, work: Any, caller: Caller, at: int) -> str:
    made: str = await audit.record(work, caller, "test.event", count=at)
    return made


def copied(stage: Stage, folder: Path, make_database: Callable[[str], str] | None) -> Stage:
    """The same stage for one test; `make_database` copies its PostgreSQL database."""
    data_dir, outside = folder / "yinyom-data", folder / "outside"
    shutil.copytree(stage.settings.data_dir, data_dir)
    shutil.copytree(stage.outside, outside)
    settings = stage.settings.model_copy(update={"data_dir": data_dir})
    if make_database is not None:
        template = stage.settings.database.url.rpartition("/")[2]
        database = settings.database.model_copy(update={"url": make_database(template)})
        settings = settings.model_copy(update={"database": database})
    return Stage(settings, outside)


# --- the forger -----------------------------------------------------------------------


@dataclass
class Trail:
    """Every table of the trail, by name, as lists of rows in order of their keys."""

    stage: Stage
    rows: dict[str, list[dict[str, Any]]]
    _before: dict[str, list[dict[str, Any]]] = field(repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._before = copy.deepcopy(self.rows)

    @property
    def events(self) -> dict[str, dict[str, Any]]:
        return {row["id"]: row for row in self.rows["audit_event"]}

    @property
    def leaves(self) -> list[dict[str, Any]]:
        return self.rows["audit_leaf"]

    @property
    def checkpoints(self) -> list[dict[str, Any]]:
        return self.rows["audit_checkpoint"]

    @property
    def size(self) -> int:
        return len(self.leaves)

    def event(self, index: int) -> dict[str, Any]:
        """The row of the event that stands at a place of the log."""
        wanted = self.leaves[index]["event_id"]
        return self.events[wanted]

    def tile(self, level: int, n: int) -> dict[str, Any]:
        return next(t for t in self.rows["audit_tile"] if (t["level"], t["n"]) == (level, n))

    def edit(self, index: int) -> None:
        """Turn an event's outcome round, in its body alone."""
        self.turn(self.event(index))

    @staticmethod
    def turn(row: dict[str, Any]) -> None:
        row["body"] = row["body"].replace(b'"outcome":"ok"', b'"outcome":"error"')

    def remove(self, index: int) -> None:
        """Take an event and its leaf out, and let those behind it move up."""
        gone = self.leaves.pop(index)["event_id"]
        self.rows["audit_event"] = [r for r in self.rows["audit_event"] if r["id"] != gone]
        self.number()

    def cut(self, size: int) -> None:
        """Let the log be as it was when it had this size: everything after that never happened."""
        kept = {row["event_id"] for row in self.leaves[:size]}
        self.rows["audit_leaf"] = self.leaves[:size]
        self.rows["audit_event"] = [r for r in self.rows["audit_event"] if r["id"] in kept]
        for table in ("audit_checkpoint", "audit_cosignature"):
            self.rows[table] = [row for row in self.rows[table] if row["size"] <= size]
        self.grow_tiles()
        self.rows["audit_head"][0]["size"] = size

    def append(self, count: int) -> None:
        """Put so many events at the end that the application never wrote."""
        for at in range(count):
            row = dict(self.event(at))
            old, new = row["id"], row["id"][:-6] + f"zz{at:04}"
            row |= {"id": new, "body": row["body"].replace(old.encode(), new.encode())}
            self.rows["audit_event"].append(row)
            self.leaves.append({"leaf_index": self.size, "event_id": new, "leaf_hash": b""})

    def number(self) -> None:
        for at, leaf in enumerate(self.leaves):
            leaf["leaf_index"] = at

    def rehash(self) -> None:
        """Make every leaf that of its body."""
        events = self.events
        for leaf in self.leaves:
            leaf["leaf_hash"] = leaf_hash(events[leaf["event_id"]]["body"])

    def grow_tiles(self) -> TreeEdge:
        """Make every tile that of the leaves; gives the edge of that tree."""
        edge, tiles = TreeEdge().append([leaf["leaf_hash"] for leaf in self.leaves])
        self.rows["audit_tile"] = [tile._asdict() for tile in tiles]
        return edge

    def sign(self, signer: Signer) -> None:
        """Carry a change through to the top: leaves, tiles, head, and every checkpoint anew.

        What witnesses have signed goes, as it would contradict.
        """
        self.rehash()
        self.rows["audit_cosignature"] = []
        sizes = [row["size"] for row in self.checkpoints if row["size"] < self.size]
        for size in [*sizes, self.size]:
            hashes = [leaf["leaf_hash"] for leaf in self.leaves[:size]]
            root = TreeEdge().append(hashes)[0].root()
            note = sign_checkpoint(Checkpoint(signer.name, size, root), signer)
            self.set_checkpoint(size, root, note)
        self.rows["audit_checkpoint"] = [r for r in self.checkpoints if r["size"] <= self.size]
        self.grow_tiles()
        self.rows["audit_head"][0]["size"] = self.size

    def set_checkpoint(self, size: int, root: bytes, note: str) -> None:
        for row in self.checkpoints:
            if row["size"] == size:
                row |= {"root": root, "note": note}
                return
        self.checkpoints.append(self.checkpoints[-1] | {"size": size, "root": root, "note": note})

    async def write(self) -> None:
        """Put what was changed into the database, past every guard, and the guards back on."""
        changed = {table: rows for table, rows in self.rows.items() if rows != self._before[table]}
        if self.stage.settings.on_postgres:
            await _write_postgres(self.stage.settings.database.url, changed)
        else:
            _write_sqlite(self.stage.settings.database_file, changed)


async def read_trail(stage: Stage) -> Trail:
    """Read every table of the trail."""
    rows = {}
    for table, key in TABLES.items():
        found = await fetch(stage.settings, f"SELECT * FROM {table} ORDER BY {key}")
        rows[table] = [{name: _plain(value) for name, value in row.items()} for row in found]
    return Trail(stage, rows)


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, (bytes, memoryview)) else value


def _write_sqlite(file: Path, changed: dict[str, list[dict[str, Any]]]) -> None:
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        triggers = database.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall()
        for name, _ in triggers:
            database.execute(f"DROP TRIGGER {name}")
        for table, rows in changed.items():
            database.execute(f"DELETE FROM {table}")
            for row in rows:
                marks = ", ".join(f":{name}" for name in row)
                database.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", row)
        for _, sql in triggers:
            database.execute(sql)


async def _write_postgres(url: str, changed: dict[str, list[dict[str, Any]]]) -> None:
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            for table, rows in changed.items():
                triggers = await connection.fetch(
                    "SELECT tgname FROM pg_trigger WHERE tgrelid = $1::regclass "
                    "AND NOT tgisinternal AND tgenabled = 'A'",
                    table,
                )
                await connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
                await connection.execute(f"DELETE FROM {table}")
                if rows:
                    marks = ", ".join(f"${at}" for at in range(1, len(rows[0]) + 1))
                    await connection.executemany(
                        f"INSERT INTO {table} ({', '.join(rows[0])}) VALUES ({marks})",
                        [tuple(row.values()) for row in rows],
                    )
                await connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
                for trigger in triggers:
                    await connection.execute(
                        f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger['tgname']}"
                    )
    finally:
        await connection.close()


# --- the stage ------------------------------------------------------------------------


@pytest.fixture(scope="session")
def staged_sqlite(installed_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """The SQLite registry of the stage; copy it, never spoil it."""
    folder = tmp_path_factory.mktemp("staged")
    data_dir = folder / "yinyom-data"
    shutil.copytree(installed_sqlite, data_dir)
    stage = Stage(Settings(data_dir=data_dir), folder / "outside")
    fill(stage.settings, stage.outside)
    return stage


@pytest.fixture(scope="session")
def staged_postgres(postgres_server: Any) -> Stage:
    """The PostgreSQL registry of the stage; its database is a template."""
    folder = postgres_server.folder / "staged"
    data_dir, outside = folder / "yinyom-data", folder / "outside"

    def make(url: str) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        settings = Settings(data_dir=data_dir, database=DatabaseSettings(url=url))
        asyncio.run(set_up(settings))
        fill(settings, outside)

    url = postgres_server.url(postgres_server.template("staged_trail", make))
    return Stage(Settings(data_dir=data_dir, database=DatabaseSettings(url=url)), outside)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def staged(request: pytest.FixtureRequest) -> Stage:
    """A closed registry of 700 events, once on SQLite and once on PostgreSQL, to be read only."""
    found: Stage = request.getfixturevalue(f"staged_{request.param}")
    return found


@pytest.fixture
def stage(request: pytest.FixtureRequest, staged: Stage, tmp_path: Path) -> Stage:
    """The same, to be spoilt."""
    on_postgres = staged.settings.on_postgres
    make = request.getfixturevalue("new_postgres_database") if on_postgres else None
    return copied(staged, tmp_path, make)


@pytest.fixture
def yinyom(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command line, in this process, on the registry of the stage; gives code and answer."""

    def run(*arguments: Any, **at: Stage) -> tuple[int, Any]:
        settings = (at.get("stage") or request.getfixturevalue("stage")).settings
        if settings.on_postgres:
            monkeypatch.setenv("YINYOM_DATABASE__URL", settings.database.url)
        command = ["--data-dir", str(settings.data_dir), *map(str, arguments), "--json"]
        done = typer.testing.CliRunner().invoke(app, command)
        return done.exit_code, json.loads(done.stdout)

    return run


def places(answer: dict[str, Any]) -> Iterator[tuple[str, int | None]]:
    """Which check caught what: (check, index of the event) of each finding."""
    for finding in answer["findings"]:
        check, _, rest = finding.partition(":")
        place = rest.strip().split(",")[0].split(":")[0]
        yield check, int(place[6:]) if place.startswith("event ") else None


def flip(data: bytes, at: int = 0) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


async def export(stage: Stage, destination: Path) -> None:
    """Export the log of a closed registry as it is."""
    database = open_database(stage.settings)
    try:
        await export_log(database, destination)
    finally:
        await database.close()
