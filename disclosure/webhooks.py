"""Webhooks: every client that ever received a member is told, and the ledger says who heard.

A reaction of the outbox puts deliveries in line, in the courier's transaction; sending happens
outside every request and every transaction, each webhook by itself, so that one that hangs
keeps nobody else waiting. A process that dies between sending and noting it sends again: at
least once, always under the same `webhook-id`.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import structlog

from audit import AuditLog
from consent import ConsentService
from disclosure import webhook_repository as repository
from disclosure.feed import PURPOSE_PREFIX, kept_us
from disclosure.happening import SCOPE_OF_TYPE, WEBHOOK_TYPES, Happening, happening
from disclosure.webhook import (
    Retries,
    TargetRules,
    headers,
    known_types,
    new_secret,
    payload,
    secret_text,
)
from disclosure.webhook_repository import (
    ACKNOWLEDGED,
    ACTIVE,
    CANCELLED,
    FAILED,
    WAITING,
    Delivery,
    Webhook,
)
from kernel import (
    Caller,
    Clock,
    ConflictError,
    Database,
    MemberId,
    Message,
    NotFoundError,
    ReadSession,
    UnitOfWork,
    new_id,
)
from policies import PolicyPack
from vault import Move, Vault

LABEL = "webhook"
_MOST_OF_A_CLIENT = 20
_AT_ONCE = 16
_LEASE_US = 60_000_000
_IN_A_ROW = 100
_FIRST_AND_LAST = "~"  # sorts behind every id
_NO_WEBHOOK = "no_webhook"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one attempt to send: an HTTP status, or a code for why there is none."""

    status: int | None
    failure: str | None = None

    @property
    def acknowledged(self) -> bool:
        """Whether the receiver took it: 2xx and nothing else."""
        return self.status is not None and 200 <= self.status < 300  # noqa: PLR2004 (HTTP statuses)


class Poster(Protocol):
    """Posts a signed body to a target; the service has it."""

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> Answer:
        """Send once, within seconds, and never raise for what a receiver does."""
        ...


