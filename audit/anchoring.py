"""Anchors: signed heads of the log kept where the database's owner cannot change them.

A database can be put back to an older day, and every row in it will agree. What shows it is a
head of the log that lies elsewhere: an append-only folder, a bucket with a lock. Whoever holds
this database but not that place cannot hide that the log was longer or different; whoever holds
that place but not the log's key cannot make the log stop, for only what the key has signed counts.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from audit import anchor_repository, log_key_repository, repository
from audit.errors import NoteError, TileError
from audit.log_key import KnownKeys, LogKey
from audit.note import Checkpoint, Verifier
from audit.tiles import TreeEdge, edge_of
from kernel import Clock, ConflictError, Database, ReadSession, YinyomError

_DIGITS = 20
_SUFFIX = ".note"
_MOST_LOOKED_AT = 100


class AnchorVerdict(StrEnum):
    """How anchoring to one sink, or asking it, ended."""

    HELD = "held"
    EMPTY = "empty"
    UNREACHABLE = "unreachable"
    SPOILED = "spoiled"
    AHEAD = "log-older-than-anchor"
    FORKED = "log-forked"

    @property
    def forbids_signing(self) -> bool:
        """Whether the sink shows that this database is not the log that was anchored."""
        return self in {AnchorVerdict.AHEAD, AnchorVerdict.FORKED}


@dataclass(frozen=True, slots=True)
class Anchored:
    """What came of asking a sink: the size of the newest head it holds, where that is known."""

    sink: str
    verdict: AnchorVerdict
    size: int | None = None


class AnchorSink(Protocol):
    """A place that takes each name once; `ConflictError` says that a name is taken."""

    address: str

    async def put(self, name: str, data: bytes) -> str | None:
        """Keep data durably under a new name; may give what the place calls this copy."""
        ...

    async def get(self, name: str, version: str | None = None) -> bytes:
        """Give what lies under a name."""
        ...

    async def names(self, prefix: str, after: str = "") -> list[str]:
        """List names that begin with a prefix and come after another, in order."""
        ...


def anchor_folder(origin: str) -> str:
    """Give the prefix under which a sink keeps the heads of a log."""
    return f"checkpoints/{origin.replace('/', '+')}/"


def anchor_name(origin: str, size: int) -> str:
    """Give the name of the head of a size: names are in the order of sizes."""
    return f"{anchor_folder(origin)}{size:0{_DIGITS}d}{_SUFFIX}"


def _overlap_folder(origin: str) -> str:
    return f"rotations/{origin.replace('/', '+')}/"


def overlap_name(origin: str, size: int) -> str:
    """Give the name of the head of a size with which one key of the log followed another."""
    return f"{_overlap_folder(origin)}{size:0{_DIGITS}d}{_SUFFIX}"


def _size_in(origin: str, name: str) -> int | None:
    digits = name.removeprefix(anchor_folder(origin)).removesuffix(_SUFFIX)
    proper = digits.isascii() and digits.isdigit() and len(digits) == _DIGITS
    return int(digits) if proper and name == anchor_name(origin, int(digits)) else None


class Anchoring:
    """Puts heads of one log into one sink, and holds what is there against the log."""

    def __init__(
        self, database: Database, key: Verifier | LogKey, clock: Clock, sink: AnchorSink
    ) -> None:
        self._database = database
        self._key = key
        self._clock = clock
        self._sink = sink

    @property
    def _verifier(self) -> Verifier:
        key = self._key
        return key.signer.verifier if isinstance(key, LogKey) else key

    async def _known(self) -> KnownKeys:
        """Give the keys whose heads count, having taken the newest key if it is another one."""
        async with self._database.read() as session:
            vkey = await log_key_repository.signed_by(session)
            if vkey is not None and isinstance(self._key, LogKey):
                self._key.adopt(vkey)
            return await log_key_repository.known_keys(session, self._verifier)

    async def look(self) -> Anchored:
        """Hold the newest head in the sink against the log; writes nothing into the sink."""
        try:
            return await self._look()
        except YinyomError:
            return self._told(AnchorVerdict.UNREACHABLE)

    async def anchor(self) -> Anchored:
        """Put the newest head into the sink, after a look at what came there since the last one.

        A head that is there already, because an answer was lost or another process was first,
        is as good as one just put.
        """
        try:
            seen = await self._look()
            if seen.verdict.forbids_signing:
                return seen
            await self._put_overlaps()
            async with self._database.read() as session:
                head = await repository.last_checkpoint(session)
            if head is None or (seen.size is not None and seen.size >= head[0]):
                return seen
            put = await self._put(head[0], head[2])
            # What somebody else wrote between our heads stops nothing, and is not kept quiet.
            fine = seen.verdict is not AnchorVerdict.SPOILED or put.verdict.forbids_signing
            return put if fine else self._told(AnchorVerdict.SPOILED, put.size)
        except YinyomError:
            return self._told(AnchorVerdict.UNREACHABLE)

    async def _put(self, size: int, note: str) -> Anchored:
        name = anchor_name(self._verifier.name, size)
        try:
            version = await self._sink.put(name, note.encode())
        except ConflictError:
            version = None
            known = await self._known()
            there = await self._opened(known, name, size)
            if there is None:
                return self._told(AnchorVerdict.SPOILED)
            if there != known.open(note):
                return self._told(AnchorVerdict.FORKED, size)
        await self._remember(size, version)
        return self._told(AnchorVerdict.HELD, size)

    async def _put_overlaps(self) -> None:
        """Put every overlap checkpoint of this name into the sink, where it is not yet."""
        origin = self._verifier.name
        rotations = [each for each in (await self._known()).rotations if each.origin == origin]
        there = await self._sink.names(_overlap_folder(origin)) if rotations else []
        for rotation in rotations:
            name = overlap_name(origin, rotation.size)
            if name not in there:
                with contextlib.suppress(ConflictError):  # another process was first
                    await self._sink.put(name, rotation.note.encode())

    async def _look(self) -> Anchored:
        known_keys = await self._known()
        origin = self._verifier.name
        async with self._database.read() as session:
            known = await anchor_repository.last_anchored(session, self._sink.address)
        last = None if known is None else known[0]
        after = "" if last is None else anchor_name(origin, last)
        names = await self._sink.names(anchor_folder(origin), after)
        overlaps = await self._sink.names(_overlap_folder(origin))
        # The head is read after the list: whatever an honest process anchored it had stored.
        async with self._database.read() as session:
            head = await repository.last_checkpoint(session)
        size = -1 if head is None else head[0]
        # A key that this database does not know signed what came later: an overlap bears ours too.
        for name in overlaps:
            there = await self._overlap(known_keys, name)
            if there is not None and there.size > size:
                return self._told(AnchorVerdict.AHEAD, there.size)
            if there is not None and not await self._continues(there):
                return self._told(AnchorVerdict.FORKED, there.size)
        strange = False
        for name in list(reversed(names))[:_MOST_LOOKED_AT]:
            told = _size_in(origin, name)
            there = None if told is None else await self._opened(known_keys, name, told)
            if told is None or there is None:
                strange = True
                continue
            if told > size:
                return self._told(AnchorVerdict.AHEAD, told)
            if not await self._continues(there):
                return self._told(AnchorVerdict.FORKED, told)
            await self._remember(told, None)
            last = told
            break
        if strange:
            return self._told(AnchorVerdict.SPOILED, last)
        return self._told(AnchorVerdict.EMPTY if last is None else AnchorVerdict.HELD, last)

    async def check_all(self) -> tuple[int, list[str]]:
        """Hold every head in the sink against the log; gives their number and what is wrong.

        Raises:
            UnavailableError: the sink does not answer.
        """
        known = await self._known()
        origin, found, count = self._verifier.name, [], 0
        async with self._database.read() as session:
            head = await repository.last_checkpoint(session)
        size = -1 if head is None else head[0]
        for name in await self._sink.names(anchor_folder(origin)):
            told = _size_in(origin, name)
            there = None if told is None else await self._opened(known, name, told)
            if told is None or there is None:
                found.append(f"anchor: {name} in {self._sink.address} is not a head of this log")
            elif told > size:
                found.append(f"anchor: the log once had {told} events, as {name} shows")
            elif not await self._continues(there):
                found.append(f"anchor: the first {told} events are not those that {name} holds")
            count += 1
        return count, found

    async def _overlap(self, known: KnownKeys, name: str) -> Checkpoint | None:
        digits = name.removeprefix(_overlap_folder(self._verifier.name)).removesuffix(_SUFFIX)
        if not (digits.isascii() and digits.isdigit() and len(digits) == _DIGITS):
            return None
        return await self._opened(known, name, int(digits))

    async def _opened(self, known: KnownKeys, name: str, size: int) -> Checkpoint | None:
        """Read a head that a key of the log signed in its time; None when it is anything else."""
        data = await self._sink.get(name)
        try:
            there = known.open(data.decode("utf-8"))
        except (NoteError, UnicodeDecodeError):
            return None
        return there if there.size == size else None

    async def _continues(self, anchored: Checkpoint) -> bool:
        async with self._database.read() as session:
            return await root_at(session, anchored.size) == anchored.root

    async def _remember(self, size: int, version: str | None) -> None:
        """Keep the receipt: the name under which the sink holds the head, and its version."""
        receipt = anchor_name(self._verifier.name, size)
        async with self._database.unit_of_work() as work:
            await anchor_repository.add_anchor(
                work,
                size,
                self._sink.address,
                receipt if version is None else f"{receipt}?versionId={version}",
                self._clock.now_us(),
            )

    def _told(self, verdict: AnchorVerdict, size: int | None = None) -> Anchored:
        return Anchored(self._sink.address, verdict, size)


async def root_at(session: ReadSession, size: int) -> bytes | None:
    """Give the root that the log had at a size, from its tiles; None when they do not tell."""
    tiles = {
        (path.level, path.n): await repository.read_tile(session, path.level, path.n)
        for path in edge_of(size)
    }
    try:
        return TreeEdge.from_tiles(size, lambda level, n: tiles[level, n]).root()
    except TileError:
        return None


async def anchored(session: ReadSession) -> dict[str, tuple[int, int]]:
    """Give, by the address of a sink, the size of the newest head it holds and since when (µs)."""
    told = await anchor_repository.count_anchors(session)
    return {sink: (size, at_us) for sink, (_, size, at_us) in told.items()}


async def anchored_size(session: ReadSession, sinks: Sequence[str]) -> int:
    """Give the size of the newest head that every one of these sinks holds; 0 for none."""
    held = await anchored(session)
    return min((held.get(sink, (0, 0))[0] for sink in sinks), default=0)
