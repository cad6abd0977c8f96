"""Versions of a root that each lie in a file of their own, side by side.

`kms-root` is version 1 and `kms-root.2` version 2. A rotation writes the new file durably before
anything is wrapped under it; a destruction overwrites a file and removes it. Nothing is kept in
RAM between two calls: another process may have rotated in between.
"""

from abc import ABC, abstractmethod
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kernel import YinyomError
from vault.errors import KeyRingError, UnreadableError
from vault.private_files import destroy_private, locked, read_secret, write_private
from vault.providers.protocol import ProviderHealth
from vault.wrapping import KeptSecret, unwrap_into, wipe, wrap

_VERSION_BYTES = 4


class VersionedFiles(KeptSecret, ABC):
    """What the `file` and the `passphrase` provider share: `version(4) ‖ nonce ‖ ct ‖ tag`."""

    name: str
    destroys = True

    def __init__(self, path: Path) -> None:
        self._path = path

    @abstractmethod
    def _seal_root(self, version: int) -> bytes | bytearray:
        """Make a root and give the content of its file."""

    @abstractmethod
    def _open_root(self, version: int, content: bytearray) -> bytearray:
        """Give the root of a file's content, or `KeyRingError`; the caller wipes both."""

    def exists(self) -> bool:
        """Whether there is a root already."""
        return bool(self._versions())

    def make(self) -> None:
        """Make the first version; an existing root is never overwritten."""
        if self._versions():
            raise KeyRingError(f"{self._path.name} exists already and is not overwritten")
        self._write(1)

    def wrap(self, secret: bytes | bytearray, context: bytes) -> bytes:
        """Protect a secret under the newest root."""
        version = self._newest()
        prefix = version.to_bytes(_VERSION_BYTES, "big")
        return prefix + wrap(self._cipher(version), secret, prefix + context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytearray:
        """Open a secret under the root that its first bytes name."""
        prefix = wrapped[:_VERSION_BYTES]
        version = int.from_bytes(prefix, "big")
        known = self._versions()
        if version not in known:
            self._newest()  # no root at all is a ring that cannot be used, and says so
            raise UnreadableError
        return unwrap_into(self._cipher(version), wrapped[_VERSION_BYTES:], prefix + context)

    def rotate(self) -> str:
        """Write a new root beside the old ones."""
        with locked(self._path.parent):
            version = self._newest() + 1
            self._write(version)
        return str(version)

    def destroy(self, version: str) -> bool:
        """Overwrite the file of a version and remove it."""
        with locked(self._path.parent):
            if version == str(self._newest()):
                raise KeyRingError(
                    "the newest version of the KMS root is in use and is not destroyed",
                    remedy="Rotate first; the version before it can be destroyed then.",
                )
            if version.isdecimal():
                destroy_private(self._file(int(version)))
        return True

    def health(self) -> ProviderHealth:
        """Say whether the newest root can be read."""
        versions = tuple(str(version) for version in self._versions())
        try:
            newest = self._newest()
            self._cipher(newest)
        except YinyomError as error:
            return ProviderHealth(ok=False, version="", versions=versions, says=error.detail)
        says = f"{self.name}, root version {newest}"
        return ProviderHealth(ok=True, version=str(newest), versions=versions, says=says)

    def _cipher(self, version: int) -> AESGCM:
        content = read_secret(self._file(version), "the KMS root key")
        try:
            root = self._open_root(version, content)
        finally:
            wipe(content)
        try:
            return AESGCM(root)
        finally:
            wipe(root)

    def _write(self, version: int) -> None:
        content = self._seal_root(version)
        write_private(self._file(version), content)

    def _file(self, version: int) -> Path:
        name = self._path.name
        return self._path if version == 1 else self._path.with_name(f"{name}.{version}")

    def _versions(self) -> list[int]:
        found = [1] if self._path.exists() else []
        for file in self._path.parent.glob(f"{self._path.name}.*"):
            suffix = file.suffix[1:]
            if suffix.isdecimal() and int(suffix) > 1 and file == self._file(int(suffix)):
                found.append(int(suffix))
        return sorted(found)

    def _newest(self) -> int:
        versions = self._versions()
        if not versions:
            read_secret(self._path, "the KMS root key")  # says that it is missing
        return versions[-1]
