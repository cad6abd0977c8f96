"""What the trail costs the transaction that it speaks of, and how soon the log has signed it.

Each transaction changes one row and appends one event, over the product's own connections. The
opponents do the same with the same driver and the same durable commit: one appends to a plain
table with the same columns, searched by the same indexes, and nothing that protects it, one keeps
a chain of hashes whose head it locks. Our sequencer runs beside ours, in the same process, as it
does in service.
"""

import asyncio
import contextlib
import hashlib
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    bindparam,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from audit import Sequencer
from audit.tables import audit_event
from benchmarks.audit_world import CALLER, POLICY, Place, make_place, member_key, percentile
from benchmarks.report import number, table
from benchmarks.rounds import say
from benchmarks.servers import Postgres
from kernel import Database, Statement, SystemClock, new_id

if TYPE_CHECKING:
    from benchmarks.audit import Results

ROWS = 1_000
CONNECTIONS = 8
RATE = 1_000
_ours = MetaData()
_row = Table("bench_row", _ours, Column("id", Integer, primary_key=True), Column("note", Text))
_COLUMNS = (
    *("id", "recorded_us", "subject", "actor", "action"),
    *("purpose", "decision", "request_id", "body"),
)


def _event_table(name: str, *more: Column[Any]) -> Table:
    table_ = Table(
        name,
        _ours,
        Column("id", Text, primary_key=True),
        Column("recorded_us", BigInteger, nullable=False),
        *(Column(column, Text) for column in _COLUMNS[2:8]),
        Column("body", LargeBinary, nullable=False),
        *more,
    )
    for index in audit_event.indexes:  # whoever wants to search keeps them, protected or not
        Index(
            str(index.name).replace("audit_event", name),
            *(table_.c[column.name] for column in index.columns),
            **{
                f"{dialect}_where": table_.c.decision == "deny"
                for dialect in ("sqlite", "postgresql")
                if index.dialect_options[dialect]["where"] is not None
            },
        )
    return table_


