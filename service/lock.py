"""One process owns a SQLite registry: the lock file says which, and the system lets go of it.

A crashed owner leaves no stale lock behind, as `flock` ends with its process. Whoever finds the
lock taken talks to the owner over the control socket instead of opening the database.
"""

import fcntl
import os
from pathlib import Path

from kernel import ConfigurationError

LOCK_FILE = "yinyom.lock"


class DataDirLock:
    """Held for as long as the process works on the data directory."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / LOCK_FILE
        self._handle: int | None = None

    @property
    def name(self) -> str:
        """The name of the lock file."""
        return self._path.name

    def acquire(self) -> bool:
        """Take the lock; False when another process has it."""
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(
                "the data directory cannot be written to",
                remedy="Make it writable for the user that runs Yinyom, or free some space.",
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        self._handle = handle
        return True

    def release(self) -> None:
        """Let go of the lock."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def lock_registry(data_dir: Path) -> DataDirLock:
    """Take the lock of a registry, or say that another process has it open."""
    lock = DataDirLock(data_dir)
    if not lock.acquire():
        raise ConfigurationError(
            "another process has this registry open",
            reason="locked",
            remedy="Stop it first; SQLite has one writer.",
        )
    return lock
