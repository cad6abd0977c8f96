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

from audit import log_key_repository, repository
from audit.cosigning import cosigned_checkpoint
from audit.crosscheck import compare_rows, cross_check
from audit.detail_check import compare_details
from audit.errors import ExportError
from audit.export import write_bundle
from audit.manifest_repository import rows_between
from audit.note import Verifier
from audit.retention_repository import newest_pruning
from audit.review_check import compare_reviews
from audit.service import AuditLog
from audit.verify import Finding, VerifyReport, verify_bundle
from kernel import Database, ReadSession

Progress = Callable[[int, int], None]
_Answer = TypeVar("_Answer")
_HASH_BYTES = 32
_WAIT_SECONDS = 0.05
_MOST_WAITS = 200


class _StoredLog:
    """A `LogSource` over the database, at the size of its newest checkpoint."""

    def __init__(
        self, session: ReadSession, loop: asyncio.AbstractEventLoop, size: int, note: str
    ) -> None:
        self._session = session
        self._loop = loop
        self._note = note
        self.size = size

    def checkpoint_note(self) -> str:
        return self._note

    def tile(self, level: int, n: int, width: int) -> bytes:
        return self._wait(self._tile(level, n))[: width * _HASH_BYTES]

    def entries(self, start: int, end: int) -> Iterator[bytes | None]:
        yield from self._wait(self._entries(start, end))

    def manifests(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        yield from self._wait(rows_between(self._session, start, end))

    def _wait(self, asked: Coroutine[Any, Any, _Answer]) -> _Answer:
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result()

    async def _tile(self, level: int, n: int) -> bytes:
        return await repository.read_tile(self._session, level, n)

    async def _entries(self, start: int, end: int) -> list[bytes | None]:
        rows = await repository.entries(self._session, start, end)
        return [None if row["body"] is None else bytes(row["body"]) for row in rows]


async def export_log(
    database: Database,
    destination: Path,
    progress: Progress | None = None,
    *,
    witnessed: bool = False,
) -> int:
    """Write the log up to its newest checkpoint as a bundle; gives the number of events.

    With `witnessed`, up to the newest that a witness has signed, if there is one, unless bodies
    were deleted since. All is read at one moment, in which every deletion by rule has its event
    in the log: a bundle without the event would call missing what has gone by right.
    """
    for _ in range(_MOST_WAITS):
        async with database.snapshot() as session:
            pruning = await newest_pruning(session)
            if pruning is not None and pruning[1] is None:
                await asyncio.sleep(_WAIT_SECONDS)
                continue
            least = 0 if pruning is None or pruning[1] is None else pruning[1] + 1
            last = await cosigned_checkpoint(session, fresh=not witnessed)
            if last is None or last[0] < least:
                last = await cosigned_checkpoint(session, fresh=True)
            if last is None:
                raise ExportError("the log has not begun")
            await _write(session, destination, *last, progress)
            return last[0]
    raise ExportError("the event of a deletion waits for its place in the log; try again")


async def export_at(
    database: Database,
    destination: Path,
    size: int,
    note: str,
    progress: Progress | None = None,
) -> None:
    """Write the log as it was at a size as a bundle, under the checkpoint that was signed then.

    Bodies that were deleted since are missing in it: the events that tell of them come later.
    """
    async with database.snapshot() as session:
        await _write(session, destination, size, note, progress)


async def _write(
    session: ReadSession, destination: Path, size: int, note: str, progress: Progress | None
) -> None:
    source = _StoredLog(session, asyncio.get_running_loop(), size, note)
    kept = await log_key_repository.rotations(session)
    await asyncio.to_thread(write_bundle, destination, source, progress, kept)


async def verify_stored_log(
    database: Database, audit: AuditLog, progress: Progress | None = None
) -> tuple[VerifyReport, list[Finding]]:
    """Check the log in the database against its own key; never raises for what it finds.

    Gives the verifier's report, and a finding (`columns`) for each event whose search columns say
    something else than its body. What a bundle cannot show is in the report too: see
    `cross_check`, `compare_rows`, `compare_details` and `compare_reviews`.
    """
    with tempfile.TemporaryDirectory(prefix="yinyom-verify-") as folder:
        bundle = Path(folder) / "log"
        try:
            await export_log(database, bundle, progress)
            async with database.read() as session:
                await audit.follow(session)
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
    findings += [*await compare_details(database), *await compare_reviews(database)]
    return replace(report, ok=not findings, findings=tuple(findings)), misleading
