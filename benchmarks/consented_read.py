"""The consented read against the app one would write without it, and against Fides.

Ours is the whole main path: opaque token, policy, consent, gate, keys, audit event committed
before the answer, sequencer running. The bare app reads the same two fields in plaintext and
appends an unprotected row; Fides answers stored consent preferences. All run in the same
minutes on the same machine and the same PostgreSQL cluster with durable commits.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import orjson

from benchmarks import bare_app
from benchmarks.fides import DATABASE as FIDES_DATABASE
from benchmarks.fides import Fides
from benchmarks.load import Client, LoadError, generator
from benchmarks.profile import Profile, profile
from benchmarks.report import Bound, Target, number, table, targets_table
from benchmarks.rounds import CONNECTIONS, Contender, Round, Rounds, say
from benchmarks.servers import (
    Postgres,
    Server,
    UnavailableError,
    free_port,
    machine,
    uvicorn_command,
    workplace,
)
from benchmarks.yinyom import CHANNEL, FIELDS, PURPOSE, REPOSITORY, Person, Yinyom, command, people

Made = TypeVar("Made")

STARTS = 5
OURS, OURS_SQLITE, BARE, FIDES = "yinyom-pg", "yinyom-sqlite", "bare", "fides"
OURS_TWO, BARE_TWO = "yinyom-pg-2", "bare-2"
LABELS = {
    OURS: "Yinyom, PostgreSQL, 1 worker",
    OURS_SQLITE: "Yinyom, SQLite",
    BARE: "(a) bare FastAPI + asyncpg, 1 worker",
    FIDES: "(b) Fides consent read, 1 worker",
    OURS_TWO: "Yinyom, PostgreSQL, 2 workers",
    BARE_TWO: "(a) bare FastAPI + asyncpg, 2 workers",
}
_LEFT_OUT = "left out by the command line"
_QUESTION = f"?purpose={PURPOSE}&channel={CHANNEL}&fields={FIELDS}"


@dataclass(frozen=True)
class Options:
    """What the command line asked for; times in seconds."""

    rounds: int
    seconds: int
    members: int
    fides_people: int
    profile_seconds: int
    without: frozenset[str]


@dataclass
class Results:
    """Everything one run found."""

    machine: dict[str, str]
    generator: str
    members: int
    rounds: Rounds
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    start_s: list[float] = field(default_factory=list)
    help_s: list[float] = field(default_factory=list)
    profiles: dict[str, Profile] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Give every figure, each round on its own."""
        figures = {name: value for name, value in vars(self).items() if name != "rounds"}
        profiles = {key: asdict(one) for key, one in self.profiles.items()}
        return figures | {"profiles": profiles, "rounds": [asdict(r) for r in self.rounds.done]}


# --- the run --------------------------------------------------------------------------


