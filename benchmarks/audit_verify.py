"""An export checked offline by `audit/verify.py` as a program of its own, and by Go's code.

Folders with `events.ndjson`, as `yinyom audit export` writes them. Time by the clock, and memory as
the kernel counts the largest resident set of the process.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from audit.export import write_bundle
from audit.merkle import leaf_hash
from audit.note import Checkpoint, Signer, sign_checkpoint
from audit.tiles import HASH_SIZE, TreeEdge
from benchmarks.audit_world import ORIGIN, synthetic_bodies
from benchmarks.report import number, table
from benchmarks.rounds import say

if TYPE_CHECKING:
    from benchmarks.audit import Results

WHOLE = 1_000_000
REPOSITORY = Path(__file__).parents[1]
GO_LIBRARIES = Path("/usr/share/gocode")


@dataclass
class Ran:
    """What a program took."""

    seconds: float
    cpu_seconds: float
    megabytes: float


class Synthetic:
    """A `LogSource` of so many events, made as they are asked for."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.signer = Signer.from_seed(ORIGIN, bytes(range(32)))
        self._tiles: dict[tuple[int, int], bytes] = {}
        edge, self._kept = TreeEdge(), list(synthetic_bodies(size))
        for start in range(0, size, 65_536):
            part = self._kept[start : start + 65_536]
            edge, changed = edge.append([leaf_hash(body) for body in part])
            for level, n, data in changed:
                self._tiles[level, n] = data
        self._root = edge.root()

    def checkpoint_note(self) -> str:
        return sign_checkpoint(Checkpoint(ORIGIN, self.size, self._root), self.signer)

    def tile(self, level: int, n: int, width: int) -> bytes:
        return self._tiles[level, n][: width * HASH_SIZE]

    def entries(self, start: int, end: int) -> Iterator[bytes]:
        return iter(self._kept[start:end])

    def manifests(self, _start: int, _end: int) -> Iterator[tuple[int, bytes]]:
        return iter(())


def measure(results: "Results", folder: Path, events: int, rounds: int) -> None:
    """Write an export and check it, ours and Go's in turn."""
    bundle = folder / "export"
    begun = time.perf_counter()
    source = Synthetic(events)
    write_bundle(bundle, source)
    vkey = source.signer.vkey
    del source
    say(f"export of {events} events written in {time.perf_counter() - begun:.0f} s")
    verifier = REPOSITORY / "audit" / "verify.py"
    commands = {"ours": [sys.executable, "-I", str(verifier), str(bundle), "--key", vkey]}
    go = _build_go(folder)
    if go is not None:
        commands["Go, x/mod/sumdb"] = [str(go), str(bundle), vkey]
    found: dict[str, list[Ran]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            found[name].append(_run(command, folder))
    best = {name: sorted(runs, key=lambda run: run.seconds) for name, runs in found.items()}
    ours = best["ours"][len(best["ours"]) // 2]
    whole, reason = events == WHOLE, f"only {events} events in this run"
    results.at_most(
        f"offline verify of {WHOLE} events", ours.seconds if whole else None, 4, "s", reason=reason
    )
    most = max(run.megabytes for run in found["ours"])
    results.at_most(
        f"memory of verifying {WHOLE} events", most if whole else None, 150, "MB", reason=reason
    )
    rows = []
    for name, runs in best.items():
        middle = runs[len(runs) // 2]
        rows.append(
            [
                name,
                number(middle.seconds),
                number(middle.cpu_seconds),
                number(events / middle.seconds),
                number(max(run.megabytes for run in runs)),
            ]
        )
    header = ["verifier", "seconds", "CPU s", "events/s", "MB resident"]
    title = f"An export of {events} events, medians of {rounds}"
    results.tables.append((title, table(header, rows)))
    if go is None:
        results.tables.append(("Go", "Go or its package golang-golang-x-mod-dev is not installed."))
    shutil.rmtree(bundle)


_WATCH = """
import json, os, sys, time
begun = time.perf_counter()
out = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
pid = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ,
                     file_actions=[(os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, out, 2)])
_, status, used = os.wait4(pid, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), time.perf_counter() - begun,
                  used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""


def _run(command: Sequence[str], folder: Path) -> Ran:
    """Run a program from a small process: the kernel counts its parent's memory as its own."""
    said = folder / "said"
    watch = [sys.executable, "-I", "-S", "-c", _WATCH, str(said), *command]
    done = subprocess.run(watch, capture_output=True, text=True, check=True)
    code, *figures = json.loads(done.stdout)
    if code:
        raise RuntimeError(f"the export does not verify: {said.read_text('utf-8')[-400:]}")
    return Ran(*figures)


def _build_go(folder: Path) -> Path | None:
    """Build the judge of the tests from Debian's packages, where they are."""
    if shutil.which("go") is None or not (GO_LIBRARIES / "src/golang.org/x/mod").is_dir():
        return None
    program = folder / "verify_tlog"
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOPATH": str(GO_LIBRARIES),
        "GOCACHE": str(folder / "go-cache"),
        "GOFLAGS": "",
        "CGO_ENABLED": "0",
    }
    source = REPOSITORY / "tests" / "interop" / "verify_tlog.go"
    subprocess.run(["go", "build", "-o", program, source], env=environment, check=True)
    return program
