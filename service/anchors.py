"""The log's anchors: which places keep its heads, when they are told, and what they say of it.

Business never waits for them: a place that is away is told later, and until then the status says
since when the log is not anchored. What a place shows of another or a longer log stops the
sequencer for good, in every process: that is what anchors are for.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog

from audit import (
    Anchored,
    Anchoring,
    AnchorSink,
    AnchorVerdict,
    LogKey,
    Verifier,
    anchored,
    anchored_size,
    log_head,
)
from backup import open_store
from kernel import Clock, Database, ReadSession, UnavailableError, YinyomError, rfc3339
from service.backups import s3_access
from service.settings import Settings

ANCHORED_ACTIONS = frozenset(
    {
        "audit.key_rotated",
        "audit.new_origin",
        "backup.restore",
        "client.add",
        "client.add_agent",
        "client.revoke",
        "client.rotate",
        "key.destroy",
        "member.erase",
        "policy.activate",
        "staff.add",
        "staff.disable",
        "staff.reset",
        "staff.role",
        "vault.recover",
        "vault.rotate_kms",
        "vault.rotate_ring",
    }
)
"""After events of these the heads are told at once: who may do what, and what is gone for good."""
_ANSWER_SECONDS = 15.0
_SOON_SECONDS = 1.0


class Anchors:
    """The places of the settings, and the task that tells them of new heads."""

    def __init__(
        self, settings: Settings, database: Database, key: Verifier | LogKey, clock: Clock
    ) -> None:
        self._database = database
        self._clock = clock
        self._every_us = settings.audit.anchor_seconds * 1_000_000
        access, days = s3_access(settings), settings.audit.anchor_lock_days
        self.sinks: Sequence[AnchorSink] = [
            open_store(address, access, locked_days=days) for address in settings.audit.anchors
        ]
        self._anchorings = [Anchoring(database, key, clock, sink) for sink in self.sinks]
        self._verdicts: dict[str, AnchorVerdict] = {}
        self._refuse: Callable[[str], Awaitable[None]] | None = None
        self._drain: Callable[[], Awaitable[int]] | None = None
        self._elsewhere = settings.audit.sequencer == "elsewhere"
        self._nudged = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    def __bool__(self) -> bool:
        """Whether there is any anchor."""
        return bool(self.sinks)

    async def reach(self, session: ReadSession) -> int:
        """Give the size of the newest head that every place holds; 0 for none."""
        return await anchored_size(session, [sink.address for sink in self.sinks])

    def stop_through(
        self, refuse: Callable[[str], Awaitable[None]], drain: Callable[[], Awaitable[int]]
    ) -> None:
        """Say how the log is stopped for good, and how what waits gets its place first."""
        self._refuse, self._drain = refuse, drain

    # --- asking and telling -----------------------------------------------------------

    async def guard(self) -> str | None:
        """Ask every place whether the log may be signed; gives the code why it may not.

        A place that does not answer forbids nothing; it is asked again with the next head.
        """
        for told in await self._each(lambda anchoring: anchoring.look()):
            if told.verdict.forbids_signing:
                return told.verdict.value
        return None

    async def certain(self) -> str | None:
        """Ask like `guard`, for who must know; `UnavailableError` when a place is silent."""
        refusal = await self.guard()
        if refusal is None and AnchorVerdict.UNREACHABLE in self._verdicts.values():
            raise UnavailableError(
                "an anchor of the log does not answer",
                reason="anchor_unavailable",
                remedy="Only the anchors can say whether this log is whole: bring them back.",
            )
        return refusal

    async def anchor(self) -> list[Anchored]:
        """Tell every place of the newest head; stops the log when one knows better.

        Where another process sequences, it tells them.
        """
        if self._elsewhere:
            return []
        asked = await self._each(lambda anchoring: anchoring.anchor())
        for told in asked:
            if told.verdict.forbids_signing and self._refuse is not None:
                await self._refuse(told.verdict.value)
                break
        return asked

    async def check_all(self) -> tuple[int, list[str], list[str]]:
        """Hold every head in every place against the log.

        Gives how many there are, what is wrong, and which places did not answer.
        """
        count: int = 0
        wrong: list[str] = []
        silent: list[str] = []
        for anchoring, sink in zip(self._anchorings, self.sinks, strict=True):
            try:
                held, found = await anchoring.check_all()
            except YinyomError:
                silent.append(sink.address)
            else:
                count, wrong = count + held, wrong + found
        return count, wrong, silent

    async def _each(self, ask: Callable[[Anchoring], Awaitable[Anchored]]) -> list[Anchored]:
        asked = []
        for anchoring, sink in zip(self._anchorings, self.sinks, strict=True):
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    told = await ask(anchoring)
            except TimeoutError:
                told = Anchored(sink.address, AnchorVerdict.UNREACHABLE)
            self._note(told)
            asked.append(told)
        return asked

    def _note(self, told: Anchored) -> None:
        fine = told.verdict in {AnchorVerdict.HELD, AnchorVerdict.EMPTY}
        if told.verdict is not self._verdicts.get(told.sink) and not fine:
            log = structlog.get_logger()
            tell = log.error if told.verdict.forbids_signing else log.warning
            tell("anchor", reason=told.verdict.value)
        self._verdicts[told.sink] = told.verdict

    # --- when -------------------------------------------------------------------------

    def start(self) -> None:
        """Tell the places from now on, in the background."""
        if self and not self._elsewhere:
            self._task = asyncio.create_task(self._run(), name="anchors")

    def nudge(self) -> None:
        """Have the places told soon: something happened that nobody should be able to unmake."""
        self._nudged.set()

    async def stop(self) -> None:
        """Stop, having told the places of what should not wait."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        if self and self._nudged.is_set():
            with contextlib.suppress(Exception):
                await self.anchor()

    async def _run(self) -> None:
        while not self._stopping:
            nudged = self._nudged.is_set()
            try:
                if nudged and self._drain is not None:
                    await self._drain()
                if nudged or await self._is_due():
                    self._nudged.clear()
                    await self.anchor()
            except Exception as error:  # noqa: BLE001 (a dead task would tell nobody)
                structlog.get_logger().warning("anchors", error_type=type(error).__name__)
            await asyncio.sleep(_SOON_SECONDS)

    async def _is_due(self) -> bool:
        """Say whether some place has not heard for its time of a head that has moved since."""
        async with self._database.read() as session:
            head = await log_head(session)
            held = await anchored(session)
        if head is None:
            return False
        late_us = self._clock.now_us() - self._every_us
        for sink in self.sinks:
            size, at_us = held.get(sink.address, (-1, 0))
            if size < head[0] and at_us <= late_us:
                return True
        return False

    # --- saying -----------------------------------------------------------------------

    def state(self) -> str:
        """Give a word for how the places answered last: `ok`, or the worst of them."""
        if self._elsewhere:
            return "elsewhere"
        worst = [
            each
            for each in (
                AnchorVerdict.FORKED,
                AnchorVerdict.AHEAD,
                AnchorVerdict.SPOILED,
                AnchorVerdict.UNREACHABLE,
            )
            if each in self._verdicts.values()
        ]
        return worst[0].value if worst else "ok"

    async def status(self) -> dict[str, Any]:
        """Give what each place holds, how far it is behind, and how asking it ended last."""
        async with self._database.read() as session:
            held = await anchored(session)
            head = await log_head(session)
        size = 0 if head is None else head[0]
        rows: list[dict[str, Any]] = []
        for sink in self.sinks:
            known, at_us = held.get(sink.address, (None, None))
            verdict = self._verdicts.get(sink.address)
            rows.append(
                {
                    "sink": sink.address,
                    "size": known,
                    "at": None if at_us is None else rfc3339(at_us),
                    "behind": size - (known or 0),
                    "last_answer": None if verdict is None else verdict.value,
                    "locked": await _locked(sink),
                }
            )
        sizes = [row["size"] for row in rows]
        return {
            "size": size,
            "anchors": rows,
            "anchored_size": min((known or 0 for known in sizes), default=0),
            "state": self.state(),
            "alarm": any(verdict.forbids_signing for verdict in self._verdicts.values()),
        }

    async def opinion(self) -> tuple[str, str]:
        """Give state and words for whoever asks whether all is well: `ok`, `warn` or `bad`."""
        told = await self.status()
        if told["alarm"]:
            return "bad", f"{told['state']}: keep database and anchors as they are"
        if told["state"] == AnchorVerdict.SPOILED:
            return "bad", "there is something among the anchors that this log did not write"
        for row in told["anchors"]:
            if row["last_answer"] == AnchorVerdict.UNREACHABLE:
                since = row["at"] or "ever"
                return "warn", f"{row['sink']} does not answer: not anchored since {since}"
            if row["locked"] is False:
                return "warn", f"{row['sink']} has no Object Lock: its owner can delete anchors"
        return "ok", f"{told['anchored_size']} of {told['size']} events anchored"


async def _locked(sink: AnchorSink) -> bool | None:
    """Say whether a bucket refuses deletion; None for a folder, and while it is not known."""
    locks = getattr(sink, "locks", None)
    if locks is None:
        return None
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            return bool(await locks())
    except (TimeoutError, UnavailableError):
        return None
