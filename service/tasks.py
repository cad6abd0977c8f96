"""Background work on the clock: keys whose day has come, tokens and keys of old requests."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from audit import AuditLog
from kernel import (
    Caller,
    Clock,
    Database,
    InvalidRequestError,
    Job,
    MemberId,
    RequestId,
    Urgency,
    YinyomError,
    claim_job,
    enqueue_job,
    finish_job,
    forget_delivered_messages,
    forget_ended_jobs,
    forget_old_idempotency_keys,
    give_up_job,
    keep_job,
    new_id,
    postpone_job,
)
from members import AgeTiers, Members
from service.auth import repository
from service.staff import Staff
from vault import PSEUDONYM, destroy_expired_keys

LEASE_US = 60_000_000
_RENEWED_AFTER_SECONDS = LEASE_US / 1_000_000 / 3
RETRIES = 5
_BACKOFF_US = 30_000_000
_LONGEST_BACKOFF_US = 15 * 60_000_000
HOUSEKEEPING = "housekeeping"
AGE_TIERS = "age_tiers"
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US


def system_caller(via: str, brand: str = "*") -> Caller:
    """Give the caller that stands for the registry itself."""
    return Caller("sys_registry", "system", via, brand, RequestId(new_id("req")))


@dataclass(frozen=True, slots=True)
class Swept:
    """What one round of housekeeping did."""

    keys_destroyed: int
    tokens_dropped: int
    sessions_dropped: int
    idempotency_keys_dropped: int


class Housekeeping:
    """Destroys what must not be kept any longer, and keeps age tiers true."""

    def __init__(
        self,
        database: Database,
        audit: AuditLog,
        members: Members,
        age_tiers: AgeTiers,
        clock: Clock,
        *,
        staff: Staff,
    ) -> None:
        self._database = database
        self._audit = audit
        self._members = members
        self._age_tiers = age_tiers
        self._clock = clock
        self._staff = staff

    async def grow_up(self) -> int:
        """Move minors whose birthday has come into their next age tier."""
        return await self._age_tiers.refresh(system_caller("worker"))

    async def sweep(self) -> Swept:
        """Destroy keys whose date has come and forget what has run out, in one transaction."""
        now_us = self._clock.now_us()
        caller = system_caller("worker")
        async with self._database.unit_of_work() as work:
            destroyed = await destroy_expired_keys(work, now_us)
            if destroyed:
                await self._audit.record(
                    work, caller, "key.destroy", count=len(destroyed), reason="retention_ended"
                )
            await self._members.forget_pseudonyms(
                work, [MemberId(owner) for owner, kind in destroyed if kind == PSEUDONYM]
            )
            tokens = await repository.drop_expired_tokens(work, now_us=now_us)
            sessions = await repository.drop_expired_sessions(work, now_us=now_us)
            sessions += await self._staff.drop_expired_sessions(work, now_us=now_us)
            old_keys = await forget_old_idempotency_keys(work, now_us=now_us)
            await forget_delivered_messages(work, now_us=now_us)
            await forget_ended_jobs(work, now_us=now_us)
        return Swept(len(destroyed), tokens, sessions, old_keys)


Act = Callable[[Mapping[str, Any]], Awaitable[object]]


class Worker:
    """Claims due jobs and runs them under a lease that is renewed while they run.

    Two lanes: one takes every job, the most urgent first, and one only what a person waits for,
    so that nobody's copy stands behind an import of hours. A job may run twice, when its worker
    died: what it does must be the same done twice.
    """

    def __init__(
        self,
        database: Database,
        housekeeping: Housekeeping,
        clock: Clock,
        *,
        poll_seconds: float = 2.0,
    ) -> None:
        self._database = database
        self._acts: dict[str, Act] = {}
        self._every_us: dict[str, int] = {}
        self._due_us: dict[str, int] = {}
        self._left: tuple[str, ...] = ()
        self.on(HOUSEKEEPING, lambda _: housekeeping.sweep(), every_us=HOUR_US)
        self.on(AGE_TIERS, lambda _: housekeeping.grow_up(), every_us=DAY_US)
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def on(self, kind: str, act: Act, *, every_us: int | None = None) -> None:
        """Say what a kind of job does with its payload; with `every_us`, it comes round."""
        self._acts[kind] = act
        if every_us is not None:
            self._every_us[kind] = every_us
            self._due_us[kind] = 0

    def leave(self, *kinds: str) -> None:
        """Leave jobs of these kinds to processes that have the right to do them."""
        self._left += kinds

    def start(self) -> None:
        """Work in the background."""
        self._task = asyncio.create_task(self.run(), name="worker")

    async def stop(self) -> None:
        """Finish the job at hand, then stop."""
        self._stop.set()
        if self._task is not None:
            await self._task
            self._task = None

    async def run(self) -> None:
        """Schedule and work until stopped."""
        await asyncio.gather(self._lane(Urgency.BULK), self._lane(Urgency.WAITED_FOR))

    async def _lane(self, least: Urgency) -> None:
        """Run what is due and at least so urgent, until stopped."""
        while not self._stop.is_set():
            ran = False
            try:
                if least is Urgency.BULK:
                    await self._schedule()
                ran = await self.run_one(least)
            except Exception as error:  # noqa: BLE001 (a dead worker would tell nobody)
                structlog.get_logger().warning("worker", error_type=type(error).__name__)
            if not ran:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), self._poll_seconds)

    async def _schedule(self) -> None:
        now_us = self._clock.now_us()
        for kind, every_us in self._every_us.items():
            if now_us >= self._due_us[kind]:
                async with self._database.unit_of_work() as work:
                    await enqueue_job(work, kind, {}, now_us=now_us)
                self._due_us[kind] = now_us + every_us

    async def _perform(self, job: Job) -> None:
        if job.kind not in self._acts:
            raise InvalidRequestError("no worker of this version knows this kind of job")
        await self._acts[job.kind](job.payload)

    async def run_one(self, least: Urgency = Urgency.BULK) -> bool:
        """Run the most urgent due job that is at least so urgent; False when there is none."""
        now_us = self._clock.now_us()
        async with self._database.unit_of_work() as work:
            job = await claim_job(
                work, now_us=now_us, lease_us=LEASE_US, least=least, left=self._left
            )
        if job is None:
            return False
        renewing = asyncio.create_task(self._renew(job), name="lease")
        try:
            await self._perform(job)
        except Exception as error:  # noqa: BLE001 (whatever it was, the job is tried again)
            await self._failed(job, error)
            return True
        finally:
            renewing.cancel()
        async with self._database.unit_of_work() as work:
            await finish_job(work, job, now_us=self._clock.now_us())
        return True

    async def _failed(self, job: Job, error: Exception) -> None:
        """Put a job back, or aside for good, and say so in the log: kind and code, no ids.

        What a person waits for is never given up: nobody else would do it.
        """
        failure = error.slug if isinstance(error, YinyomError) else "internal"
        now_us = self._clock.now_us()
        given_up = job.attempt >= RETRIES and job.urgency is not Urgency.WAITED_FOR
        structlog.get_logger().warning(
            "job_given_up" if given_up else "job_failed",
            kind=job.kind,
            failure=failure,
            error_type=type(error).__name__,
        )
        async with self._database.unit_of_work() as work:
            if given_up:
                await give_up_job(work, job, failure=failure, now_us=now_us)
            else:
                next_us = now_us + min(_BACKOFF_US * job.attempt, _LONGEST_BACKOFF_US)
                await postpone_job(work, job, failure=failure, next_us=next_us)

    async def _renew(self, job: Job) -> None:
        """Renew the lease of a job for as long as it runs; cancelled when it has ended."""
        while True:
            await asyncio.sleep(_RENEWED_AFTER_SECONDS)
            try:
                async with self._database.unit_of_work() as work:
                    until_us = self._clock.now_us() + LEASE_US
                    if not await keep_job(work, job, lease_until_us=until_us):
                        return
            except YinyomError:  # the database is away: the next renewal may come in time
                continue
