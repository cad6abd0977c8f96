"""Where the sample exports and their row-by-row truth are found."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def member_files():
    shared = Path(os.environ.get("YINYOM_SHARED", REPOSITORY.parent / "shared"))
    folder = shared / "data" / "members"
    if not (folder / "truth.json").exists():
        pytest.skip("the sample member files are absent; set YINYOM_SHARED to their folder")
    return folder
