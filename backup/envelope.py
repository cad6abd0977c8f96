"""One object of a backup: what it is, then its content, compressed, then sealed to recipients.

`age -d` and `zstd -d` open one; its first line says which place it belongs to, because age binds
no file to a place and whoever can write to the store could swap two of them. Nothing here can
open what it seals: the host holds public recipients only.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyrage
import zstandard

from backup.errors import CorruptObjectError, WrongKeyError
from kernel import InvalidRequestError

FORMAT = "yinyom-backup/0"
AGE_MAGIC = b"age-encryption.org/v1\n"
_LEVEL = 1
_MOST_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Opened:
    """A header and the content that it spoke the truth about."""

    header: Mapping[str, Any]
    body: bytes


class Recipients:
    """The public halves of the keys that open the backups."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = tuple(sorted({text.strip() for text in texts if text.strip()}))
        if not self.texts:
            raise InvalidRequestError("a backup needs a recipient that can open it")
        try:
            self._keys = [pyrage.x25519.Recipient.from_str(text) for text in self.texts]
        except pyrage.RecipientError:
            raise InvalidRequestError("a recipient is not an age1… public key") from None

    def seal(self, plaintext: bytes) -> bytes:
        """Encrypt to every recipient; the answer is proven to be an age file."""
        sealed: bytes = pyrage.encrypt(plaintext, self._keys)
        if not sealed.startswith(AGE_MAGIC):
            raise CorruptObjectError("what was to be stored is not encrypted")
        return sealed


class Identities:
    """The private halves, from a recovery kit; they live on the machine that restores."""

    def __init__(self, texts: Sequence[str]) -> None:
        try:
            self._keys = [pyrage.x25519.Identity.from_str(text) for text in texts]
        except pyrage.IdentityError:
            raise WrongKeyError("the recovery kit is damaged") from None
        self.recipients = tuple(str(key.to_public()) for key in self._keys)

    @classmethod
    def of_kit(cls, kit: Path) -> "Identities":
        """Read the identities of a recovery kit."""
        try:
            lines = kit.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            raise WrongKeyError(f"the recovery kit cannot be read: {kit.name}") from None
        found = [line.strip() for line in lines if line.startswith("AGE-SECRET-KEY-")]
        if not found:
            raise WrongKeyError(f"{kit.name} holds no identity")
        return cls(found)

    def open(self, name: str, sealed: bytes, sealed_to: Sequence[str]) -> bytes:
        """Decrypt an object; the error names the recipients that could."""
        if sealed_to and not set(self.recipients) & set(sealed_to):
            raise WrongKeyError(
                f"it is sealed to {', '.join(sealed_to)}, and this kit is "
                f"{', '.join(self.recipients)}"
            )
        try:
            plaintext: bytes = pyrage.decrypt(sealed, self._keys)
        except pyrage.DecryptError:
            raise CorruptObjectError(f"{name} does not decrypt") from None
        return plaintext


def pack(header: Mapping[str, Any], body: bytes) -> bytes:
    """Put the line that says what this is before its content, and compress both."""
    told = {
        "format": FORMAT,
        **header,
        "bytes": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    line = orjson.dumps(told, option=orjson.OPT_SORT_KEYS)
    return zstandard.ZstdCompressor(level=_LEVEL).compress(line + b"\n" + body)


def unpack(name: str, packed: bytes, expected: Mapping[str, Any]) -> Opened:
    """Take an object apart and hold its header against what belongs in this place."""
    try:
        plain = zstandard.ZstdDecompressor().decompress(packed, max_output_size=_MOST_BYTES)
        line, _, body = plain.partition(b"\n")
        header: dict[str, Any] = orjson.loads(line)
        truthful = (
            header["format"] == FORMAT
            and header["bytes"] == len(body)
            and header["sha256"] == hashlib.sha256(body).hexdigest()
        )
    except (zstandard.ZstdError, ValueError, KeyError, TypeError):
        raise CorruptObjectError(f"{name} is not of the format") from None
    if not truthful or any(header.get(key) != value for key, value in expected.items()):
        raise CorruptObjectError(f"{name} does not belong in this place")
    return Opened(header, body)
