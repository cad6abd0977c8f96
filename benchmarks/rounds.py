"""Interleaved rounds: contenders measured in turn, again and again, in the same minutes.

Neighbours' load, caches and clock speed then fall on everybody alike, and a ratio is taken
inside one round before the median over rounds is.
"""

import asyncio
import statistics
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.load import Measured, measure
from benchmarks.servers import Postgres, settle, tree_cpu_seconds

CONNECTIONS = (16, 32)
WARM_UP_SECONDS = 2


@dataclass(frozen=True)
class Contender:
    """A server that answers one question, and where to read its CPU time."""

    key: str
    port: int
    paths: Sequence[str]
    headers: Callable[[], Awaitable[dict[str, str]]]
    pid: int
    database: str | None


@dataclass(frozen=True)
class Round:
    """One contender's figures in one round.

    CPU in µs per request, latencies in ms; `drain_s` is how long the servers went on working
    after the last answer, and that work is counted.
    """

    contender: str
    connections: int
    number: int
    rps: float
    p50_ms: float
    p99_ms: float
    server_us: float
    postgres_us: float
    drain_s: float

    @property
    def total_us(self) -> float:
        """CPU of the server and of its database's backends, in µs per request."""
        return self.server_us + self.postgres_us


@dataclass
class Rounds:
    """Runs contenders against each other and keeps what it saw."""

    postgres: Postgres
    seconds: int
    done: list[Round] = field(default_factory=list)

    def interleave(self, contenders: Sequence[Contender], rounds: int) -> None:
        """Warm everybody up, then measure them in turn, `rounds` times at each connection count."""
        roots = [self.postgres.pid, *(one.pid for one in contenders)]
        for contender in contenders:
            self.load(contender, max(CONNECTIONS), WARM_UP_SECONDS, seed=0)
            settle(roots)
        for number in range(rounds):
            for connections in CONNECTIONS:
                for contender in contenders:
                    self.done.append(self._round(contender, connections, number, roots))

    def load(self, contender: Contender, connections: int, seconds: int, *, seed: int) -> Measured:
        """Ask one contender for random paths."""
        return measure(
            contender.port,
            contender.paths,
            asyncio.run(_headers(contender)),
            connections=connections,
            seconds=seconds,
            seed=seed,
        )

    def _cpu(self, contender: Contender) -> tuple[float, float]:
        database = contender.database
        backends = 0.0 if database is None else self.postgres.backends_cpu_seconds(database)
        return tree_cpu_seconds(contender.pid), backends

    def _round(
        self, contender: Contender, connections: int, number: int, roots: Sequence[int]
    ) -> Round:
        server_before, postgres_before = self._cpu(contender)
        found = self.load(contender, connections, self.seconds, seed=number + 1)
        # Work left behind by the answers (the sequencer's) is part of their price.
        drained = settle(roots)
        server_after, postgres_after = self._cpu(contender)
        done = Round(
            contender.key,
            connections,
            number,
            found.rps,
            found.p50_ms,
            found.p99_ms,
            (server_after - server_before) / found.requests * 1e6,
            (postgres_after - postgres_before) / found.requests * 1e6,
            drained,
        )
        say(
            f"round {number + 1} · {connections} connections · {contender.key}: "
            f"{done.rps:.0f} RPS, {done.server_us:.0f} + {done.postgres_us:.0f} µs"
        )
        return done

    def of(self, contender: str, connections: int) -> list[Round]:
        """Give one contender's rounds at one connection count."""
        return [
            one
            for one in self.done
            if one.contender == contender and one.connections == connections
        ]

    def compare(
        self, first: str, second: str, connections: int, relation: Callable[[Round, Round], float]
    ) -> float | None:
        """Give the median over rounds of a relation inside one round; None if one is missing."""
        pairs = zip(self.of(first, connections), self.of(second, connections), strict=False)
        values = [relation(one, other) for one, other in pairs]
        return statistics.median(values) if values else None


async def _headers(contender: Contender) -> dict[str, str]:
    return await contender.headers()


def say(text: str) -> None:
    """Tell the person who waits what is going on; standard output is kept for the tables."""
    print(text, file=sys.stderr, flush=True)
