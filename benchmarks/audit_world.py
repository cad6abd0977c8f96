"""Registries' databases with nothing in them but a trail, and events to fill it with.

PostgreSQL is a throwaway cluster with durable commits, SQLite a file with `synchronous=FULL`; both
have the schema that the product's own migrations make. Synthetic events are what a read of three
fields leaves behind: about 560 bytes, ids in order, one of so many members each.
"""

import os
import random
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from audit import AuditLog, Signer
from audit.event import Actor, AuditEvent, canonical_bytes, subject_token
from benchmarks.servers import Postgres
from kernel import Caller, Database, RequestId, SystemClock, new_id
from service.runtime import open_database
from service.schema import migrate
from service.settings import DatabaseSettings, Settings
from vault import PSEUDONYM, OwnerKey

ORIGIN = "bench.example/log"
POLICY = "sha256:" + "ab" * 32
CALLER = Caller("cli_" + "0" * 26, "app:crm", "api", "main", RequestId("req_" + "0" * 26))
MONTHS = 60
SPREAD_US = MONTHS * 30 * 86_400_000_000
PORTION = 5_000


@dataclass
class Place:
    """One engine's empty registry database, and how to make another."""

    engine: str
    settings: Settings
    server: Postgres | None

    @property
    def signer(self) -> Signer:
        return Signer.from_seed(ORIGIN, bytes(range(32)))

    @property
    def audit(self) -> AuditLog:
        return AuditLog(self.signer, SystemClock(), POLICY)

    @asynccontextmanager
    async def opened(self, pool_size: int = 10) -> AsyncIterator[Database]:
        """Open the database as a worker does."""
        details = self.settings.database.model_copy(update={"pool_size": pool_size})
        database = open_database(self.settings.model_copy(update={"database": details}))
        try:
            yield database
        finally:
            await database.close()

    def run(self, script: str) -> None:
        """Run statements past the product."""
        if self.server is not None:
            self.server.sql(self.settings.database.url.rpartition("/")[2], script)
            return
        with sqlite3.connect(self.settings.database_file) as file:
            file.executescript(script)
        file.close()

    def backends_cpu_seconds(self) -> float:
        """Give the CPU time so far of the server processes that serve this database."""
        if self.server is None:
            return 0.0
        return self.server.backends_cpu_seconds(self.settings.database.url.rpartition("/")[2])

    async def fetch(self, query: str) -> list[Any]:
        """Read rows past the product."""
        if self.server is None:
            with sqlite3.connect(self.settings.database_file) as file:
                file.row_factory = sqlite3.Row
                rows = file.execute(query).fetchall()
            file.close()
            return rows
        connection = await asyncpg.connect(self.settings.database.url)
        try:
            return list(await connection.fetch(query))
        finally:
            await connection.close()

    async def copy(self, table: str, rows: list[dict[str, Any]]) -> None:
        """Bring rows in by the quickest way the engine has; triggers fire."""
        columns = list(rows[0])
        if self.server is None:
            marks = ", ".join("?" * len(columns))
            with sqlite3.connect(self.settings.database_file) as file:
                file.executemany(
                    f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})",
                    [tuple(row.values()) for row in rows],
                )
            file.close()
            return
        connection = await asyncpg.connect(self.settings.database.url)
        try:
            records = [tuple(row.values()) for row in rows]
            await connection.copy_records_to_table(table, records=records, columns=columns)
        finally:
            await connection.close()


async def make_place(name: str, folder: Path, server: Postgres | None) -> Place:
    """Make a registry's database with the newest schema and nothing in it."""
    data_dir = folder / f"{name}-{'postgres' if server else 'sqlite'}"
    data_dir.mkdir(mode=0o700)
    url = "" if server is None else server.create_database(name)
    settings = Settings(data_dir=data_dir, database=DatabaseSettings(url=url))
    await migrate(settings)
    return Place("SQLite" if server is None else "PostgreSQL", settings, server)


# --- events ---------------------------------------------------------------------------


def member_key(at: int) -> OwnerKey:
    """The pseudonym key of a synthetic member."""
    return OwnerKey(f"mem_{at}", PSEUDONYM, 1, random.Random(at).randbytes(32))


def synthetic_events(count: int, members: int, *, now_us: int) -> Iterator[dict[str, Any]]:
    """Give rows of `audit_event` over five years, evenly, of members in random order."""
    rng = random.Random(7)
    step = SPREAD_US // count
    keys = [member_key(at).secret for at in range(members)]
    for number in range(count):
        ts = now_us - (count - number) * step
        subject = subject_token(keys[rng.randrange(members)], ts)
        event = AuditEvent(
            id=new_id("evt", ts),
            ts=ts,
            nonce=rng.randbytes(16),
            actor=Actor(CALLER.id, CALLER.role, CALLER.via),
            action="member.view",
            purpose="membership",
            subject=subject,
            fields=("given_name", "phone", "tier"),
            decision="allow",
            policy=POLICY,
            request_id=CALLER.request_id,
            brand="main",
        )
        yield AuditLog.row(event)


def synthetic_bodies(count: int) -> Iterator[bytes]:
    """Give canonical bodies one after the other, quickly: one event with other ids and nonces."""
    event = AuditEvent(
        id="evt_" + "0" * 26,
        ts=1_795_435_200_000_000,
        nonce=bytes(16),
        actor=Actor(CALLER.id, CALLER.role, CALLER.via),
        action="member.view",
        purpose="membership",
        subject=subject_token(bytes(32), 1_795_435_200_000_000),
        fields=("given_name", "phone", "tier"),
        decision="allow",
        policy=POLICY,
        request_id=CALLER.request_id,
        brand="main",
    )
    body = canonical_bytes(event).replace(b"%", b"%%")
    pattern = body.replace(event.id.encode(), b"evt_%026d").replace(b"0" * 32, b"%b", 1)
    seed = os.urandom(8)
    for number in range(count):
        yield pattern % (number, (number.to_bytes(8) + seed).hex().encode())


def percentile(values: list[float], share: float) -> float:
    """Give the value below which so large a share of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
