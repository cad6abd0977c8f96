"""Ring backups as files: whole sets, what was added to the newest, and which are too old.

Every file is an age file to the recovery kits alone, so a thief of this folder has nothing. A set
is written beside its place and renamed when it is whole; what was added since lies in it, a file
each time. A process that dies leaves the older set, or the newer one.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import orjson
import pyrage

from kernel import new_random_id
from vault.errors import KeyRingError
from vault.private_files import write_private
from vault.ring_backup import RingBackup, read_ring

FORMAT = "yinyom-ring-set/1"
_INDEX = "index.json"
_LOCK = ".lock"
_DRAFT = ".draft-"
_ADDED = "more-"
_MODE = 0o700
_WAIT_SECONDS = 0.05
_WAITS = 1200


@dataclass(frozen=True, slots=True)
class RingPage:
    """A file of a set, the hash of it and how many keys it holds."""

    name: str
    sha256: str
    keys: int


@dataclass(frozen=True, slots=True)
class RingSet:
    """A whole ring backup: every key that lived when it was made, and what was added since."""

    number: int
    made_us: int
    ring_id: str
    recipients: tuple[str, ...]
    pages: tuple[RingPage, ...]
    added: tuple[str, ...] = ()

    @property
    def keys(self) -> int:
        """How many keys it holds; one that was added twice counts twice."""
        return sum(page.keys for page in self.pages) + sum(
            int(name.split(".")[1]) for name in self.added
        )


class RingFolder:
    """The folder of ring backups beside the key ring."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def sets(self) -> list[RingSet]:
        """Give every whole set, the oldest first."""
        if not self.path.is_dir():
            return []
        numbers = sorted(int(one.name) for one in self.path.iterdir() if one.name.isdecimal())
        return [self._read(number) for number in numbers]

    def newest(self) -> RingSet | None:
        """Give the newest whole set."""
        found = self.sets()
        return found[-1] if found else None

    def open(self, one: RingSet, identities: Sequence[pyrage.x25519.Identity]) -> RingBackup:
        """Open a set with a kit: every page must be the one that was written, and open."""
        folder, pages = self._place(one.number), []
        try:
            for page in one.pages:
                sealed = (folder / page.name).read_bytes()
                if hashlib.sha256(sealed).hexdigest() != page.sha256:
                    raise KeyRingError(f"{page.name} of ring backup {one.number} is damaged")
                pages.append(pyrage.decrypt(sealed, identities))
            pages += [pyrage.decrypt((folder / n).read_bytes(), identities) for n in one.added]
        except pyrage.DecryptError as error:
            raise KeyRingError(
                f"this recovery kit does not open ring backup {one.number}",
                remedy="It opens to: " + ", ".join(one.recipients),
            ) from error
        except OSError as error:
            raise KeyRingError(f"ring backup {one.number} cannot be read") from error
        return read_ring(pages)

    # --- writing ----------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Keep other processes from writing here; waits a minute for them at most."""
        self.path.mkdir(mode=_MODE, parents=True, exist_ok=True)
        handle = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            for _ in range(_WAITS):
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                await asyncio.sleep(_WAIT_SECONDS)
            else:
                raise KeyRingError("another process is writing ring backups for too long")
            yield
        finally:
            os.close(handle)

    def begin(self) -> Path:
        """Make a draft, and clear away what died on its way."""
        for left in self.path.glob(f"{_DRAFT}*"):
            shutil.rmtree(left)
        draft = self.path / f"{_DRAFT}{new_random_id('set')}"
        draft.mkdir(mode=_MODE)
        return draft

    def write(self, file: Path, sealed: bytes) -> None:
        """Write a page of a draft, durably."""
        write_private(file, sealed)

    def finish(self, draft: Path, one: RingSet) -> None:
        """Write the index of a draft and make it the newest set, in one step."""
        document = {"format": FORMAT, **asdict(one)}
        document.pop("added")
        write_private(draft / _INDEX, orjson.dumps(document, option=orjson.OPT_INDENT_2))
        draft.rename(self._place(one.number))
        _sync(self.path)

    def add(self, one: RingSet, sealed: bytes, keys: int) -> None:
        """Add keys to a set."""
        name = f"{_ADDED}{new_random_id('pag')}.{keys}.age"
        write_private(self._place(one.number) / name, sealed)

    def drop_older(self, than_us: int) -> int:
        """Delete sets that were superseded before a moment; gives how many."""
        found, dropped = self.sets(), 0
        for one, successor in pairwise(found):
            if successor.made_us < than_us:
                shutil.rmtree(self._place(one.number))
                dropped += 1
        return dropped

    def _place(self, number: int) -> Path:
        return self.path / f"{number:08d}"

    def _read(self, number: int) -> RingSet:
        folder = self._place(number)
        try:
            document = orjson.loads((folder / _INDEX).read_bytes())
            if document.pop("format") != FORMAT:
                raise KeyRingError(f"ring backup {number} has a format this version does not read")
            document["pages"] = tuple(RingPage(**page) for page in document["pages"])
            document["recipients"] = tuple(document["recipients"])
            added = sorted(file.name for file in folder.glob(f"{_ADDED}*.age"))
            return RingSet(**document, added=tuple(added))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise KeyRingError(f"the index of ring backup {number} is damaged") from error


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
