"""Where this registry's backups go: the store, its recipients and its signing key, as agreed.

`backup init` writes these facts into the database, so every process of an installation works on
the same store; access keys stay in the settings of the machine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from audit import Signer
from backup.envelope import Recipients
from backup.errors import StoreError
from backup.s3 import S3Access, S3Store
from backup.store import FolderStore, ObjectStore
from kernel import ReadSession, UnitOfWork, fact, set_fact

FACT_ADDRESS = "backup_store"
FACT_STORE_ID = "backup_store_id"
FACT_RECIPIENTS = "backup_recipients"

OpenStore = Callable[[str], ObjectStore]


@dataclass(frozen=True, slots=True)
class Place:
    """A store that this registry writes to."""

    store: ObjectStore
    store_id: str
    recipients: Recipients
    signer: Signer


def open_store(address: str, access: S3Access, *, locked_days: int = 0) -> ObjectStore:
    """Open `folder:PATH` or `s3://BUCKET/PREFIX`; nothing is read or written yet.

    With `locked_days`, a bucket that can is told to keep each object for so long.
    """
    kind, _, rest = address.partition(":")
    if kind == "folder" and rest:
        return FolderStore(Path(rest).absolute())
    bucket, _, prefix = rest.removeprefix("//").partition("/")
    if kind == "s3" and rest.startswith("//") and bucket:
        return S3Store(bucket, prefix, access, locked_days=locked_days)
    raise StoreError("a store is folder:PATH or s3://BUCKET/PREFIX")


class Places:
    """Finds the place that the database agrees on, and keeps its store open."""

    def __init__(self, signer: Signer, opener: OpenStore) -> None:
        self._signer = signer
        self._open = opener
        self._known: Place | None = None

    @property
    def signer(self) -> Signer:
        """The signer of this registry's backups."""
        return self._signer

    def open(self, address: str) -> ObjectStore:
        """Open a store by its address."""
        return self._open(address)

    async def current(self, session: ReadSession) -> Place | None:
        """Give the agreed place; None while no store is configured."""
        address = await fact(session, FACT_ADDRESS)
        if not address:
            return None
        store_id = await fact(session, FACT_STORE_ID) or ""
        recipients = tuple((await fact(session, FACT_RECIPIENTS) or "").split())
        known = self._known
        agreed = known is not None and known.store_id == store_id
        if known is None or not agreed or known.recipients.texts != recipients:
            store = self._open(address)
            known = self._known = Place(store, store_id, Recipients(recipients), self._signer)
        return known

    async def agree(
        self, work: UnitOfWork, address: str, store_id: str, recipients: Recipients
    ) -> None:
        """Write the place down."""
        await set_fact(work, FACT_ADDRESS, address)
        await set_fact(work, FACT_STORE_ID, store_id)
        await set_fact(work, FACT_RECIPIENTS, " ".join(recipients.texts))


async def leave(work: UnitOfWork) -> None:
    """Let go of the store: a restored registry does not write where its ancestor may still do."""
    await set_fact(work, FACT_ADDRESS, "")
