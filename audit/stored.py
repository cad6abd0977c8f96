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

from audit import repository
from audit.cosigning import cosigned_checkpoint
from audit.crosscheck import compare_rows, cross_check
from audit.errors import ExportError
from audit.export import write_bundle
from audit.note import Verifier
from audit.service import AuditLog
from audit.verify import Finding, VerifyReport, verify_bundle
from kernel import Database

Progress = Callable[[int, int], None]
_Answer = TypeVar("_Answer")
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
    database: Database,
    destination: Path,
    progress: Progress | None = None,
    *,
    witnessed: bool = False,
) -> int:
    """Write the log up to its newest checkpoint as a bundle; gives the number of events.

    With `witnessed`, up to the newest that a witness has signed, if there is one.
    """
    async with database.read() as session:
        last = await cosigned_checkpoint(session, fresh=not witnessed)
        last = last or await cosigned_checkpoint(session)
    if last is None:
        raise ExportError("the log has not begun")
    size, note = last
    await export_at(database, destination, size, note, progress)
    return size


async def export_at(
    database: Database,
    destination: Path,
    size: int,
    note: str,
    progress: Progress | None = None,
) -> None:
    """Write the log as it was at a size as a bundle, under the checkpoint that was signed then."""
    source = _StoredLog(database, asyncio.get_running_loop(), size, note)
    await asyncio.to_thread(write_bundle, destination, source, progress)


async def verify_stored_log(
    database: Database, audit: AuditLog, progress: Progress | None = None
) -> tuple[VerifyReport, list[Finding]]:
    """Check the log in the database against its own key; never raises for what it finds.

    Gives the verifier's report, and a finding (`columns`) for each event whose search columns say
    something else than its body. What a bundle cannot show is in the report too: see
    `cross_check` and `compare_rows`.
    """
    with tempfile.TemporaryDirectory(prefix="yinyom-verify-") as folder:
        bundle = Path(folder) / "log"
        try:
            await export_log(database, bundle, progress)
        except ExportError as error:
            finding = Finding("checkpoint", None, None, str(error))
            report = VerifyReport(False, None, None, None, (finding,), ())
        else:
            report = await asyncio.to_thread(verify_bundle, bundle, audit.vkey)
    findings = await cross_check(database, Verifier.from_vkey(audit.vkey))
    async with database.read() as session:
        last = await repository.last_checkpoint(session)
    wrong, misleading = await compare_rows(database, 0 if last is None else last[0])
    findings = [*report.findings, *findings, *wrong]
    return replace(report, ok=not findings, findings=tuple(findings)), misleading
