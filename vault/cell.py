"""Cells: one personal value, sealed so that it opens in its own place only.

A cell is `suite(1) ‖ key_version(1) ‖ nonce(12) ‖ ciphertext ‖ tag(16)` under AES-256-GCM. The
associated data names tenant, table, field and row, so whoever can write to the database but has
no key cannot move a value to another member, field or table (docs/formats/cell.md). Nothing
ever passes through unopened: what does not authenticate is an `UnreadableError`.
"""

import os
from collections.abc import Mapping
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vault.errors import UnreadableError

LABEL = b"cell1"
SUITE_AES_256_GCM = 1
NONCE_BYTES = 12
TAG_BYTES = 16
HEADER_BYTES = 2
OVERHEAD_BYTES = HEADER_BYTES + NONCE_BYTES + TAG_BYTES
_BODY = HEADER_BYTES + NONCE_BYTES
_MAX_KEY_VERSION = 255


def length_prefixed(text: str) -> bytes:
    """Encode a part of the associated data so that parts cannot run into each other."""
    data = text.encode()
    return len(data).to_bytes(2) + data


@lru_cache(maxsize=4096)
def place(key_version: int, tenant: str, table: str, field: str) -> bytes:
    """Give the associated data of a cell up to, and without, its row id."""
    return b"".join(
        (
            LABEL,
            bytes((SUITE_AES_256_GCM, key_version)),
            length_prefixed(tenant),
            length_prefixed(table),
            length_prefixed(field),
        )
    )


def seal_many(
    cipher: AESGCM,
    key_version: int,
    tenant: str,
    table: str,
    row_id: bytes,
    values: Mapping[str, str],
) -> dict[str, bytes]:
    """Seal values by field name; `row_id` is 16 bytes. One draw of randomness for all nonces."""
    if not 0 < key_version <= _MAX_KEY_VERSION:
        raise ValueError("key version out of range")
    header = bytes((SUITE_AES_256_GCM, key_version))
    nonces = os.urandom(NONCE_BYTES * len(values))
    sealed: dict[str, bytes] = {}
    at = 0
    for field, value in values.items():
        nonce = nonces[at : at + NONCE_BYTES]
        at += NONCE_BYTES
        context = place(key_version, tenant, table, field) + row_id
        sealed[field] = header + nonce + cipher.encrypt(nonce, value.encode(), context)
    return sealed


def open_one(
    cipher: AESGCM,
    key_version: int,
    tenant: str,
    table: str,
    field: str,
    row_id: bytes,
    cell: bytes,
) -> str:
    """Open one cell in its place, or raise `UnreadableError`."""
    if len(cell) < OVERHEAD_BYTES or cell[0] != SUITE_AES_256_GCM or cell[1] != key_version:
        raise UnreadableError
    try:
        return cipher.decrypt(
            cell[HEADER_BYTES:_BODY],
            cell[_BODY:],
            place(key_version, tenant, table, field) + row_id,
        ).decode()
    except (InvalidTag, ValueError) as error:
        raise UnreadableError from error
