"""PostgreSQL for production: asyncpg, several workers, durable commits.

Connections keep no session state, so none is reset on release; a connection that was left in
a transaction by a cancelled request is closed, never reused. `synchronous_commit=on` is set
for every session: an audit event that is not on disk has not happened.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any

import asyncpg

from kernel.db import IntegrityError, Row, Snapshot, Statement
from kernel.errors import ConfigurationError, UnavailableError
from kernel.governance import Owed, OwedAtOnce

POOL_SIZE = 10
STATEMENT_TIMEOUT_MS = 30_000
_APPLICATION = "yinyom"
_DRAIN_POLL_SECONDS = 0.02
# Work of any worker on this database that began before a moment and has not ended.
_UNDER_WAY = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = current_setting('application_name')
AND pid <> pg_backend_pid() AND state <> 'idle' AND coalesce(xact_start, query_start) < $1
"""
_DRIVER = re.compile(r"^postgres(?:ql)?(?:\+\w+)?://")


def driver_dsn(url: str) -> str:
    """Turn `postgresql+<driver>://…` into the DSN the driver takes."""
    if not _DRIVER.match(url):
        raise ConfigurationError(
            "database.url names an engine that Yinyom does not know",
            remedy="Use sqlite:///FILE or postgresql://USER@HOST/DATABASE.",
        )
    return _DRIVER.sub("postgresql://", url, count=1)


def _translated(error: Exception) -> Exception:
    """Name the failure without the statement's values, which may be personal."""
    if isinstance(error, asyncpg.IntegrityConstraintViolationError):
        return IntegrityError("a constraint of the schema refused the row")
    if isinstance(error, asyncpg.PostgresError):
        return UnavailableError(
            f"the database answered {error.sqlstate}", reason="database_unavailable"
        )
    return UnavailableError("the database cannot be reached", reason="database_unavailable")


_TRIAL_LOCK_MS = 1_000
_TRIAL_MS = 3_000
_IN_THE_WAY = {
    "25006": "read_only",
    "42501": "no_right",
    "53100": "disk_full",
    "55P03": "locked",
    "57014": "slow",
}


