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
from audit.cosigning import cosigned_checkpoint
from audit.errors import ExportError, NoteError
from audit.export import write_bundle
from audit.merkle import leaf_hash
from audit.note import Checkpoint, split_note
from audit.service import AuditLog
from audit.verify import Finding, VerifyReport, verify_bundle
from kernel import Database

Progress = Callable[[int, int], None]
_Answer = TypeVar("_Answer")
_PAGE = 4096
_MOST_FINDINGS = 20
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
    source = _StoredLog(database, asyncio.get_running_loop(), size, note)
    await asyncio.to_thread(write_bundle, destination, source, progress)
    return size


async def verify_stored_log(
    database: Database, audit: AuditLog, progress: Progress | None = None
) -> tuple[VerifyReport, list[str]]:
    """Check the log in the database against its own key; never raises for what it finds.

    Gives the verifier's report, and the ids of events whose search columns say something else
    than their bodies. What a bundle cannot show is a finding too: `head`, `checkpoint` and
    `leaf` when the tables disagree about the size, root or leaves of the log, and `lost` for an
    event that is neither in the log nor in its queue, so that its leaf was never made.
    """
    with tempfile.TemporaryDirectory(prefix="yinyom-verify-") as folder:
        bundle = Path(folder) / "log"
        try:
            size = await export_log(database, bundle, progress)
        except ExportError as error:
            finding = Finding("checkpoint", None, None, str(error))
            report, size = VerifyReport(False, None, None, None, (finding,), ()), 0
        else:
            report = await asyncio.to_thread(verify_bundle, bundle, audit.vkey)
    findings = await _disagreements(database)
    misleading: list[str] = []
    for start in range(0, size, _PAGE):
        async with database.read() as session:
            rows = await repository.search_columns(session, start, start + _PAGE)
        for row in rows:
            if row["leaf_hash"] != leaf_hash(row["body"]) and len(findings) < _MOST_FINDINGS:
                detail = "its leaf is not the hash of its body"
                findings.append(Finding("leaf", row["leaf_index"], None, detail))
            if _said(row["body"]) != tuple(row[name] for name in _SEARCHED):
                misleading.append(row["id"])
    ok = report.ok and not findings
    return replace(report, ok=ok, findings=(*report.findings, *findings)), misleading


async def _disagreements(database: Database) -> list[Finding]:
    """Compare the tables of the log with one another, at one moment."""
    async with database.read() as session:
        told = await repository.sizes(session)
        lost = await repository.lost_events(session, _MOST_FINDINGS)
    found = [Finding("lost", None, None, f"{event} was never sequenced") for event in lost]
    signed = told.checkpoint
    if signed is not None and told.head != signed:
        found.append(Finding("head", None, None, f"it counts {told.head} events, not {signed}"))
    if told.leaves != told.head or told.last_leaf != told.leaves - 1:
        detail = f"there are {told.leaves} leaves, the last is {told.last_leaf}"
        found.append(Finding("leaf", None, None, detail))
    if told.note is not None and not _bears(told.note, told.root):
        found.append(Finding("checkpoint", None, None, "its root column is not the root it signs"))
    return found


def _bears(note: str, root: bytes | None) -> bool:
    try:
        return Checkpoint.parse(split_note(note)[0]).root == root
    except NoteError:
        return False


_SEARCHED = ("id", "subject", "actor", "action", "purpose", "decision")


def _said(raw: bytes) -> tuple[Any, ...] | None:
    """Give what a body says where the search columns repeat it; None when it is no event."""
    try:
        body = orjson.loads(raw)
        return (
            body["id"],
            body.get("subject", {}).get("token"),
            body["actor"]["id"],
            body["action"],
            body.get("purpose"),
            body.get("decision"),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
