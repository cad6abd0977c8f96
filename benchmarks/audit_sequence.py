"""A backlog given its places in the log, and events found in what came of it.

The backlog is written past the product, as a disaster would leave it: queue full, log empty. Then
one sequencer, as the service starts it, works it off. The same million events are then asked, as
the console and the portal do it, for all events of one member in five years, and for what no index
serves: an action and a purpose that no event has, so that each page looks as far as it may.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from audit import EventFilter, Sequencer
from benchmarks.audit_world import (
    CALLER,
    PORTION,
    Place,
    make_place,
    member_key,
    percentile,
    synthetic_events,
)
from benchmarks.report import number, table
from benchmarks.rounds import say
from benchmarks.servers import Postgres
from kernel import Database, SystemClock

if TYPE_CHECKING:
    from benchmarks.audit import Results

EVENTS_PER_MEMBER = 100
BACKLOG = 1_000_000
PAGE = 50
FASTEST = {"SQLite": 150_000, "PostgreSQL": 50_000}


async def measure(
    results: "Results", folder: Path, server: Postgres | None, events: int, asked: int
) -> None:
    """Fill, drain, ask."""
    place = await make_place("backlog", folder, server)
    members = max(1, events // EVENTS_PER_MEMBER)
    await _fill(place, events, members)
    async with place.opened() as database:
        await _drain(results, place, database, events)
        if server is not None:
            place.run("VACUUM ANALYZE audit_event")
        await _timelines(results, place, database, events, members, asked)
        await _searches(results, place, database, asked)


async def _fill(place: Place, events: int, members: int) -> None:
    begun, rows = time.perf_counter(), []
    for row in synthetic_events(events, members, now_us=SystemClock().now_us()):
        rows.append(row)
        if len(rows) == 10 * PORTION:
            await place.copy("audit_event", rows)
            rows = []
    if rows:
        await place.copy("audit_event", rows)
    if place.server is not None:
        place.run("CHECKPOINT")
        place.run("ANALYZE audit_pending")
    say(f"{place.engine}: {events} events waiting after {time.perf_counter() - begun:.0f} s")


async def _drain(results: "Results", place: Place, database: Database, events: int) -> None:
    sequencer = Sequencer(database, place.signer, SystemClock())
    begun, done, slowest = time.perf_counter(), 0, 0.0
    cpu, backends = time.process_time(), place.backends_cpu_seconds()
    await sequencer.start(background=False)
    while sequencer.state.size < events:
        turn = time.perf_counter()
        done += await sequencer.sequence_batch()
        slowest = max(slowest, time.perf_counter() - turn)
    spent = time.perf_counter() - begun
    ours = time.process_time() - cpu
    backends = place.backends_cpu_seconds() - backends
    await sequencer.stop()
    results.at_least(
        f"sequencer, {place.engine}, backlog of {events}",
        events / spent, FASTEST[place.engine], "events/s",
    )  # fmt: skip
    whole = events == BACKLOG
    results.at_most(
        f"a backlog of {BACKLOG} worked off, {place.engine}",
        spent if whole else None, 20, "s",
        reason=f"only {events} events in this run",
    )  # fmt: skip
    figures = [events / spent, spent, ours / events * 1e6, backends / events * 1e6]
    rows = [[number(figure) for figure in figures]]
    header = ["events/s", "seconds", "CPU µs/event", "PostgreSQL CPU µs/event"]
    results.tables.append((f"Backlog of {events}, {place.engine}", table(header, rows)))


async def _timelines(
    results: "Results", place: Place, database: Database, events: int, members: int, asked: int
) -> None:
    audit, spent, found = place.audit, [], 0
    for at in range(asked):
        key = member_key(at * members // asked)
        begun = time.perf_counter()
        subjects = audit.tokens(key, since_us=0)
        before, pages = None, []
        async with database.read() as session:
            while True:
                page = await audit.search(
                    session, EventFilter(subjects=subjects), before=before, most=PAGE
                )
                pages += page.events
                before = page.next_before
                if before is None:
                    break
        spent.append((time.perf_counter() - begun) * 1000)
        found += len(pages)
    results.at_most(
        f"one member's whole timeline among {events} events, p95, {place.engine}",
        percentile(spent, 0.95), 150, "ms",
    )  # fmt: skip
    text = f"{asked} members; {found / asked:.0f} events each, in pages of {PAGE}; "
    text += f"p50 {percentile(spent, 0.5):.1f} ms, longest {max(spent):.1f} ms."
    results.tables.append((f"Timelines, {place.engine}", text))


async def _searches(results: "Results", place: Place, database: Database, asked: int) -> None:
    spent: list[float] = []
    wanted = (
        EventFilter(action="audit.key_rotated"),
        EventFilter(purpose="nothing"),
        EventFilter(actor=CALLER.id, purpose="nothing"),
    )
    for at in range(asked):
        begun = time.perf_counter()
        async with database.read() as session:
            page = await place.audit.search(session, wanted[at % len(wanted)], most=PAGE)
        spent.append((time.perf_counter() - begun) * 1000)
        if page.events:
            raise RuntimeError("the trail holds what it should not")
    results.at_most(
        f"a page of a search that no index serves, in vain, p95, {place.engine}",
        percentile(spent, 0.95), 150, "ms",
    )  # fmt: skip
    text = (
        f"{asked} pages in vain; p50 {percentile(spent, 0.5):.1f} ms, longest {max(spent):.1f} ms."
    )
    results.tables.append((f"Searches, {place.engine}", text))
