"""Where backups lie: a port of five verbs, and a folder that keeps them.

Objects are written once: whoever finds the name taken learns it (`ObjectExistsError`), so two
writers never make one generation. A store is not trusted: everything read from it is held
against a hash, a signature or a key by whoever asked.
"""

import asyncio
import contextlib
import os
from pathlib import Path, PurePosixPath
from typing import Protocol

from backup.errors import CorruptObjectError, MissingObjectError, StoreError
from kernel import ConflictError, UnavailableError, new_random_id

_DRAFTS = ".drafts"
_FOLDER_MODE = 0o700
_FILE_MODE = 0o600
_DRAFT_SECONDS = 3_600


class ObjectExistsError(ConflictError):
    """There is an object of this name already; it was not touched."""

    slug = "backup-object-exists"
    title = "The object is in the store already"


class ObjectStore(Protocol):
    """A place that keeps objects by name; `version` is what a versioned bucket calls one copy."""

    address: str

    async def put(self, name: str, data: bytes) -> str | None:
        """Write a new object durably and give its version; `ObjectExistsError` when taken."""
        ...

    async def get(self, name: str, version: str | None = None) -> bytes:
        """Read an object whole; `MissingObjectError` when it is not there."""
        ...

    async def size(self, name: str, version: str | None = None) -> int | None:
        """Give the size of an object in bytes; None when it is not there."""
        ...

    async def names(self, prefix: str, after: str = "") -> list[str]:
        """List the names that begin with a prefix and come after another, in order."""
        ...

    async def delete(self, name: str, version: str | None = None) -> None:
        """Delete an object; not being there is fine."""
        ...


class FolderStore:
    """Keeps objects as files: written aside, synced, and linked under a name that was free."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.address = f"folder:{root}"

    async def put(self, name: str, data: bytes) -> str | None:
        """Write a new file; a crash leaves it whole or not at all."""
        await asyncio.to_thread(self._put, name, data)
        return None

    async def get(self, name: str, version: str | None = None) -> bytes:  # noqa: ARG002 (a folder has one version)
        """Read a file whole."""
        try:
            return await asyncio.to_thread(self._path(name).read_bytes)
        except FileNotFoundError:
            raise MissingObjectError(name) from None
        except OSError as error:
            raise _unavailable(error) from error

    async def size(self, name: str, version: str | None = None) -> int | None:  # noqa: ARG002 (same)
        """Give the size of a file."""
        try:
            return (await asyncio.to_thread(self._path(name).stat)).st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unavailable(error) from error

    async def names(self, prefix: str, after: str = "") -> list[str]:
        """List the files under a prefix, from a name on."""
        return [name for name in await asyncio.to_thread(self._names, prefix) if name > after]

    async def delete(self, name: str, version: str | None = None) -> None:  # noqa: ARG002 (same)
        """Delete a file."""
        try:
            await asyncio.to_thread(self._path(name).unlink, missing_ok=True)
        except OSError as error:
            raise _unavailable(error) from error

    def _path(self, name: str) -> Path:
        parts = PurePosixPath(name).parts
        if not parts or any(part in {"..", "/", _DRAFTS} for part in parts):
            raise CorruptObjectError("a name that leads out of the store")
        return self._root.joinpath(*parts)

    def _put(self, name: str, data: bytes) -> None:
        path = self._path(name)
        drafts = self._root / _DRAFTS
        draft = drafts / new_random_id("drf")
        try:
            drafts.mkdir(mode=_FOLDER_MODE, exist_ok=True)
            path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _drop_left(drafts, before=draft.stat().st_mtime - _DRAFT_SECONDS)
            os.link(draft, path)  # fails when the name is taken, unlike a rename
            _sync_folder(path.parent)
        except FileExistsError:
            raise ObjectExistsError(name) from None
        except OSError as error:
            raise _unavailable(error) from error
        finally:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)

    def _names(self, prefix: str) -> list[str]:
        try:
            if not self._root.is_dir():
                raise StoreError("the folder of the backup store is not there")
            folder = self._root / prefix.rpartition("/")[0]
            found = [
                file.relative_to(self._root).as_posix()
                for file in folder.rglob("*")
                if file.is_file()
            ]
        except OSError as error:
            raise _unavailable(error) from error
        return sorted(n for n in found if n.startswith(prefix) and not n.startswith(_DRAFTS))


def _drop_left(drafts: Path, *, before: float) -> None:
    """Drop what a killed writer left: it may be a page of a key ring, which must not stay."""
    for left in drafts.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if left.stat().st_mtime < before:
                left.unlink()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unavailable(error: OSError) -> UnavailableError:
    return UnavailableError(
        f"the backup store answered {error.strerror or type(error).__name__}",
        reason="store_unavailable",
    )
