"""The database schema: bring it up to date, or say that it is older or newer than this code.

Alembic is imported only to migrate; a start of the service reads one row instead.
"""

import asyncio
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from kernel import ConfigurationError
from service.database_roles import apply_grants, check_role
from service.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

HEAD = "0029"
_MIGRATIONS = Path(__file__).parent / "migrations"


async def migrate(settings: Settings) -> None:
    """Bring the database to this version's schema; does nothing when it is there.

    `ConfigurationError` when the database cannot be reached or the disk is full; each migration
    is one transaction, so what was there before still is.
    """
    from sqlalchemy.exc import SQLAlchemyError

    _refuse_newer(await _revision(settings, _owner(settings)) or "")
    try:
        if settings.on_postgres:
            await _migrate_postgres(settings)
            if settings.database.owner_url:
                await apply_grants(settings)
        else:
            await asyncio.to_thread(_migrate_sqlite, settings)
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise ConfigurationError(
            f"the database could not be set up ({_cause(error)})",
            remedy="Check that the database can be reached and that its disk has room; "
            "then run `yinyom init` again, it goes on where it stopped.",
        ) from error


async def _migrate_postgres(settings: Settings) -> None:
    from sqlalchemy import make_url
    from sqlalchemy.ext.asyncio import create_async_engine

    from kernel.postgres import driver_dsn

    url = driver_dsn(_owner(settings)).replace("postgresql://", "postgresql+asyncpg://", 1)
    address = make_url(url)
    path = address.query.get("search_path")  # a restore builds in a schema of its own
    if path is not None:
        address = address.difference_update_query(["search_path"])
    options = {} if path is None else {"server_settings": {"search_path": path}}
    engine = create_async_engine(address, connect_args=options)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


def _migrate_sqlite(settings: Settings) -> None:
    from sqlalchemy import create_engine, event

    from kernel.sqlite import connect

    settings.database_file.touch(mode=0o600)
    engine = create_engine("sqlite://", creator=lambda: connect(settings.database_file))
    # The driver is in its autocommit mode, where SQLAlchemy's own BEGIN begins nothing.
    event.listen(engine, "begin", lambda begun: begun.exec_driver_sql("BEGIN IMMEDIATE"))
    try:
        with engine.begin() as connection:
            _upgrade(connection)
    finally:
        engine.dispose()


def _upgrade(connection: "Connection") -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _cause(error: BaseException) -> str:
    """Name the driver's error by its class: its text may hold a statement's values."""
    return type(getattr(error, "orig", None) or error).__name__


async def has_schema(settings: Settings) -> bool:
    """Say whether somebody has set a registry up here."""
    return await _revision(settings, _owner(settings)) is not None


async def check_schema(settings: Settings) -> None:
    """Refuse to run on a database that was never set up, or by another version of the schema."""
    found = await _revision(settings, settings.database.url)
    if found is None:
        raise ConfigurationError(
            "the database has no registry in it", remedy="Run `yinyom init` first."
        )
    _refuse_newer(found)
    if found < HEAD:
        raise ConfigurationError(
            f"the database has schema {found}, older than this version's {HEAD}",
            remedy="Make a backup, then run `yinyom init` again: it migrates and keeps the data.",
        )
    await check_role(settings)


def _refuse_newer(found: str) -> None:
    if found > HEAD:
        raise ConfigurationError(
            f"the database has schema {found}, newer than this version's {HEAD}",
            remedy="Run the version of Yinyom that wrote it, or a newer one. Nothing was touched.",
        )


def _owner(settings: Settings) -> str:
    """Give the address of the role that migrates."""
    return settings.database.owner_url or settings.database.url


async def _revision(settings: Settings, url: str) -> str | None:
    if settings.on_postgres:
        return await _postgres_revision(url)
    return _sqlite_revision(settings)


def _sqlite_revision(settings: Settings) -> str | None:
    from kernel.sqlite import read_only_uri

    if not settings.database_file.exists():
        return None
    try:
        connection = sqlite3.connect(read_only_uri(settings.database_file), uri=True)
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        if "no such table" in str(error):
            return None
        raise ConfigurationError(
            f"{settings.database_file.name} is not a database that can be read"
        ) from error
    return None if row is None else str(row[0])


async def _postgres_revision(url: str) -> str | None:
    import asyncpg

    from kernel.postgres import driver_dsn

    try:
        connection = await asyncpg.connect(driver_dsn(url), timeout=10)
        try:
            found = await connection.fetchval("SELECT version_num FROM alembic_version")
        finally:
            await connection.close()
    except asyncpg.UndefinedTableError:
        return None
    except (
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        OSError,
        TimeoutError,
        ValueError,
    ) as error:
        raise ConfigurationError(
            "the database cannot be reached",
            remedy="Check database.url and that PostgreSQL is running.",
        ) from error
    return None if found is None else str(found)
