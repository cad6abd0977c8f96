"""Importing member files: every row is stored, set aside with its reasons, or a known repeat.

Rows are written in small units of work, each with what became of its rows, so an interrupted
import goes on where it stopped and never stores a row twice: the run is known by the digest of
the file and of what was declared about it. An opt-in column is not consent: nobody knows which
words the member saw, so it is kept with the row and grants nothing.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from audit import AuditLog
from kernel import (
    Caller,
    Clock,
    ConflictError,
    Database,
    FieldProblem,
    IntegrityError,
    NotFoundError,
    ReadSession,
    UnitOfWork,
    new_id,
    to_date,
)
from members import repository
from members.errors import MemberDataError, QuarantineEndedError
from members.importing import (
    FaultyRow,
    Profile,
    RawRow,
    Source,
    Survey,
    error_file,
    judge_row,
    read_rows,
    survey,
)
from members.quarantine import marks_of
from members.registration import Prepared
from members.repository import ImportedRow
from members.service import Members
from policies import FieldKey, JurisdictionCode, PolicyPack, Storage
from vault import ORDINARY, OwnerKey, Sealed, UnreadableError, Vault, write_private

CHUNK_ROWS = 100
ROW_TABLE = "import_row"
_ROW_FIELD = "row"
_PAGE_ROWS = 500
_DAY_US = 86_400_000_000
_REPEAT = "exact_repeat"
_QUARANTINED = "quarantined"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of every row of a file: accepted + quarantined + exact_repeats = rows."""

    import_id: str
    rows: int
    accepted: int
    quarantined: int
    exact_repeats: int
    issues: Mapping[str, int]
    unknown_columns: Sequence[str]
    quarantine_until_us: int | None = None


@dataclass(frozen=True, slots=True)
class Announced:
    """A file that was looked through and has an import and a key of its own."""

    import_id: str
    rows: int
    key: OwnerKey


@dataclass(frozen=True, slots=True)
class _Run:
    """One import under way."""

    id: str
    brand: str
    jurisdiction: str
    key: OwnerKey
    profile: Profile
    surveyed: Survey
    expires_us: int | None


