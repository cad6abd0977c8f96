"""The worlds and stores that the tests of this folder may ask for."""

from tests.support.stores import (  # noqa: F401 (fixtures are asked for by name)
    folder_store,
    kept,
    restore,
    s3_store,
    stored_settings,
    weed,
)
from tests.support.world import (  # noqa: F401
    installed_sqlite,
    postgres_settings,
    settings,
    sqlite_settings,
    world,
)