class _Run:
    """One run: everybody is started, measured in turn and stopped."""

    def __init__(self, options: Options, folder: Path, stack: ExitStack) -> None:
        self._options = options
        self._folder = folder
        self._stack = stack
        self._postgres = Postgres.start(folder)
        stack.callback(self._postgres.stop)
        self._rounds = Rounds(self._postgres, options.seconds)
        self._everyone = people(options.members)
        self.results = Results(
            machine(folder, self._postgres), generator(), options.members, self._rounds
        )

    def carry_out(self) -> None:
        """Measure everybody that can run here; the rest is noted as skipped."""
        bare, dsn = self._bare()
        fides = self._try(FIDES, self._start_fides)
        ours = self._try(OURS, lambda: self._our_side(OURS))
        sqlite = self._try(OURS_SQLITE, lambda: self._our_side(OURS_SQLITE))
        read_fides = None if fides is None else self._try(FIDES, lambda: self._fill_fides(fides))
        everybody = [bare, *(side[1] for side in (ours, sqlite) if side is not None)]
        if read_fides is not None:
            everybody.append(read_fides)
        self._rounds.interleave(everybody, self._options.rounds)
        for side in (ours, sqlite):
            if side is not None and self._options.profile_seconds:
                self._profile(side[1])
        if ours is not None:
            self._two_workers(ours[0], ours[1], bare, dsn)
        if sqlite is not None:
            self._starts(sqlite[0])
        self.results.machine["load_average_at_end"] = f"{os.getloadavg()[0]:.2f}"

    def _try(self, key: str, make: Callable[[], Made]) -> Made | None:
        if key in self._options.without:
            self.results.skipped[key] = _LEFT_OUT
            return None
        try:
            return make()
        except (UnavailableError, LoadError) as error:
            self.results.skipped[key] = str(error)
            say(f"skipped {key}: {error}")
            return None

    def _bare(self) -> tuple[Contender, str]:
        dsn = self._postgres.create_database("bare")
        rows = [
            (_member_id(one), one.given_name, one.family_name, one.phone, one.birth_date)
            for one in self._everyone
        ]
        token = asyncio.run(bare_app.fill(dsn, rows))
        server, port = self._stack.enter_context(_bare_server(self._folder, dsn, 1))
        willing = [one for one in self._everyone if one.consents]
        paths = [f"/v1/members/{_member_id(one)}/view{_QUESTION}" for one in willing]
        headers = {"Authorization": f"Bearer {token}"}
        asyncio.run(_check_bare(port, list(zip(willing, paths, strict=True))[:50], headers))
        return Contender(BARE, port, paths, _always(headers), server.pid, "bare"), dsn

    def _start_fides(self) -> Fides:
        fides = Fides(self._folder, self._postgres)
        self._stack.callback(fides.stop)
        return fides

    def _fill_fides(self, fides: Fides) -> Contender:
        say(f"Fides {fides.version} is ready; it was waited for {fides.wait():.0f} s more")
        count = self._options.fides_people
        paths = asyncio.run(fides.fill(count))
        self.results.notes.append(
            f"Fides {fides.version} holds {count} identities, asks for no token and writes no "
            "audit event on this read; its Redis is not counted."
        )
        return Contender(FIDES, fides.port, paths, _always({}), fides.server.pid, FIDES_DATABASE)

    def _our_side(self, key: str) -> tuple[Yinyom, Contender]:
        url = self._postgres.create_database(key) if key == OURS else None
        installation = Yinyom(key, self._folder, url)
        self._stack.callback(installation.stop)
        installation.prepare()
        installation.start()
        began = time.perf_counter()
        paths = asyncio.run(installation.fill(self._everyone))
        took = time.perf_counter() - began
        asyncio.run(installation.check(self._everyone, paths))
        self.results.notes.append(
            f"{LABELS[key]}: {len(self._everyone)} registrations and {len(paths)} verified phones "
            f"over HTTP took {took:.0f} s."
        )
        say(self.results.notes[-1])
        return installation, _contender(key, installation, paths)

    def _two_workers(
        self, installation: Yinyom, ours: Contender, bare: Contender, dsn: str
    ) -> None:
        """Measure the same two with two workers, for information: two cores carry everything."""
        installation.stop()
        installation.start(workers=2)
        with _bare_server(self._folder, dsn, 2) as (server, port):
            pair = [
                Contender(BARE_TWO, port, bare.paths, bare.headers, server.pid, "bare"),
                _contender(OURS_TWO, installation, ours.paths),
            ]
            self._rounds.interleave(pair, self._options.rounds)

    def _starts(self, installation: Yinyom) -> None:
        for _ in range(STARTS):
            installation.stop()
            self.results.start_s.append(installation.start())
        for _ in range(STARTS):
            began = time.perf_counter()
            subprocess.run([*command(), "--help"], check=True, capture_output=True, cwd=REPOSITORY)
            self.results.help_s.append(time.perf_counter() - began)

    def _profile(self, contender: Contender) -> None:
        seconds = self._options.profile_seconds

        def load() -> None:
            self._rounds.load(contender, max(CONNECTIONS), seconds + 2, seed=99)

        stacks = self._folder / f"{contender.key}.stacks"
        try:
            self.results.profiles[contender.key] = profile(contender.pid, stacks, load, seconds)
        except UnavailableError as error:
            self.results.notes.append(f"No profile of {LABELS[contender.key]}: {error}")


