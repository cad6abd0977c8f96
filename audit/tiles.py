"""The tree cut into tiles of height 8, and the log's entries into bundles of 256.

The layout is that of c2sp.org/tlog-tiles: tile `(level, n)` is the run of hashes of the
perfect subtrees of `256 ** level` leaves, 256 to a tile, so that a few kilobytes prove any
event and the log can be served as plain files. A tile only ever grows at its end; `TreeEdge`
is the right edge of the tree, which is all that appending needs to know.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from audit.errors import TileError
from audit.merkle import (
    HASH_SIZE,
    NodeReader,
    consistency_proof,
    fold,
    inclusion_proof,
)

HEIGHT = 8
WIDTH = 1 << HEIGHT
TILE_BYTES = WIDTH * HASH_SIZE
MAX_LEVEL = 63
ENTRIES = -1
"""Stands in `TilePath.level` for a bundle of entries instead of hashes."""
MAX_ENTRY_BYTES = 0xFFFF

ReadTile = Callable[[int, int], bytes]
"""Gives the stored hashes of tile `(level, n)`: at least those that the tree's size calls for
(more when the tree has grown since), or nothing when there is no such tile."""

_PATH = re.compile(
    r"tile/(?:(?P<level>0|[1-9][0-9]?)|entries)"
    r"/(?P<n>(?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?"
)


class Tile(NamedTuple):
    """One tile as it is to be stored: `data` is its hashes one after another."""

    level: int
    n: int
    data: bytes


class TilePath(NamedTuple):
    """Which tile or entry bundle (`level` is `ENTRIES`) a path means, and how much of it."""

    level: int
    n: int
    width: int = WIDTH

    def __str__(self) -> str:
        kind = "entries" if self.level == ENTRIES else str(self.level)
        groups = [f"{self.n % 1000:03}"]
        rest = self.n // 1000
        while rest:
            groups.append(f"x{rest % 1000:03}")
            rest //= 1000
        partial = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{kind}/{'/'.join(reversed(groups))}{partial}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read such a path; `TileError` unless it is spelled in the one proper way."""
        match = _PATH.fullmatch(text)
        if match is not None:
            level = ENTRIES if match["level"] is None else int(match["level"])
            path = cls(
                level,
                int(match["n"].replace("/", "").replace("x", "")),
                int(match["width"] or WIDTH),
            )
            if level <= MAX_LEVEL and path.width <= WIDTH and str(path) == text:
                return path
        raise TileError("that is not the path of a tile")


def tiles_of(size: int) -> Iterator[TilePath]:
    """List the tiles of a tree of `size` leaves, lowest level first, no entry bundles."""
    level = 0
    while size:
        full, partial = divmod(size, WIDTH)
        for n in range(full):
            yield TilePath(level, n)
        if partial:
            yield TilePath(level, full, partial)
        size, level = full, level + 1


def edge_of(size: int) -> list[TilePath]:
    """List the partial tiles of a tree of `size` leaves: at most one a level, lowest first."""
    edge: list[TilePath] = []
    level = 0
    while size:
        size, partial = divmod(size, WIDTH)
        if partial:
            edge.append(TilePath(level, size, partial))
        level += 1
    return edge


