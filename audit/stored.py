"""The log as it lies in the database: exporting it, and checking it where it lies.

The bundle writer and the verifier are synchronous and know no database; they run in a thread
and ask the event loop for each page, so a long export never holds the service up.
"""

import asyncio
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import orjson

from audit import repository
from audit.errors import ExportError
from audit.export import write_bundle
from audit.service import AuditLog
from audit.verify import Finding, VerifyReport, verify_bundle
from kernel import Database

Progress = Callable[[int, int], None]
_Answer = TypeVar("_Answer")
_PAGE = 4096
_MOST_LOST = 20
_HASH_BYTES = 32


class _StoredLog:
    """A `LogSource` over the database, at the size of its newest checkpoint."""

    def __init__(
        self, database: Database, loop: asyncio.AbstractEventLoop, size: int, note: str
    ) -> None:
        self._database = database
        self._loop = loop
        self._note = note
        self.size = size

    def checkpoint_note(self) -> str:
        return self._note

    def tile(self, level: int, n: int, width: int) -> bytes:
        return self._wait(self._tile(level, n))[: width * _HASH_BYTES]

    def entries(self, start: int, end: int) -> Iterator[bytes]:
        yield from self._wait(self._entries(start, end))

    def _wait(self, asked: Coroutine[Any, Any, _Answer]) -> _Answer:
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result()

    async def _tile(self, level: int, n: int) -> bytes:
        async with self._database.read() as session:
            return await repository.read_tile(session, level, n)

    async def _entries(self, start: int, end: int) -> list[bytes]:
        async with self._database.read() as session:
            rows = await repository.entries(session, start, end)
        return [bytes(row["body"]) for row in rows]


async def export_log(
    database: Database, destination: Path, progress: Progress | None = None
) -> int:
    """Write the log up to its newest checkpoint as a bundle; gives the number of events."""
    async with database.read() as session:
        last = await repository.last_checkpoint(session)
    if last is None:
        raise ExportError("the log has not begun")
    size, _, note = last
    source = _StoredLog(database, asyncio.get_running_loop(), size, note)
    await asyncio.to_thread(write_bundle, destination, source, progress)
    return size


async def verify_stored_log(
    database: Database, audit: AuditLog, progress: Progress | None = None
) -> tuple[VerifyReport, list[str]]:
    """Check the log in the database against its own key.

    Gives the verifier's report, and the ids of events whose search columns say something else
    than their bodies. An event that is neither in the log nor in its queue would be missed by
    every stranger, as its leaf was never made: it is a finding `lost`.
    """
    with tempfile.TemporaryDirectory(prefix="yinyom-verify-") as folder:
        bundle = Path(folder) / "log"
        size = await export_log(database, bundle, progress)
        report = await asyncio.to_thread(verify_bundle, bundle, audit.vkey)
    async with database.read() as session:
        lost = await repository.lost_events(session, _MOST_LOST)
    if lost:
        findings = (Finding("lost", None, None, f"{event} was never sequenced") for event in lost)
        report = replace(report, ok=False, findings=(*report.findings, *findings))
    misleading: list[str] = []
    for start in range(0, size, _PAGE):
        async with database.read() as session:
            rows = await repository.search_columns(session, start, start + _PAGE)
        for row in rows:
            body = orjson.loads(row["body"])
            said = (
                body["id"],
                body.get("subject", {}).get("token"),
                body["actor"]["id"],
                body["action"],
                body.get("purpose"),
                body.get("decision"),
            )
            kept = tuple(
                row[name] for name in ("id", "subject", "actor", "action", "purpose", "decision")
            )
            if said != kept:
                misleading.append(row["id"])
    return report, misleading
