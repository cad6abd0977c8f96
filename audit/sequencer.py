"""The sequencer: gives waiting events their places in the log and signs the new head.

Leaves, tiles, checkpoint and the emptied queue are one transaction under the lock of the head
row, so a crash leaves the old log or the new one, and two sequencers never fork it. At start,
and whenever another process moved the head, the right edge is read back from the tiles and its
root compared with the newest checkpoint, whose signature is checked first: whoever can write to
the database but has no key cannot make the log sign a history of his own. A log that does not
match its own signature is never grown (fail closed).
"""

import asyncio
import contextlib
from dataclasses import dataclass

import structlog

from audit import repository
from audit.errors import AuditError, NoteError, TileError
from audit.merkle import leaf_hash
from audit.note import Checkpoint, Signer, open_checkpoint, sign_checkpoint
from audit.tiles import TreeEdge, edge_of
from kernel import Clock, Database, IntegrityError, UnavailableError, UnitOfWork

_STALL_SECONDS = 60
_HEAD_SECONDS = 0.02
_HEAD_ATTEMPTS = 100


class LogDamagedError(AuditError):
    """The stored tree does not match the checkpoint that was signed over it."""

    slug = "log-damaged"
    title = "The log does not match its last checkpoint"
    remedy = "Keep the database as it is, and run `yinyom audit verify --db`."


@dataclass(slots=True)
class SequencerState:
    """What the health page may say about the sequencer."""

    size: int = 0
    failures: int = 0
    reason: str | None = None


class Sequencer:
    """Runs inside the service process; any number of processes may run one."""

    def __init__(
        self,
        database: Database,
        signer: Signer,
        clock: Clock,
        *,
        batch_size: int = 5_000,
        poll_seconds: float = 0.05,
    ) -> None:
        self._database = database
        self._signer = signer
        self._clock = clock
        self._batch_size = batch_size
        self._poll_seconds = poll_seconds
        self._edge: TreeEdge | None = None
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self.state = SequencerState()

    async def start(self, *, background: bool = True) -> None:
        """Begin the log if there is none, check it, and sequence, now and in the background.

        A damaged log does not keep the registry from opening, or nobody could look into it:
        `state.reason` says what is wrong, and whoever opens the registry blocks the trail.
        """
        async with self._database.unit_of_work() as work:
            await repository.make_head(work, self._signer.name)
        try:
            await self.drain()
        except LogDamagedError as error:
            self._note_failure(error.slug)
        if background:
            self._task = asyncio.create_task(self._run(), name="sequencer")

    async def stop(self) -> None:
        """Sequence what waits, then stop."""
        self._stop.set()
        if self._task is not None:
            await self._task
            self._task = None
        with contextlib.suppress(AuditError, UnavailableError):
            await self.drain()

    @property
    def running(self) -> bool:
        """Whether the background task is alive."""
        return self._task is not None and not self._task.done()

    async def drain(self) -> int:
        """Sequence everything that waits now; give the size of the log.

        While another sequencer has the head, it is at this very work: what it leaves is done
        after it, or left to it after two seconds.
        """
        refused = 0
        while refused < _HEAD_ATTEMPTS:
            done = await self._batch()
            if done is None:
                refused += 1
                await asyncio.sleep(_HEAD_SECONDS)
            elif done < self._batch_size:
                break
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
            if self._edge is not None and not await repository.any_waiting(session):
                return 0
        async with self._database.unit_of_work() as work:
            size = await repository.hold_head(work, self._signer.name)
            if size is None:
                return None
            edge = await self._edge_at(work, size)
            waiting = await repository.waiting_events(work, self._batch_size)
            if waiting:
                grown = await self._grow(work, edge, waiting)
            else:
                grown = edge
        self._edge = grown
        self.state.size = grown.size
        return len(waiting)

    async def _grow(
        self, work: UnitOfWork, edge: TreeEdge, waiting: list[tuple[str, bytes]]
    ) -> TreeEdge:
        leaves = [(event_id, leaf_hash(body)) for event_id, body in waiting]
        grown, changed = edge.append([leaf for _, leaf in leaves])
        await repository.place_leaves(work, edge.size, leaves)
        await repository.store_tiles(work, changed)
        await self._sign(work, grown)
        if not await repository.advance_head(work, self._signer.name, edge.size, grown.size):
            raise UnavailableError("another sequencer moved the log", reason="audit_unavailable")
        return grown

    async def _sign(self, work: UnitOfWork, edge: TreeEdge) -> None:
        checkpoint = Checkpoint(self._signer.name, edge.size, edge.root())
        note = sign_checkpoint(checkpoint, self._signer)
        await repository.add_checkpoint(
            work, checkpoint.size, checkpoint.root, note, self._clock.now_us()
        )

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
            await self._sign(work, edge)
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