@dataclass(frozen=True, slots=True)
class TreeEdge:
    """The right edge of a tree: its size and, level by level, the hashes of its partial tile.

    Immutable, so a sequencer whose transaction fails simply keeps the edge it had.
    """

    size: int = 0
    partials: tuple[bytes, ...] = ()

    @classmethod
    def from_tiles(cls, size: int, read_tile: ReadTile) -> Self:
        """Read the edge of the tree of `size` leaves from its stored tiles (see `edge_of`).

        The caller compares `root()` with the checkpoint it signed last before it appends.
        `TileError` when a tile is missing or too short.
        """
        partials: dict[int, bytes] = {}
        for level, n, width in edge_of(size):
            partials[level] = _require_width(read_tile(level, n), level, n, width)
        return cls(
            size, tuple(partials.get(level, b"") for level in range(max(partials, default=-1) + 1))
        )

    def append(self, leaf_hashes: Sequence[bytes]) -> tuple["TreeEdge", list[Tile]]:
        """Add leaves, and give the new edge with every tile that changed, whole.

        A tile is given with all its hashes, old ones included, so it replaces what is stored
        under its level and number. Costs about one hash a leaf.
        """
        if any(len(leaf) != HASH_SIZE for leaf in leaf_hashes):
            raise TileError("a leaf hash is not 32 bytes long")
        changed: list[Tile] = []
        partials = list(self.partials)
        arriving = b"".join(leaf_hashes)
        level, width = 0, self.size
        while arriving:
            if level == len(partials):
                partials.append(b"")
            hashes = partials[level] + arriving
            first, parents = width >> HEIGHT, []
            for at in range(0, len(hashes), TILE_BYTES):
                data = hashes[at : at + TILE_BYTES]
                changed.append(Tile(level, first + at // TILE_BYTES, data))
                if len(data) == TILE_BYTES:
                    parents.append(fold(data))
            partials[level] = hashes[len(parents) * TILE_BYTES :]
            arriving = b"".join(parents)
            level, width = level + 1, first
        return TreeEdge(self.size + len(leaf_hashes), tuple(partials)), changed

    def root(self) -> bytes:
        """Give the root of the tree, from the edge alone."""
        root = b""
        for hashes in self.partials:
            root = fold(hashes + root) if hashes else root
        return root or fold(b"")


class TileNodes:
    """A `NodeReader` over stored tiles. It keeps the tiles it has read: make one per answer."""

    def __init__(self, read_tile: ReadTile) -> None:
        self._read_tile = read_tile
        self._tiles: dict[tuple[int, int], bytes] = {}

    def __call__(self, level: int, index: int) -> bytes:
        """Give the hash of a perfect subtree; `TileError` when the tiles do not hold it."""
        tile, at, count = _place(level, index)
        data = self._tiles.get(tile)
        if data is None:
            data = self._tiles[tile] = self._read_tile(*tile)
        if len(data) < (at + count) * HASH_SIZE:
            _require_width(data, *tile, at + count)
        return fold(data[at * HASH_SIZE : (at + count) * HASH_SIZE])


def tiles_for_inclusion(index: int, size: int) -> list[tuple[int, int]]:
    """Name the tiles `(level, n)` that an inclusion proof reads, to fetch them in one query."""
    return _tiles_read(lambda read_node: inclusion_proof(index, size, read_node))


def tiles_for_consistency(old: int, size: int) -> list[tuple[int, int]]:
    """Name the tiles `(level, n)` that a consistency proof reads, to fetch them in one query."""
    return _tiles_read(lambda read_node: consistency_proof(old, size, read_node))


def encode_entries(entries: Sequence[bytes]) -> bytes:
    """Write an entry bundle: each entry behind its length as a big-endian uint16."""
    if any(len(entry) > MAX_ENTRY_BYTES for entry in entries):
        raise TileError(f"an entry is longer than {MAX_ENTRY_BYTES} bytes")
    return b"".join([part for entry in entries for part in (len(entry).to_bytes(2), entry)])


def decode_entries(bundle: bytes) -> list[bytes]:
    """Read an entry bundle; `TileError` when it ends within an entry."""
    entries: list[bytes] = []
    at, end = 0, len(bundle)
    while at < end:
        start = at + 2
        at = start + int.from_bytes(bundle[at:start])
        entries.append(bundle[start:at])
    if at != end:
        raise TileError(f"the entry bundle ends within its entry {len(entries) - 1}")
    return entries


def _place(level: int, index: int) -> tuple[tuple[int, int], int, int]:
    """Find a node: its tile `(level, n)`, and the first and the number of hashes to fold."""
    tile_level, height = divmod(level, HEIGHT)
    n, at = divmod(index << height, WIDTH)
    return (tile_level, n), at, 1 << height


def _tiles_read(prove: Callable[[NodeReader], object]) -> list[tuple[int, int]]:
    seen: set[tuple[int, int]] = set()

    def note_down(level: int, index: int) -> bytes:
        seen.add(_place(level, index)[0])
        return bytes(HASH_SIZE)

    prove(note_down)
    return sorted(seen)


def _require_width(data: bytes, level: int, n: int, width: int) -> bytes:
    """Cut a tile to the hashes asked for, or name the tile that has not got them."""
    if len(data) < width * HASH_SIZE:
        raise TileError(
            f"tile {level}/{n} holds {len(data)} bytes; {width * HASH_SIZE} are called for"
        )
    return data[: width * HASH_SIZE]
