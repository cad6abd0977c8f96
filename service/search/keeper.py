"""Keeping the search process filled: starts it, tells it of everybody once, then of every change.

Warming and checking are one walk: say of every member who is to be held in which version, open
the names of those who are not held so, and look again whether they changed meanwhile. What is
erased, restricted or merged is forgotten before its message counts as delivered, so a message
that could not be told is told again; what was lost all the same, the next walk finds.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from audit import AuditEvent
from consent import ConsentService, GateState
from disclosure import Names, SearchUnavailableError
from kernel import Database, MemberId, Message, NotFoundError, UnitOfWork, YinyomError
from service.search.client import SearchClient
from service.settings import SearchSettings
from service.tasks import system_caller

WARM = "search.warm"
FOLLOW = "search.follow"
_CREATED = "member.created"
TOPICS = (_CREATED, "member.rectified", "member.restricted", "member.erased", "member.merged")
_PAGE = 2_000
_OPENED_AT_A_TIME = 200
_LOOKS = 8
_POLL_SECONDS = 1.0
_START_SECONDS = 15.0
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]


class SearchKeeper:
    """Sees to it that the search process runs, and holds what it may hold and nothing else."""

    def __init__(
        self,
        database: Database,
        consent: ConsentService,
        names: Names,
        client: SearchClient,
        settings: SearchSettings,
        data_dir: Path,
    ) -> None:
        self._database = database
        self._consent = consent
        self._names = names
        self.client = client
        self._settings = settings
        self._data_dir = data_dir
        self._changed: dict[MemberId, None] = {}
        self._wake = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._due = 0.0
        self.progress = (0, 0)

    # --- running ----------------------------------------------------------------------

    def start(self) -> None:
        """Keep the process running and filled in the background, unless it is switched off."""
        if self._settings.enabled and self._task is None:
            self._task = asyncio.create_task(self._run(), name="search keeper")

    async def stop(self) -> None:
        """Stop, and end the process if this one started it."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        if self._child is not None:
            self._child.terminate()
            await asyncio.to_thread(self._child.wait)
            self._child = None

    async def _run(self) -> None:
        while not self._stopping:
            try:
                await self.keep()
            except SearchUnavailableError:
                pass  # it is looked after again in a moment
            except Exception as error:  # noqa: BLE001 (search stays cold; the rest goes on)
                structlog.get_logger().warning("search", error_type=type(error).__name__)
            self._wake.clear()
            if not self._changed:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), _POLL_SECONDS)

    async def keep(self) -> None:
        """Look once: start the process, walk when it is cold or due, tell it of changes."""
        state = await self.client.state()
        if state is None:
            state = await self._start_process()
        if state is None:
            return
        is_cold = state["state"] == "cold"
        if (is_cold or time.monotonic() >= self._due) and not state["walking"]:
            await self.walk()
        await self.follow()

    async def _start_process(self) -> dict[str, object] | None:
        """Start the process; whoever else did so at the same moment was as good."""
        if self._child is not None:
            self._child.kill()  # it runs and does not answer, or it has ended
            await asyncio.to_thread(self._child.wait)
        self._child = self._spawn()
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until and self._child.poll() is None:
            state = await self.client.state()
            if state is not None:
                return state
            await asyncio.sleep(0.05)
        return await self.client.state()

    def _spawn(self) -> subprocess.Popen[bytes]:
        """Start it from this very thread: it ends with the thread that started it."""
        command = [sys.executable, "-m", "service.search.process", str(self._data_dir)]
        command += ["--max-mb", str(self._settings.max_mb), "--parent", str(os.getpid())]
        # It reads no setting and no secret, so it is given no environment.
        environment = {"PYTHONPATH": str(_PACKAGE_ROOT), "PATH": os.environ.get("PATH", "")}
        return subprocess.Popen(  # noqa: S603 (our own interpreter and module)
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    # --- filling ----------------------------------------------------------------------

    async def walk(self) -> int:
        """Compare everybody with what is held, and mend it; gives how many names were opened.

        One event, written before the first name is opened and only if one is.
        """
        walk = await self.client.begin()
        try:
            return await self._walk(walk)
        except SearchUnavailableError as error:
            if error.reason != "search_full":
                self._due = 0.0
            raise
        except BaseException:
            self._due = 0.0
            raise

    async def _walk(self, walk: int) -> int:
        self._due = time.monotonic() + 60 * self._settings.check_minutes
        grant: AuditEvent | None = None
        opened = done = 0
        after = ""
        while page := await self._names.page(after=after, most=_PAGE):
            after = page[-1][0]
            wanted = await self.client.confirm(walk, page)
            if wanted and grant is None:
                grant = await self._names.grant(system_caller("search"), WARM)
            for at in range(0, len(wanted), _OPENED_AT_A_TIME):
                if grant is not None:
                    opened += await self._tell(grant, wanted[at : at + _OPENED_AT_A_TIME])
                    await self.client.confirm(walk, [])
            done += len(page)
            self.progress = (done, opened)
        await self.client.end(walk)
        return opened

    async def follow(self) -> None:
        """Tell the process of members who changed since; one event for each batch."""
        while self._changed:
            batch = list(self._changed)[:_OPENED_AT_A_TIME]
            for member_id in batch:
                del self._changed[member_id]
            try:
                grant = await self._names.grant(system_caller("search"), FOLLOW, count=len(batch))
                await self._tell(grant, batch)
            except YinyomError:
                self._due = 0.0  # the walk finds who was not told of
                raise

    async def _tell(self, grant: AuditEvent, members: Sequence[MemberId]) -> int:
        """Open members' names and have them held, as they are when the telling has ended.

        A change that commits while its member's old name is on the way is seen by looking
        again afterwards; one that commits later is told by its own message.
        """
        opened = 0
        for _ in range(_LOOKS):
            records = await self._names.open(grant, members)
            told = {one.member_id: one.stamp for one in records}
            await self.client.put(records)
            opened += len(records)
            now = await self._names.standing(members)
            gone = [member for member in members if member not in now]
            if gone:
                await self.client.forget(gone)
            members = [member for member, stamp in now.items() if told.get(member) != stamp]
            if not members:
                break
        return opened

    # --- following --------------------------------------------------------------------

    async def react(self, work: UnitOfWork, message: Message) -> Callable[[], None] | None:
        """Forget what is held of a changed member now; hold what is so afterwards.

        Runs before the message counts as delivered: while the process cannot be told, the
        message waits and is told again.
        """
        member_id = MemberId(message.payload["member_id"])
        if not self._settings.enabled:
            return None
        if message.topic != _CREATED:
            await self.client.forget([member_id])
        try:
            gate = await self._consent.gate(work, member_id)
        except NotFoundError:
            return None
        if gate.state is not GateState.ACTIVE or self._task is None:
            return None

        def note() -> None:
            """Tell the keeper, once the change is committed, that this member is to be read."""
            self._changed[member_id] = None
            self._wake.set()

        return note
