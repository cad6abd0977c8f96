"""The sequencer: gives waiting events their places in the log and signs the new head.

Leaves, tiles, checkpoint and the emptied queue are one transaction under the lock of the head
row, so a crash leaves the old log or the new one, and two sequencers never fork it. Of several
processes one leads, by a lease in that row: it renews it with every batch, and whoever takes it
over raises the fencing number, so a leader that slept through the end of its lease finds another
number there and writes nothing. At start, and whenever another process moved the head, the right
edge is read back from the tiles and its root compared with the newest checkpoint, whose signature
is checked first: whoever can write to the database but has no key cannot make the log sign a
history of his own. A log that does not match its own signature, or is older than its newest
anchor, is never grown (fail closed).
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog

from audit import lease_repository, log_key_repository, repository
from audit.errors import AuditError, NoteError, TileError
from audit.log_key import KeyRotation, LogKey
from audit.merkle import leaf_hash
from audit.note import Checkpoint, Signer, open_checkpoint, sign_checkpoint
from audit.tiles import TreeEdge, edge_of
from kernel import (
    Clock,
    Database,
    IntegrityError,
    Row,
    UnavailableError,
    UnitOfWork,
    new_random_id,
)

LEASE_SECONDS = 5.0
"""How long a leader that says nothing is waited for, where several processes may lead."""
_STALL_SECONDS = 60
_HEAD_SECONDS = 0.02
_HEAD_ATTEMPTS = round((LEASE_SECONDS + 2) / _HEAD_SECONDS)
_LONGEST_LEASE_US = 60_000_000


class LogDamagedError(AuditError):
    """The stored tree does not match the checkpoint that was signed over it."""

    slug = "log-damaged"
    title = "The log does not match its last checkpoint"
    remedy = "Keep the database as it is, and run `yinyom audit verify --db`."


class LogOlderThanAnchorError(LogDamagedError):
    """The log is shorter than it once was, as an anchor outside the database shows."""

    slug = "log-older-than-anchor"
    title = "The log is older than its newest anchor: this database was put back"
    remedy = (
        "Bring back the newest database, or the newest backup. Where what came after is lost for "
        "good, run `yinyom audit new-origin`; nothing is signed until then."
    )


class LogForkedError(LogDamagedError):
    """An anchor outside the database holds another history, signed with the log's own key."""

    slug = "log-forked"
    title = "The log is not the one that was anchored"
    remedy = (
        "Keep the database and the anchors as they are: they are evidence. Bring back the database "
        "that was anchored, or run `yinyom audit new-origin` once it is known what happened."
    )


class LogRenamedError(LogDamagedError):
    """The log goes on under another name, which this process does not sign for."""

    slug = "log-renamed"
    title = "The log goes on under another name"
    remedy = "Start this process again."


class LogRekeyedError(LogDamagedError):
    """The log goes on under another key, which this process does not have."""

    slug = "log-rekeyed"
    title = "The log is signed with a newer key than this process has"
    remedy = (
        "Put the newest key ring file into the keys directory of this machine; the log goes on "
        "here within a minute."
    )


REFUSALS: dict[str, type[LogDamagedError]] = {
    error.slug: error for error in (LogOlderThanAnchorError, LogForkedError)
}
"""Why a log may not be signed although it matches its own signature, by the code on record."""

Guard = Callable[[], Awaitable[str | None]]
"""Asks outside the database whether the log may be signed; gives a code of `REFUSALS` if not."""


@dataclass(slots=True)
class SequencerState:
    """What the health page may say about the sequencer."""

    size: int = 0
    failures: int = 0
    reason: str | None = None
    leading: bool = False


