"""A small log in memory: what the sequencer keeps in tables, the tests keep in dictionaries."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from audit.export import write_bundle
from audit.merkle import leaf_hash
from audit.note import Checkpoint, Signer, sign_checkpoint
from audit.tiles import HASH_SIZE, TreeEdge
from tests.support.trail import (  # noqa: F401 (fixtures)
    stage,
    staged,
    staged_postgres,
    staged_sqlite,
    yinyom,
)
from tests.support.world import (  # noqa: F401 (fixtures are asked for by name)
    installed_sqlite,
    postgres_settings,
    settings,
    sqlite_settings,
    world,
)

ORIGIN = "log.example/tests"


def entry(index: int) -> bytes:
    """One line of JSON, of a length that differs from its neighbours'."""
    return b'{"id":"evt_%d","nonce":"%032x"}' % (index, index * index)


@dataclass
class MemoryLog:
    """Entries, tiles and a signer: a `LogSource` of the present size."""

    signer: Signer = field(default_factory=lambda: Signer.from_seed(ORIGIN, bytes(range(32))))
    stored: list[bytes] = field(default_factory=list)
    tiles: dict[tuple[int, int], bytes] = field(default_factory=dict)
    edge: TreeEdge = field(default_factory=TreeEdge)
    rows: dict[int, bytes] = field(default_factory=dict)

    def append(self, entries: list[bytes]) -> None:
        self.edge, changed = self.edge.append([leaf_hash(each) for each in entries])
        self.stored += entries
        for level, n, data in changed:
            self.tiles[level, n] = data

    def read_tile(self, level: int, n: int) -> bytes:
        return self.tiles.get((level, n), b"")

    @property
    def size(self) -> int:
        return len(self.stored)

    def checkpoint_note(self) -> str:
        return sign_checkpoint(
            Checkpoint(self.signer.name, self.edge.size, self.edge.root()), self.signer
        )

    def tile(self, level: int, n: int, width: int) -> bytes:
        return self.tiles[level, n][: width * HASH_SIZE]

    def entries(self, start: int, end: int) -> Iterator[bytes]:
        yield from self.stored[start:end]

    def manifests(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        yield from ((index, rows) for index, rows in self.rows.items() if start <= index < end)


def log_of(size: int) -> MemoryLog:
    log = MemoryLog()
    log.append([entry(index) for index in range(size)])
    return log


@pytest.fixture(scope="session")
def make_log() -> Callable[[int], MemoryLog]:
    return log_of


@pytest.fixture
def export(tmp_path) -> Callable[..., Path]:
    """Export a log of a size, as a folder or a zip."""
    made = 0

    def write(log: MemoryLog | int, suffix: str = "") -> Path:
        nonlocal made
        made += 1
        destination = tmp_path / f"bundle-{made}{suffix}"
        write_bundle(destination, log_of(log) if isinstance(log, int) else log)
        return destination

    return write


@pytest.fixture(scope="session")
def vkey() -> str:
    return MemoryLog().signer.vkey


@pytest.fixture(scope="session")
def merkle_vectors() -> Callable[[str], dict[str, dict]]:
    """Vectors of transparency-dev/merkle, or a visible skip."""
    shared = os.environ.get("YINYOM_SHARED") or Path(__file__).parents[3] / "shared"
    folder = Path(shared) / "vectors" / "merkle"

    def load(name: str) -> dict[str, dict]:
        path = folder / f"{name}.json"
        if not path.exists():
            pytest.skip("the transparency-dev/merkle vectors are not here (set YINYOM_SHARED)")
        return json.loads(path.read_text())

    return load


@pytest.fixture(scope="session")
def own_vectors() -> Callable[[str], dict]:
    folder = Path(__file__).parents[1] / "vectors" / "audit"
    return lambda name: json.loads((folder / f"{name}.json").read_text())
