"""The watch: stops disclosure while the trail behind it is not sound.

Events that wait too long for their place in the log, a tree that does not match its own
signature, or a trail that takes no event, mean that what happens now might never be provable.
Then every governed answer is a 503 with the reason, until the cause is gone.
"""

import asyncio
import contextlib

import structlog

from service.health import readiness
from service.runtime import Runtime

_SECONDS = 1.0
_DECISIVE = ("sequencer", "audit_queue", "trail")


class Watch:
    """Looks every second, and blocks or unblocks the trail."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._reason: str | None = None

    def start(self) -> None:
        """Watch in the background."""
        self._task = asyncio.create_task(self._run(), name="watch")

    async def stop(self) -> None:
        """Stop watching."""
        self._stop.set()
        if self._task is not None:
            await self._task
            self._task = None

    async def look(self) -> str | None:
        """Look once; gives the reason why the trail is blocked, if it is."""
        checks = (await readiness(self._runtime))["checks"]
        reason = next(
            (f"audit_{checks[name]}" for name in _DECISIVE if checks[name] not in _HARMLESS), None
        )
        if reason is None:
            self._runtime.audit.unblock()
        else:
            self._runtime.audit.block(reason)
        if reason != self._reason:
            structlog.get_logger().warning("watch", reason=reason or "ok")
            self._reason = reason
        return reason

    async def _run(self) -> None:
        while not self._stop.is_set():
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 (nobody watches: nothing is disclosed)
                structlog.get_logger().error("watch", error_type=type(error).__name__)
                self._runtime.audit.block("audit_unwatched")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), _SECONDS)


# A sequencer that failed a moment ago tries again by itself; only its backlog decides then.
# A database that is slow or away fails each request by itself.
_HARMLESS = frozenset({"ok", "database_unavailable", "audit_unavailable", "unavailable", "slow"})
