"""Tiles and entry bundles, and the edge from which the tree grows."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from audit.errors import TileError
from audit.merkle import (
    consistency_proof,
    fold,
    inclusion_proof,
    leaf_hash,
    tree_root,
    verify_consistency,
    verify_inclusion,
)
from audit.tiles import (
    ENTRIES,
    HASH_SIZE,
    TILE_BYTES,
    TileNodes,
    TilePath,
    TreeEdge,
    decode_entries,
    edge_of,
    encode_entries,
    tiles_for_consistency,
    tiles_for_inclusion,
    tiles_of,
)

LEAVES = [leaf_hash(b"%d" % index) for index in range(140_000)]
EDGES_OF_TILES = [0, 1, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537, 70_000, 131_072]


class Store:
    """Tiles as a table keeps them: the last data written under a level and number."""

    def __init__(self):
        self.tiles = {}

    def write(self, changed):
        for level, n, data in changed:
            self.tiles[level, n] = data

    def read(self, level, n):
        return self.tiles.get((level, n), b"")


def grown(*batches):
    edge, store, at = TreeEdge(), Store(), 0
    for batch in batches:
        edge, changed = edge.append(LEAVES[at : at + batch])
        store.write(changed)
        at += batch
    return edge, store


def reference_tile(level, n, width):
    """The definition: MTH(D[(n*256+i) * 256**l : (n*256+i+1) * 256**l]) for each i."""
    span = 256**level
    first = n * 256
    return b"".join(
        fold(b"".join(LEAVES[i * span : (i + 1) * span])) for i in range(first, first + width)
    )


@pytest.mark.parametrize("size", EDGES_OF_TILES)
def test_stored_tiles_are_exactly_those_of_the_definition(size):
    _, store = grown(size)
    expected = {(path.level, path.n): reference_tile(*path) for path in tiles_of(size)}
    assert store.tiles == expected


def test_the_specifications_example_of_70000_leaves_has_its_tiles():
    paths = list(tiles_of(70_000))
    assert [p.width for p in paths if p.level == 0] == [256] * 273 + [112]
    assert [p.width for p in paths if p.level == 1] == [256, 17]
    assert [p.width for p in paths if p.level == 2] == [1]
    assert edge_of(70_000) == [TilePath(0, 273, 112), TilePath(1, 1, 17), TilePath(2, 0, 1)]
    assert edge_of(256) == [TilePath(1, 0, 1)]
    assert edge_of(0) == list(tiles_of(0)) == []


@settings(deadline=None)
@given(st.lists(st.integers(0, 700), max_size=8))
@example([255, 1, 1])
@example([256, 256])
@example([0])
@example([65_535, 1, 1])
@example([5_000] * 14)
def test_however_leaves_arrive_the_tree_is_the_same(batches):
    size = sum(batches)
    edge, store = grown(*batches)
    assert edge.size == size
    assert edge.root() == fold(b"".join(LEAVES[:size]))
    at_once, tiles = grown(size)
    assert store.tiles == tiles.tiles
    assert edge == at_once == TreeEdge.from_tiles(size, store.read)


def test_appending_gives_only_the_tiles_that_changed_and_gives_them_whole():
    edge, _ = grown(65_530)
    grown_edge, changed = edge.append(LEAVES[65_530:65_540])
    assert [(tile.level, tile.n, len(tile.data) // HASH_SIZE) for tile in changed] == [
        (0, 255, 256),
        (0, 256, 4),
        (1, 0, 256),
        (2, 0, 1),
    ]
    assert changed[0].data.startswith(LEAVES[255 * 256])
    assert edge.size == 65_530, "an edge is a value: the old one is still good"
    assert grown_edge.append([]) == (grown_edge, [])


def test_a_leaf_hash_of_31_bytes_is_never_appended():
    with pytest.raises(TileError, match="32 bytes"):
        TreeEdge().append([LEAVES[0], LEAVES[1][:31]])


@pytest.mark.parametrize("missing", [(0, 273), (1, 1), (2, 0)])
def test_an_edge_with_a_missing_or_short_tile_is_refused_and_the_tile_named(missing):
    _, store = grown(70_000)
    level, n = missing
    store.tiles[missing] = store.tiles[missing][:-1]
    with pytest.raises(TileError, match=f"{level}/{n}"):
        TreeEdge.from_tiles(70_000, store.read)
    del store.tiles[missing]
    with pytest.raises(TileError, match=f"{level}/{n}"):
        TreeEdge.from_tiles(70_000, store.read)


def test_a_changed_edge_tile_shows_in_the_root():
    edge, store = grown(70_000)
    tile = store.tiles[1, 1]
    store.tiles[1, 1] = bytes([tile[0] ^ 1]) + tile[1:]
    assert TreeEdge.from_tiles(70_000, store.read).root() != edge.root()


@settings(deadline=None, max_examples=60)
@given(size=st.integers(1, 140_000), data=st.data())
def test_proofs_from_the_tiles_of_a_larger_tree_verify_for_a_smaller_one(size, data):
    store = LARGE
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(1, size))
    root, old_root = (tree_root(s, TileNodes(store.read)) for s in (size, old))
    assert TreeEdge.from_tiles(size, store.read).root() == root
    proof = inclusion_proof(index, size, TileNodes(store.read))
    verify_inclusion(index, size, LEAVES[index], proof, root)
    steps = consistency_proof(old, size, TileNodes(store.read))
    verify_consistency(old, size, old_root, root, steps)


LARGE = grown(140_000)[1]


@settings(deadline=None)
@given(size=st.integers(1, 140_000), data=st.data())
def test_the_tiles_named_for_a_proof_are_all_that_it_reads(size, data):
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(1, size))
    for named, prove in (
        (tiles_for_inclusion(index, size), lambda nodes: inclusion_proof(index, size, nodes)),
        (tiles_for_consistency(old, size), lambda nodes: consistency_proof(old, size, nodes)),
    ):
        read = set()

        def reading(level, n, read=read):
            read.add((level, n))
            return LARGE.read(level, n)

        prove(TileNodes(reading))
        assert named == sorted(read)
        assert len(named) <= 6


def test_a_proof_over_a_tile_that_is_too_short_names_the_tile():
    store = Store()
    store.tiles = {**LARGE.tiles, (0, 1): LARGE.tiles[0, 1][:-32]}
    with pytest.raises(TileError, match="0/1"):
        inclusion_proof(300, 1_000, TileNodes(store.read))


# Paths.


def test_own_vectors_hold(own_vectors):
    for vector in own_vectors("trees")["paths"]:
        level = ENTRIES if vector["level"] == "entries" else vector["level"]
        path = TilePath(level, vector["n"], vector["width"])
        assert str(path) == vector["path"]
        assert TilePath.parse(vector["path"]) == path


@given(st.integers(ENTRIES, 63), st.integers(0, 10**18), st.integers(1, 256))
def test_a_path_is_read_back_as_it_was_written(level, n, width):
    path = TilePath(level, n, width)
    assert TilePath.parse(str(path)) == path


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tile/0/0",
        "tile/0/1234",
        "tile/00/000",
        "tile/01/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/0/x000/000",
        "tile/0/001/000",
        "tile/0/x001/x000",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/300",
        "tile/0/000.p/",
        "tile/0/000\n",
        "tile/data/000",
        "tile/0/../checkpoint",
        "/tile/0/000",
        "tile/0/٠٠٠",
    ],
)
def test_a_path_that_is_not_spelled_the_one_proper_way_is_refused(text):
    with pytest.raises(TileError):
        TilePath.parse(text)


# Entry bundles.


@given(st.lists(st.binary(max_size=400), max_size=20))
def test_entries_come_back_from_a_bundle(entries):
    assert decode_entries(encode_entries(entries)) == entries


def test_the_longest_entry_fits_and_a_longer_one_is_refused():
    assert decode_entries(encode_entries([bytes(65_535)])) == [bytes(65_535)]
    with pytest.raises(TileError, match="65535"):
        encode_entries([bytes(65_536)])


@pytest.mark.parametrize("bundle", [b"\0", b"\0\2a", b"\0\1ab", b"\0\1a\0", b"\xff\xff"])
def test_a_bundle_that_ends_within_an_entry_is_refused(bundle):
    with pytest.raises(TileError, match="ends within"):
        decode_entries(bundle)


def test_a_full_tile_is_8_kilobytes():
    assert TILE_BYTES == len(LARGE.tiles[0, 0]) == 8_192
