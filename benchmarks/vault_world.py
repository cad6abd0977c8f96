"""A vault with its keys in RAM, and members to seal and open, for `benchmarks/vault*.py`.

The values are a plausible record of twelve fields, 216 bytes in Thai and ASCII, sealed with the
padding that the packaged field catalogue declares.
"""

import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Dialect, MetaData
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from kernel import Building, Database, id_bytes, metadata, new_id
from policies import load_pack
from vault import (
    ORDINARY,
    AccessTicket,
    PassingKeyProvider,
    Vault,
    WrappedKey,
    contexts,
    create_key_ring,
    wrapping,
)

TABLE = "member"
TENANT = "main"
FIELDS = {
    "given_name": "สมหญิง",
    "family_name": "ใจดีงาม",
    "card_no": "M-00123456",
    "phone": "+66812345678",
    "email": "somying.j@example.com",
    "line_uid": "U4af4980629f6e2e1c0b8b8a5f9d2c3e1",
    "address": "99/1 ถนนสุขุมวิท 10110",
    "postcode": "10110",
    "national_id": "1101700230708",
    "birth_date": "1990-02-28",
    "gender": "female",
    "language": "th",
}
EXPORTED = ("given_name", "phone", "email")


@dataclass(frozen=True)
class Member:
    """One member as rows of the database hold it, with what opens it."""

    id: str
    key: WrappedKey
    raw_key: bytes
    cells: Mapping[str, bytes]
    ticket: AccessTicket


class World:
    """A vault whose one bucket key is in RAM."""

    def __init__(self, vault: Vault, database: Database, kek: AESGCM, version: int) -> None:
        self.vault = vault
        self.database = database
        self.kek = kek
        self._version = version

    def member(self, values: Mapping[str, str] = FIELDS) -> Member:
        """Make a member whose key and cells are nowhere but here."""
        owner, raw = new_id("mem"), os.urandom(32)
        context = self.key_context(owner)
        wrapped = wrapping.wrap(self.kek, raw, context)
        key = WrappedKey(owner, ORDINARY, 1, 0, self._version, wrapped)
        cells = self.vault.seal(self.vault.unwrap(key), TABLE, owner, values)
        return Member(owner, key, raw, cells, AccessTicket("evt_x", owner, frozenset(cells)))

    def key_context(self, owner: str) -> bytes:
        """Give the associated data of the key that `member` makes."""
        return contexts.key_context(TENANT, owner, ORDINARY, 1, 0, self._version)


def cell_context(field: str, owner: str, cell: bytes) -> bytes:
    """Give the associated data of a cell as docs/formats/cell.md has it."""
    parts = b"".join(
        len(text.encode()).to_bytes(2) + text.encode() for text in (TENANT, TABLE, field)
    )
    return b"cell1" + cell[:2] + parts + id_bytes(owner)


@asynccontextmanager
async def opened_world(folder: Path) -> AsyncIterator[World]:
    """Open a fresh vault over an SQLite database of its own."""
    from kernel.sqlite import SqliteDatabase

    ring = create_key_ring(folder / "ring", PassingKeyProvider(), TENANT)
    vault = Vault(ring, pads=load_pack().pads)
    file = folder / f"{ring.id}.db"
    make_tables(file)
    database = SqliteDatabase(file, owes=Building)
    try:
        async with database.unit_of_work() as work:
            version, kek = await vault.buckets.newest(work, 0)
        yield World(vault, database, kek, version)
    finally:
        await database.close()


def ddl(dialect: Dialect, tables: MetaData = metadata) -> Iterator[str]:
    """Write the statements that make tables with their indexes."""
    for one in tables.sorted_tables:
        yield str(CreateTable(one).compile(dialect=dialect))
        for index in one.indexes:
            yield str(CreateIndex(index).compile(dialect=dialect))


def make_tables(file: Path, *more: MetaData) -> None:
    """Make the tables of the vault, and others, in a fresh SQLite database."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        for tables in (metadata, *more):
            for statement in ddl(sqlite.dialect(), tables):
                connection.execute(statement)
        connection.commit()
