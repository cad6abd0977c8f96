"""A job is held by one worker at a time, and a dead worker's job is found again."""

import asyncio
import itertools

import pytest
from sqlalchemy import select

from kernel import (
    ENDED_KEPT_US,
    Job,
    Statement,
    Urgency,
    claim_job,
    enqueue_job,
    failing_jobs,
    finish_job,
    forget_ended_jobs,
    give_up_job,
    keep_job,
    postpone_job,
)
from kernel.tables import job

pytestmark = pytest.mark.anyio

NOW = 1_795_402_800_000_000
SECOND = 1_000_000
LEASE = 60 * SECOND
ROWS = Statement(select(job.c.id, job.c.state, job.c.payload, job.c.failure).order_by(job.c.id))


async def enqueue(database, count=1, **options):
    async with database.unit_of_work() as work:
        return [
            await enqueue_job(work, "export", {"n": n}, now_us=NOW + n, **options)
            for n in range(count)
        ]


async def claim(database, now_us=NOW + SECOND, **options):
    async with database.unit_of_work() as work:
        return await claim_job(work, now_us=now_us, lease_us=LEASE, **options)


async def finish(database, done):
    async with database.unit_of_work() as work:
        return await finish_job(work, done, now_us=NOW)


async def postpone(database, failed, **options):
    async with database.unit_of_work() as work:
        return await postpone_job(work, failed, failure="s3_unreachable", **options)


async def give_up(database, failed):
    async with database.unit_of_work() as work:
        return await give_up_job(work, failed, failure="s3_unreachable", now_us=NOW)


async def rows(database):
    async with database.read() as session:
        return await session.all(ROWS)


async def test_a_job_of_a_failed_change_never_existed(database):
    with pytest.raises(LookupError):
        async with database.unit_of_work() as work:
            await enqueue_job(work, "export", {}, now_us=NOW)
            raise LookupError
    assert await claim(database) is None


async def test_a_job_is_not_claimed_before_its_time(database):
    await enqueue(database, run_at_us=NOW + 10 * SECOND)
    assert await claim(database, NOW + 10 * SECOND - 1) is None
    assert await claim(database, NOW + 10 * SECOND) is not None


async def test_a_claimed_job_is_nobody_elses_until_its_lease_has_run_out(database):
    (job_id,) = await enqueue(database)
    assert await claim(database, NOW) == Job(job_id, "export", {"n": 0}, 1)
    assert await claim(database, NOW + LEASE) is None
    assert await claim(database, NOW + LEASE + 1) == Job(job_id, "export", {"n": 0}, 2)


async def test_the_job_that_is_due_longest_comes_first(database):
    ids = await enqueue(database, 3)
    assert [(await claim(database)).id for _ in range(3)] == ids


async def test_a_claim_that_is_rolled_back_holds_nothing(database):
    (job_id,) = await enqueue(database)
    with pytest.raises(LookupError):
        async with database.unit_of_work() as work:
            await claim_job(work, now_us=NOW, lease_us=LEASE)
            raise LookupError
    assert await claim(database, NOW) == Job(job_id, "export", {"n": 0}, 1)


async def test_racing_workers_take_each_job_once_and_leave_none(database):
    ids = await enqueue(database, 12)

    async def worker():
        mine = []
        while True:
            async with database.unit_of_work() as work:
                held = await claim_job(work, now_us=NOW + SECOND, lease_us=LEASE)
                await asyncio.sleep(0.002)  # PostgreSQL: others must skip the row we hold
            if held is None:
                return mine
            mine.append(held.id)

    taken = await asyncio.gather(*(worker() for _ in range(4)))
    assert sorted(itertools.chain(*taken)) == ids
    assert {row["state"] for row in await rows(database)} == {"running"}


