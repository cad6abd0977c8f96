"""Where a server's time goes: py-spy samples it under load, and we add up what it saw.

py-spy reads the process from outside, so that the profile is of the server that was measured.
It is installed once into an environment of its own in the user's cache.
"""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import UnavailableError, cache_folder

SAMPLES_PER_SECOND = 500
INSTALL_SECONDS = 300
_OUR_ROOMS = ("kernel", "vault", "audit", "policies", "consent", "members", "disclosure", "service")


@dataclass(frozen=True)
class Profile:
    """Shares of the samples in which the server was running, largest first."""

    samples: int
    own_time: list[tuple[str, float]]
    including_callees: list[tuple[str, float]]


def _py_spy() -> Path:
    folder = cache_folder() / "py-spy"
    program = folder / "bin" / "py-spy"
    if not program.exists():
        try:
            for command in (
                [sys.executable, "-m", "venv", str(folder)],
                [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "py-spy"],
            ):
                subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_SECONDS)
        except (OSError, subprocess.SubprocessError) as error:
            raise UnavailableError(f"py-spy could not be installed: {error}") from error
    return program


def profile(pid: int, output: Path, under_load: Callable[[], object], seconds: int) -> Profile:
    """Sample a process and its children for `seconds` while `under_load` runs.

    Raises:
        UnavailableError: py-spy cannot be installed or may not read the process.
    """
    command = [str(_py_spy()), "record", "--pid", str(pid), "--subprocesses", "--format", "raw"]
    command += ["--rate", str(SAMPLES_PER_SECOND), "--duration", str(seconds)]
    sampler = subprocess.Popen(
        [*command, "--output", str(output)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    under_load()
    said, _ = sampler.communicate(timeout=seconds + 30)
    if sampler.returncode or not output.exists():
        raise UnavailableError(f"py-spy failed: {said.decode(errors='replace')[-300:]}")
    return summarise(output.read_text(encoding="utf-8"))


def summarise(collapsed: str) -> Profile:
    """Add up collapsed stacks (`frame;frame;… count` lines) by package and by our functions."""
    own: Counter[str] = Counter()
    within: Counter[str] = Counter()
    samples = 0
    for line in collapsed.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [frame for frame in stack.split(";") if not frame.startswith("process ")]
        if not frames:
            continue
        weight = int(count)
        samples += weight
        own[_package(frames[-1])] += weight
        for function in {f for f in map(_function, frames) if f is not None}:
            within[function] += weight
    total = max(samples, 1)
    return Profile(
        samples,
        [(name, weight / total) for name, weight in own.most_common(14)],
        [(name, weight / total) for name, weight in within.most_common(24)],
    )


def _place(frame: str) -> tuple[str, str]:
    """Split `function (path/file.py:12)` into function and path."""
    function, _, place = frame.partition(" (")
    return function, place.rpartition(":")[0] or place.rstrip(")")


def _package(frame: str) -> str:
    _, path = _place(frame)
    parts = Path(path).with_suffix("").parts
    if "site-packages" in parts:
        return parts[parts.index("site-packages") + 1]
    for part in parts:
        if part in _OUR_ROOMS:
            return part
    if not parts or parts[0].startswith("<"):
        return "interpreter"
    return parts[0] if parts[0] != "/" else "standard library"


def _function(frame: str) -> str | None:
    name, path = _place(frame)
    parts = Path(path).parts
    if "site-packages" in parts:
        return None
    for at, part in enumerate(parts):
        if part in _OUR_ROOMS:
            return f"{'/'.join(parts[at:])}: {name}"
    return None