def _what_is_in_the_way(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "slow"
    if isinstance(error, asyncpg.IntegrityConstraintViolationError):
        return "refused"
    if isinstance(error, asyncpg.PostgresError):
        return _IN_THE_WAY.get(error.sqlstate or "", "unavailable")
    return "unavailable"


_FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


_AT_ONCE = OwedAtOnce()


class _Session:
    """Runs compiled statements on one connection."""

    __slots__ = ("_connection", "_reactions", "dialect", "owed")

    def __init__(
        self, connection: "asyncpg.Connection[asyncpg.Record]", owed: Owed = _AT_ONCE
    ) -> None:
        self._connection = connection
        self.owed = owed
        self._reactions: list[Callable[[], None]] = []
        self.dialect = "postgresql"

    async def all(self, statement: Statement, /, **parameters: Any) -> Sequence[Row]:
        compiled = statement.compiled("postgresql")
        if compiled.writes is not None:
            self.owed.announce(compiled.writes)
        try:
            rows: Any = await self._connection.fetch(compiled.sql, *compiled.bind(parameters))
        except _FAILURES as error:
            raise _translated(error) from error
        if compiled.writes is not None and rows:
            self.owed.note(compiled.writes)
        return rows  # type: ignore[no-any-return]

    async def first(self, statement: Statement, /, **parameters: Any) -> Row | None:
        compiled = statement.compiled("postgresql")
        if compiled.writes is not None:
            self.owed.announce(compiled.writes)
        try:
            row: Any = await self._connection.fetchrow(compiled.sql, *compiled.bind(parameters))
        except _FAILURES as error:
            raise _translated(error) from error
        if compiled.writes is not None and row is not None:
            self.owed.note(compiled.writes)
        return row  # type: ignore[no-any-return]

    async def run(self, statement: Statement, /, **parameters: Any) -> int:
        compiled = statement.compiled("postgresql")
        if compiled.writes is not None:
            self.owed.announce(compiled.writes)
        try:
            tag = await self._connection.execute(compiled.sql, *compiled.bind(parameters))
        except _FAILURES as error:
            raise _translated(error) from error
        touched = int(tag.rpartition(" ")[2])
        if compiled.writes is not None and touched:
            self.owed.note(compiled.writes)
        return touched

    async def run_many(self, statement: Statement, rows: Iterable[Mapping[str, Any]], /) -> None:
        compiled = statement.compiled("postgresql")
        bound = [compiled.bind(row) for row in rows]
        if compiled.writes is not None and bound:
            self.owed.announce(compiled.writes)
            # The driver does not count what they touch. What may have touched nothing is left to
            # the server's own trigger, which sees the rows.
            if compiled.writes.surely:
                self.owed.note(compiled.writes)
        try:
            await self._connection.executemany(compiled.sql, bound)
        except _FAILURES as error:
            raise _translated(error) from error

    async def quiet(self) -> None:
        """Return once all work that began before now is over."""
        try:
            now = await self._connection.fetchval("SELECT clock_timestamp()")
            while await self._connection.fetchval(_UNDER_WAY, now):  # noqa: ASYNC110 (elsewhere)
                await asyncio.sleep(_DRAIN_POLL_SECONDS)
        except _FAILURES as error:
            raise _translated(error) from error

    def after_commit(self, reaction: Callable[[], None]) -> None:
        self._reactions.append(reaction)

    def react(self) -> None:
        """Run what was asked for after the commit."""
        for reaction in self._reactions:
            reaction()


class _Snapshot(_Session):
    """One repeatable-read transaction; long statements come through a cursor."""

    __slots__ = ()

    async def stream(self, statement: Statement, /, *, most: int) -> AsyncIterator[Sequence[Row]]:
        compiled = statement.compiled("postgresql")
        try:
            cursor = await self._connection.cursor(compiled.sql, *compiled.bind({}))
            while rows := await cursor.fetch(most):
                yield rows  # type: ignore[misc]
        except _FAILURES as error:
            raise _translated(error) from error


class _Lease:
    """Borrows a connection for one block, with or without a transaction around it."""

    __slots__ = ("_begin", "_connection", "_database", "_session")

    def __init__(self, database: "PostgresDatabase", begin: str | None) -> None:
        self._database = database
        self._begin = begin

    async def __aenter__(self) -> _Session:
        connection = self._connection = await self._database._borrow()  # noqa: SLF001 (one module)
        if self._begin is not None:
            try:
                await connection.execute(self._begin)
            except BaseException as error:
                self._database._give_back(connection, broken=True)  # noqa: SLF001
                if isinstance(error, _FAILURES):
                    raise _translated(error) from error
                raise
        owed = _AT_ONCE if self._begin is None else self._database.owes()
        self._session = _Session(connection, owed)
        return self._session

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        broken = True
        try:
            if self._begin is not None:
                if kind is None:
                    self._session.owed.check()  # refused: the connection is closed uncommitted
                ended = await self._connection.execute("ROLLBACK" if kind else "COMMIT")
                if kind is None and ended != "COMMIT":
                    # A statement had failed and somebody caught the error: the server answers
                    # COMMIT with a rollback, and no error.
                    broken = False
                    raise UnavailableError(
                        "the database rolled the change back", reason="database_unavailable"
                    )
            broken = kind is not None and issubclass(kind, asyncio.CancelledError)
        except _FAILURES as failure:
            if kind is None:
                raise _translated(failure) from failure
        finally:
            self._database._give_back(self._connection, broken=broken)  # noqa: SLF001
        if kind is None:
            self._session.react()


class PostgresDatabase:
    """The production engine: a stack of connections, the warmest one first."""

    def __init__(self, url: str, *, pool_size: int = POOL_SIZE, owes: type[Owed] = Owed) -> None:
        self.dialect = "postgresql"
        self.owes = owes
        self._dsn = driver_dsn(url)
        self._free: list[asyncpg.Connection[asyncpg.Record]] = []
        self._room = asyncio.Semaphore(pool_size)
        self._trial: asyncpg.Connection[asyncpg.Record] | None = None

    def read(self) -> _Lease:
        """Open a session whose statements each see the latest committed data."""
        return _Lease(self, None)

    def unit_of_work(self) -> _Lease:
        """Open a transaction."""
        return _Lease(self, "BEGIN")

    def each_on_its_own(self) -> _Lease:
        """Open a session without a transaction around its statements."""
        return _Lease(self, None)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """Open a repeatable-read transaction on a connection of its own, without time limit."""
        try:
            connection = await asyncpg.connect(
                self._dsn, server_settings={"application_name": f"{_APPLICATION}-snapshot"}
            )
        except _FAILURES as error:
            raise _translated(error) from error
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                yield _Snapshot(connection)
        finally:
            connection.terminate()

    async def try_write(self, statement: Statement, /, **parameters: Any) -> str | None:
        """Write and take it back; gives a word for what is in the way (`kernel.Database`)."""
        compiled = statement.compiled("postgresql")
        connection, self._trial = self._trial, None
        try:
            async with asyncio.timeout(2 * _TRIAL_MS / 1000):
                if connection is None or connection.is_closed():
                    connection = await self._connect_for_trial()
                await connection.execute("BEGIN")
                await connection.execute(compiled.sql, *compiled.bind(parameters))
                await connection.execute("ROLLBACK")
        except (*_FAILURES, TimeoutError) as error:
            if connection is not None:
                connection.terminate()
            return _what_is_in_the_way(error)
        except BaseException:
            if connection is not None:
                connection.terminate()
            raise
        if self._trial is not None:  # somebody else tried meanwhile
            self._trial.terminate()
        self._trial = connection
        return None

    async def _connect_for_trial(self) -> "asyncpg.Connection[asyncpg.Record]":
        return await asyncpg.connect(
            self._dsn,
            server_settings={
                "application_name": f"{_APPLICATION}-trial",
                "lock_timeout": str(_TRIAL_LOCK_MS),
                "statement_timeout": str(_TRIAL_MS),
                "idle_in_transaction_session_timeout": str(_TRIAL_MS),
            },
        )

    async def drain(self) -> None:
        """Wait until whatever was under way at this moment, in any process, has ended."""
        try:
            async with asyncio.timeout(2 * STATEMENT_TIMEOUT_MS / 1000), self.read() as session:
                await session.quiet()
        except TimeoutError:
            raise UnavailableError(
                "work that began before the change does not end", reason="not_drained"
            ) from None

    async def close(self) -> None:
        """Close every connection that is not lent out."""
        while self._free:
            await self._free.pop().close()
        if self._trial is not None:
            self._trial.terminate()
            self._trial = None

    async def _borrow(self) -> "asyncpg.Connection[asyncpg.Record]":
        await self._room.acquire()
        try:
            while self._free:
                connection = self._free.pop()
                if not connection.is_closed():
                    return connection
            return await asyncpg.connect(
                self._dsn,
                statement_cache_size=1024,
                server_settings={
                    "application_name": _APPLICATION,
                    "synchronous_commit": "on",
                    "statement_timeout": str(STATEMENT_TIMEOUT_MS),
                    "idle_in_transaction_session_timeout": str(STATEMENT_TIMEOUT_MS),
                    "jit": "off",
                },
            )
        except BaseException as error:
            self._room.release()
            if isinstance(error, _FAILURES):
                raise _translated(error) from error
            raise

    def _give_back(self, connection: "asyncpg.Connection[asyncpg.Record]", *, broken: bool) -> None:
        if broken or connection.is_closed():
            connection.terminate()
        else:
            self._free.append(connection)
        self._room.release()