async def test_a_claim_does_not_wait_for_a_claim_that_has_not_committed(database):
    if database.dialect == "sqlite":
        pytest.skip("SQLite has one writer; its claims follow one another")
    ids = await enqueue(database, 2)
    async with database.unit_of_work() as work:
        first = await claim_job(work, now_us=NOW + SECOND, lease_us=LEASE)
        second = await asyncio.wait_for(claim(database), timeout=30)
        assert await asyncio.wait_for(claim(database), timeout=30) is None
    assert [first.id, second.id] == ids


async def test_a_claim_takes_one_job_even_from_a_long_queue(database):
    await enqueue(database, 500)
    await claim(database)
    states = [row["state"] for row in await rows(database)]
    assert states.count("running") == 1


async def test_a_finished_job_is_done_for_good_and_keeps_no_payload(database):
    await enqueue(database)
    held = await claim(database)
    assert await finish(database, held)
    assert await claim(database, NOW + 1000 * LEASE) is None
    (row,) = await rows(database)
    assert (row["state"], bytes(row["payload"])) == ("done", b"{}")


async def test_a_worker_whose_lease_ran_out_cannot_finish_or_postpone_the_job(database):
    await enqueue(database)
    late = await claim(database, NOW)
    present = await claim(database, NOW + LEASE + 1)
    assert not await finish(database, late)
    assert not await postpone(database, late, next_us=NOW)
    assert await finish(database, present)


async def test_a_failed_job_comes_back_when_it_was_told_to(database):
    (job_id,) = await enqueue(database)
    held = await claim(database)
    assert await postpone(database, held, next_us=NOW + 5 * SECOND)
    assert await claim(database, NOW + 5 * SECOND - 1) is None
    assert await claim(database, NOW + 5 * SECOND) == Job(job_id, "export", {"n": 0}, 2)


async def test_a_job_given_up_stays_aside_with_its_reason(database):
    await enqueue(database)
    held = await claim(database)
    assert await give_up(database, held)
    assert await claim(database, NOW + 1000 * LEASE) is None
    (row,) = await rows(database)
    assert (row["state"], row["failure"]) == ("failed", "s3_unreachable")


async def test_what_a_person_waits_for_overtakes_everything_else_that_is_due(database):
    bulk = await enqueue(database, 40, urgency=Urgency.BULK)
    (ordinary,) = await enqueue(database)
    (copy,) = await enqueue(database, urgency=Urgency.WAITED_FOR)
    assert [(await claim(database)).id for _ in range(3)] == [copy, ordinary, bulk[0]]


async def test_a_claim_for_urgent_jobs_leaves_the_others_alone(database):
    await enqueue(database, 3, urgency=Urgency.BULK)
    await enqueue(database)
    assert await claim(database, least=Urgency.WAITED_FOR) is None
    (copy,) = await enqueue(database, urgency=Urgency.WAITED_FOR)
    assert (await claim(database, least=Urgency.WAITED_FOR)).id == copy


async def test_a_kept_job_is_nobody_elses_for_longer_and_a_lost_one_cannot_be_kept(database):
    await enqueue(database)
    held = await claim(database, NOW)
    async with database.unit_of_work() as work:
        assert await keep_job(work, held, lease_until_us=NOW + 2 * LEASE)
    assert await claim(database, NOW + 2 * LEASE) is None
    assert await claim(database, NOW + 2 * LEASE + 1) is not None
    async with database.unit_of_work() as work:
        assert not await keep_job(work, held, lease_until_us=NOW + 9 * LEASE)


async def test_ended_jobs_are_forgotten_after_a_week_and_open_ones_never(database):
    await enqueue(database, 3)
    assert await finish(database, await claim(database))
    assert await give_up(database, await claim(database))
    async with database.unit_of_work() as work:
        assert await failing_jobs(work, attempts=9, since_us=NOW) == 1
        assert await failing_jobs(work, attempts=9, since_us=NOW + 1) == 0
        assert await forget_ended_jobs(work, now_us=NOW + ENDED_KEPT_US) == 0
        assert await forget_ended_jobs(work, now_us=NOW + ENDED_KEPT_US + 1) == 2
    assert [row["state"] for row in await rows(database)] == ["due"]
