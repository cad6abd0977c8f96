"""Starts, watches and stops the processes a benchmark needs: PostgreSQL, Redis, HTTP servers.

Everything listens on loopback, lives in one temporary directory and is stopped by process id.
CPU time is read from /proc (user + system) for a whole process tree, because that figure is
sturdier than requests per second on a machine that other work shares.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
POSTGRES_FLAGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "512MB",
    "max_connections": "400",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
}
_STOP_SECONDS = 20
_IDLE_SHARE = 0.06
_WINDOW_SECONDS = 0.25


class UnavailableError(RuntimeError):
    """Something a benchmark needs is not on this machine; the text says what."""


# --- /proc ----------------------------------------------------------------------------


def _snapshot() -> dict[int, tuple[int, int]]:
    """Map every process id to (parent, ticks of user and system time)."""
    found = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 (a hot loop over thousands of names)
        if entry.isdigit():
            try:
                text = Path("/proc", entry, "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            fields = text.rpartition(")")[2].split()
            found[int(entry)] = (int(fields[1]), int(fields[11]) + int(fields[12]))
    return found


def _tree(root: int, processes: Mapping[int, tuple[int, int]]) -> list[int]:
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in processes.items():
        children.setdefault(parent, []).append(pid)
    tree, queue = [], [root]
    while queue:
        pid = queue.pop()
        if pid in processes:
            tree.append(pid)
            queue.extend(children.get(pid, ()))
    return tree


def tree_cpu_seconds(root: int) -> float:
    """Sum user and system time of a process and all its living descendants, in seconds."""
    processes = _snapshot()
    return sum(processes[pid][1] for pid in _tree(root, processes)) / TICKS_PER_SECOND


def settle(roots: Sequence[int], *, at_most_seconds: float = 8.0) -> float:
    """Wait until the given process trees are idle together; gives the seconds it took."""
    began = time.perf_counter()
    before = sum(map(tree_cpu_seconds, roots))
    while (waited := time.perf_counter() - began) < at_most_seconds:
        time.sleep(_WINDOW_SECONDS)
        after = sum(map(tree_cpu_seconds, roots))
        if after - before <= _IDLE_SHARE * _WINDOW_SECONDS:
            return waited
        before = after
    return waited


# --- processes ------------------------------------------------------------------------


def free_port() -> int:
    """Give a loopback TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def tool(name: str) -> Path | None:
    """Find a program on PATH or in Debian's PostgreSQL folders (newest first)."""
    found = shutil.which(name)
    if found:
        return Path(found)
    versions = sorted(
        Path("/usr/lib/postgresql").glob(f"*/bin/{name}"),
        key=lambda path: float(path.parts[-3]),
        reverse=True,
    )
    return versions[0] if versions else None