class Sequencer:
    """Runs inside the service process; any number of processes may run one, and one leads.

    `lease_seconds` is 0 where no other process can be at work: it then takes over at once from
    one that is gone.
    """

    def __init__(
        self,
        database: Database,
        key: Signer | LogKey,
        clock: Clock,
        *,
        batch_size: int = 5_000,
        poll_seconds: float = 0.05,
        lease_seconds: float = 0.0,
        guard: Guard | None = None,
    ) -> None:
        self._database = database
        self._key = LogKey.of(key)
        self._clock = clock
        self._batch_size = batch_size
        self._poll_seconds = poll_seconds
        self._lease_us = round(lease_seconds * 1_000_000)
        self._guard = guard
        self._holder = new_random_id("seq")
        self._fence: int | None = None
        self._edge: TreeEdge | None = None
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self.state = SequencerState()

    @property
    def _signer(self) -> Signer:
        return self._key.signer

    async def start(self, *, background: bool = True) -> None:
        """Begin the log if there is none, check it, and sequence, now and in the background.

        A damaged log does not keep the registry from opening, or nobody could look into it:
        `state.reason` says what is wrong, and whoever opens the registry blocks the trail.
        """
        async with self._database.unit_of_work() as work:
            await lease_repository.make_head(work, self._signer.name, self._signer.vkey)
        refusal = None if self._guard is None else await self._guard()
        if refusal is not None:
            await self.refuse(refusal)
        try:
            await self.drain()
        except LogDamagedError as error:
            self._note_failure(error.slug)
        if background:
            self._task = asyncio.create_task(self._run(), name="sequencer")

    async def stop(self) -> None:
        """Sequence what waits, let go of the lease, and stop."""
        self._stop.set()
        if self._task is not None:
            await self._task
            self._task = None
        with contextlib.suppress(AuditError, UnavailableError):
            await self.drain()
            await self._let_go()

    async def _let_go(self) -> None:
        if self._fence is not None and self._lease_us:
            async with self._database.unit_of_work() as work:
                await lease_repository.let_go(work, self._signer.name, self._fence)
        self._fence, self.state.leading = None, False

    async def refuse(self, reason: str) -> None:
        """Put on record that this log may not be signed (`REFUSALS`), for every process."""
        async with self._database.unit_of_work() as work:
            await lease_repository.refuse(work, self._signer.name, reason)
        self._note_failure(reason)

    @property
    def running(self) -> bool:
        """Whether the background task is alive."""
        return self._task is not None and not self._task.done()

    async def drain(self) -> int:
        """Sequence everything that waits now; give the size of the log.

        While another sequencer leads, it is at this very work: what it leaves is done after it,
        or left to it two seconds after its lease could have ended.
        """
        refused = 0
        while refused < _HEAD_ATTEMPTS:
            done = await self._batch()
            if done is None:
                refused += 1
                await asyncio.sleep(_HEAD_SECONDS)
            elif done < self._batch_size:
                break
        if self._task is None:  # whoever sequences on demand alone must not keep others waiting
            await self._let_go()
        return self.state.size

    async def sequence_batch(self) -> int:
        """Sequence one batch in one transaction; give how many events found their places.

        Raises:
            LogDamagedError: the stored log is not the one that was signed, or its next place
                is taken.
        """
        return await self._batch() or 0

    async def _batch(self) -> int | None:
        """Sequence one batch; None while another sequencer has the head."""
        try:
            return await self._sequence()
        except IntegrityError as error:
            raise LogDamagedError("there is something beyond the end of the log") from error

    async def _sequence(self) -> int | None:
        async with self._database.read() as session:
            if self._edge is not None:
                if not await repository.any_waiting(session):
                    return 0
                if self._fence is None and self._is_led(await lease_repository.head_row(session)):
                    return None
        async with self._database.unit_of_work() as work:
            head = await repository.hold_head(work, self._signer.name)
            if head is None:
                await self._check_name(work)
                if await lease_repository.end_silent_leader(work):
                    structlog.get_logger().warning("sequencer", ended="silent leader")
                return None
            if head["refused"] is not None:
                raise REFUSALS.get(head["refused"], LogDamagedError)
            self._take_key(head)
            grown = await self._edge_at(work, head["size"])
            fence, done = None, None
            if not self._is_led(head):
                waiting = await repository.waiting_events(work, self._batch_size)
                done = len(waiting)
                if waiting:
                    fence = await self._lead(work, head)
                    grown = await self._grow(work, grown, waiting, fence)
                elif self._holds(head):
                    fence = self._fence
        self._edge, self._fence = grown, fence
        self.state.size, self.state.leading = grown.size, fence is not None
        return done

    def _take_key(self, head: Row) -> None:
        """Sign with the key that the head names, or not at all; a head of old names none."""
        if head["vkey"] is not None and not self._key.adopt(head["vkey"]):
            raise LogRekeyedError

    def _holds(self, head: Row) -> bool:
        return bool(head["holder"] == self._holder and head["fence"] == self._fence)

    def _is_led(self, head: Row | None) -> bool:
        """Say whether another sequencer leads now.

        A lease that would end later than any lease can was taken before the clock was put back.
        """
        if head is None or head["holder"] == self._holder:
            return False  # also where the answer to a commit was lost: it takes a new number
        now_us = self._clock.now_us()
        return bool(now_us < head["lease_until_us"] <= now_us + _LONGEST_LEASE_US)

    async def _lead(self, work: UnitOfWork, head: Row) -> int:
        """Give the fencing number to write under, a new one unless this sequencer leads."""
        if self._holds(head):
            return int(head["fence"])
        until_us = self._clock.now_us() + self._lease_us
        origin = self._signer.name
        fence = await lease_repository.take_lease(
            work, origin, head["fence"], self._holder, until_us
        )
        if fence is None:
            raise UnavailableError("another sequencer leads", reason="audit_unavailable")
        return fence

    async def rekey(
        self, new: Signer, describe: Callable[[int, bytes], dict[str, Any]]
    ) -> KeyRotation | None:
        """Sign with another key from now on; None where that key signs already.

        `describe` makes of size and root so far the row of the event of it. The event's place, the
        checkpoint over it that both keys sign, and the head that only the new key may move are one
        transaction under the head's lock, and every lease ends with it: whoever holds the old key
        finds another fencing number and another key there, and writes nothing.

        Raises:
            LogDamagedError: the tree does not match the last checkpoint, or may not be signed.
            UnavailableError: another sequencer is at work at this moment.
        """
        old = self._signer
        async with self._database.unit_of_work() as work:
            head = await repository.hold_head(work, old.name)
            if head is None:
                await self._check_name(work)
                raise UnavailableError("another sequencer is at work", reason="audit_unavailable")
            if head["vkey"] == new.vkey:
                self._key.adopt(new.vkey)
                return None
            if head["refused"] is not None:
                raise REFUSALS.get(head["refused"], LogDamagedError)
            if head["vkey"] not in {None, old.vkey}:
                raise LogRekeyedError
            edge = await self._edge_at(work, head["size"])
            event = describe(edge.size, edge.root())
            grown, note = await self._place_alone(work, edge, event, old, new)
            now_us = self._clock.now_us()
            rotation = KeyRotation(
                grown.size, old.name, old.vkey, new.vkey, note, event["id"], now_us
            )
            await log_key_repository.add_rotation(work, rotation)
            moved = edge.size, head["fence"]
            if not await log_key_repository.rekey_head(work, rotation, *moved):
                raise UnavailableError("the log has moved", reason="audit_unavailable")
        self._edge, self._fence, self.state.leading = None, None, False
        self._key.adopt(new.vkey)
        return rotation

    async def _place_alone(
        self, work: UnitOfWork, edge: TreeEdge, event: dict[str, Any], *signers: Signer
    ) -> tuple[TreeEdge, str]:
        """Give an event the next place, before all that wait, and sign the head over it."""
        await repository.append_event(work, event)
        leaf = leaf_hash(event["body"])
        grown, changed = edge.append([leaf])
        await repository.place_leaves(work, edge.size, [(event["id"], leaf)])
        await repository.store_tiles(work, changed)
        return grown, await self._sign(work, grown, *signers)

    async def rename(
        self, signer: Signer, describe: Callable[[int, bytes], dict[str, Any]]
    ) -> tuple[int, bytes]:
        """Go on under another name; gives the size and root with which the old one ends.

        `describe` makes of these the row of the event with which the new name begins. The
        event's place, the new name's first head and the end of the old name are one
        transaction. This sequencer signs for neither from then on: start the process again.

        Raises:
            LogDamagedError: the tree does not match the old name's last checkpoint.
            UnavailableError: another sequencer is at work at this moment.
        """
        async with self._database.unit_of_work() as work:
            head = await repository.hold_head(work, self._signer.name)
            if head is None:
                await self._check_name(work)
                raise UnavailableError("another sequencer is at work", reason="audit_unavailable")
            self._take_key(head)
            edge = await self._edge_at(work, head["size"])
            last = await repository.last_checkpoint(work)
            if last is None:
                raise LogDamagedError("the log has no checkpoint")
            event = describe(edge.size, edge.root())
            grown, _ = await self._place_alone(work, edge, event, signer)
            old, new = (self._signer.name, edge.size), (signer.name, grown.size)
            if not await lease_repository.rename_head(work, old, new, signer.vkey):
                raise UnavailableError("the log has moved", reason="audit_unavailable")
            await lease_repository.add_origin(
                work,
                origin=old[0],
                size=edge.size,
                note=last[2],
                vkey=self._signer.vkey,
                event_id=event["id"],
                closed_us=self._clock.now_us(),
            )
        self._note_failure(LogRenamedError.slug)
        return edge.size, edge.root()

    async def _check_name(self, work: UnitOfWork) -> None:
        """Tell a head that another sequencer holds from one of another name."""
        head = await repository.head(work)
        if head is not None and head[0] != self._signer.name:
            raise LogRenamedError

    async def _grow(
        self, work: UnitOfWork, edge: TreeEdge, waiting: list[tuple[str, bytes]], fence: int
    ) -> TreeEdge:
        leaves = [(event_id, leaf_hash(body)) for event_id, body in waiting]
        grown, changed = edge.append([leaf for _, leaf in leaves])
        await repository.place_leaves(work, edge.size, leaves)
        await repository.store_tiles(work, changed)
        await self._sign(work, grown, self._signer)
        until_us = self._clock.now_us() + self._lease_us
        moved = edge.size, grown.size, fence, until_us
        if not await repository.advance_head(work, self._signer.name, *moved):
            raise UnavailableError("another sequencer moved the log", reason="audit_unavailable")
        return grown

    async def _sign(self, work: UnitOfWork, edge: TreeEdge, *signers: Signer) -> str:
        checkpoint = Checkpoint(signers[0].name, edge.size, edge.root())
        note = sign_checkpoint(checkpoint, *signers)
        await repository.add_checkpoint(
            work, checkpoint.size, checkpoint.root, note, self._clock.now_us()
        )
        return note

    async def _edge_at(self, work: UnitOfWork, size: int) -> TreeEdge:
        if self._edge is not None and self._edge.size == size:
            return self._edge
        stored = {
            (path.level, path.n): await repository.read_tile(work, path.level, path.n)
            for path in edge_of(size)
        }
        try:
            edge = TreeEdge.from_tiles(size, lambda level, n: stored[level, n])
        except TileError as error:
            raise LogDamagedError(f"a tile at the edge of {size} leaves is cut short") from error
        last = await repository.last_checkpoint(work)
        if last is None:
            if size:
                raise LogDamagedError("the log has leaves but no checkpoint")
            await self._sign(work, edge, self._signer)
            return edge
        signed = self._opened(last[2])
        here = Checkpoint(self._signer.name, size, edge.root())
        if signed != here or last[:2] != (size, edge.root()):
            raise LogDamagedError(f"the tree of {size} leaves has another root than was signed")
        return edge

    def _opened(self, note: str) -> Checkpoint:
        try:
            return open_checkpoint(note, self._signer.verifier)
        except NoteError as error:
            raise LogDamagedError("the newest checkpoint does not bear this log's name") from error

    async def _run(self) -> None:
        while not self._stop.is_set():
            try:
                sequenced = await self.sequence_batch()
            except LogDamagedError as error:
                self._note_failure(error.slug)
                await self._pause(_STALL_SECONDS)
            except (AuditError, UnavailableError) as error:
                self._note_failure(error.reason or error.slug)
                await self._pause(self._back_off())
            except Exception as error:  # noqa: BLE001 (a dead sequencer would tell nobody why)
                structlog.get_logger().error("sequencer", error_type=type(error).__name__)
                self._note_failure("internal")
                await self._pause(self._back_off())
            else:
                self.state.failures, self.state.reason = 0, None
                if sequenced < self._batch_size:
                    await self._pause(self._poll_seconds)

    def _note_failure(self, reason: str) -> None:
        self._edge = None
        self.state.failures += 1
        self.state.reason = reason

    def _back_off(self) -> float:
        return self._poll_seconds * 2.0 ** min(self.state.failures, 6)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)
