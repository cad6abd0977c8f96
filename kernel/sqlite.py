"""SQLite for the embedded profile: one writer, group commit, full durability.

All units of work that become ready in the same turn of the event loop share one
`BEGIN IMMEDIATE … COMMIT` with `synchronous=FULL`; each of them lives in its own SAVEPOINT, so
that one failure never rolls back a neighbour, and none of them returns before the commit is
on disk. The calls run in the loop's own thread: they take microseconds, and a thread hop would
cost more. Long reads belong on a thread of their own with `connect_read_only`.
"""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from kernel.db import IntegrityError, ReadSession, Row, Snapshot, Statement
from kernel.errors import UnavailableError
from kernel.governance import Owed, OwedAtOnce, UnrecordedChangeError

MINIMUM_VERSION = (3, 35, 0)  # RETURNING
_CACHED_STATEMENTS = 512
_LEAST_FREE_BYTES = 256 * 1024
_IN_THE_WAY = {
    "SQLITE_BUSY": "locked",
    "SQLITE_FULL": "disk_full",
    "SQLITE_LOCKED": "locked",
    "SQLITE_READONLY": "read_only",
}


def connect(path: Path, *, busy_timeout_ms: int = 0) -> sqlite3.Connection:
    """Open the database file with the durability and hygiene settings of the registry.

    `secure_delete` overwrites deleted content; `recursive_triggers` lets the append-only
    guards see `INSERT OR REPLACE`.
    """
    connection = sqlite3.connect(
        path,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_CACHED_STATEMENTS,
        timeout=busy_timeout_ms / 1000,
    )
    connection.row_factory = sqlite3.Row
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "secure_delete=ON",
        "foreign_keys=ON",
        "recursive_triggers=ON",
        "temp_store=MEMORY",
        "trusted_schema=OFF",
        "cache_size=-65536",
        "wal_autocheckpoint=4000",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection


def read_only_uri(path: Path) -> str:
    """Name a file for SQLite to read; `%`, `?` and `#` in its path are not part of the address."""
    return f"file:{quote(str(path))}?mode=ro"


def connect_read_only(path: Path) -> sqlite3.Connection:
    """Open a second connection that SQLite itself keeps from writing."""
    connection = sqlite3.connect(
        read_only_uri(path),
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_CACHED_STATEMENTS,
    )
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA query_only=ON").fetchall()
    return connection


def _translated(error: sqlite3.Error) -> Exception:
    """Name the failure without the statement's values, which may be personal."""
    if isinstance(error, sqlite3.IntegrityError):
        return IntegrityError("a constraint of the schema refused the row")
    if isinstance(error, sqlite3.ProgrammingError):
        return error
    # SQLITE_CORRUPT and SQLITE_NOTADB are plain database errors, not operational ones.
    name = getattr(error, "sqlite_errorname", "an error")
    return UnavailableError(f"the database answered {name}", reason="database_unavailable")


class _Session:
    """Runs compiled statements on one connection."""

    __slots__ = ("_connection", "dialect")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.dialect = "sqlite"

    def _execute(self, statement: Statement, parameters: Mapping[str, Any]) -> sqlite3.Cursor:
        compiled = statement.compiled("sqlite")
        try:
            return self._connection.execute(compiled.sql, compiled.bind(parameters))
        except sqlite3.Error as error:
            raise _translated(error) from error

    async def all(self, statement: Statement, /, **parameters: Any) -> Sequence[Row]:
        rows: Sequence[Any] = self._execute(statement, parameters).fetchall()
        return rows

    async def first(self, statement: Statement, /, **parameters: Any) -> Row | None:
        cursor = self._execute(statement, parameters)
        row: Any = cursor.fetchone()
        cursor.close()
        return row  # type: ignore[no-any-return]


_AT_ONCE = OwedAtOnce()


