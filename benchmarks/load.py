"""Generates load and drives HTTP APIs, on loopback only.

`measure` uses wrk (one thread, a Lua script that picks a random prepared request) where it is
installed, because it takes the least CPU from the servers it shares the machine with, and
otherwise an asyncio generator of ours. `Client` is the small keep-alive client with which
benchmarks fill the servers before they measure them.
"""

import asyncio
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson

Item = TypeVar("Item")
Result = TypeVar("Result")

_SCRIPT = """
local paths = {}
local requests = {}
function init(args)
  math.randomseed(tonumber(args[2]))
  for line in io.lines(args[1]) do requests[#requests + 1] = wrk.format("GET", line) end
end
function request() return requests[math.random(#requests)] end
function done(summary, latency, ignored)
  local e = summary.errors
  io.stderr:write(string.format(
    '{"requests":%d,"microseconds":%d,"not_2xx":%d,"broken":%d,"p50":%f,"p99":%f}',
    summary.requests, summary.duration, e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


class LoadError(RuntimeError):
    """The server refused or dropped requests, so that its figures would mean nothing."""


@dataclass(frozen=True)
class Measured:
    """What one round of load saw; latencies in milliseconds."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def rps(self) -> float:
        """Requests answered per second."""
        return self.requests / self.seconds


def generator() -> str:
    """Name the load generator that `measure` will use."""
    return "wrk -t1" if shutil.which("wrk") else "asyncio"


def measure(
    port: int,
    paths: Sequence[str],
    headers: Mapping[str, str],
    *,
    connections: int,
    seconds: float,
    seed: int,
) -> Measured:
    """Ask for random `paths` over keep-alive connections; every answer must be 2xx.

    Raises:
        LoadError: an answer was not 2xx or a connection broke.
    """
    if shutil.which("wrk"):
        found = _wrk(port, paths, headers, connections, seconds, seed)
    else:
        found = asyncio.run(_asyncio(port, paths, headers, connections, seconds, seed))
    if found["not_2xx"] or found["broken"]:
        raise LoadError(
            f"{found['not_2xx']} of {found['requests']} answers were not 2xx, "
            f"{found['broken']} connections broke"
        )
    return Measured(
        found["requests"],
        found["microseconds"] / 1e6,
        found["p50"] / 1e3,
        found["p99"] / 1e3,
    )


def _wrk(
    port: int,
    paths: Sequence[str],
    headers: Mapping[str, str],
    connections: int,
    seconds: float,
    seed: int,
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="yinyom-wrk-") as folder:
        script, listing = Path(folder, "load.lua"), Path(folder, "paths")
        # Headers stand in the 0700 folder's script, not on the command line.
        lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items()]
        script.write_text("\n".join(lines) + _SCRIPT, encoding="utf-8")
        listing.write_text("\n".join(paths) + "\n", encoding="utf-8")
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "10s"]
        command += ["-s", str(script), f"http://127.0.0.1:{port}", "--", str(listing), str(seed)]
        done = subprocess.run(command, capture_output=True, check=True)
        found: dict[str, Any] = orjson.loads(done.stderr)
        return found


# --- the fallback generator -----------------------------------------------------------


class _Stream(asyncio.Protocol):
    """One keep-alive connection that asks again as soon as it is answered."""

    def __init__(self, requests: Sequence[bytes], seed: int, ends: float) -> None:
        self.latencies: list[float] = []
        self.not_2xx = 0
        self.broken = 0
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests = requests
        self._random = random.Random(seed)
        self._ends = ends
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        if self._asked >= self._ends:
            self.finished.set_result(None)
            self._transport.close()
        else:
            self._transport.write(self._random.choice(self._requests))  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if separator and len(body) >= content_length(head):
            self.latencies.append(time.perf_counter() - self._asked)
            self.not_2xx += not head.startswith(b"HTTP/1.1 2")
            self._buffer = b""
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (the base's name)
        if not self.finished.done():
            self.broken = 1
            self.finished.set_result(None)


async def _asyncio(
    port: int,
    paths: Sequence[str],
    headers: Mapping[str, str],
    connections: int,
    seconds: float,
    seed: int,
) -> dict[str, Any]:
    requests = [_request("GET", path, headers) for path in paths]
    began = time.perf_counter()
    streams = [_Stream(requests, seed + n, began + seconds) for n in range(connections)]
    loop = asyncio.get_running_loop()
    for stream in streams:
        await loop.create_connection(lambda stream=stream: stream, "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.gather(*(stream.finished for stream in streams))
    took = time.perf_counter() - began
    latencies = sorted(value for stream in streams for value in stream.latencies)
    return {
        "requests": len(latencies),
        "microseconds": took * 1e6,
        "not_2xx": sum(stream.not_2xx for stream in streams),
        "broken": sum(stream.broken for stream in streams),
        "p50": latencies[len(latencies) // 2] * 1e6,
        "p99": latencies[len(latencies) * 99 // 100] * 1e6,
    }


# --- driving an API -------------------------------------------------------------------


def content_length(head: bytes) -> int:
    """Read the Content-Length of a response head; 0 when it has none."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _request(
    method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


class Client:
    """One keep-alive connection to a loopback port."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        form: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Send one request and give the parsed JSON answer.

        Raises:
            LoadError: the answer was not 2xx; with the status and the answer's own words.
        """
        sent = dict(headers or {})
        body = None
        if form is not None:
            body, sent["Content-Type"] = form.encode(), "application/x-www-form-urlencoded"
        elif json is not None:
            body, sent["Content-Type"] = orjson.dumps(json), "application/json"
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(_request(method, path, sent, body))
        head = await reader.readuntil(b"\r\n\r\n")
        answer = await reader.readexactly(content_length(head))
        if b"\r\nconnection: close" in head.lower():
            await self.close()
        if not head.startswith(b"HTTP/1.1 2"):
            status = head.split(b" ", 2)[1].decode()
            raise LoadError(f"{method} answered {status}: {answer[:300].decode(errors='replace')}")
        return orjson.loads(answer) if answer else None

    async def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def spread(
    port: int,
    items: Sequence[Item],
    work: Callable[[Client, Item], Awaitable[Result]],
    *,
    connections: int = 16,
) -> list[Result]:
    """Do `work` for every item over a few connections; results stand in the items' order.

    Raises:
        Exception: whatever `work` raised first.
    """
    results: dict[int, Result] = {}
    queue = iter(enumerate(items))

    async def run() -> None:
        client = Client(port)
        try:
            for at, item in queue:
                results[at] = await work(client, item)
        finally:
            await client.close()

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(connections):
                tasks.create_task(run())
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    return [results[at] for at in range(len(items))]