def _contender(key: str, ours: Yinyom, paths: Sequence[str]) -> Contender:
    return Contender(key, ours.port, paths, ours.headers, ours.pid, ours.database)


def _member_id(person: Person) -> str:
    return f"mem_{person.number:022d}"


def _always(headers: dict[str, str]) -> Callable[[], Awaitable[dict[str, str]]]:
    async def give() -> dict[str, str]:
        return headers

    return give


@contextmanager
def _bare_server(folder: Path, dsn: str, workers: int) -> Iterator[tuple[Server, int]]:
    port = free_port()
    server = Server(
        f"bare-{workers}",
        uvicorn_command(sys.executable, "benchmarks.bare_app:app", port, workers),
        log=folder / f"bare-{workers}.log",
        cwd=REPOSITORY,
        env={bare_app.DSN_VARIABLE: dsn},
    )
    try:
        server.wait_for_http(port, "/readyz", within_seconds=30)
        yield server, port
    finally:
        server.stop()


async def _check_bare(
    port: int, sample: Sequence[tuple[Person, str]], headers: dict[str, str]
) -> None:
    client = Client(port)
    for person, path in sample:
        answer = await client.call("GET", path, headers=headers)
        if answer["data"] != {"given_name": person.given_name, "phone": person.phone}:
            raise UnavailableError("the bare app does not answer what was stored")
    await client.close()


# --- the report -----------------------------------------------------------------------


def _rps_ratio(one: Round, other: Round) -> float:
    return one.rps / other.rps


def _server_us_added(one: Round, other: Round) -> float:
    return one.server_us - other.server_us


def _cpu_saved(one: Round, other: Round) -> float:
    return other.total_us / one.total_us


@dataclass(frozen=True)
class _Goal:
    """A target that holds between two contenders."""

    name: str
    first: str
    second: str
    relation: Callable[[Round, Round], float]
    bound: Bound
    target: float
    unit: str
    aim: str


_GOALS = (
    _Goal("RPS, Yinyom PostgreSQL / (a)", OURS, BARE, _rps_ratio,
          Bound.AT_LEAST, 0.65, "x", "0.8"),
    _Goal("server CPU added over (a)", OURS, BARE, _server_us_added,
          Bound.AT_MOST, 120, "µs/request", "60"),
    _Goal("RPS, Yinyom PostgreSQL / (b)", OURS, FIDES, _rps_ratio, Bound.AT_LEAST, 7, "x", "10"),
    _Goal("CPU with PostgreSQL's, (b) / Yinyom PostgreSQL", OURS, FIDES, _cpu_saved,
          Bound.AT_LEAST, 7, "x", "10"),
    _Goal("RPS, Yinyom SQLite / Yinyom PostgreSQL", OURS_SQLITE, OURS, _rps_ratio,
          Bound.AT_LEAST, 2, "x", ""),
)  # fmt: skip


def targets(results: Results) -> list[Target]:
    """Judge the figures, at each connection count."""
    judged = [
        Target(
            f"{goal.name}, {connections} connections",
            results.rounds.compare(goal.first, goal.second, connections, goal.relation),
            goal.bound,
            goal.target,
            goal.unit,
            goal.aim,
            "; ".join(results.skipped.get(key, "") for key in (goal.first, goal.second)).strip(
                "; "
            ),
        )
        for goal in _GOALS
        for connections in CONNECTIONS
    ]
    why = results.skipped.get(OURS_SQLITE, "")
    start = f"`yinyom serve` to /readyz, SQLite with {results.members} members"
    for name, seconds, most in (
        (start, results.start_s, 1.5),
        ("`yinyom --help`", results.help_s, 0.4),
    ):
        value = statistics.median(seconds) if seconds else None
        judged.append(Target(name, value, Bound.AT_MOST, most, "s", "", why))
    return judged