class _UnitOfWork(_Session):
    """A savepoint inside the running batch."""

    __slots__ = ("owed", "reactions")

    def __init__(self, connection: sqlite3.Connection, owed: Owed) -> None:
        super().__init__(connection)
        self.owed = owed
        self.reactions: list[Callable[[], None]] = []

    async def all(self, statement: Statement, /, **parameters: Any) -> Sequence[Row]:
        writes = statement.compiled("sqlite").writes
        if writes is not None:
            self.owed.announce(writes)
        rows = await super().all(statement, **parameters)
        if writes is not None and rows:
            self.owed.note(writes)
        return rows

    async def first(self, statement: Statement, /, **parameters: Any) -> Row | None:
        writes = statement.compiled("sqlite").writes
        if writes is not None:
            self.owed.announce(writes)
        row = await super().first(statement, **parameters)
        if writes is not None and row is not None:
            self.owed.note(writes)
        return row

    async def run(self, statement: Statement, /, **parameters: Any) -> int:
        writes = statement.compiled("sqlite").writes
        if writes is not None:
            self.owed.announce(writes)
        touched = self._execute(statement, parameters).rowcount
        if writes is not None and touched:
            self.owed.note(writes)
        return touched

    async def run_many(self, statement: Statement, rows: Iterable[Mapping[str, Any]], /) -> None:
        compiled = statement.compiled("sqlite")
        if compiled.writes is not None:
            self.owed.announce(compiled.writes)
        try:
            cursor = self._connection.executemany(
                compiled.sql, (compiled.bind(row) for row in rows)
            )
        except sqlite3.Error as error:
            raise _translated(error) from error
        if compiled.writes is not None and cursor.rowcount > 0:
            self.owed.note(compiled.writes)

    def after_commit(self, reaction: Callable[[], None]) -> None:
        self.reactions.append(reaction)


class _Snapshot(_Session):
    """A read transaction of its own; long statements are stepped through on a thread."""

    __slots__ = ()

    async def stream(self, statement: Statement, /, *, most: int) -> AsyncIterator[Sequence[Row]]:
        cursor = self._execute(statement, {})
        try:
            while rows := await asyncio.to_thread(cursor.fetchmany, most):
                yield rows
        except sqlite3.Error as error:
            raise _translated(error) from error
        finally:
            cursor.close()


