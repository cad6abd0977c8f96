"""The worlds that the tests of this folder may ask for; nothing runs there but what a test does.

A worker beside the test would carry out what the test is about to carry out, whoever is quicker.
"""

from collections.abc import AsyncIterator

import pytest

from service.settings import Settings
from tests.support.world import (  # noqa: F401 (fixtures are asked for by name)
    World,
    installed_sqlite,
    open_world,
    postgres_settings,
    settings,
    sqlite_settings,
)


@pytest.fixture
async def world(settings: Settings) -> AsyncIterator[World]:  # noqa: F811 (the fixture's name)
    async with open_world(settings, background=False) as opened:
        yield opened
