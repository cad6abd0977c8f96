"""Where the sample exports and their row-by-row truth are found; the worlds of this folder."""

import os
from pathlib import Path

import pytest

from tests.support.world import (  # noqa: F401 (fixtures are asked for by name)
    installed_sqlite,
    postgres_settings,
    settings,
    sqlite_settings,
    world,
)

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def member_files():
    shared = Path(os.environ.get("YINYOM_SHARED", REPOSITORY.parent / "shared"))
    folder = shared / "data" / "members"
    if not (folder / "truth.json").exists():
        pytest.skip("the sample member files are absent; set YINYOM_SHARED to their folder")
    return folder
