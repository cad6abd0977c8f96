"""What a process has in the sequencer's place where another one, with a role for it, sequences.

A server whose database role may not write the log cannot fork it, cut its queue or delete a body,
whatever becomes of it. It only looks: how far the log is, whether it may be signed, and whether
what it waits for has its place.
"""

import asyncio
import contextlib

import structlog

from audit import lease_repository
from audit.log_key import LogKey
from audit.note import Signer
from audit.sequencer import (
    LEASE_SECONDS,
    LogRekeyedError,
    LogRenamedError,
    Sequencer,
    SequencerState,
)
from kernel import Database, UnavailableError

_LOOK_SECONDS = 0.5
_WAIT_SECONDS = 0.02
_WAITS = round((LEASE_SECONDS + 2) / _WAIT_SECONDS)


class SequencerElsewhere:
    """Follows the log that another process sequences."""

    def __init__(self, database: Database, key: Signer | LogKey) -> None:
        self._database = database
        self._key = LogKey.of(key)
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self.state = SequencerState()

    async def start(self, *, background: bool = True) -> None:
        """Look how the log is, now and in the background."""
        await self._look()
        if background:
            self._task = asyncio.create_task(self._run(), name="sequencer")

    async def stop(self) -> None:
        """Stop looking."""
        self._stop.set()
        if self._task is not None:
            await self._task
            self._task = None

    @property
    def running(self) -> bool:
        """Whether the background task is alive."""
        return self._task is not None and not self._task.done()

    async def drain(self) -> int:
        """Wait until what waits now has its place; gives the size of the log.

        Given up two seconds after a dead leader's lease would have ended, and at once where the
        log may not be signed: whoever needs a place that is not there says so.
        """
        async with self._database.read() as session:
            last = await lease_repository.newest_waiting(session)
        await self._look()
        for _ in range(_WAITS):
            if last is None or self.state.reason or not await self._waits_until(last):
                break
            await asyncio.sleep(_WAIT_SECONDS)
        await self._look()
        return self.state.size

    async def _waits_until(self, last: str) -> bool:
        async with self._database.read() as session:
            return await lease_repository.any_waiting_until(session, last)

    async def _look(self) -> None:
        async with self._database.read() as session:
            head = await lease_repository.head_row(session)
        if head is None:
            return
        self.state.size = head["size"]
        if head["origin"] != self._key.signer.name:
            self.state.reason = LogRenamedError.slug
        elif head["vkey"] is not None and not self._key.adopt(head["vkey"]):
            self.state.reason = LogRekeyedError.slug
        else:
            self.state.reason = head["refused"]

    async def _run(self) -> None:
        while not self._stop.is_set():
            try:
                await self._look()
            except UnavailableError as error:
                self.state.reason = error.reason or error.slug
            except Exception as error:  # noqa: BLE001 (a dead task would tell nobody)
                structlog.get_logger().error("sequencer", error_type=type(error).__name__)
                self.state.reason = "internal"
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), _LOOK_SECONDS)


Sequencing = Sequencer | SequencerElsewhere
"""What a process has, as its settings say."""
