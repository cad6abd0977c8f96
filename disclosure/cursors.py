"""Cursors sealed to whoever got them: nobody reads one, changes one, or uses another's.

The same position gives the same cursor, always. Nothing is encrypted under a key that rotates;
a cursor is a place in a listing and opens nothing.
"""

import base64
import binascii
import hmac

from kernel import FieldProblem, InvalidRequestError
from vault import Vault

_TAG_BYTES = 16


class SealedCursors:
    """Makes and reads the cursors of one listing, each a position of `size` bytes."""

    def __init__(self, vault: Vault, label: str, size: int, *, pointer: str) -> None:
        self._vault = vault
        self._label = label
        self._size = size
        self._pointer = pointer

    def seal(self, holder: str, position: bytes) -> str:
        """Give the cursor of a position for one holder."""
        tag = self._vault.keyed_digest(self._label, holder.encode(), position)
        sealed = tag + self._masked(holder, tag, position)
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def open(self, holder: str, cursor: str) -> bytes:
        """Give the position behind a cursor, or `InvalidRequestError`."""
        try:
            padded = cursor + "=" * (-len(cursor) % 4)
            sealed = base64.b64decode(padded, altchars=b"-_", validate=True)
        except (ValueError, binascii.Error):
            raise self._refused() from None
        tag, masked = sealed[:_TAG_BYTES], sealed[_TAG_BYTES:]
        if len(masked) != self._size:
            raise self._refused()
        position = self._masked(holder, tag, masked)
        genuine = self._vault.keyed_digest(self._label, holder.encode(), position)
        if not hmac.compare_digest(tag, genuine):
            raise self._refused()
        return position

    def _masked(self, holder: str, tag: bytes, position: bytes) -> bytes:
        label = f"{self._label}-mask"
        blocks = -(-len(position) // _TAG_BYTES)
        mask = b"".join(
            self._vault.keyed_digest(label, holder.encode(), tag, bytes([block]))
            for block in range(blocks)
        )
        return bytes(one ^ other for one, other in zip(position, mask, strict=False))

    def _refused(self) -> InvalidRequestError:
        return InvalidRequestError(
            "the cursor is not one that this listing gave to this caller",
            errors=[FieldProblem(self._pointer, "cursor")],
            remedy="Start again without a cursor.",
        )
