"""Packs for the tests of this room: the packaged one, and overlays written in a line or two."""

from collections.abc import Callable
from pathlib import Path

import pytest

from policies import PolicyPack, load_pack

WriteOverlay = Callable[..., Path]


@pytest.fixture(scope="session")
def pack() -> PolicyPack:
    return load_pack()


@pytest.fixture
def overlay(tmp_path: Path) -> WriteOverlay:
    def write(files: dict[str, str | bytes]) -> Path:
        for path, content in files.items():
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path

    return write