def markdown(results: Results) -> str:
    """Write the whole report."""
    about = results.machine
    count = max(one.number for one in results.rounds.done) + 1
    where = (
        f"{about['cores']} cores ({about['cpu']}), Python {about['python']}, PostgreSQL "
        f"{about['postgresql']}, file system {about['filesystem']}, load "
        f"{about['load_average_at_start']} at start and {about['load_average_at_end']} at the end; "
        f"{results.members} members, half of them "
        f"consenting; load by {results.generator} on the same cores; medians of {count} "
        "interleaved rounds."
    )
    parts = ["## Consented read", where, _figures(results), targets_table(targets(results))]
    remarks = [f"skipped: {LABELS[key]}: {why}" for key, why in results.skipped.items()]
    remarks += results.notes
    parts.append("\n".join(f"- {remark}" for remark in remarks))
    for key, found in results.profiles.items():
        parts.append(f"### Where the time goes: {LABELS[key]} ({found.samples} samples)")
        for name, shares in (
            ("own time by package", found.own_time),
            ("our functions with what they call", found.including_callees),
        ):
            parts.append(table([name, "share"], [[at, f"{share:.1%}"] for at, share in shares]))
    return "\n\n".join(parts)


def _figures(results: Results) -> str:
    header = ["server", "connections", "RPS", "lowest to highest", "p50 ms", "p99 ms"]
    header += ["server CPU µs/request", "PostgreSQL CPU µs/request", "drained in s"]
    rows = [
        [LABELS[key], str(connections), *_median_cells(results.rounds.of(key, connections))]
        for connections in CONNECTIONS
        for key in LABELS
        if results.rounds.of(key, connections)
    ]
    return table(header, rows)


def _median_cells(rounds: Sequence[Round]) -> list[str]:
    rps = [one.rps for one in rounds]

    def median(name: str) -> float:
        middle: float = statistics.median(getattr(one, name) for one in rounds)
        return middle

    return [
        number(statistics.median(rps)),
        f"{number(min(rps))} to {number(max(rps))}",
        f"{median('p50_ms'):.1f}",
        f"{median('p99_ms'):.1f}",
        number(median("server_us")),
        number(median("postgres_us")),
        f"{median('drain_s'):.1f}",
    ]


def main(arguments: Sequence[str]) -> int:
    """Run from the command line; 1 when our own side could not be measured.

    Tables go to standard output, progress to standard error.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks consented_read")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each measured round")
    parser.add_argument("--members", type=int, default=20_000)
    parser.add_argument("--fides-people", type=int, default=1_000)
    parser.add_argument("--profile", type=int, default=0, metavar="SECONDS")
    sides = [OURS, OURS_SQLITE, FIDES]
    parser.add_argument("--without", action="append", default=[], choices=sides)
    parser.add_argument("--json", type=Path, help="write every round here")
    asked = parser.parse_args(arguments)
    options = Options(
        rounds=asked.rounds,
        seconds=asked.seconds,
        members=asked.members,
        fides_people=asked.fides_people,
        profile_seconds=asked.profile,
        without=frozenset(asked.without),
    )
    with ExitStack() as stack:
        run = _Run(options, stack.enter_context(workplace()), stack)
        run.carry_out()
    if asked.json:
        asked.json.write_bytes(orjson.dumps(run.results.as_json(), option=orjson.OPT_INDENT_2))
    print(markdown(run.results))
    reasons = (run.results.skipped.get(key, _LEFT_OUT) for key in (OURS, OURS_SQLITE))
    return int(any(reason != _LEFT_OUT for reason in reasons))
