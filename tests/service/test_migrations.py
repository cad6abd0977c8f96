"""Migrations make exactly the tables that the rooms describe, whole or not at all, and once."""

import asyncio
import importlib
import sqlite3

import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from kernel import ConfigurationError, metadata
from service.schema import HEAD, check_schema, migrate
from service.settings import DatabaseSettings, Settings
from tests.support.world import execute, fetch

ROOMS = (
    "kernel",
    "vault",
    "audit",
    "consent",
    "members",
    "loyalty",
    "disclosure",
    "dsar",
    "backup",
    "service.auth",
    "service.staff",
    "service.claims",
)
COLUMNS = (
    "SELECT table_name, column_name, data_type, is_nullable, column_default "
    "FROM information_schema.columns WHERE table_schema = 'public'"
)
INDEXES = "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
CONSTRAINTS = (
    "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
    "WHERE connamespace = 'public'::regnamespace AND contype <> 't'"  # a trigger is no shape
)


@pytest.fixture
def settings(engine, tmp_path) -> Settings:
    """Settings of a database with nothing in it."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    return Settings(data_dir=data_dir, database=DatabaseSettings(url=engine.url))


def run(coroutine):
    return asyncio.run(coroutine)


def described_in(settings: Settings) -> None:
    """Make the tables from the rooms' own descriptions, without a migration."""
    for room in ROOMS:
        importlib.import_module(f"{room}.tables")
    if not settings.on_postgres:
        engine = create_engine(f"sqlite:///{settings.database_file}")
        metadata.create_all(engine)
        engine.dispose()
        return

    async def create() -> None:
        url = settings.database.url.replace("postgresql://", "postgresql+asyncpg://")
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
        await engine.dispose()

    run(create())


def shape(settings: Settings) -> set[tuple]:
    """Everything about tables, indexes and constraints, but nothing of alembic's and no guard."""
    if settings.on_postgres:
        rows = [
            tuple(row.values())
            for sql in (COLUMNS, INDEXES, CONSTRAINTS)
            for row in run(fetch(settings, sql))
        ]
    else:
        found = run(fetch(settings, "SELECT type, name, sql FROM sqlite_master"))
        rows = [
            (row["type"], row["name"], " ".join((row["sql"] or "").replace('"', "").split()))
            for row in found
            if row["type"] in {"table", "index"}
        ]
    return {row for row in rows if not any("alembic_version" in str(part) for part in row)}


def everything(settings: Settings) -> list:
    """Names of all that was made, guards included."""
    if settings.on_postgres:
        sql = (
            "SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace "
            "UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace "
            "UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1"
        )
    else:
        sql = "SELECT name FROM sqlite_master ORDER BY 1"
    return [row["name"] for row in run(fetch(settings, sql))]


@pytest.fixture
def described(engine, tmp_path, request) -> Settings:
    """A second database, made from the descriptions."""
    data_dir = tmp_path / "described"
    data_dir.mkdir()
    url = request.getfixturevalue("new_postgres_database")() if engine.url else ""
    settings = Settings(data_dir=data_dir, database=DatabaseSettings(url=url))
    described_in(settings)
    return settings


def test_a_migrated_database_is_what_the_rooms_describe(settings, described):
    run(migrate(settings))
    made, wanted = shape(settings), shape(described)
    assert made - wanted == set()
    assert wanted - made == set()
    assert len(made) > 30


def test_a_second_migration_changes_nothing(settings):
    run(migrate(settings))
    before = (shape(settings), everything(settings))
    run(migrate(settings))
    assert (shape(settings), everything(settings)) == before
    run(check_schema(settings))


def test_a_migration_that_fails_leaves_nothing_behind(settings):
    settings.database_file.touch()
    run(execute(settings, "CREATE TABLE vault_key (mine INTEGER)"))
    before = everything(settings)
    with pytest.raises(ConfigurationError, match="could not be set up"):
        run(migrate(settings))
    assert everything(settings) == before
    run(execute(settings, "DROP TABLE vault_key"))
    run(migrate(settings))
    run(check_schema(settings))


@pytest.mark.parametrize("revision", ["0999", "9999"])
def test_a_database_of_a_newer_version_is_neither_opened_nor_migrated(settings, revision):
    run(migrate(settings))
    run(execute(settings, "UPDATE alembic_version SET version_num = :revision", revision=revision))
    before = everything(settings)
    for refused in (check_schema(settings), migrate(settings)):
        with pytest.raises(ConfigurationError, match=f"schema {revision}, newer than .* {HEAD}"):
            run(refused)
    assert everything(settings) == before


def test_a_database_without_a_registry_is_told_how_to_get_one(settings):
    with pytest.raises(ConfigurationError, match="no registry in it") as refused:
        run(check_schema(settings))
    assert "yinyom init" in refused.value.remedy


def test_the_database_file_is_private_from_its_first_byte(tmp_path):
    settings = Settings(data_dir=tmp_path)
    run(migrate(settings))
    for file in tmp_path.glob("registry.db*"):
        assert file.stat().st_mode & 0o077 == 0, file.name
    with sqlite3.connect(settings.database_file) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()
