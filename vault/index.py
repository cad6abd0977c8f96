"""Blind indexes: find a member by phone or card number without storing either in the clear.

A tag is the first 16 bytes of HMAC-SHA-256 over the versioned normal form, under a key of its
own for each kind. The keys live in the key ring, never in the database, so its thief sees at
most that two members share a value. Only high-entropy identifiers get a tag; names, birthdays
and gender never do, because their frequencies alone would give them away.
"""

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from vault.cell import length_prefixed

TAG_BYTES = 16
INDEX_VERSION = 1
INDEXED_KINDS = frozenset({"phone", "email", "line_uid", "national_id", "card_no"})


class BlindIndex:
    """Makes tags; one keyed HMAC a kind, copied for each value."""

    def __init__(self, secret: bytes) -> None:
        self._keyed = {kind: _keyed(secret, kind) for kind in INDEXED_KINDS}

    def tag(self, kind: str, normal_form: str) -> bytes:
        """Give the 16-byte tag of a normal form; `KeyError` for a kind that is not indexed."""
        mac = self._keyed[kind].copy()
        mac.update(normal_form.encode())
        return mac.finalize()[:TAG_BYTES]


def _keyed(secret: bytes, kind: str) -> HMAC:
    info = b"index1" + length_prefixed(kind) + INDEX_VERSION.to_bytes(2)
    key = HKDFExpand(hashes.SHA256(), 32, info).derive(secret)
    return HMAC(key, hashes.SHA256())