class Imports:
    """Brings member files into the registry."""

    def __init__(
        self,
        database: Database,
        pack: PolicyPack,
        vault: Vault,
        audit: AuditLog,
        members: Members,
        clock: Clock,
        *,
        quarantine_days: int,
    ) -> None:
        self._quarantine_us = quarantine_days * _DAY_US
        self._database = database
        self._pack = pack
        self._vault = vault
        self._audit = audit
        self._members = members
        self._clock = clock

    def look(self, path: Path, profile: Profile) -> ImportReport:
        """Judge a whole file without storing anything (`--dry-run`)."""
        surveyed = survey(path, profile)
        formats = profile.formats(to_date(self._clock.now_us()))
        counts = {"accepted": 0, _QUARANTINED: 0, _REPEAT: 0}
        issues: dict[str, int] = {}
        seen: set[bytes] = set()
        for raw in read_rows(path, profile, surveyed):
            tag = self._tag(raw)
            if tag in seen:
                counts[_REPEAT] += 1
                continue
            seen.add(tag)
            judged = judge_row(raw, formats)
            counts[judged.outcome] += 1
            for field, code in judged.issues:
                issues[f"{field}.{code}"] = issues.get(f"{field}.{code}", 0) + 1
        return _report("", surveyed, counts, issues)

    async def announce(
        self, caller: Caller, source: Source, profile: Profile, *, brand: str, jurisdiction: str
    ) -> Announced:
        """Look through a file and begin its import without reading a row yet."""
        self._check(jurisdiction)
        surveyed = await asyncio.to_thread(survey, source, profile)
        run, _ = await self._begin(caller, surveyed, profile, brand, jurisdiction)
        return Announced(run.id, surveyed.rows, run.key)

    async def run(
        self,
        caller: Caller,
        path: Source,
        profile: Profile,
        *,
        brand: str,
        jurisdiction: str,
        progress: Progress | None = None,
    ) -> ImportReport:
        """Import a file, or finish an import of it that was interrupted; reports every row."""
        self._check(jurisdiction)
        surveyed = await asyncio.to_thread(survey, path, profile)
        run, fresh = await self._begin(caller, surveyed, profile, brand, jurisdiction)
        async with self._database.read() as session:
            done = await repository.last_row_no(session, run.id)
        rows = islice(read_rows(path, profile, surveyed), done, None)
        while chunk := list(islice(rows, CHUNK_ROWS)):
            try:
                await self._store(caller, run, chunk)
            except IntegrityError as error:
                raise ConflictError(
                    "another process is importing this file",
                    reason="import_running",
                    remedy="Wait until it has ended, then import the file again: "
                    "what is stored is not stored twice.",
                ) from error
            done += len(chunk)
            if progress is not None:
                progress(done, surveyed.rows)
        report = await self._account(run)
        if report.accepted + report.quarantined + report.exact_repeats != report.rows:
            raise RuntimeError("an import lost count of its rows")
        if fresh or report.rows != surveyed.rows:
            async with self._database.unit_of_work() as work:
                await repository.finish_import(work, run.id, now_us=self._clock.now_us())
                await self._audit.record(
                    work, caller, "import.finish", resource=f"import:{run.id}", count=report.rows
                )
        return report

    async def write_error_file(self, caller: Caller, import_id: str, path: Path) -> int:
        """Write the quarantined rows of an import to a file for mending; an event each time.

        Gives the number of rows; no file is written when there are none.
        """
        async with self._database.read() as session:
            run = await repository.import_by_id(session, import_id)
            keys = await self._vault.keys_of(session, import_id)
        if run is not None and run.ended_us is not None:
            raise QuarantineEndedError(reason="quarantine_ended")
        if run is None or ORDINARY not in keys:
            raise NotFoundError("no such import", reason="import_unknown")
        event = self._audit.draft(
            caller,
            "import.quarantine",
            resource=f"import:{import_id}",
            fields=(_ROW_FIELD,),
            decision="allow",
        )
        async with self._database.unit_of_work() as work:
            await self._audit.record_many(work, [event])
        ticket = self._audit.ticket(event, import_id)
        header: list[str] = []
        faulty: list[FaultyRow] = []
        after = 0
        while True:
            async with self._database.read() as session:
                page = await repository.rows_with_issues(
                    session, import_id, after=after, most=_PAGE_ROWS
                )
            if not page:
                break
            for row_no, outcome, issues, cell in page:
                after = row_no
                if outcome != _QUARANTINED or cell is None:
                    continue
                sealed: Sealed[dict[str, Any]] = Sealed(_ROW_FIELD, cell, orjson.loads)
                document = self._vault.open_value(
                    ticket, keys[ORDINARY], ROW_TABLE, import_id, sealed
                )
                if document["row"] != row_no:
                    raise UnreadableError
                header = header or document["header"]
                faulty.append((row_no, document["cells"], tuple(issues)))
        if not faulty:
            return 0
        write_private(path, b"".join(error_file(header, faulty)), replace=True)
        return len(faulty)

    # --- helpers ----------------------------------------------------------------------

    def _check(self, jurisdiction: str) -> None:
        if JurisdictionCode(jurisdiction) not in self._pack.jurisdictions:
            raise MemberDataError(errors=[FieldProblem("/jurisdiction", "unknown_jurisdiction")])

    async def _begin(
        self,
        caller: Caller,
        surveyed: Survey,
        profile: Profile,
        brand: str,
        jurisdiction: str,
    ) -> tuple[_Run, bool]:
        now_us = self._clock.now_us()
        declared = orjson.dumps(
            [
                surveyed.sha256,
                brand,
                jurisdiction,
                profile.phone_region,
                profile.date_era,
                profile.id_country,
                sorted(profile.columns.items()),
            ]
        )
        digest = self._vault.keyed_digest("import-file", declared)
        async with self._database.unit_of_work() as work:
            found, fresh = await repository.begin_import(
                work,
                new_id("imp", now_us),
                brand,
                digest,
                profile.name,
                now_us=now_us,
                expires_us=now_us + self._quarantine_us,
            )
            if fresh:
                keys = await self._vault.make_keys(work, found.id, [ORDINARY])
                await self._audit.record(
                    work, caller, "import.begin", resource=f"import:{found.id}", count=surveyed.rows
                )
            else:
                keys = await self._vault.keys_of(work, found.id)
                if ORDINARY not in keys:
                    raise QuarantineEndedError(reason="quarantine_ended")
        run = _Run(
            found.id, brand, jurisdiction, keys[ORDINARY], profile, surveyed, found.expires_us
        )
        return run, fresh or found.state != "finished"

    async def _store(self, caller: Caller, run: _Run, chunk: Sequence[RawRow]) -> None:
        now_us = self._clock.now_us()
        formats = run.profile.formats(to_date(now_us))
        async with self._database.unit_of_work() as work:
            seen: set[bytes] = set()
            stored: list[ImportedRow] = []
            for raw in chunk:
                tag = self._tag(raw)
                if tag in seen or await repository.row_seen(work, run.id, tag):
                    stored.append(ImportedRow(raw.row_no, _REPEAT, tag, None, (), None))
                    continue
                seen.add(tag)
                judged = judge_row(raw, formats)
                if judged.outcome == _QUARANTINED:
                    kept = {"row": raw.row_no, "header": run.surveyed.header, "cells": raw.raw}
                    cell = self._seal(run.key, kept)
                    marks = marks_of(self._pack, self._vault, raw.raw, formats)
                    issues = judged.issues
                    stored.append(
                        ImportedRow(raw.row_no, _QUARANTINED, tag, None, issues, cell, marks)
                    )
                    continue
                stored.append(
                    await self._accept(
                        work,
                        caller,
                        run,
                        raw.row_no,
                        tag,
                        judged.fields,
                        judged.kept,
                        judged.issues,
                        now_us=now_us,
                    )
                )
            await repository.add_rows(work, run.id, stored)
            await repository.add_marks(work, run.id, stored)
            await self._audit.record(
                work, caller, "import.rows", resource=f"import:{run.id}", count=len(stored)
            )

    async def _accept(
        self,
        work: UnitOfWork,
        caller: Caller,
        run: _Run,
        row_no: int,
        tag: bytes,
        fields: Mapping[str, str],
        kept: Mapping[str, str],
        issues: Sequence[tuple[str, str]],
        *,
        now_us: int,
    ) -> ImportedRow:
        member_values = {f: v for f, v in fields.items() if self._is_sealed(f)}
        registered = await self._members.register(
            work,
            caller,
            brand=run.brand,
            jurisdiction=run.jurisdiction,
            prepared=Prepared(member_values),
            consents=(),
            now_us=now_us,
            source=f"import:{run.id}",
            action="member.import",
            send_codes=False,
        )
        cell = None
        leftovers = {f: v for f, v in fields.items() if f not in member_values}
        if leftovers or kept:
            keys = await self._vault.keys_of(work, registered.member_id)
            cell = self._seal(keys[ORDINARY], {"kept": dict(kept), "other": leftovers})
        return ImportedRow(row_no, "accepted", tag, registered.member_id, issues, cell)

    async def _account(self, run: _Run) -> ImportReport:
        async with self._database.read() as session:
            counts = await repository.outcomes(session, run.id)
            issues = await self.issues(session, run.id)
        report = _report(run.id, run.surveyed, counts, issues)
        return replace(report, quarantine_until_us=run.expires_us)

    async def end_quarantines(self, caller: Caller) -> int:
        """Destroy the keys of imports whose day has come, and what they set aside; how many."""
        now_us = self._clock.now_us()
        async with self._database.read() as session:
            found = await repository.imports_to_end(session, now_us=now_us, most=_PAGE_ROWS)
        for import_id in found:
            async with self._database.unit_of_work() as work:
                await self._vault.erase(work, import_id, keep={})
                rows = await repository.end_import(work, import_id, now_us=now_us)
                await self._audit.record(
                    work,
                    caller,
                    "import.quarantine_end",
                    resource=f"import:{import_id}",
                    count=rows,
                )
        return len(found)

    async def issues(self, session: ReadSession, import_id: str) -> dict[str, int]:
        """Count what was wrong in an import's rows, by `field.code`."""
        issues: dict[str, int] = {}
        after = 0
        while page := await repository.rows_with_issues(
            session, import_id, after=after, most=_PAGE_ROWS
        ):
            for row_no, _, found, _ in page:
                after = row_no
                for field, code in found:
                    issues[f"{field}.{code}"] = issues.get(f"{field}.{code}", 0) + 1
        return dict(sorted(issues.items()))

    def _is_sealed(self, field: str) -> bool:
        entry = self._pack.fields.get(FieldKey(field))
        return entry is not None and entry.storage is Storage.SEALED

    def _tag(self, raw: RawRow) -> bytes:
        return self._vault.keyed_digest("import-row", *(cell.encode() for cell in raw.raw))

    def _seal(self, key: OwnerKey, document: Mapping[str, object]) -> bytes:
        text = orjson.dumps(document).decode()
        return self._vault.seal(key, ROW_TABLE, key.owner_id, {_ROW_FIELD: text})[_ROW_FIELD]


def _report(
    import_id: str, surveyed: Survey, counts: Mapping[str, int], issues: Mapping[str, int]
) -> ImportReport:
    return ImportReport(
        import_id,
        surveyed.rows,
        counts.get("accepted", 0),
        counts.get(_QUARANTINED, 0),
        counts.get(_REPEAT, 0),
        dict(sorted(issues.items())),
        surveyed.unknown,
    )