_plain = _event_table("plain_event")
_chained = _event_table(
    "chain_event",
    Column("place", BigInteger, nullable=False, unique=True),
    Column("hash", LargeBinary, nullable=False),
)
_chain = Table(
    "chain_head",
    _ours,
    Column("id", Integer, primary_key=True),
    Column("place", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)
_CHANGE = Statement(
    update(_row).where(_row.c.id == bindparam("row")).values(note=bindparam("note"))
)
_PLAIN = Statement(insert(_plain).values({name: bindparam(name) for name in _COLUMNS}))
_CHAINED = Statement(
    insert(_chained).values({name: bindparam(name) for name in (*_COLUMNS, "place", "hash")})
)
_HOLD = Statement(select(_chain.c.place, _chain.c.hash).where(_chain.c.id == 1).with_for_update())
_MOVE = Statement(
    update(_chain).where(_chain.c.id == 1).values(place=bindparam("place"), hash=bindparam("hash"))
)


def _tables(place: Place) -> None:
    dialect: Any = sqlite.dialect() if place.server is None else postgresql.dialect()
    for one in _ours.sorted_tables:
        place.run(str(CreateTable(one).compile(dialect=dialect)) + ";")
        for index in one.indexes:
            place.run(str(CreateIndex(index).compile(dialect=dialect)) + ";")
    zeros = "X'" + "00" * 32 + "'" if place.server is None else "decode(repeat('00', 32), 'hex')"
    place.run(f"INSERT INTO chain_head (id, place, hash) VALUES (1, 0, {zeros});")
    rows = ", ".join(f"({at}, 'x')" for at in range(ROWS))
    place.run(f"INSERT INTO bench_row (id, note) VALUES {rows};")


Act = Callable[[int], Awaitable[None]]


def contenders(place: Place, database: Database) -> dict[str, Act]:
    """Each does one transaction: one row changed, one event kept."""
    audit, keys = place.audit, [member_key(at) for at in range(100)]
    clock = SystemClock()

    async def ours(at: int) -> None:
        async with database.unit_of_work() as work:
            await work.run(_CHANGE, row=at % ROWS, note="y")
            await audit.record(
                work,
                CALLER,
                "member.update",
                subject=keys[at % 100],
                fields=("given_name", "phone", "tier"),
                decision="allow",
            )

    def event(at: int) -> dict[str, Any]:
        """An event as one writes it who protects nothing: JSON of the same members."""
        now_us = clock.now_us()
        said = {
            "id": new_id("evt", now_us),
            "ts": now_us,
            "nonce": os.urandom(16).hex(),
            "actor": {"id": CALLER.id, "role": CALLER.role, "via": CALLER.via},
            "action": "member.update",
            "outcome": "ok",
            "subject": keys[at % 100].owner_id,
            "fields": ["given_name", "phone", "tier"],
            "decision": "allow",
            "policy": POLICY,
            "request_id": CALLER.request_id,
            "brand": CALLER.brand,
        }
        return {
            "id": said["id"],
            "recorded_us": now_us,
            "subject": said["subject"],
            "actor": CALLER.id,
            "action": said["action"],
            "purpose": None,
            "decision": "allow",
            "request_id": CALLER.request_id,
            "body": orjson.dumps(said),
        }

    async def plain(at: int) -> None:
        async with database.unit_of_work() as work:
            await work.run(_CHANGE, row=at % ROWS, note="y")
            await work.run(_PLAIN, **event(at))

    async def chain(at: int) -> None:
        async with database.unit_of_work() as work:
            await work.run(_CHANGE, row=at % ROWS, note="y")
            row = event(at)
            head = await work.first(_HOLD)
            assert head is not None
            link = hashlib.sha256(bytes(head["hash"]) + row["body"]).digest()
            place_ = head["place"] + 1
            await work.run(_CHAINED, **row, place=place_, hash=link)
            await work.run(_MOVE, place=place_, hash=link)

    return {"ours": ours, "plain insert": plain, "hash chain": chain}


@dataclass(frozen=True)
class Turn:
    """One contender's turn: CPU in µs a transaction, of this process and of PostgreSQL's."""

    rate: float
    p99_ms: float
    process_us: float
    postgres_us: float


async def _turn(place: Place, act: Act, connections: int, seconds: float, offset: int) -> Turn:
    """Have so many connections do one transaction after the other."""
    spent: list[float] = []
    cpu, backends = time.process_time(), place.backends_cpu_seconds()
    begun = time.perf_counter()
    until = begun + seconds

    async def client(number_: int) -> None:
        at = offset + number_ * 100_003
        while (started := time.perf_counter()) < until:
            await act(at)
            spent.append(time.perf_counter() - started)
            at += connections

    await asyncio.gather(*(client(each) for each in range(connections)))
    took = time.perf_counter() - begun
    cpu, backends = time.process_time() - cpu, place.backends_cpu_seconds() - backends
    return Turn(
        len(spent) / took,
        percentile(spent, 0.99) * 1000,
        cpu / len(spent) * 1e6,
        backends / len(spent) * 1e6,
    )


@asynccontextmanager
async def _sequencing(place: Place, database: Database) -> AsyncIterator[Sequencer]:
    sequencer = Sequencer(database, place.signer, SystemClock())
    await sequencer.start()
    try:
        yield sequencer
    finally:
        await sequencer.stop()


async def transactions(
    results: "Results", folder: Path, server: Postgres | None, rounds: int, seconds: float
) -> None:
    """Measure the three in turn, at one connection and at eight."""
    place = await make_place("append", folder, server)
    _tables(place)
    rows = []
    async with place.opened(CONNECTIONS + 2) as database:
        acts = contenders(place, database)
        for connections in (1, CONNECTIONS):
            found: dict[str, list[Turn]] = {name: [] for name in acts}
            order = list(acts)
            for turn in range(rounds + 1):
                for name in order[turn % 3 :] + order[: turn % 3]:
                    beside = (
                        _sequencing(place, database) if name == "ours" else contextlib.nullcontext()
                    )
                    async with beside:
                        got = await _turn(place, acts[name], connections, seconds, turn * 1_009)
                    if turn:
                        found[name].append(got)
                say(f"{place.engine}, {connections} connections, round {turn} of {rounds}")
            for name, turns in found.items():
                rates = [one.rate for one in turns]
                rows.append(
                    [
                        name,
                        str(connections),
                        number(statistics.median(rates)),
                        f"{number(min(rates))} to {number(max(rates))}",
                        number(statistics.median(one.p99_ms for one in turns)),
                        f"{_ratio(found, 'ours', name):.2f}",
                        number(statistics.median(one.process_us for one in turns)),
                        number(statistics.median(one.postgres_us for one in turns)),
                    ]
                )
            what = f"{place.engine}, {connections} connection{'s' if connections > 1 else ''}"
            results.at_least(
                f"transactions with audit / with an unprotected insert, {what}",
                _ratio(found, "ours", "plain insert"), 0.85, "x",
            )  # fmt: skip
            if server is not None and connections == CONNECTIONS:
                results.at_least(
                    f"transactions with audit / with a FOR UPDATE hash chain, {what}",
                    _ratio(found, "ours", "hash chain"), 2.5, "x",
                )  # fmt: skip
    header = ["what", "connections", "transactions/s", "lowest to highest", "p99 ms", "ours / it"]
    header += ["CPU µs", "PostgreSQL CPU µs"]
    results.tables.append((f"One row changed and one event, {place.engine}", table(header, rows)))


def _ratio(found: dict[str, list[Turn]], one: str, other: str) -> float:
    """Give the median over rounds of one rate by another's of the same round."""
    return statistics.median(
        mine.rate / theirs.rate for mine, theirs in zip(found[one], found[other], strict=True)
    )


# --- lag ------------------------------------------------------------------------------

_PLACES = "SELECT event_id, leaf_index FROM audit_leaf"


async def lag(results: "Results", folder: Path, server: Postgres | None, seconds: float) -> None:
    """Time from an event's commit to a signed checkpoint above it, at 1,000 events a second.

    Events come by the clock, whether or not the last one has committed. The sequencer is the
    service's, with its own pauses; its progress is looked at every millisecond.
    """
    place = await make_place("lag", folder, server)
    committed: dict[str, float] = {}
    signed: list[tuple[float, int]] = []
    async with place.opened(CONNECTIONS + 2) as database, _sequencing(place, database) as sequencer:
        audit, key = place.audit, member_key(1)

        async def write() -> None:
            async with database.unit_of_work() as work:
                made = await audit.record(work, CALLER, "member.update", subject=key)
            committed[made] = time.perf_counter()

        async def watch() -> None:
            while True:
                if not signed or sequencer.state.size != signed[-1][1]:
                    signed.append((time.perf_counter(), sequencer.state.size))
                await asyncio.sleep(0.001)

        watching = asyncio.create_task(watch())
        begun, writing = time.perf_counter(), []
        for at in range(int(RATE * seconds)):
            ahead = begun + at / RATE - time.perf_counter()
            if ahead > 0:
                await asyncio.sleep(ahead)
            writing.append(asyncio.create_task(write()))
        await asyncio.gather(*writing)
        took = time.perf_counter() - begun
        await sequencer.stop()
        await asyncio.sleep(0.01)
        watching.cancel()
    places = {row["event_id"]: row["leaf_index"] for row in await place.fetch(_PLACES)}
    waits, at = [], 0
    for event, moment in sorted(committed.items(), key=lambda one: places[one[0]]):
        while signed[at][1] <= places[event]:
            at += 1
        waits.append(max(0.0, signed[at][0] - moment) * 1000)
    waits = waits[len(waits) // 10 :]
    reached = f"{place.engine}, {len(committed) / took:.0f} events/s"
    for share, most in ((0.5, 50), (0.99, 150)):
        name = f"commit to signed checkpoint, p{share * 100:.0f}, {reached}"
        results.at_most(name, percentile(waits, share), most, "ms")
    say(f"{reached}: longest {max(waits):.0f} ms")
