"""Manifests: a disclosure to many, told as one event over rows, of which each can be proven alone.

A row is a member's token and which fields of theirs went out; it holds no id. The event names the
number of rows and the root of the RFC 6962 tree over them, so that its leaf in the log binds every
row. Whoever is shown one row with its path learns of the other members nothing but hashes, and a
hash of 128 keyed bits gives nobody away.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from audit.errors import ManifestError, ProofError
from audit.merkle import fold, inclusion_proof, leaf_hash, verify_inclusion

MOST_ROWS = 1_000
MOST_BYTES = 65_535
_TOKEN = 32
_HEX = frozenset("0123456789abcdef")


class Manifest(NamedTuple):
    """What an event says of its rows: how many there are, and the root over them as hex."""

    rows: int
    root: str


class ManifestRow(NamedTuple):
    """One row as it is read: its place among the others, the member's token, their fields."""

    place: int
    token: str
    fields: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Give it as plain JSON."""
        return {"place": self.place, "token": self.token, "fields": list(self.fields)}


def row_width(fields: int) -> int:
    """Give the bytes of a row, its line end included, where so many fields were disclosed."""
    return _TOKEN + 1 + max(1, -(-fields // 4)) + 1


def most_rows(fields: int) -> int:
    """Give how many rows a manifest may have where so many fields were disclosed."""
    return min(MOST_ROWS, MOST_BYTES // row_width(fields))


def write_rows(disclosed: Mapping[str, Iterable[str]]) -> tuple[tuple[str, ...], bytes]:
    """Write rows from tokens and the fields disclosed of each; gives all fields, and the rows.

    In the order of the tokens, which is the order of nothing else: no place tells when or among
    whom a member was found. `ManifestError` for more than a manifest holds.
    """
    per_token = {token: frozenset(names) for token, names in disclosed.items()}
    fields = tuple(sorted(frozenset().union(*per_token.values())))
    if not 0 < len(per_token) <= most_rows(len(fields)):
        raise ManifestError(f"{len(per_token)} rows are no manifest")
    bits = {name: 1 << at for at, name in enumerate(fields)}
    digits = row_width(len(fields)) - _TOKEN - 2
    lines = [
        f"{token} {sum(bits[name] for name in names):0{digits}x}\n"
        for token, names in sorted(per_token.items())
    ]
    data = "".join(lines).encode()
    if len(data) != len(lines) * row_width(len(fields)):
        raise ManifestError("a token is not of its length")
    return fields, data


def split_rows(data: bytes) -> list[bytes]:
    """Cut rows as they are stored into those that are hashed; the line ends are in no hash."""
    if not data.endswith(b"\n"):
        raise ManifestError("the rows do not end with a line")
    return data[:-1].split(b"\n")


def manifest_of(data: bytes) -> Manifest:
    """Compute what an event says of rows as they are stored."""
    rows = split_rows(data)
    return Manifest(len(rows), fold(b"".join(map(leaf_hash, rows))).hex())


def tokens_of(data: bytes) -> list[str]:
    """Give the tokens of rows as they are stored, in their order."""
    return [row[:_TOKEN].decode("ascii", "replace") for row in split_rows(data)]


def read_row(row: bytes, place: int, fields: Sequence[str]) -> ManifestRow:
    """Read one row under the fields that its event names; `ManifestError` when it is none."""
    text = row.decode("ascii", "replace")
    token, code = text[:_TOKEN], text[_TOKEN + 1 :]
    shaped = len(text) + 1 == row_width(len(fields)) and text[_TOKEN] == " "
    if not shaped or not _HEX.issuperset(token + code) or int(code, 16) >> len(fields):
        raise ManifestError("a row is not of its format")
    mask = int(code, 16)
    named = tuple(name for at, name in enumerate(fields) if mask >> at & 1)
    return ManifestRow(place, token, named)


def row_path(data: bytes, place: int) -> tuple[bytes, list[bytes]]:
    """Give a row and the path from it to the root of its manifest; hashes bottom first."""
    rows = split_rows(data)
    leaves = [leaf_hash(row) for row in rows]

    def node(level: int, n: int) -> bytes:
        return fold(b"".join(leaves[n << level : n + 1 << level]))

    return rows[place], inclusion_proof(place, len(rows), node)


def check_row(
    event: Mapping[str, Any], row: bytes, place: int, path: Sequence[bytes]
) -> ManifestRow:
    """Check that a row is one of the manifest that an event names, and read it.

    The event itself must have been proven. `ProofError` when the path leads elsewhere.
    """
    said = event.get("manifest")
    if not isinstance(said, dict):
        raise ProofError("the event has no manifest")
    try:
        size, root = int(said["rows"]), bytes.fromhex(said["root"])
        verify_inclusion(place, size, leaf_hash(row), path, root)
        return read_row(row, place, event.get("fields", ()))
    except (ManifestError, KeyError, TypeError, ValueError):
        raise ProofError("the row is not of its format") from None
