"""The trail: what it costs, how soon it is signed, how fast it is proved, checked and searched.

SQLite and PostgreSQL, each in databases of its own; ratios are taken inside interleaved rounds of
one run. A target that is missed is printed as missed. Without options the run is the whole one;
`--quick` is a tenth of it or less, and leaves out what only a million events can show.
"""

import argparse
import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import audit_append, audit_bulk, audit_proofs, audit_sequence, audit_verify
from benchmarks.report import Bound, Target, targets_table
from benchmarks.rounds import say
from benchmarks.servers import Postgres, UnavailableError, machine, workplace


@dataclass
class Results:
    """Everything one run found: tables by title, and targets."""

    tables: list[tuple[str, str]] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)

    def at_most(
        self, name: str, value: float | None, target: float, unit: str, reason: str = ""
    ) -> None:
        self.targets.append(Target(name, value, Bound.AT_MOST, target, unit, reason=reason))

    def at_least(
        self, name: str, value: float | None, target: float, unit: str, reason: str = ""
    ) -> None:
        self.targets.append(Target(name, value, Bound.AT_LEAST, target, unit, reason=reason))


PARTS = ("append", "lag", "bulk", "sequence", "proofs", "verify")
ENGINES = ("sqlite", "postgres")
WHOLE = {
    "rounds": 7, "seconds": 4.0, "events": 1_000_000, "leaves": 10_000_000, "asked": 500,
    "members": 10_000,
}  # fmt: skip
QUICK = {
    "rounds": 3,
    "seconds": 1.0,
    "events": 60_000,
    "leaves": 700_000,
    "asked": 200,
    "members": 3_000,
}


async def measure(
    results: Results, options: argparse.Namespace, folder: Path, server: Postgres | None
) -> None:
    """Measure one engine; SQLite where there is no server."""
    if "append" in options.parts:
        say("transactions with an event")
        await audit_append.transactions(results, folder, server, options.rounds, options.seconds)
    if "lag" in options.parts:
        say("from commit to signed checkpoint")
        await audit_append.lag(results, folder, server, 4 * options.seconds)
    if "bulk" in options.parts:
        say("an export")
        await audit_bulk.measure(results, folder, server, options.members)
    if "sequence" in options.parts:
        say("a backlog")
        await audit_sequence.measure(results, folder, server, options.events, options.asked)
    if "proofs" in options.parts:
        say("proofs")
        await audit_proofs.measure(results, folder, server, options.leaves, options.asked)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks audit", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="at most three minutes")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="of each contender's turn")
    parser.add_argument("--events", type=int, help="in the backlog and in the export")
    parser.add_argument("--leaves", type=int, help="under the proofs")
    parser.add_argument("--members", type=int, help="in the export")
    parser.add_argument("--asked", type=int, help="proofs, and timelines")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    options = parser.parse_args(arguments)
    for name, value in (QUICK if options.quick else WHOLE).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    results, lacking = Results(), ""
    with workplace() as folder:
        server = None
        if "postgres" in options.engines:
            try:
                server = Postgres.start(folder)
            except UnavailableError as error:
                lacking = f"- not measured: everything on PostgreSQL: {error}"
        shape = machine(folder, server)
        try:
            if "sqlite" in options.engines:
                asyncio.run(measure(results, options, folder, None))
            if server is not None:
                asyncio.run(measure(results, options, folder, server))
            if "verify" in options.parts:
                say("an export checked offline")
                audit_verify.measure(results, folder, options.events, min(options.rounds, 5))
        finally:
            if server is not None:
                server.stop()
    print("## The trail\n")
    print(
        f"{shape['cores']} cores ({shape['cpu']}), Python {shape['python']}, "
        f"PostgreSQL {shape['postgresql']}, file system {shape['filesystem']}, "
        f"load {shape['load_average_at_start']} at start and {os.getloadavg()[0]:.2f} at the end; "
        f"medians of {options.rounds} interleaved rounds of {options.seconds:g} s; "
        f"{options.events} events, {options.leaves} leaves.\n"
    )
    print(targets_table(results.targets))
    if lacking:
        print(lacking)
    for title, text in results.tables:
        print(f"\n### {title}\n\n{text}")
    return 0
