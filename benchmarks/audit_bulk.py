"""What an export writes into the trail: an event for each member, or one for a thousand of them.

Both ways put the same members on record, in transactions of a hundred (as exports were) and of a
thousand (as they are), and let the sequencer give every event its place. Neither decides anything
or opens a cell: only the trail is measured. Bytes are those of the database before and after.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from audit import Sequencer, Shown, draft_bulk, record_bulk
from benchmarks.audit_world import CALLER, Place, make_place, member_key
from benchmarks.report import number, table
from benchmarks.servers import Postgres
from kernel import Database, SystemClock

if TYPE_CHECKING:
    from benchmarks.audit import Results

_FIELDS = ("given_name", "phone", "tier")
_TABLES = ("audit_event", "audit_leaf", "audit_manifest", "audit_manifest_token")


@dataclass(frozen=True)
class _Written:
    rows: dict[str, int]
    bytes: int
    seconds: float


def _chunks(members: int, size: int) -> Iterator[range]:
    for first in range(0, members, size):
        yield range(first, min(first + size, members))


async def _singly(place: Place, database: Database, members: int) -> None:
    for chunk in _chunks(members, 100):
        events = [
            place.audit.draft(
                CALLER,
                "member.view",
                subject=member_key(at),
                purpose="marketing",
                channel="sms",
                legal_basis="consent",
                decision="allow",
                fields=_FIELDS[: at % 3 + 1],
            )
            for at in chunk
        ]
        async with database.unit_of_work() as work:
            await place.audit.record_many(work, events)


async def _among_many(place: Place, database: Database, members: int) -> None:
    for chunk in _chunks(members, 1_000):
        shown = [Shown(f"mem_{at}", member_key(at), _FIELDS[: at % 3 + 1]) for at in chunk]
        bulks = draft_bulk(
            place.audit,
            CALLER,
            "audience.export",
            shown,
            purpose="marketing",
            channel="sms",
            legal_basis="consent",
            resource="export:exp_" + "0" * 26,
        )
        async with database.unit_of_work() as work:
            for bulk in bulks:
                await record_bulk(place.audit, work, bulk)


async def _size(place: Place) -> int:
    if place.server is None:
        place.run("PRAGMA wal_checkpoint(TRUNCATE)")
        return place.settings.database_file.stat().st_size
    (row,) = await place.fetch("SELECT pg_database_size(current_database()) AS bytes")
    return int(row["bytes"])


async def _written(name: str, folder: Path, server: Postgres | None, members: int) -> _Written:
    place = await make_place(f"bulk_{name}", folder, server)
    async with place.opened() as database:
        sequencer = Sequencer(database, place.signer, SystemClock())
        await sequencer.start(background=False)
        before = await _size(place)
        begun = time.perf_counter()
        await (_singly if name == "singly" else _among_many)(place, database, members)
        seconds = time.perf_counter() - begun
        await sequencer.drain()
        await sequencer.stop()
        rows = {
            one: (await place.fetch(f"SELECT count(*) AS many FROM {one}"))[0]["many"]
            for one in _TABLES
        }
    return _Written(rows, await _size(place) - before, seconds)


async def measure(results: "Results", folder: Path, server: Postgres | None, members: int) -> None:
    """Put so many members on record in both ways, on one engine."""
    engine = "SQLite" if server is None else "PostgreSQL"
    ways = {name: await _written(name, folder, server, members) for name in ("singly", "bulk")}
    rows = [
        [
            {"singly": "an event each", "bulk": "rows of a manifest"}[name],
            *(str(way.rows[one]) for one in _TABLES),
            number(way.bytes / members),
            number(way.seconds * 1e6 / members),
        ]
        for name, way in ways.items()
    ]
    header = ["way", "events", "leaves", "manifests", "tokens indexed", "bytes each", "µs each"]
    results.tables.append((f"{engine}: an export of {members} members", table(header, rows)))
    fewer = ways["singly"].rows["audit_leaf"] / ways["bulk"].rows["audit_leaf"]
    results.at_least(f"{engine}: times fewer leaves", fewer, 900, "×")
    smaller = ways["singly"].bytes / ways["bulk"].bytes
    results.at_least(f"{engine}: times fewer bytes", smaller, 4, "×")
