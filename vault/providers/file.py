"""The `file` KMS: a root key in a file that only its owner may read; for one shop, one machine.

It keeps out whoever has the database, a backup or the key ring file. Whoever has the whole disk
has everything: put the file on another one, or use another provider.
"""

import os
from pathlib import Path

from vault.errors import KeyRingError
from vault.providers.versions import VersionedFiles
from vault.wrapping import KEY_BYTES, wipe

_DIGITS = frozenset(b"0123456789abcdefABCDEF")
_HEX = 16


class FileKeyProvider(VersionedFiles):
    """A root of 32 random bytes, 64 hexadecimal digits in a file of mode 0600."""

    name = "file"

    @classmethod
    def create(cls, path: Path) -> "FileKeyProvider":
        """Make a new root; an existing file is never overwritten."""
        made = cls(path)
        made.make()
        return made

    def _seal_root(self, version: int) -> bytes:  # noqa: ARG002 (one shape with `passphrase`)
        return os.urandom(KEY_BYTES).hex().encode() + b"\n"

    def _open_root(self, version: int, content: bytearray) -> bytearray:
        text = content.strip()
        try:
            if len(text) != 2 * KEY_BYTES or not _DIGITS.issuperset(text):
                name = self._file(version).name
                raise KeyRingError(f"{name} does not hold a 256-bit key")
            return bytearray(int(text[at : at + 2], _HEX) for at in range(0, len(text), 2))
        finally:
            wipe(text)
