"""The key ring: the KMS root, the ring root, and the secrets that never enter the database.

The KMS root opens the ring root once, at start; the ring root wraps bucket keys (in the
database) and the ring's own secrets: index, suppression, ledger tags and signing seeds. These
live only in this file, so that a thief of the database, or of a data backup, can neither
enumerate phone numbers against blind indexes nor sign a checkpoint. There is no default key:
without a key ring nothing starts.
"""

import base64
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from kernel import new_random_id
from vault.cell import NONCE_BYTES, length_prefixed
from vault.errors import KeyRingError, UnreadableError

FORMAT = "yinyom-key-ring/0"
KEY_BYTES = 32
SECRETS = ("index", "suppression", "ledger-tag", "digest", "audit-signing", "receipt-signing")
_PRIVATE_FILE = 0o600
_PRIVATE_FOLDER = 0o700
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class KeyProvider(Protocol):
    """Wraps and unwraps small secrets under a root that never leaves it."""

    name: str

    def wrap(self, secret: bytes, context: bytes) -> bytes:
        """Protect a secret, bound to its context."""
        ...

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Open what `wrap` made, in the same context, or raise `UnreadableError`."""
        ...


def wrap(cipher: AESGCM, secret: bytes, context: bytes) -> bytes:
    """Wrap a key: `nonce(12) ‖ ciphertext ‖ tag(16)`, bound to its context."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, secret, context)


def unwrap(cipher: AESGCM, wrapped: bytes, context: bytes) -> bytes:
    """Unwrap a key in its context, or raise `UnreadableError`."""
    try:
        return cipher.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], context)
    except (InvalidTag, ValueError) as error:
        raise UnreadableError from error


class FileKeyProvider:
    """A root key in a file that only its owner may read; for one shop on one machine."""

    name = "file"

    def __init__(self, path: Path) -> None:
        self._path = path
        text = read_private(path, "the KMS root key")
        try:
            key = bytes.fromhex(text.decode("ascii").strip())
        except ValueError as error:
            raise KeyRingError(f"{path.name} does not hold a key") from error
        if len(key) != KEY_BYTES:
            raise KeyRingError(f"{path.name} does not hold a 256-bit key")
        self._cipher = AESGCM(key)

    @classmethod
    def create(cls, path: Path) -> "FileKeyProvider":
        """Make a new root; an existing file is never overwritten."""
        write_private(path, os.urandom(KEY_BYTES).hex().encode() + b"\n")
        return cls(path)

    def wrap(self, secret: bytes, context: bytes) -> bytes:
        """Protect a secret under the root."""
        return wrap(self._cipher, secret, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Open a secret under the root."""
        return unwrap(self._cipher, wrapped, context)


class PassingKeyProvider:
    """A root key in RAM alone: what it wrapped is noise when the process has ended."""

    name = "passing"

    def __init__(self) -> None:
        self._cipher = AESGCM(os.urandom(KEY_BYTES))

    def wrap(self, secret: bytes, context: bytes) -> bytes:
        """Protect a secret under the root."""
        return wrap(self._cipher, secret, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Open a secret under the root."""
        return unwrap(self._cipher, wrapped, context)


def read_private(path: Path, what: str) -> bytes:
    """Read a secret file; refuse one that other users of the machine could read."""
    try:
        mode = path.stat().st_mode
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise KeyRingError(
            f"{what} is missing: {path.name} is not in {path.parent.name}/",
            remedy="Run `yinyom init` for a new registry, or put the key back where it was.",
        ) from error
    except OSError as error:
        raise KeyRingError(f"{what} cannot be read: {path.name}") from error
    if mode & _OTHERS:
        raise KeyRingError(
            f"{path.name} can be read by other users of this machine",
            remedy=f"chmod 600 {path.name}, and rotate the key if somebody may have read it.",
        )
    return data


def write_private(path: Path, data: bytes, *, replace: bool = False) -> None:
    """Write a secret file durably and atomically, readable by its owner alone."""
    path.parent.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
    if path.exists() and not replace:
        raise KeyRingError(f"{path.name} exists already and is not overwritten")
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_FILE)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@dataclass(slots=True)
class KeyRing:
    """An opened key ring: ring-root ciphers by version, and the ring's secrets in RAM."""

    id: str
    tenant: str
    version: int
    _roots: dict[int, bytes] = field(repr=False)
    _ciphers: dict[int, AESGCM] = field(repr=False)
    _secrets: dict[str, bytes] = field(repr=False)

    def secret(self, name: str) -> bytes:
        """Give a 32-byte secret of the ring, such as `index` or `audit-signing`."""
        return self._secrets[name]

    def secrets(self) -> dict[str, bytes]:
        """Give every secret of the ring by name, for a ring backup."""
        return dict(self._secrets)

    def backup_seed(self) -> bytes:
        """Give the Ed25519 seed that signs backups: a key of its own, derived."""
        info = b"backup-signing0"
        return HKDFExpand(hashes.SHA256(), KEY_BYTES, info).derive(self._secrets["audit-signing"])

    def wrap(self, secret: bytes, context: bytes) -> bytes:
        """Wrap a key under the newest ring root."""
        return wrap(self._ciphers[self.version], secret, context)

    def unwrap(self, version: int, wrapped: bytes, context: bytes) -> bytes:
        """Unwrap a key under a ring root version; `UnreadableError` when that one is gone."""
        cipher = self._ciphers.get(version)
        if cipher is None:
            raise UnreadableError
        return unwrap(cipher, wrapped, context)

    def material(self) -> bytes:
        """Give everything a recovery kit must be able to bring back, as one secret document."""
        return orjson.dumps(
            {
                "format": FORMAT,
                "id": self.id,
                "tenant": self.tenant,
                "roots": {str(v): root.hex() for v, root in self._roots.items()},
                "secrets": {name: value.hex() for name, value in self._secrets.items()},
            },
            option=orjson.OPT_SORT_KEYS,
        )


