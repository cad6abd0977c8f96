"""The outbox courier: tells the rest of the house, and the world, what has happened.

Messages are delivered after their change has committed. One-time codes are made at the moment
of delivery, so that no code ever rests in the database in the clear; a process that dies between
storing a code's digest and sending the code has sent none, and another must be asked for.
"""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol

import orjson
import structlog

from kernel import (
    Clock,
    Database,
    Message,
    UnitOfWork,
    mark_delivered,
    put_aside,
    rfc3339,
    waiting_messages,
)
from members import CODE_WANTED

_BATCH = 50
_SETTLE_SECONDS = 1.0
_FIRST_PAUSE_US = 2_000_000
_LONGEST_PAUSE_US = 15 * 60 * 1_000_000
CONTACT_CHANGED = "contact_point.changed"
STUCK_AFTER = 5
"""From so many failed tries on, a message counts as stuck: `readyz` shows it."""
_CHANNELS = {"phone": "sms", "email": "email", "line": "line"}

Reaction = Callable[[UnitOfWork, Message], Awaitable[Callable[[], None] | None]]


class CodeSender(Protocol):
    """Hands a one-time code to whatever reaches the member."""

    def send(self, *, at: str, channel: str, contact_point: str, code: str) -> None:
        """Send a code; called after its digest has committed."""
        ...


class NoticeSender(Protocol):
    """Hands a short notice to whatever reaches the member."""

    def notify(self, *, at: str, channel: str, contact_point: str, notice: str) -> None:
        """Send a notice by its code; called after the change it tells of has committed."""
        ...


class OutboxFile:
    """Writes codes and notices to a 0600 file while no port is configured; never an address."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def send(self, *, at: str, channel: str, contact_point: str, code: str) -> None:
        """Append one JSON line."""
        self._append({"at": at, "channel": channel, "contact_point": contact_point, "code": code})

    def notify(self, *, at: str, channel: str, contact_point: str, notice: str) -> None:
        """Append one JSON line."""
        self._append(
            {"at": at, "channel": channel, "contact_point": contact_point, "notice": notice}
        )

    def _append(self, told: Mapping[str, str]) -> None:
        line = orjson.dumps(told)
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(handle, "ab") as file:
            file.write(line + b"\n")


class CodeSource(Protocol):
    """Makes codes for what waits for one: contact points, claims."""

    async def issue_code(
        self, work: UnitOfWork, wanted: Mapping[str, str], *, now_us: int
    ) -> str | None:
        """Store the digest of the code that a message asks for, and give the code.

        None when nothing waits any more.
        """
        ...


class CodeDelivery:
    """Makes and sends the code that a contact is waiting for."""

    def __init__(self, points: CodeSource, sender: CodeSender, clock: Clock) -> None:
        self._points = points
        self._sender = sender
        self._clock = clock

    async def __call__(self, work: UnitOfWork, message: Message) -> Callable[[], None] | None:
        """Store a fresh code's digest; gives the sending, to be done once that has committed."""
        contact_point = message.payload["contact_point_id"]
        channel = _CHANNELS[message.payload["kind"]]
        now_us = self._clock.now_us()
        code = await self._points.issue_code(work, message.payload, now_us=now_us)
        if code is None:
            return None

        def send() -> None:
            self._sender.send(
                at=rfc3339(now_us), channel=channel, contact_point=contact_point, code=code
            )

        return send


class NoticeDelivery:
    """Tells a contact that the contacts of its member changed; the notice says no more than that.

    Whoever got a code by watching over a shoulder is found out by the one who still has the phone.
    """

    def __init__(self, sender: NoticeSender, clock: Clock) -> None:
        self._sender = sender
        self._clock = clock

    async def __call__(self, _work: UnitOfWork, message: Message) -> Callable[[], None]:
        """Give the sending, to be done once the delivery has committed."""
        told = message.payload
        at = rfc3339(self._clock.now_us())

        def send() -> None:
            self._sender.notify(
                at=at,
                channel=_CHANNELS[told["kind"]],
                contact_point=told["contact_point_id"],
                notice=f"contact_{told['change']}",
            )

        return send


class UndeliveredError(Exception):
    """A reaction to this message has failed, and its unit of work with it."""

    def __init__(self, message: Message) -> None:
        super().__init__(message.topic)
        self.message = message


