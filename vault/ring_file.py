"""The key ring file and the erasable secret beside it: what stands in them, byte for byte.

docs/formats/keys.md is the promise. Whoever has these files and not the KMS root reads the name
of the controller and nothing else.
"""

import base64
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from vault.cell import length_prefixed
from vault.errors import KeyRingError
from vault.private_files import destroy_private, read_private, read_secret, write_private
from vault.wrapping import KEY_BYTES

FORMAT = "yinyom-key-ring/1"
_LABEL = b"ring1"
_ERASABLE = "erasable"


@dataclass(frozen=True, slots=True)
class StoredRing:
    """A key ring file, every key in it wrapped; `erasable` numbers the secret mixed in."""

    id: str
    tenant: str
    kms: str
    outer: bytes
    erasable: int | None
    roots: Mapping[int, bytes]
    secrets: Mapping[str, bytes]


def ring_context(ring_id: str, tenant: str, name: str) -> bytes:
    """Give the context of one key of a ring: `outer`, `root/1`, or a secret's name."""
    return _LABEL + b"".join(length_prefixed(part) for part in (ring_id, tenant, name))


def context_parts(context: bytes) -> tuple[str, str, str]:
    """Give ring, tenant and name back, for a KMS that wants its context readable."""
    rest, parts = context.removeprefix(_LABEL), []
    while rest:
        length = int.from_bytes(rest[:2])
        parts.append(rest[2 : 2 + length].decode())
        rest = rest[2 + length :]
    ring_id, tenant, name = parts
    return ring_id, tenant, name


def read_ring_file(path: Path, complete: Callable[[Iterable[str]], bool]) -> StoredRing:
    """Read a key ring file; `complete` judges the names of its secrets."""
    data = read_private(path, "the key ring")
    try:
        document: dict[str, Any] = orjson.loads(data)
        if document["format"] != FORMAT:
            raise KeyRingError(
                f"{path.name} has a format this version does not read",
                remedy="Run the version of Yinyom that wrote it, or a newer one.",
            )
        stored = StoredRing(
            document["id"],
            document["tenant"],
            document["kms"],
            _bytes(document["outer"]),
            document["erasable"],
            {int(version): _bytes(text) for version, text in document["roots"].items()},
            {name: _bytes(text) for name, text in document["secrets"].items()},
        )
        fit = (
            all(isinstance(text, str) for text in (stored.id, stored.tenant, stored.kms))
            and (stored.erasable is None or (type(stored.erasable) is int and stored.erasable > 0))
            and min(stored.roots) > 0
            and complete(stored.secrets)
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path) from error
    if not fit:
        raise _damaged(path)
    return stored


def write_ring_file(path: Path, stored: StoredRing, *, replace: bool = True) -> None:
    """Write a key ring file durably and atomically."""
    document = {
        "format": FORMAT,
        "id": stored.id,
        "tenant": stored.tenant,
        "kms": stored.kms,
        "outer": _text(stored.outer),
        "erasable": stored.erasable,
        "roots": {str(version): _text(wrapped) for version, wrapped in stored.roots.items()},
        "secrets": {name: _text(wrapped) for name, wrapped in stored.secrets.items()},
    }
    write_private(path, orjson.dumps(document, option=orjson.OPT_INDENT_2), replace=replace)


@dataclass(frozen=True, slots=True)
class Erasables:
    """The folder of a ring's erasable secrets; the ring file numbers the one that counts."""

    folder: Path

    def read(self, ring_id: str, number: int | None) -> bytearray:
        """Read the secret that a ring names; nothing when it names none."""
        if number is None:
            return bytearray()
        path = self._file(ring_id, number)
        secret = read_secret(path, "the erasable secret of the key ring")
        if len(secret) != KEY_BYTES:
            raise _damaged(path)
        return secret

    def write(self, ring_id: str, number: int | None) -> bytearray:
        """Make a secret and write it durably; nothing when no number is given."""
        if number is None:
            return bytearray()
        secret = bytearray(os.urandom(KEY_BYTES))
        write_private(self._file(ring_id, number), secret)
        return secret

    def destroy_others(self, ring_id: str, number: int | None) -> None:
        """Overwrite and remove every secret of a ring but the one that it names."""
        prefix = f"{_ERASABLE}-{ring_id}-"
        for file in self.folder.glob(f"{prefix}*"):
            suffix = file.name.removeprefix(prefix).removesuffix(".new")
            if suffix.isdecimal() and file.name != f"{prefix}{number}":
                destroy_private(file)

    def _file(self, ring_id: str, number: int) -> Path:
        return self.folder / f"{_ERASABLE}-{ring_id}-{number}"


def _damaged(path: Path) -> KeyRingError:
    return KeyRingError(
        f"{path.name} is damaged",
        remedy="Put a copy of it back; the recovery kit opens the newest ring backup.",
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
