"""A database of each engine that holds the kernel's own tables and nothing else.

There is no trail in it: `Building` lets facts be written without an event.
"""

import sqlite3
from contextlib import closing

import pytest
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from kernel import Building, tables
from kernel.postgres import PostgresDatabase
from kernel.sqlite import SqliteDatabase

KERNEL_TABLES = (
    tables.registry_fact,
    tables.epoch,
    tables.outbox,
    tables.job,
    tables.idempotency,
)


def schema(dialect):
    statements = []
    for table in KERNEL_TABLES:
        statements.append(CreateTable(table).compile(dialect=dialect))
        statements += [CreateIndex(index).compile(dialect=dialect) for index in table.indexes]
    return ";\n".join(map(str, statements)) + ";"


@pytest.fixture
def sqlite_file(tmp_path):
    path = tmp_path / "registry.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(schema(sqlite.dialect()))
    return path


@pytest.fixture
def postgres_url(postgres_server, new_postgres_database):
    def fill(url):
        postgres_server.run_sql(schema(postgresql.dialect()), url.rpartition("/")[2])

    return new_postgres_database(postgres_server.template("kernel_tables", fill))


@pytest.fixture
async def sqlite_database(sqlite_file):
    database = SqliteDatabase(sqlite_file, owes=Building)
    yield database
    await database.close()


@pytest.fixture
async def postgres_database(postgres_url):
    database = PostgresDatabase(postgres_url, pool_size=8, owes=Building)
    yield database
    await database.close()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request):
    """The same promises on both engines."""
    return request.getfixturevalue(f"{request.param}_database")
