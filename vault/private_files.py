"""Files that hold keys: readable by their owner alone, replaced whole, overwritten at their end.

Kept out are the other users of the machine, and a power cut that would leave half a key.
"""

import fcntl
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kernel import UnavailableError
from vault.errors import KeyRingError

_PRIVATE_FILE = 0o600
_PRIVATE_FOLDER = 0o700
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class _Held(threading.local):
    """The folders that this thread has locked, by device and inode."""

    def __init__(self) -> None:
        self.places: set[tuple[int, int]] = set()


_HELD = _Held()


def read_secret(path: Path, what: str) -> bytearray:
    """Read a secret file into a buffer; refuse one that other users of the machine could read."""
    try:
        with path.open("rb", buffering=0) as file:
            found = os.fstat(file.fileno())
            data = bytearray(found.st_size)
            file.readinto(data)
    except FileNotFoundError as error:
        raise KeyRingError(
            f"{what} is missing: {path.name} is not in {path.parent.name}/",
            remedy="Run `yinyom init` for a new registry, or put the key back where it was.",
        ) from error
    except OSError as error:
        raise KeyRingError(f"{what} cannot be read: {path.name}") from error
    if found.st_mode & _OTHERS:
        raise KeyRingError(
            f"{path.name} can be read by other users of this machine",
            remedy=f"chmod 600 {path.name}, and rotate the key if somebody may have read it.",
        )
    return data


def read_private(path: Path, what: str) -> bytes:
    """Read a file of wrapped or public keys under the same rules as `read_secret`."""
    return bytes(read_secret(path, what))


def write_private(path: Path, data: bytes | bytearray, *, replace: bool = False) -> None:
    """Write a secret file durably and atomically, readable by its owner alone."""
    if path.exists() and not replace:
        raise KeyRingError(f"{path.name} exists already and is not overwritten")
    draft = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_FILE)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _not_done(path, "written", error) from error


def destroy_private(path: Path) -> None:
    """Overwrite a secret file, then remove it; one that is gone already is none to destroy.

    A disk that writes elsewhere (copy on write, wear levelling) may keep the old bytes: the
    folder of keys belongs on an encrypted disk.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
        with os.fdopen(handle, "wb", buffering=0) as file:
            file.write(os.urandom(os.fstat(file.fileno()).st_size))
            os.fsync(file.fileno())
        path.unlink()
        _sync_folder(path.parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _not_done(path, "destroyed", error) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder of keys against other processes and threads; the system lets go of it.

    The folder itself is locked, so one that may only be read can still be opened. A thread that
    holds it already goes on: a KMS in files rotates inside a change of the ring.
    """
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KeyRingError(
            f"the key ring is missing: there is no folder {folder.name}/",
            remedy="Run `yinyom init` for a new registry, or put the keys back where they were.",
        ) from error
    try:
        found = os.fstat(handle)
        place = found.st_dev, found.st_ino
        if place in _HELD.places:
            yield
            return
        fcntl.flock(handle, fcntl.LOCK_EX)
        _HELD.places.add(place)
        try:
            yield
        finally:
            _HELD.places.discard(place)
    finally:
        os.close(handle)


def _not_done(path: Path, what: str, error: OSError) -> UnavailableError:
    why = os.strerror(error.errno) if error.errno else type(error).__name__
    return UnavailableError(
        f"{path.name} could not be {what} ({why})",
        reason="key_files",
        remedy=f"The key ring is whole. Free some space, or make {path.parent.name}/ writable "
        "for the user that runs Yinyom, and try again.",
    )


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