class ClientDirectory(Protocol):
    """Knows what a client may be told of; the service has it."""

    async def scopes_of(self, session: ReadSession, client_id: str) -> frozenset[str] | None:
        """Give the scopes of an active client, or None."""
        ...


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Whether one client of a member has heard of something (moments in µs).

    `state` is `acknowledged`, `waiting`, `failed`, `cancelled`, or `no_webhook` for a client
    that learns of it from the change feed only.
    """

    client_id: str
    state: str
    webhook_id: str | None
    attempts: int
    acknowledged_us: int | None


class Webhooks:
    """Registers webhooks, puts deliveries in line, sends them, and keeps the ledger."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        audit: AuditLog,
        pack: PolicyPack,
        consent: ConsentService,
        clients: ClientDirectory,
        poster: Poster,
        clock: Clock,
        rules: TargetRules,
        retries: Retries,
        *,
        poll_seconds: float = 1.0,
    ) -> None:
        self._database = database
        self._vault = vault
        self._audit = audit
        self._pack = pack
        self._consent = consent
        self._clients = clients
        self._poster = poster
        self._clock = clock
        self._rules = rules
        self._retries = retries
        self._chance = random.SystemRandom().random
        self._poll_seconds = poll_seconds
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # --- registering ------------------------------------------------------------------

    async def add(
        self, work: UnitOfWork, caller: Caller, url: str, types: Sequence[str]
    ) -> tuple[Webhook, str]:
        """Register a webhook for the caller; gives it and its key, which is shown this once."""
        self._rules.check(url)
        wanted = known_types(types, WEBHOOK_TYPES)
        if len(await repository.of_client(work, caller.id)) >= _MOST_OF_A_CLIENT:
            raise ConflictError("a client has at most 20 webhooks", reason="too_many_webhooks")
        now_us = self._clock.now_us()
        webhook_id = new_id("whk", now_us)
        secret = new_secret()
        version, wrapped = await self._vault.keep_secret(work, LABEL, webhook_id, secret)
        new = Webhook(webhook_id, caller.id, url, wanted, wrapped, version, ACTIVE, now_us)
        await repository.add(work, new)
        await self._audit.record(work, caller, "webhook.add", resource=f"webhook:{webhook_id}")
        return new, secret_text(secret)

    async def move_secrets(self, work: UnitOfWork, root: int, move: Move) -> None:
        """Wrap under the newest ring root what rests under one before `root`."""
        for hook in await repository.under_old_root(work, root):
            newest, wrapped = move(LABEL, hook.id, hook.ring_version, hook.secret)
            await repository.rewrap(work, hook, newest, wrapped)

    async def secrets_behind(self, session: ReadSession, root: int) -> int:
        """Count the webhooks whose key rests under a ring root before `root`."""
        return len(await repository.under_old_root(session, root))

    async def listed(self, session: ReadSession, caller: Caller) -> list[Webhook]:
        """Give the caller's webhooks."""
        return await repository.of_client(session, caller.id)

    async def find(self, session: ReadSession, caller: Caller, webhook_id: str) -> Webhook:
        """Give a webhook of the caller, or `NotFoundError`; another client's is not there."""
        found = await repository.one(session, webhook_id)
        if found is None or found.client_id != caller.id:
            raise NotFoundError("no such webhook", reason="webhook_unknown")
        return found

    async def remove(self, work: UnitOfWork, caller: Caller, webhook_id: str) -> None:
        """Delete a webhook: its key is forgotten and what waits for it is cancelled."""
        found = await self.find(work, caller, webhook_id)
        await repository.remove(work, found.id)
        await self._audit.record(work, caller, "webhook.delete", resource=f"webhook:{found.id}")

    async def replay(self, work: UnitOfWork, caller: Caller, webhook_id: str, since_us: int) -> int:
        """Send again what happened since a moment, under the same ids; gives how many."""
        found = await self.find(work, caller, webhook_id)
        count = await repository.replay(
            work, found.id, since_us=since_us, now_us=self._clock.now_us()
        )
        await self._audit.record(
            work, caller, "webhook.replay", resource=f"webhook:{found.id}", count=count
        )
        return count

    async def acknowledge(
        self, work: UnitOfWork, caller: Caller, webhook_id: str, delivery_id: str
    ) -> Delivery:
        """Note that the caller says it has acted on a delivery, however it learnt of it."""
        found = await self.find(work, caller, webhook_id)
        told = await repository.acknowledge(
            work, found.id, delivery_id, now_us=self._clock.now_us()
        )
        if told is None:
            raise NotFoundError("no such delivery", reason="delivery_unknown")
        await self._audit.record(
            work, caller, "webhook.acknowledge", resource=f"webhook:{found.id}"
        )
        return told

    async def deliveries(
        self,
        session: ReadSession,
        caller: Caller,
        webhook_id: str,
        *,
        before: str | None,
        most: int,
    ) -> list[Delivery]:
        """Give what a webhook was told or is to be told, the newest first."""
        found = await self.find(session, caller, webhook_id)
        return await repository.listed(
            session, found.id, before=before or _FIRST_AND_LAST, most=most
        )

    async def acknowledgements(
        self, session: ReadSession, member_id: MemberId, kind: str = "member.erased"
    ) -> list[Acknowledgement]:
        """Say of every client that knows a member whether it has heard of an erasure.

        One entry for each webhook that was to be told, and one for each client that has an id
        for the member and no such webhook.
        """
        told = await repository.of_member(session, member_id, kind)
        found = [
            Acknowledgement(
                one.client_id,
                ACKNOWLEDGED if one.acknowledged_us is not None else one.state,
                one.webhook_id,
                one.attempts,
                one.acknowledged_us,
            )
            for one in told
        ]
        reached = {one.client_id for one in told}
        knowing = await repository.clients_that_know(session, member_id)
        silent = [client for client in dict.fromkeys(knowing) if client not in reached]
        return found + [Acknowledgement(one, _NO_WEBHOOK, None, 0, None) for one in silent]

    # --- putting in line --------------------------------------------------------------

    async def react(self, work: UnitOfWork, message: Message) -> Callable[[], None] | None:
        """Put a delivery in line for every webhook of a client that knows the member."""
        happened = await happening(work, self._consent, message)
        if happened is None:
            return None
        scopes: dict[str, frozenset[str] | None] = {}
        for hook, pairwise_id in await repository.concerned(work, happened.member_id):
            if hook.client_id not in scopes:
                scopes[hook.client_id] = await self._clients.scopes_of(work, hook.client_id)
            if happened.type in hook.types and _may_hear(scopes[hook.client_id], happened):
                await repository.add_delivery(work, self._delivery(hook, pairwise_id, happened))
        return None

    def _delivery(self, hook: Webhook, pairwise_id: str, happened: Happening) -> Delivery:
        now_us = self._clock.now_us()
        return Delivery(
            id=new_id("msg", now_us),
            webhook_id=hook.id,
            client_id=hook.client_id,
            message_id=happened.message_id,
            member_id=happened.member_id,
            pairwise_id=pairwise_id,
            type=happened.type,
            purpose=happened.purpose,
            channel=happened.channel,
            at_us=happened.at_us,
            state=WAITING,
            attempts=0,
            since_us=now_us,
            due_us=now_us,
            status=None,
            failure=None,
            acknowledged_us=None,
        )

    # --- sending ----------------------------------------------------------------------

    def start(self) -> None:
        """Send in the background."""
        self._task = asyncio.create_task(self._run(), name="webhooks")

    async def stop(self) -> None:
        """Stop sending; what is under way is left and sent again at the next start."""
        self._stop.set()
        if self._task is not None:
            await self._task
            self._task = None
        under_way = list(self._sending.values())
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def send_due(self) -> None:
        """Send what is due, and wait until each webhook has nothing due or has failed."""
        await self._begin()
        while self._sending:
            await asyncio.wait(list(self._sending.values()))
            await self._begin()

    async def sweep(self) -> int:
        """Forget deliveries as old as the pseudonymous remainder of a member may become."""
        now_us = self._clock.now_us()
        async with self._database.unit_of_work() as work:
            return await repository.drop_before(work, now_us - kept_us(self._pack, now_us))

    async def _run(self) -> None:
        while not self._stop.is_set():
            try:
                await self._begin()
            except Exception as error:  # noqa: BLE001 (the sender goes on; the line is in the database)
                structlog.get_logger().warning("webhooks", error_type=type(error).__name__)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), self._poll_seconds)

    async def _begin(self) -> None:
        """Begin sending to webhooks for which something is due and nothing is under way."""
        async with self._database.read() as session:
            due = await repository.due_webhooks(
                session, now_us=self._clock.now_us(), most=_AT_ONCE + len(self._sending)
            )
        for webhook_id in due:
            if webhook_id not in self._sending and len(self._sending) < _AT_ONCE:
                task = asyncio.create_task(self._send_to(webhook_id), name="webhook")
                self._sending[webhook_id] = task
                task.add_done_callback(partial(self._sent, webhook_id))

    def _sent(self, webhook_id: str, _: asyncio.Task[None]) -> None:
        self._sending.pop(webhook_id, None)

    async def _send_to(self, webhook_id: str) -> None:
        """Send to one webhook, one after the other, until it fails or nothing is due."""
        try:
            for _ in range(_IN_A_ROW):
                if self._stop.is_set() or not await self._send_next(webhook_id):
                    return
        except Exception as error:  # noqa: BLE001 (this webhook is tried again when its lease ends)
            structlog.get_logger().warning("webhook", error_type=type(error).__name__)

    async def _send_next(self, webhook_id: str) -> bool:
        """Send the next due delivery; False when there is none, or when it was not taken."""
        now_us = self._clock.now_us()
        async with self._database.unit_of_work() as work:
            claimed = await repository.claim(work, webhook_id, now_us=now_us, lease_us=_LEASE_US)
            if claimed is None:
                return False
            delivery, hook = claimed
            scopes = await self._clients.scopes_of(work, delivery.client_id)
            if hook is None or scopes is None:
                await self._settle(work, delivery, CANCELLED, Answer(None, "client_gone"))
                return True
        secret = self._vault.recall_secret(LABEL, hook.id, hook.ring_version, hook.secret)
        body = payload(
            delivery.type,
            delivery.at_us,
            delivery.pairwise_id,
            delivery.purpose,
            delivery.channel,
        )
        sent = headers(secret, delivery.id, self._clock.now_us(), body)
        answer = await self._poster.post(hook.url, sent, body)
        async with self._database.unit_of_work() as work:
            return await self._note(work, delivery, answer)

    async def _note(self, work: UnitOfWork, delivery: Delivery, answer: Answer) -> bool:
        """Note an answer: taken, to be tried again with everything behind it, or given up."""
        if answer.acknowledged:
            return await self._settle(work, delivery, ACKNOWLEDGED, answer)
        now_us = self._clock.now_us()
        next_us = self._retries.next_us(
            delivery.attempts, delivery.since_us, now_us, self._chance()
        )
        if next_us is None:
            return await self._settle(work, delivery, FAILED, answer)
        if await self._settle(work, delivery, WAITING, answer, next_us=next_us):
            await repository.pause(work, delivery.webhook_id, next_us)
        return False

    async def _settle(
        self,
        work: UnitOfWork,
        delivery: Delivery,
        state: str,
        answer: Answer,
        *,
        next_us: int | None = None,
    ) -> bool:
        return await repository.settle(
            work,
            delivery,
            state,
            status=answer.status,
            failure=answer.failure,
            acknowledged_us=self._clock.now_us() if state == ACKNOWLEDGED else None,
            next_us=delivery.due_us if next_us is None else next_us,
        )


def _may_hear(scopes: frozenset[str] | None, happened: Happening) -> bool:
    """Say whether an active client may be told: of its own purposes, and of what it handles."""
    if scopes is None:
        return False
    needed = SCOPE_OF_TYPE.get(happened.type)
    if happened.purpose is not None and PURPOSE_PREFIX + happened.purpose not in scopes:
        return False
    return needed is None or needed in scopes
