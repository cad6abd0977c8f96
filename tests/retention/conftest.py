"""The worlds that the tests of this folder may ask for."""

from tests.support.stores import folder_store  # noqa: F401 (fixtures are asked for by name)
from tests.support.world import (  # noqa: F401 (fixtures are asked for by name)
    installed_sqlite,
    postgres_settings,
    settings,
    sqlite_settings,
    world,
)
