"""The database as the rooms see it: Core statements, read sessions and units of work.

Statements are written in SQLAlchemy Core once, compiled once per dialect and run on the bare
driver: Core's legibility at the driver's price. Hot columns are text, integers and bytes, so
no type processor is skipped. A `ReadSession` cannot write (the type has no way to); whoever
changes something asks for a `UnitOfWork`, which commits once, with its audit events and its
outbox messages, or leaves nothing behind.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from sqlalchemy import MetaData
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

from kernel.governance import writes_of

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Row = Mapping[str, Any]
Insert = Callable[..., Any]

_DIALECTS: dict[str, Dialect] = {
    "sqlite": sqlite.dialect(paramstyle="qmark"),
    "postgresql": asyncpg.dialect(),  # type: ignore[no-untyped-call]
}
_INSERTS: dict[str, Insert] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class IntegrityError(Exception):
    """The schema refused a row: a key that exists already, or a reference to nothing."""


class Compiled:
    """One statement for one driver: the SQL text and the order of its parameters."""

    __slots__ = ("_defaults", "_names", "sql", "writes")

    def __init__(self, clause: ClauseElement, dialect: str) -> None:
        compiled = clause.compile(dialect=_DIALECTS[dialect])
        if not isinstance(compiled, SQLCompiler):
            raise TypeError("only data statements are compiled")
        self.sql = compiled.string
        self.writes = writes_of(clause)
        self._names = tuple(compiled.positiontup or ())
        # A parameter that the call must give has no default: forgetting it is an error.
        self._defaults = {
            name: value
            for name, value in compiled.params.items()
            if not compiled.binds[name].required
        }

    def bind(self, parameters: Mapping[str, Any]) -> list[Any]:
        """Put named parameters, and the literals of the statement, in the driver's order."""
        defaults = self._defaults
        return [parameters[name] if name in parameters else defaults[name] for name in self._names]


class Statement:
    """A Core statement with named parts, compiled at first use and then kept.

    Parameters are `bindparam`s; a call gives them by name. `for_dialect` serves the few
    statements (upserts) that Core spells with a construct of each dialect.
    """

    __slots__ = ("_build", "_compiled")

    def __init__(self, clause: ClauseElement) -> None:
        self._build: Callable[[str], ClauseElement] = lambda _dialect: clause
        self._compiled: dict[str, Compiled] = {}

    @classmethod
    def for_dialect(cls, build: Callable[[Insert], ClauseElement]) -> "Statement":
        """Make a statement from a function that is handed the dialect's own `insert`."""
        statement = cls.__new__(cls)
        statement._build = lambda dialect: build(_INSERTS[dialect])  # noqa: SLF001 (own class)
        statement._compiled = {}  # noqa: SLF001 (own class)
        return statement

    def compiled(self, dialect: str) -> Compiled:
        """Give the statement as the driver of `dialect` takes it."""
        found = self._compiled.get(dialect)
        if found is None:
            found = self._compiled[dialect] = Compiled(self._build(dialect), dialect)
        return found


class ReadSession(Protocol):
    """Runs statements that change nothing."""

    dialect: str

    async def all(self, statement: Statement, /, **parameters: Any) -> Sequence[Row]:
        """Give every row."""
        ...

    async def first(self, statement: Statement, /, **parameters: Any) -> Row | None:
        """Give the first row, or None."""
        ...


class UnitOfWork(ReadSession, Protocol):
    """One transaction: everything in it commits together, or nothing of it happened."""

    async def run(self, statement: Statement, /, **parameters: Any) -> int:
        """Run a change and give the number of rows it touched."""
        ...

    async def run_many(self, statement: Statement, rows: Iterable[Mapping[str, Any]], /) -> None:
        """Run one change for each set of parameters."""
        ...

    def after_commit(self, reaction: Callable[[], None]) -> None:
        """Call `reaction` once the commit is durable; never when it is rolled back."""
        ...


class Snapshot(ReadSession, Protocol):
    """One moment of the database, read whole while others go on writing."""

    def stream(self, statement: Statement, /, *, most: int) -> AsyncIterator[Sequence[Row]]:
        """Give every row of a statement without parameters, `most` at a time."""
        ...


class Database(Protocol):
    """An engine: SQLite for one process, PostgreSQL for several."""

    dialect: str

    def read(self) -> AbstractAsyncContextManager[ReadSession]:
        """Open a session that sees committed data and cannot write."""
        ...

    def unit_of_work(self) -> AbstractAsyncContextManager[UnitOfWork]:
        """Open a transaction that may write; it commits when the block ends well."""
        ...

    def each_on_its_own(self) -> AbstractAsyncContextManager[UnitOfWork]:
        """Open a session in which every statement stands on its own.

        For the two statements of a consented read, which need no BEGIN and COMMIT around them:
        what one did stays done if a later one fails. On PostgreSQL each is its own
        transaction; on SQLite they join the running group commit. On both, what the block
        wrote is durable when it has ended well.
        """
        ...

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        """Open one moment of the database on a connection of its own, for long reading."""
        ...

    async def try_write(self, statement: Statement, /, **parameters: Any) -> str | None:
        """Write and take it back; None when that went well, or a word for what is in the way.

        `disk_full`, `read_only`, `locked`, `no_right`, `slow`, `refused` (by a guard of the
        schema) or `unavailable`. It leaves no row, waits a second for a lock and three for an
        answer, and stands in nobody's way: on PostgreSQL it has a connection of its own.
        """
        ...

    async def drain(self) -> None:
        """Wait until whatever was under way at this moment has ended, in every process.

        For changes that reads compare and do not lock: they are done when the reads that
        could have missed them are over.
        """
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...
