"""Structured logs that cannot hold a person: only declared keys with harmless shapes pass.

The scrubber is an allow-list. A key that nobody declared is dropped and counted, and a value
that has not the shape of its key (an id, a route, a code) is replaced, so an attacker who reads
the logs finds no name, number or address, even where a developer logged one by mistake.
"""

import asyncio
import contextlib
import re
import sys
import time
from collections.abc import Mapping, MutableMapping
from typing import Any, BinaryIO, cast

import orjson
import structlog

from kernel.clock import rfc3339

_FLUSH_SECONDS = 0.2

_WORD = re.compile(r"(?=.{1,64}$)(?!(?:.*\d){7})[a-z][a-z0-9_]*(?:[.:/-][a-z0-9_]+)*")
_ID = re.compile(r"[a-z]{2,5}_[0-9a-hjkmnp-tv-z]{26}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NUMBER = re.compile(r"(?!)")
_SHAPES: Mapping[str, re.Pattern[str]] = {
    "event": _WORD,
    "level": _WORD,
    "reason": _WORD,
    "error": _WORD,
    "topic": _WORD,
    "job_kind": _WORD,
    "worker": _WORD,
    "engine": _WORD,
    "signal": _WORD,
    "request_id": _ID,
    "client_id": _ID,
    "audit_id": _ID,
    "job": _ID,
    "route": re.compile(r"none|(?=.{1,96}$)(?!(?:.*\d){7})(?:/[a-z0-9_.:{}-]*)+"),
    "method": re.compile("GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|TRACE|CONNECT"),
    "error_type": re.compile(r"[A-Z][A-Za-z]{0,60}(?:Error|Exception|Exit|Interrupt|Warning)"),
    "where": re.compile(r"[A-Za-z_<][\w<>.]{0,80}:\d{1,6}"),
    "policy": re.compile("sha256:[0-9a-f]{64}"),
    "host": re.compile(
        r"localhost|\d{1,3}(?:\.\d{1,3}){3}|(?=.{2,39}$)[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}"
    ),
    "version": re.compile(r"\d{1,3}(?:\.\d{1,3}){1,2}"),
    "status": _NUMBER,
    "duration_us": _NUMBER,
    "count": _NUMBER,
    "size": _NUMBER,
    "attempt": _NUMBER,
    "port": _NUMBER,
}


def _harmless(key: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str) and _SHAPES[key].fullmatch(value):
        return value
    return "<scrubbed>"


def scrub(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Keep declared keys with harmless values; say how many others were dropped."""
    kept: dict[str, Any] = {}
    dropped = 0
    for key, value in event.items():
        if key == "timestamp":
            kept[key] = value
        elif key in _SHAPES:
            kept[key] = _harmless(key, value)
        else:
            dropped += 1
    if dropped:
        kept["dropped"] = dropped
    return kept


def _render(_logger: object, _method: str, event: MutableMapping[str, Any]) -> bytes:
    return orjson.dumps(event)


class _Lines:
    """Where lines go: a stream, or the process's stderr of the moment, so that it is redirected.

    A line that cannot be written is lost. The work that wanted to tell of a full disk goes on, as
    the log often lies on that very disk.
    """

    def __init__(self, stream: BinaryIO | None) -> None:
        self._stream = stream

    def write(self, lines: bytes) -> int:
        with contextlib.suppress(OSError):
            return (self._stream or sys.stderr.buffer).write(lines)
        return 0

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            (self._stream or sys.stderr.buffer).flush()


def configure_logging(level: str = "info", stream: BinaryIO | None = None) -> None:
    """Set up structlog to write JSON lines of scrubbed events to `stream` (stderr)."""
    levels = {"debug": 10, "info": 20, "warning": 30, "error": 40}
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            scrub,
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(levels[level]),
        logger_factory=structlog.BytesLoggerFactory(cast("BinaryIO", _Lines(stream))),
        cache_logger_on_first_use=True,
    )


class RequestLog:
    """One line a request, written in small batches off the answer's path.

    Needs no scrubber: it takes a route template, never a path, and nothing else that a person
    could have typed.
    """

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self._stream = _Lines(stream)
        self._lines: list[bytes] = []

    def write(
        self, *, request_id: str, method: str, route: str, status: int, duration_us: int
    ) -> None:
        """Note a request; the line is written within a fifth of a second."""
        if not self._lines:
            asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self.flush)
        self._lines.append(
            orjson.dumps(
                {
                    "event": "request",
                    "level": "info",
                    "request_id": request_id,
                    "method": method,
                    "route": route,
                    "status": status,
                    "duration_us": duration_us,
                    "timestamp": rfc3339(time.time_ns() // 1000),
                },
                option=orjson.OPT_APPEND_NEWLINE,
            )
        )

    def flush(self) -> None:
        """Write what is waiting."""
        lines, self._lines = self._lines, []
        if lines:
            self._stream.write(b"".join(lines))
            self._stream.flush()
