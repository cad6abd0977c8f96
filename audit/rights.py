"""The rights ledger: what a restore must not forget, whatever day the data goes back to.

Each erasure, withdrawal, objection, restriction and its like leaves an entry in the transaction
of its change, and so does whatever takes a client or an account its access. An entry names the
member by a keyed tag and holds codes, ids and moments only, so whoever reads the ledger without
the key ring learns nothing about anybody; entries are chained by their hashes, so a ledger with
one missing or changed is not taken for whole. What ships them to the backup store is a port
(docs/adr/0010-rights-before-done.md).
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import orjson

from audit import rights_repository
from audit.errors import RightsEntryError
from audit.event import timestamp
from kernel import Clock, IntegrityError, MemberId, ReadSession, UnitOfWork, id_bytes, new_id

VERSION = 0
TAG_BYTES = 16
GENESIS = bytes(32)
_TAG_LABEL = b"ledger0"
_LINK_LABEL = b"rights0"
_BATCH = 1_000
_TEXT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/+-]{0,127}")
_MEMBER_ID = re.compile(r"(?:mem|sub|cp)_[0-9a-hjkmnp-tv-z]{26}")
_ID_OR_DIGEST = re.compile(r"[a-z]{2,5}_[0-9a-hjkmnp-tv-z]{26}|(?:sha256:)?[0-9a-f]{32,64}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d(?:[Tt][0-9:.]+(?:[Zz]|[+-]\d\d:\d\d))?")
_NUMBER = re.compile(r"[0-9]{7}")


class RightsKind(StrEnum):
    """What a member is owed after a restore as before it, and who may do nothing any more."""

    ERASURE = "erasure"
    WITHDRAWAL = "withdrawal"
    REFUSAL = "refusal"
    OBJECTION = "objection"
    SUPPRESSION = "suppression"
    RESTRICTION = "restriction"
    GUARDIAN = "guardian"
    RECTIFICATION = "rectification"
    MERGE = "merge"
    REQUEST = "request"
    REQUEST_REFUSAL = "request_refusal"
    RESTRICTION_BEGUN = "restriction_begun"
    RESTRICTION_ENDED = "restriction_ended"
    CLIENT = "client"
    STAFF = "staff"


@dataclass(frozen=True, slots=True)
class RightsEntry:
    """One entry: its id, and `body`, the bytes that are stored, chained and shipped."""

    id: str
    kind: str
    subject: bytes
    detail: Mapping[str, Any]
    at_us: int
    body: bytes


@dataclass(frozen=True, slots=True)
class PlacedEntry:
    """An entry with its place: `link` is the hash over the link before it and its body."""

    position: int
    link: bytes
    entry: RightsEntry


class Announcer(Protocol):
    """Makes an entry durable outside the database before its change may be called done."""

    async def announce(self, session: ReadSession, entry: RightsEntry) -> None:
        """Ship one entry now; `UnavailableError` when that cannot be done.

        Does nothing where no backup store is configured: then there is no backup to outlive.
        """
        ...


class RightsLedger:
    """Writes entries for one installation under its key ring's ledger-tag key."""

    def __init__(self, tag_key: bytes, clock: Clock) -> None:
        self._key = tag_key
        self._clock = clock
        self._announcer: Announcer | None = None
        self._nudge: Callable[[], None] | None = None

    def announce_through(self, announcer: Announcer, nudge: Callable[[], None]) -> None:
        """Say who ships erasures at once, and what to call when any entry has committed."""
        self._announcer, self._nudge = announcer, nudge

    def tag(self, about: str) -> bytes:
        """Name whom an entry is about: 16 bytes that only the key ring can make again."""
        message = _TAG_LABEL + id_bytes(about)
        return hmac.digest(self._key, message, "sha256")[:TAG_BYTES]

    async def record(
        self,
        work: UnitOfWork,
        kind: RightsKind,
        about: MemberId | str,
        detail: Mapping[str, Any],
        now_us: int | None = None,
    ) -> RightsEntry:
        """Append an entry to the unit of work of its change.

        `about` is the member, or for `client` and `staff` the one whom it concerns, by id.
        `detail` holds codes, moments, digests and ids of things, never of members. An erasure is
        shipped before this returns, so that its transaction cannot commit without it.

        Raises:
            RightsEntryError: The detail holds something that an entry must not hold.
            UnavailableError: The backup store does not take the erasure now.
        """
        moment_us = self._clock.now_us() if now_us is None else now_us
        entry = make_entry(kind, self.tag(about), detail, moment_us)
        await _add(work, entry)
        if kind is RightsKind.ERASURE and self._announcer is not None:
            await self._announcer.announce(work, entry)
        if self._nudge is not None:
            work.after_commit(self._nudge)
        return entry

    async def place_waiting(self, work: UnitOfWork) -> int:
        """Chain entries that have no place yet; gives how many found theirs.

        `IntegrityError` when another process took the next place: the unit of work must end.
        """
        waiting = await rights_repository.waiting_rights(work, _BATCH)
        if not waiting:
            return 0
        position, link = await rights_repository.rights_head(work) or (0, GENESIS)
        for entry_id, body in waiting:
            position, link = position + 1, link_of(link, body)
            if not await rights_repository.place_rights(work, entry_id, position, link):
                raise IntegrityError("another process placed this entry")
        return len(waiting)

    async def placed(self, session: ReadSession, after: int, most: int) -> list[PlacedEntry]:
        """Give chained entries from the one after a position, in order."""
        rows = await rights_repository.placed_rights(session, after, most)
        return [
            PlacedEntry(row["position"], bytes(row["link"]), read_entry(bytes(row["body"])))
            for row in rows
        ]

    async def head(self, session: ReadSession) -> tuple[int, bytes]:
        """Give position and link of the newest chained entry; (0, zeros) when there is none."""
        return await rights_repository.rights_head(session) or (0, GENESIS)

    async def waiting(self, session: ReadSession) -> int:
        """Count entries that have no place yet."""
        return await rights_repository.count_waiting_rights(session)

    async def holds(self, session: ReadSession, entry_id: str) -> bool:
        """Say whether an entry's transaction has committed."""
        return await rights_repository.has_rights(session, entry_id)

    async def erased(self, session: ReadSession) -> set[bytes]:
        """Give the tags (see `tag`) of everybody who was ever erased: 16 bytes each."""
        return await rights_repository.subjects_of_rights(session, RightsKind.ERASURE.value)

    async def bring_back(
        self, work: UnitOfWork, placed: Iterable[PlacedEntry], unplaced: Iterable[RightsEntry]
    ) -> None:
        """Write entries of an earlier life again, after a restore, those with places in them."""
        for one in placed:
            await _add(work, one.entry)
            await rights_repository.place_rights(work, one.entry.id, one.position, one.link)
        for entry in unplaced:
            await _add(work, entry)