class _Reading:
    """The context manager behind `SqliteDatabase.read`."""

    __slots__ = ("_session",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._session = _Session(connection)

    async def __aenter__(self) -> ReadSession:
        return self._session

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


class _Writing:
    """The context manager behind `SqliteDatabase.unit_of_work`: one turn in the batch."""

    __slots__ = ("_database", "_savepoint", "_work")

    def __init__(self, database: "SqliteDatabase", *, savepoint: bool = True) -> None:
        self._database = database
        self._savepoint = savepoint

    async def __aenter__(self) -> _UnitOfWork:
        self._work = await self._database._enter(savepoint=self._savepoint)  # noqa: SLF001 (one module, one machine)
        return self._work

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        refused: UnrecordedChangeError | None = None
        if kind is None:
            try:
                self._work.owed.check()
            except UnrecordedChangeError as found:
                refused = found
        done = self._database._leave(  # noqa: SLF001 (one module, one machine)
            self._work,
            savepoint=self._savepoint,
            failed=kind is not None or refused is not None,
        )
        if refused is not None:
            raise refused
        if done is not None:
            await done


class SqliteDatabase:
    """The embedded engine; see the head of this file for the group commit."""

    def __init__(self, path: Path, *, busy_timeout_ms: int = 0, owes: type[Owed] = Owed) -> None:
        if sqlite3.sqlite_version_info < MINIMUM_VERSION:
            raise UnavailableError(f"SQLite {sqlite3.sqlite_version} is too old; 3.35 is needed")
        self.dialect = "sqlite"
        self.path = path
        self._owes = owes
        self._writer = connect(path, busy_timeout_ms=busy_timeout_ms)
        self._reader = connect_read_only(path)
        self._turn = asyncio.Lock()
        self._batch: list[asyncio.Future[None]] | None = None
        self._reactions: list[Callable[[], None]] = []
        self._turn_taken = False
        self._flush_is_due = False

    def read(self) -> _Reading:
        """Open a session on the read-only connection."""
        return _Reading(self._reader)

    def unit_of_work(self) -> _Writing:
        """Take a turn in the running batch, or begin one."""
        return _Writing(self)

    def each_on_its_own(self) -> _Writing:
        """Take a turn without a savepoint: what a statement did stays done if a later one fails."""
        return _Writing(self, savepoint=False)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """Open a read transaction on a connection of its own."""
        connection = connect_read_only(self.path)
        try:
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()  # it begins here
            yield _Snapshot(connection)
        finally:
            connection.close()

    async def try_write(self, statement: Statement, /, **parameters: Any) -> str | None:
        """Write and take it back; gives a word for what is in the way (`kernel.Database`).

        What is taken back never reaches the disk, so room is asked for beside it.
        """
        compiled = statement.compiled("sqlite")
        if self._is_full():
            return "disk_full"
        async with self._turn:
            if self._batch is not None:
                self._flush()
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                self._writer.execute(compiled.sql, compiled.bind(parameters))
            except sqlite3.IntegrityError:
                return "refused"
            except sqlite3.Error as error:
                name = "_".join(getattr(error, "sqlite_errorname", "").split("_")[:2])
                return _IN_THE_WAY.get(name, "unavailable")
            finally:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
        return None

    def _is_full(self) -> bool:
        try:
            told = os.statvfs(self.path.parent)
        except OSError:
            return False  # the write will tell
        return told.f_bavail * told.f_frsize < _LEAST_FREE_BYTES

    async def drain(self) -> None:
        """Return once the units of work that came before this call have ended."""
        async with self.unit_of_work():
            pass

    async def close(self) -> None:
        """Finish the running batch and close both connections."""
        async with self._turn:
            if self._batch is not None:
                self._flush()
        self._reader.close()
        self._writer.close()

    async def _enter(self, *, savepoint: bool) -> _UnitOfWork:
        await self._turn.acquire()  # does not suspend when the turn is free
        try:
            if self._batch is None:
                self._writer.execute("BEGIN IMMEDIATE")
                self._batch = []
                asyncio.get_running_loop().call_soon(self._flush_when_free)
            if savepoint:
                self._writer.execute("SAVEPOINT turn")
        except sqlite3.Error as error:
            self._turn.release()
            raise _translated(error) from error
        self._turn_taken = True
        return _UnitOfWork(self._writer, self._owes() if savepoint else _AT_ONCE)

    def _leave(
        self, work: _UnitOfWork, *, savepoint: bool, failed: bool
    ) -> asyncio.Future[None] | None:
        """End a turn; gives what to wait for until the batch is durable."""
        done: asyncio.Future[None] | None = None
        try:
            if savepoint:
                if failed:
                    self._writer.execute("ROLLBACK TO turn")
                self._writer.execute("RELEASE turn")
            elif not self._writer.in_transaction:
                self._abandon_batch()
            if not failed and self._batch is not None:
                done = asyncio.get_running_loop().create_future()
                self._batch.append(done)
                self._reactions.extend(work.reactions)
        except sqlite3.Error as error:
            # A full disk makes SQLite roll the whole transaction back by itself: then no
            # member of the batch may believe that it was stored.
            self._abandon_batch()
            if not failed:
                raise _translated(error) from error
        finally:
            self._turn_taken = False
            self._turn.release()
            if self._flush_is_due:
                self._flush()
        if not failed and done is None:
            raise UnavailableError(
                "the database could not make the change durable", reason="database_unavailable"
            )
        return done

    def _flush_when_free(self) -> None:
        if self._turn_taken:
            self._flush_is_due = True
        else:
            self._flush()

    def _flush(self) -> None:
        """Commit the batch and wake whoever waits for it."""
        batch, self._batch = self._batch, None
        reactions, self._reactions = self._reactions, []
        self._flush_is_due = False
        if batch is None:
            return
        try:
            self._writer.execute("COMMIT")
        except sqlite3.Error:
            self._fail(batch)
            return
        for done in batch:
            if not done.done():  # its request may have been cancelled meanwhile
                done.set_result(None)
        for reaction in reactions:
            reaction()

    def _abandon_batch(self) -> None:
        batch, self._batch = self._batch, None
        self._reactions = []
        if batch is not None:
            self._fail(batch)

    def _fail(self, batch: list[asyncio.Future[None]]) -> None:
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")
        for done in batch:
            if not done.done():
                done.set_exception(
                    UnavailableError(
                        "the database could not make the change durable",
                        reason="database_unavailable",
                    )
                )
