"""Files sent over HTTP: looked through at once, kept sealed, imported by the worker.

A file is in the clear only in memory: while it is received and while its job reads it. In between
it lies in the database in sealed parts under the import's own key, and is dropped when the job
has ended.
"""

import io
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import orjson

from audit import AuditLog
from kernel import (
    Caller,
    Clock,
    Database,
    ReadSession,
    RequestId,
    UnitOfWork,
    enqueue_job,
)
from members import repository
from members.errors import ImportUnknownError
from members.importing import ImportFileError, Profile
from members.imports import Imports
from members.repository import Upload
from vault import ORDINARY, Vault

IMPORT_WANTED = "import_file"
"""The kind of job that imports a received file."""

PART_TABLE = "import_part"
PART_BYTES = 1 << 20
_DECLARED = "declared"
_KEPT_US = 7 * 86_400_000_000
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Received:
    """A file that was taken in."""

    import_id: str
    rows: int


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """How far an import is; `state` is waiting, running, finished or failed."""

    import_id: str
    state: str
    rows: int
    done: int
    accepted: int
    quarantined: int
    exact_repeats: int
    issues: Mapping[str, int]
    failure: str | None
    expires_us: int | None


@dataclass(frozen=True, slots=True)
class QuarantinedRow:
    """A row that was set aside: its number and its (field, code) reasons, never a value."""

    row_no: int
    issues: Sequence[tuple[str, str]]


