"""The database schema: bring it up to date, or say that it is older or newer than this code.

Alembic is imported only to migrate; a start of the service reads one row instead.
"""

import asyncio
import sqlite3
from pathlib import Path

from kernel import ConfigurationError
from service.settings import Settings

HEAD = "0001"
_MIGRATIONS = Path(__file__).parent / "migrations"


async def migrate(settings: Settings) -> None:
    """Bring the database to this version's schema; does nothing when it is there."""
    from sqlalchemy import Connection, create_engine
    from sqlalchemy.ext.asyncio import create_async_engine

    def upgrade(connection: Connection) -> None:
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    if settings.on_postgres:
        from kernel.postgres import driver_dsn

        url = driver_dsn(settings.database.url).replace("postgresql://", "postgresql+asyncpg://", 1)
        engine = create_async_engine(url)
        try:
            async with engine.begin() as connection:
                await connection.run_sync(upgrade)
        finally:
            await engine.dispose()
        return
    from kernel.sqlite import connect

    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.database_file.touch(mode=0o600)
    local = create_engine("sqlite://", creator=lambda: connect(settings.database_file))

    def upgrade_locally() -> None:
        with local.begin() as connection:
            upgrade(connection)
        local.dispose()

    await asyncio.to_thread(upgrade_locally)


async def check_schema(settings: Settings) -> None:
    """Refuse to run on a database that was never set up, or by another version of the schema."""
    found = (
        await _postgres_revision(settings) if settings.on_postgres else _sqlite_revision(settings)
    )
    if found is None:
        raise ConfigurationError(
            "the database has no registry in it", remedy="Run `yinyom init` first."
        )
    if found > HEAD:
        raise ConfigurationError(
            f"the database has schema {found}, newer than this version's {HEAD}",
            remedy="Run the version of Yinyom that wrote it, or a newer one. Nothing was touched.",
        )
    if found < HEAD:
        raise ConfigurationError(
            f"the database has schema {found}, older than this version's {HEAD}",
            remedy="Make a backup, then run `yinyom init` again: it migrates and keeps the data.",
        )


def _sqlite_revision(settings: Settings) -> str | None:
    if not settings.database_file.exists():
        return None
    try:
        connection = sqlite3.connect(f"file:{settings.database_file}?mode=ro", uri=True)
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


async def _postgres_revision(settings: Settings) -> str | None:
    import asyncpg

    from kernel.postgres import driver_dsn

    try:
        connection = await asyncpg.connect(driver_dsn(settings.database.url), timeout=10)
        try:
            found = await connection.fetchval("SELECT version_num FROM alembic_version")
        finally:
            await connection.close()
    except asyncpg.UndefinedTableError:
        return None
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise ConfigurationError(
            "the database cannot be reached",
            remedy="Check database.url and that PostgreSQL is running.",
        ) from error
    return None if found is None else str(found)
