"""Cells: one personal value, sealed so that it opens in its own place only.

A cell is `suite(1) ‖ key_version(1) ‖ nonce(12) ‖ ciphertext ‖ tag(16)` under AES-256-GCM. The
associated data names tenant, table, field and row, so whoever can write to the database but has
no key cannot move a value to another member, field or table (docs/formats/cell.md). Nothing
ever passes through unopened: what does not authenticate is an `UnreadableError`.

These loops are the hottest lines of the registry. What looks odd in them (ready-made slices,
a comparison of bytes as the check of the header) is measured by `make bench BENCH=vault`.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from struct import Struct

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
_NONCES = Struct(f"{NONCE_BYTES}s")
_BODY = slice(HEADER_BYTES + NONCE_BYTES, None)
_REFUSALS = (InvalidTag, ValueError, TypeError)


def length_prefixed(text: str) -> bytes:
    """Encode a part of the associated data so that parts cannot run into each other."""
    data = text.encode()
    return len(data).to_bytes(2) + data


class Places:
    """Where the cells of one table lie: their header, and the associated data by field.

    One for each tenant, table and key version; kept, because building the associated data costs
    more than opening a cell. It lacks the row id, which comes last. Every cell begins with
    `header` and compares as bytes below `beyond`: two comparisons check suite and key version
    without cutting anything. Cells of padded values have places of their own; `blocks` says to
    how many bytes a field's values are filled.
    """

    __slots__ = ("_before", "_pads", "beyond", "blocks", "header", "of", "padded")

    def __init__(
        self,
        key_version: int,
        tenant: str,
        table: str,
        pads: Mapping[str, int] | None = None,
        suite: int = SUITE_AES_256_GCM,
    ) -> None:
        if not 0 < key_version <= _MAX_KEY_VERSION:
            raise ValueError("key version out of range")
        self._pads = pads or {}
        self.of: dict[str, bytes] = {}
        self.blocks: dict[str, int] = {}
        self.header = bytes((suite, key_version))
        self.beyond = (int.from_bytes(self.header) + 1).to_bytes(HEADER_BYTES)
        self._before = LABEL + self.header + length_prefixed(tenant) + length_prefixed(table)
        padded = suite | PADDED
        self.padded = self if padded == suite else Places(key_version, tenant, table, None, padded)

    def meet(self, fields: Iterable[str]) -> None:
        """Build what is kept of fields that were not met before.

        A second contact point (`phone.2`) is padded like the first.
        """
        if len(self.of) >= _MOST_FIELDS:
            for kept in (self.of, self.padded.of, self.blocks):
                kept.clear()
        for field in fields:
            behind = length_prefixed(field)
            self.of[field] = self._before + behind
            self.padded.of[field] = self.padded._before + behind  # noqa: SLF001 (its own kind)
            block = self._pads.get(field.partition(".")[0])
            if block:
                self.blocks[field] = block


def seal_many(
    cipher: AESGCM, places: Places, row: bytes, values: Mapping[str, str]
) -> dict[str, bytes]:
    """Seal values by field name; `row` is 16 bytes. One draw of randomness for all nonces."""
    return _seal(cipher, places, row, values, os.urandom(NONCE_BYTES * len(values)))


def _seal(
    cipher: AESGCM, places: Places, row: bytes, values: Mapping[str, str], nonces: bytes
) -> dict[str, bytes]:
    encrypt, header, of, blocks = cipher.encrypt, places.header, places.of, places.blocks
    padded = places.padded
    sealed: dict[str, bytes] = {}
    try:
        for (field, value), (nonce,) in zip(
            values.items(), _NONCES.iter_unpack(nonces), strict=True
        ):
            context = of[field] + row  # first, because it tells a field that was never met
            if field in blocks:
                content, context = _padded(value.encode(), blocks[field]), padded.of[field] + row
                sealed[field] = padded.header + nonce + encrypt(nonce, content, context)
            else:
                sealed[field] = header + nonce + encrypt(nonce, value.encode(), context)
    except KeyError:
        places.meet(values)
        return _seal(cipher, places, row, values, os.urandom(len(nonces)))
    return sealed


def open_many(
    cipher: AESGCM, places: Places, row: bytes, cells: Mapping[str, bytes]
) -> dict[str, str]:
    """Open cells of one row in their places, or raise `UnreadableError` for all of them."""
    decrypt, nonce, body = cipher.decrypt, _NONCE, _BODY
    header, beyond, of = places.header, places.beyond, places.of
    opened: dict[str, str] = {}
    try:
        for field, cell in cells.items():
            if header <= cell < beyond:
                opened[field] = decrypt(cell[nonce], cell[body], of[field] + row).decode()
            else:
                opened[field] = _open_padded(decrypt, places.padded, field, row, cell).decode()
    except KeyError:
        places.meet(cells)
        return open_many(cipher, places, row, cells)
    except _REFUSALS as error:
        raise UnreadableError from error
    return opened


def open_one(cipher: AESGCM, places: Places, field: str, row: bytes, cell: bytes) -> bytes:
    """Open one cell in its place, or raise `UnreadableError`."""
    try:
        if places.header <= cell < places.beyond:
            return cipher.decrypt(cell[_NONCE], cell[_BODY], places.of[field] + row)
        return _open_padded(cipher.decrypt, places.padded, field, row, cell)
    except KeyError:
        places.meet((field,))
        return open_one(cipher, places, field, row, cell)
    except _REFUSALS as error:
        raise UnreadableError from error


def _open_padded(
    decrypt: Callable[[bytes, bytes, bytes], bytes],
    places: Places,
    field: str,
    row: bytes,
    cell: bytes,
) -> bytes:
    if places.header <= cell < places.beyond:
        content = decrypt(cell[_NONCE], cell[_BODY], places.of[field] + row).rstrip(b"\0")
        if content.endswith(_MARK):
            return content[:-1]
    raise UnreadableError


def _padded(value: bytes, block: int) -> bytes:
    """Fill up to whole blocks by ISO/IEC 7816-4: one byte 80, then zeros."""
    return value + _MARK + bytes(-(len(value) + 1) % block)