class Uploads:
    """Takes files in, and works them off."""

    def __init__(
        self, database: Database, vault: Vault, audit: AuditLog, imports: Imports, clock: Clock
    ) -> None:
        self._database = database
        self._vault = vault
        self._audit = audit
        self._imports = imports
        self._clock = clock

    async def receive(
        self,
        caller: Caller,
        content: bytes,
        profile: Profile,
        jurisdiction: str,
        *,
        then: Callable[[UnitOfWork, Received], Awaitable[object]] | None = None,
    ) -> Received:
        """Take a file in and ask for its import; the same file declared alike is the same import.

        `then` runs last in the unit of work that stores it. `ImportFileError` when the file as a
        whole cannot be read, `MemberDataError` for a jurisdiction that the pack does not have.
        """
        announced = await self._imports.announce(
            caller, io.BytesIO(content), profile, brand=caller.brand, jurisdiction=jurisdiction
        )
        received = Received(announced.import_id, announced.rows)
        declared = {
            "profile": {one.name: getattr(profile, one.name) for one in fields(profile)}
            | {"columns": dict(profile.columns)},
            "jurisdiction": jurisdiction,
            "caller": [caller.id, caller.role, caller.via, caller.brand, caller.request_id],
        }
        now_us = self._clock.now_us()
        sealed = self._vault.seal(
            announced.key,
            PART_TABLE,
            received.import_id,
            {_DECLARED: orjson.dumps(declared).decode(), **_parts(content)},
        )
        async with self._database.unit_of_work() as work:
            made = await repository.add_upload(
                work,
                Upload(
                    received.import_id,
                    received.rows,
                    len(sealed) - 1,
                    sealed.pop(_DECLARED),
                    None,
                    now_us,
                ),
            )
            if made:
                await self._audit.record(
                    work,
                    caller,
                    "import.receive",
                    resource=f"import:{received.import_id}",
                    count=received.rows,
                )
                await repository.add_parts(work, received.import_id, list(sealed.values()))
                await enqueue_job(
                    work, IMPORT_WANTED, {"import_id": received.import_id}, now_us=now_us
                )
            if then is not None:
                await then(work, received)
        return received

    async def work_off(self, reader: Caller, import_id: str) -> None:
        """Import a received file, or finish importing it; drops it when that has ended.

        `reader` is the registry itself, on whose record the file is opened; rows are imported on
        that of who sent it.
        """
        async with self._database.unit_of_work() as work:
            upload = await repository.read_upload(work, import_id)
            keys = await self._vault.keys_of(work, import_id)
            if upload is None or upload.declared is None or ORDINARY not in keys:
                return
            cells = await repository.read_parts(work, import_id)
            names = [_part(at) for at in range(upload.parts)]
            event = self._audit.draft(
                reader,
                "import.read",
                resource=f"import:{import_id}",
                fields=tuple(sorted([_DECLARED, *names])),
                decision="allow",
            )
            await self._audit.record_many(work, [event])
        opened = self._vault.open(
            self._audit.ticket(event, import_id),
            keys[ORDINARY],
            PART_TABLE,
            import_id,
            {_DECLARED: upload.declared, **dict(zip(names, cells, strict=True))},
        )
        content = io.BytesIO(b"".join(b64decode(opened[name]) for name in names))
        declared = orjson.loads(opened[_DECLARED])
        caller_id, role, via, brand, request_id = declared["caller"]
        failure = None
        try:
            await self._imports.run(
                Caller(caller_id, role, via, brand, RequestId(request_id)),
                content,
                Profile(**declared["profile"]),
                brand=brand,
                jurisdiction=declared["jurisdiction"],
            )
        except ImportFileError as error:
            failure = error.reason
        async with self._database.unit_of_work() as work:
            await self._drop(work, reader, import_id, failure)

    async def _drop(
        self, work: UnitOfWork, caller: Caller, import_id: str, failure: str | None
    ) -> None:
        """Forget a received file, on record."""
        await repository.drop_parts(work, import_id, failure)
        await self._audit.record(
            work, caller, "import.drop", resource=f"import:{import_id}", reason=failure
        )

    async def drop_stale(self, caller: Caller) -> int:
        """Drop files whose import has failed for a week; gives how many."""
        async with self._database.unit_of_work() as work:
            stale = await repository.stale_uploads(work, before_us=self._clock.now_us() - _KEPT_US)
            for import_id in stale:
                await self._drop(work, caller, import_id, "given_up")
        return len(stale)

    # --- answering --------------------------------------------------------------------

    async def progress(
        self, session: ReadSession, caller: Caller, import_id: str
    ) -> ImportProgress:
        """Say how far an import of the caller's brand is, or `ImportUnknownError`."""
        run = await repository.import_by_id(session, import_id)
        if run is None or run.brand != caller.brand:
            raise ImportUnknownError(reason="import_unknown")
        upload = await repository.read_upload(session, import_id)
        counts = await repository.outcomes(session, import_id)
        done = sum(counts.values())
        finished = run.state == "finished"
        failure = None if upload is None else upload.failure
        state = "waiting" if done == 0 else "running"
        if finished:
            state, failure = "finished", None
        elif failure is not None:
            state = "failed"
        return ImportProgress(
            import_id,
            state,
            done if upload is None else upload.rows,
            done,
            counts.get("accepted", 0),
            counts.get("quarantined", 0),
            counts.get("exact_repeat", 0),
            await self._imports.issues(session, import_id) if finished else {},
            failure,
            run.expires_us,
        )

    async def quarantine(
        self, session: ReadSession, caller: Caller, import_id: str, *, after: int, most: int
    ) -> list[QuarantinedRow]:
        """Give rows that were set aside, from the one after row `after`."""
        run = await repository.import_by_id(session, import_id)
        if run is None or run.brand != caller.brand:
            raise ImportUnknownError(reason="import_unknown")
        rows = await repository.quarantined_rows(session, import_id, after=after, most=most)
        return [QuarantinedRow(row_no, issues) for row_no, issues in rows]


def _part(at: int) -> str:
    return f"part_{at}"


def _parts(content: bytes) -> dict[str, str]:
    return {
        _part(at): b64encode(content[start : start + PART_BYTES]).decode()
        for at, start in enumerate(range(0, len(content), PART_BYTES))
    }