def _context(ring_id: str, tenant: str, name: str) -> bytes:
    return b"ring0" + length_prefixed(ring_id) + length_prefixed(tenant) + length_prefixed(name)


def create_key_ring(path: Path, provider: KeyProvider, tenant: str) -> KeyRing:
    """Make a key ring with fresh random keys and write it, wrapped, to `path`."""
    secrets = {name: os.urandom(KEY_BYTES) for name in SECRETS}
    return renew_key_ring(path, provider, new_random_id("ring"), tenant, 1, secrets)


def renew_key_ring(
    path: Path,
    provider: KeyProvider,
    ring_id: str,
    tenant: str,
    version: int,
    secrets: dict[str, bytes],
) -> KeyRing:
    """Write a key ring of known secrets under a fresh ring root, as a restore does."""
    root = os.urandom(KEY_BYTES)
    cipher = AESGCM(root)
    document = {
        "format": FORMAT,
        "id": ring_id,
        "tenant": tenant,
        "kms": provider.name,
        "roots": {
            str(version): _text(provider.wrap(root, _context(ring_id, tenant, f"root/{version}")))
        },
        "secrets": {
            name: _text(wrap(cipher, secret, _context(ring_id, tenant, name)))
            for name, secret in secrets.items()
        },
    }
    write_private(path, orjson.dumps(document, option=orjson.OPT_INDENT_2))
    return KeyRing(ring_id, tenant, version, {version: root}, {version: cipher}, secrets)


def open_key_ring(path: Path, provider: KeyProvider) -> KeyRing:
    """Open the key ring with one call to the KMS root for each living ring-root version."""
    ring_id, tenant, wrapped_roots, wrapped_secrets = _read_ring(path)
    try:
        roots = {
            version: provider.unwrap(wrapped, _context(ring_id, tenant, f"root/{version}"))
            for version, wrapped in wrapped_roots.items()
        }
        ciphers = {version: AESGCM(root) for version, root in roots.items()}
        newest = max(roots)
        secrets = {
            name: unwrap(ciphers[newest], wrapped, _context(ring_id, tenant, name))
            for name, wrapped in wrapped_secrets.items()
        }
    except UnreadableError as error:
        raise KeyRingError(
            "the KMS root does not open this key ring",
            remedy="Put back the root key that belongs to this ring; "
            "the recovery kit opens the newest ring backup.",
        ) from error
    return KeyRing(ring_id, tenant, newest, roots, ciphers, secrets)


def _read_ring(path: Path) -> tuple[str, str, dict[int, bytes], dict[str, bytes]]:
    """Give id, tenant, wrapped roots and wrapped secrets of a key ring file."""
    data = read_private(path, "the key ring")
    try:
        document: dict[str, Any] = orjson.loads(data)
        if document["format"] != FORMAT:
            raise KeyRingError(
                f"{path.name} has a format this version does not read",
                remedy="Run the version of Yinyom that wrote it, or a newer one.",
            )
        ring_id, tenant = document["id"], document["tenant"]
        roots = {int(version): _bytes(text) for version, text in document["roots"].items()}
        secrets = {name: _bytes(document["secrets"][name]) for name in SECRETS}
        fit = isinstance(ring_id, str) and isinstance(tenant, str) and min(roots) > 0
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path) from error
    if not fit:
        raise _damaged(path)
    return ring_id, tenant, roots, secrets


def _damaged(path: Path) -> KeyRingError:
    return KeyRingError(
        f"{path.name} is damaged",
        remedy="Put a copy of it back; the recovery kit opens the newest ring backup.",
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
