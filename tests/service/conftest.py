"""Registries that the tests of the surface may ask for: in this process, and served by a child."""

import itertools
import os
from collections.abc import Callable, Iterator

import pytest

from service.settings import Settings
from tests.support.serving import Registry, served_registry
from tests.support.world import (
    _copy,
    installed_on,
    installed_sqlite,  # noqa: F401 (fixtures are asked for by name)
    postgres_settings,  # noqa: F401 (same)
    settings,  # noqa: F401 (same)
    sqlite_settings,  # noqa: F401 (same)
    world,  # noqa: F401 (same)
)

BOTH_ENGINES = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def module_settings(request, tmp_path_factory) -> Iterator[Callable[[str], Settings]]:
    """A maker of registries that live as long as a test module, by the name of their engine."""
    made: list[str] = []

    def database(template: str) -> str:
        server = request.getfixturevalue("postgres_server")
        name = f"module_{os.getpid()}_{next(_numbers)}"
        server.run_sql(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        made.append(name)
        return str(server.url(name))

    def make(engine: str) -> Settings:
        folder = tmp_path_factory.mktemp("registry")
        if engine == "postgres":
            return installed_on(request.getfixturevalue("postgres_server"), database, folder)
        return Settings(data_dir=_copy(request.getfixturevalue("installed_sqlite"), folder))

    yield make
    for name in made:
        server = request.getfixturevalue("postgres_server")
        server.run_sql(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(scope="module", params=BOTH_ENGINES)
def registry(request, module_settings) -> Iterator[Registry]:
    """A served registry with the sample clients, on either engine, shared by a module's tests."""
    with served_registry(module_settings(request.param)) as served:
        yield served


@pytest.fixture(scope="module")
def sqlite_registry(module_settings) -> Iterator[Registry]:
    """A served SQLite registry with the sample clients, shared by a module's tests."""
    with served_registry(module_settings("sqlite")) as served:
        yield served