class OutboxCourier:
    """Delivers waiting messages to their reactions, in the background and on demand."""

    def __init__(
        self, database: Database, clock: Clock, delivery: CodeDelivery, *, poll_seconds: float = 1.0
    ) -> None:
        self._database = database
        self._clock = clock
        self._reactions: dict[str, list[Reaction]] = {}
        self.subscribe(CODE_WANTED, delivery)
        self._poll_seconds = poll_seconds
        self._turn = asyncio.Lock()
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._settling: set[asyncio.Task[None]] = set()

    def subscribe(self, topic: str, reaction: Reaction) -> None:
        """Let a reaction hear of every message of a topic, in the order of subscription.

        It runs in the unit of work that marks the message delivered, so it happens once; what
        it gives back is done after that has committed.
        """
        self._reactions.setdefault(topic, []).append(reaction)

    def start(self) -> None:
        """Deliver in the background."""
        self._task = asyncio.create_task(self._run(), name="outbox")

    async def stop(self) -> None:
        """Stop delivering; what waits is delivered at the next start."""
        self._stop.set()
        if self._task is not None:
            await self._task
            self._task = None
        if self._settling:
            await asyncio.wait(self._settling)

    async def settle(self) -> None:
        """Deliver now what waits; gives up quietly after a second, the delivery goes on.

        It is never cancelled halfway, with whoever asked: a code whose digest is stored and
        that was not sent is lost.
        """
        delivery = asyncio.create_task(self._deliver_quietly(), name="outbox settling")
        self._settling.add(delivery)
        delivery.add_done_callback(self._settling.discard)
        await asyncio.wait([delivery], timeout=_SETTLE_SECONDS)

    async def deliver(self) -> int:
        """Deliver everything that waits; gives how many messages were delivered.

        A message whose reaction fails is put aside for a while, and holds up none behind it; it
        is tried again for as long as it takes.
        """
        delivered = 0
        async with self._turn:
            while True:
                try:
                    taken = batch = await self._deliver_batch(_BATCH)
                except Exception:  # noqa: BLE001 (one of them: each on its own finds which)
                    taken, batch = await self._deliver_singly()
                delivered += batch
                if not taken:
                    return delivered

    async def _deliver_singly(self) -> tuple[int, int]:
        """Deliver a batch's worth, each in its own unit of work; gives how many tried and told."""
        told = 0
        for tried in range(_BATCH):
            try:
                taken = await self._deliver_batch(1)
            except UndeliveredError as error:
                await self._put_aside(error)
                continue
            if not taken:
                return tried, told
            told += taken
        return _BATCH, told

    async def _deliver_batch(self, most: int) -> int:
        effects: list[Callable[[], None]] = []
        now_us = self._clock.now_us()
        async with self._database.unit_of_work() as work:
            messages = await waiting_messages(work, now_us=now_us, most=most)
            for message in messages:
                try:
                    for reaction in self._reactions.get(message.topic, ()):
                        effect = await reaction(work, message)
                        if effect is not None:
                            effects.append(effect)
                except Exception as error:
                    raise UndeliveredError(message) from error
                await mark_delivered(work, message.id, now_us=now_us)
        for effect in effects:
            try:
                effect()
            except Exception as error:  # noqa: BLE001 (told already; the others are sent all the same)
                structlog.get_logger().warning("outbox_sending", error_type=type(error).__name__)
        return len(messages)

    async def _put_aside(self, error: UndeliveredError) -> None:
        message = error.message
        pause_us = min(_FIRST_PAUSE_US << min(message.attempts, 30), _LONGEST_PAUSE_US)
        next_us = self._clock.now_us() + pause_us
        failures = message.attempts + 1
        async with self._database.unit_of_work() as work:
            await put_aside(work, message, next_us=next_us)
        structlog.get_logger().warning(
            "outbox_put_aside",
            topic=message.topic,
            attempts=failures,
            error_type=type(error.__cause__).__name__,
        )

    async def _deliver_quietly(self) -> None:
        try:
            await self.deliver()
        except Exception as error:  # noqa: BLE001 (the change that asked for it has committed)
            structlog.get_logger().warning("outbox", error_type=type(error).__name__)

    async def _run(self) -> None:
        while not self._stop.is_set():
            await self._deliver_quietly()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), self._poll_seconds)