class Server:
    """One program started for a benchmark, in a process group of its own."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        self.pid = self._process.pid

    def wait_for_http(self, port: int, path: str, *, within_seconds: float) -> float:
        """Wait until `path` answers 200; gives the seconds waited.

        Raises:
            UnavailableError: the process ended or the time is up; with the end of its log.
        """
        began = time.perf_counter()
        while time.perf_counter() - began < within_seconds:
            if self._process.poll() is not None:
                raise UnavailableError(f"{self.name} ended: {self.tail()}")
            connection = HTTPConnection("127.0.0.1", port, timeout=5)
            try:
                connection.request("GET", path)
                if connection.getresponse().status == 200:
                    return time.perf_counter() - began
            except (OSError, HTTPException):
                pass
            finally:
                connection.close()
            time.sleep(0.01)
        raise UnavailableError(f"{self.name} did not answer {path}: {self.tail()}")

    def tail(self, characters: int = 600) -> str:
        """Give the end of the server's log on one line."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return " / ".join(text[-characters:].split("\n"))

    def stop(self) -> None:
        """Ask the process to stop, and end its group if it does not."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
                self._process.wait()


def uvicorn_command(python: Path | str, app: str, port: int, workers: int = 1) -> list[str]:
    """Start an ASGI app with the flags all contenders share: uvloop, httptools, no access log."""
    command = [str(python), "-m", "uvicorn", app, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--no-server-header"]
    return [*command, "--log-level", "warning", "--workers", str(workers)]


# --- PostgreSQL -----------------------------------------------------------------------


@dataclass
class Postgres:
    """A throwaway cluster with durable commits."""

    port: int
    pid: int
    version: str
    _bin: Path
    _data: Path
    _as_user: tuple[str, ...]

    @classmethod
    def start(cls, folder: Path) -> "Postgres":
        """Make a cluster in `folder` and start it; needs the PostgreSQL programs.

        Raises:
            UnavailableError: no PostgreSQL programs were found, or root without `postgres`.
        """
        initdb = tool("initdb")
        if initdb is None:
            raise UnavailableError("PostgreSQL programs not found (Debian: apt install postgresql)")
        data = folder / "postgres"
        data.mkdir()
        as_user: tuple[str, ...] = ()
        if os.geteuid() == 0:
            try:
                owner = pwd.getpwnam("postgres")
            except KeyError:
                raise UnavailableError("root needs a `postgres` account to run a cluster") from None
            os.chown(data, owner.pw_uid, owner.pw_gid)
            as_user = ("runuser", "-u", "postgres", "--")
        programs = initdb.resolve().parent
        encoding = ("-E", "UTF8", "--locale=C.UTF-8")
        create: tuple[str | Path, ...] = (
            programs / "initdb",
            "-D",
            data,
            "-A",
            "trust",
            "-U",
            "bench",
            "--no-sync",
        )
        _run([*as_user, *create, *encoding], cwd=data)
        port = free_port()
        flags = {
            "port": str(port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(data),
            **POSTGRES_FLAGS,
        }
        options = " ".join(f"-c {key}={value}" for key, value in flags.items())
        start: tuple[str | Path, ...] = (
            programs / "pg_ctl",
            "-D",
            data,
            "-w",
            "-l",
            data / "log",
            "-o",
            options,
            "start",
        )
        _run([*as_user, *start], cwd=data)
        pid = int((data / "postmaster.pid").read_text(encoding="utf-8").split()[0])
        version = _run([programs / "postgres", "--version"], cwd=data).split()[2]
        return cls(port, pid, version, programs, data, as_user)

    def create_database(self, name: str) -> str:
        """Create a database and give its URL."""
        self.sql("postgres", f'CREATE DATABASE "{name}"')
        return self.url(name)

    def url(self, name: str) -> str:
        """Give the URL of a database of this cluster."""
        return f"postgresql://bench@127.0.0.1:{self.port}/{name}"

    def sql(self, database: str, statement: str) -> str:
        """Run one statement with psql and give its unaligned output."""
        address = ("-h", "127.0.0.1", "-p", str(self.port), "-U", "bench", "-d", database)
        return _run([self._bin / "psql", *address, "-XAtqc", statement], cwd=self._data)

    def backends_cpu_seconds(self, database: str) -> float:
        """Sum the CPU time of the backends that now serve `database`, in seconds.

        A backend's title is `postgres: USER DATABASE HOST(PORT) STATE`.
        """
        processes = _snapshot()
        ticks = 0
        for pid in _tree(self.pid, processes):
            try:
                title = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
            except OSError:
                continue
            words = title.split()
            if len(words) > 3 and words[0] == "postgres:" and words[2] == database:
                ticks += processes[pid][1]
        return ticks / TICKS_PER_SECOND

    def stop(self) -> None:
        """Stop the cluster."""
        stop: tuple[str | Path, ...] = (
            self._bin / "pg_ctl",
            "-D",
            self._data,
            "-m",
            "fast",
            "-w",
            "stop",
        )
        _run([*self._as_user, *stop], cwd=self._data)


def _run(command: Iterable[str | Path], *, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UnavailableError(f"{command} failed: {done.stderr.strip()[-400:]}")
    return done.stdout


@contextmanager
def workplace() -> Iterator[Path]:
    """Give a temporary folder that the database's account may enter; removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="yinyom-bench-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def cache_folder() -> Path:
    """Give the folder that outlives a run: opponents' environments, never data."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "yinyom-bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def machine(folder: Path, postgres: Postgres | None) -> dict[str, str]:
    """Describe what the figures were measured on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        "unknown CPU",
    )
    filesystem = _run(["stat", "-f", "-c", "%T", str(folder)], cwd=folder).strip()
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "cpu": model,
        "python": ".".join(map(str, sys.version_info[:3])),
        "postgresql": postgres.version if postgres else "absent",
        "filesystem": filesystem,
        "load_average_at_start": f"{os.getloadavg()[0]:.2f}",
    }