async def _add(work: UnitOfWork, entry: RightsEntry) -> None:
    await rights_repository.add_rights(
        work, entry.id, entry.kind, entry.subject, entry.at_us, entry.body
    )


def make_entry(
    kind: RightsKind, subject: bytes, detail: Mapping[str, Any], at_us: int
) -> RightsEntry:
    """Make an entry of a moment, or `RightsEntryError` when its detail could name somebody."""
    _check(detail)
    entry_id = new_id("rgt", at_us)
    body = orjson.dumps(
        {
            "v": VERSION,
            "id": entry_id,
            "kind": kind.value,
            "subject": subject.hex(),
            "detail": dict(detail),
            "at": timestamp(at_us),
            "at_us": at_us,
        },
        option=orjson.OPT_SORT_KEYS,
    )
    return RightsEntry(entry_id, kind.value, subject, dict(detail), at_us, body)


def read_entry(body: bytes) -> RightsEntry:
    """Read an entry from its stored bytes, or `RightsEntryError`."""
    try:
        said = orjson.loads(body)
        if said["v"] != VERSION:
            raise RightsEntryError("an entry is of a version that this one does not read")
        subject = bytes.fromhex(said["subject"])
        return RightsEntry(said["id"], said["kind"], subject, said["detail"], said["at_us"], body)
    except (ValueError, KeyError, TypeError) as error:
        raise RightsEntryError("an entry is not of the format") from error


def link_of(previous: bytes, body: bytes) -> bytes:
    """Give the link of an entry: SHA-256 over a label, the link before it and its body."""
    return hashlib.sha256(_LINK_LABEL + previous + body).digest()


def _check(detail: Mapping[str, Any]) -> None:
    for key, value in detail.items():
        if isinstance(value, Mapping):
            _check(value)
        elif isinstance(value, str):
            if not _is_harmless(value):
                raise RightsEntryError(f"{key}: not a code, a moment, a digest or an id")
        elif not (value is None or isinstance(value, (bool, int))):
            raise RightsEntryError(f"{key}: not of a kind that an entry holds")


def _is_harmless(text: str) -> bool:
    """A code, a moment, a digest or an id that names no member; never an address or a number."""
    if _MEMBER_ID.search(text):
        return False
    if not text or _ID_OR_DIGEST.fullmatch(text) or _MOMENT.fullmatch(text):
        return True
    return _TEXT.fullmatch(text) is not None and _NUMBER.search(text) is None
