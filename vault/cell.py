"""Cells: one personal value, sealed so that it opens in its own place only.

A cell is `suite(1) ‖ key_version(1) ‖ nonce(12) ‖ ciphertext ‖ tag(16)` under AES-256-GCM. The
associated data names tenant, table, field and row, so whoever can write to the database but has
no key cannot move a value to another member, field or table (docs/formats/cell.md). Nothing
ever passes through unopened: what does not authenticate is an `UnreadableError`.

These loops are the hottest lines of the registry. What looks odd in them (ready-made slices,
a comparison of bytes as the check of the header) is measured by `make bench BENCH=vault`.
"""

import os
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vault.errors import UnreadableError

LABEL = b"cell1"
SUITE_AES_256_GCM = 1
PADDED = 0x80
NONCE_BYTES = 12
TAG_BYTES = 16
HEADER_BYTES = 2
OVERHEAD_BYTES = HEADER_BYTES + NONCE_BYTES + TAG_BYTES
PAD_BLOCKS = (16, 32)
_MARK = b"\x80"
_MOST_FIELDS = 4_096
_MAX_KEY_VERSION = 255
_NONCE = slice(HEADER_BYTES, HEADER_BYTES + NONCE_BYTES)
_BODY = slice(HEADER_BYTES + NONCE_BYTES, None)
_REFUSALS = (InvalidTag, ValueError, TypeError, IndexError)


def length_prefixed(text: str) -> bytes:
    """Encode a part of the associated data so that parts cannot run into each other."""
    data = text.encode()
    return len(data).to_bytes(2) + data


class Places(dict[str, bytes]):
    """The associated data, up to and without the row id, of one table's cells by field.

    One for each tenant, table, key version and way of filling a cell; kept, because building it
    costs more than opening a cell. Every cell of it begins with `header`, and compares as bytes
    below `beyond`: two comparisons check suite and key version without cutting anything.
    """

    __slots__ = ("_before", "_behind", "beyond", "header", "padded")

    def __init__(
        self, key_version: int, tenant: str, table: str, suite: int = SUITE_AES_256_GCM
    ) -> None:
        super().__init__()
        if not 0 < key_version <= _MAX_KEY_VERSION:
            raise ValueError("key version out of range")
        self.header = bytes((suite, key_version))
        self.beyond = (int.from_bytes(self.header) + 1).to_bytes(HEADER_BYTES)
        self._before = LABEL + self.header + length_prefixed(tenant) + length_prefixed(table)
        self.padded = self if suite & PADDED else Places(key_version, tenant, table, suite | PADDED)

    def __missing__(self, field: str) -> bytes:
        """Build the place of a field met for the first time."""
        if len(self) >= _MOST_FIELDS:
            self.clear()
        self[field] = found = self._before + length_prefixed(field)
        return found


def seal_cells(
    cipher: AESGCM,
    places: Places,
    row: bytes,
    values: Mapping[str, str],
    pads: Mapping[str, int] | None = None,
) -> dict[str, bytes]:
    """Seal values by field name; `row` is 16 bytes. One draw of randomness for all nonces.

    `pads` names fields whose length must not show, each with its block of 16 or 32 bytes.
    """
    return _seal(cipher, places, row, values, pads or {}, os.urandom(NONCE_BYTES * len(values)))


def _seal(
    cipher: AESGCM,
    places: Places,
    row: bytes,
    values: Mapping[str, str],
    pads: Mapping[str, int],
    nonces: bytes,
) -> dict[str, bytes]:
    encrypt, header = cipher.encrypt, places.header
    sealed: dict[str, bytes] = {}
    at = 0
    for field, value in values.items():
        nonce = nonces[at : at + NONCE_BYTES]
        at += NONCE_BYTES
        if field in pads:
            content = _pad(value.encode(), pads[field])
            context = places.padded[field] + row
            sealed[field] = places.padded.header + nonce + encrypt(nonce, content, context)
        else:
            context = places[field] + row
            sealed[field] = header + nonce + encrypt(nonce, value.encode(), context)
    return sealed


def open_cells(
    cipher: AESGCM, places: Places, row: bytes, cells: Mapping[str, bytes]
) -> dict[str, bytes]:
    """Open cells of one row in their places, or raise `UnreadableError` for all of them."""
    decrypt, header, beyond = cipher.decrypt, places.header, places.beyond
    nonce, body = _NONCE, _BODY
    opened: dict[str, bytes] = {}
    try:
        for field, cell in cells.items():
            if header <= cell < beyond:
                opened[field] = decrypt(cell[nonce], cell[body], places[field] + row)
            else:
                opened[field] = _open_padded(cipher, places.padded, field, row, cell)
    except _REFUSALS as error:
        raise UnreadableError from error
    return opened


def open_one(cipher: AESGCM, places: Places, field: str, row: bytes, cell: bytes) -> bytes:
    """Open one cell in its place, or raise `UnreadableError`."""
    try:
        if places.header <= cell < places.beyond:
            return cipher.decrypt(cell[_NONCE], cell[_BODY], places[field] + row)
        return _open_padded(cipher, places.padded, field, row, cell)
    except _REFUSALS as error:
        raise UnreadableError from error


def _open_padded(cipher: AESGCM, places: Places, field: str, row: bytes, cell: bytes) -> bytes:
    if not places.header <= cell < places.beyond:
        raise UnreadableError
    content = cipher.decrypt(cell[_NONCE], cell[_BODY], places[field] + row)
    filled = content.rstrip(b"\0")
    if not filled.endswith(_MARK):
        raise UnreadableError
    return filled[:-1]


def _pad(value: bytes, block: int) -> bytes:
    """Fill up to whole blocks by ISO/IEC 7816-4: one byte 80, then zeros."""
    return value + _MARK + bytes(-(len(value) + 1) % block)
