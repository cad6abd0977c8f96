"""Reviews of emergency reads on both engines: once, whatever the race, and never taken back."""

import asyncio

import pytest

from audit import REVIEW_OUTCOMES, REVIEWED
from kernel import ConflictError, new_id
from tests.support.emergency import break_glass
from tests.support.requests import staff
from tests.support.reviews import ROWS, findings, nothing_reviewed, review, waiting

pytestmark = pytest.mark.anyio


@pytest.fixture
async def member(world):
    crm = await world.app()
    return await world.member_id(await crm.register(phone="081-234-5678", birth_date="1992-03-12"))


@pytest.fixture
def officer():
    return staff()


@pytest.fixture
async def read(world, member, officer):
    """The event of an emergency read by the officer."""
    return (await break_glass(world, member, caller=officer)).audit_id


async def test_a_second_review_is_a_conflict(world, read):
    await review(world, read, "not_justified")
    for outcome in REVIEW_OUTCOMES:
        with pytest.raises(ConflictError) as refused:
            await review(world, read, outcome)
        assert refused.value.reason == "already_reviewed"
    (event,) = await world.events(REVIEWED)
    assert event["reason"] == "not_justified"


async def test_of_many_hands_at_once_one_reviews(world, read):
    answers = await asyncio.gather(
        *(review(world, read, REVIEW_OUTCOMES[at % 2]) for at in range(6)), return_exceptions=True
    )
    assert sum(isinstance(one, ConflictError) for one in answers) == 5, answers
    (row,) = await world.fetch(ROWS)
    (event,) = await world.events(REVIEWED)
    assert (row["event_id"], row["reviewed_by"]) == (read, event["id"])


async def test_a_review_whose_row_cannot_be_kept_leaves_no_event(world, read):
    await world.execute(
        "ALTER TABLE audit_review ADD CONSTRAINT none_today CHECK (event_id = '')"
        if world.settings.on_postgres
        else "CREATE TRIGGER none_today BEFORE INSERT ON audit_review "
        "BEGIN SELECT RAISE(ABORT, 'none today'); END"
    )
    with pytest.raises(ConflictError):
        await review(world, read)
    assert await nothing_reviewed(world, read)


async def test_the_database_itself_refuses_to_take_a_review_back(world, read):
    await review(world, read)
    changes = [
        "UPDATE audit_review SET reviewed_by = 'x'",
        "DELETE FROM audit_review",
        "TRUNCATE audit_review"
        if world.settings.on_postgres
        else "INSERT OR REPLACE INTO audit_review SELECT event_id, 'x' FROM audit_review",
    ]
    for change in changes:
        with pytest.raises(Exception, match="append-only"):
            await world.execute(change)
    assert await findings(world) == []


async def test_the_check_of_the_log_finds_a_review_that_nobody_made(world, member, officer):
    reads = [(await break_glass(world, member)).audit_id for _ in range(3)]
    own = (await break_glass(world, member, caller=officer)).audit_id
    honest = await review(world, reads[0])
    async with world.runtime.database.unit_of_work() as work:
        forged = await world.runtime.audit.record(
            work, officer, REVIEWED, resource=own, reason="justified"
        )
        lost = await world.runtime.audit.record(
            work, staff(), REVIEWED, resource=reads[2], reason="justified"
        )
    await world.unguard("audit_review")
    await world.execute("DROP INDEX ix_audit_review_reviewed_by")
    stray = new_id("evt")
    add = "INSERT INTO audit_review (event_id, reviewed_by) VALUES (:read, :by)"
    for event, told_by in ((reads[1], honest), (own, forged), (new_id("evt"), stray)):
        await world.execute(add, read=event, by=told_by)
    found = await findings(world)
    assert {code for code, _ in found} == {"review"}
    assert sum(reads[1] in detail and "something else" in detail for _, detail in found) == 1
    assert sum(own in detail and "whoever read" in detail for _, detail in found) == 1
    assert sum(lost in detail and "not kept" in detail for _, detail in found) == 1
    assert sum("no event tells" in detail for _, detail in found) == 1
    assert len(found) == 4


async def test_a_read_waits_until_a_second_person_has_looked(world, read):
    assert await waiting(world) == [read]
    reviewer = staff("auditor")
    told = await review(world, read, "justified", caller=reviewer)
    assert await waiting(world) == []
    (event,) = await world.events(REVIEWED)
    assert event["id"] == told
    assert (event["resource"], event["reason"]) == (read, "justified")
    assert (event["actor"]["id"], event["actor"]["role"]) == (reviewer.id, "auditor")
    assert "subject" not in event  # a token of this month beside one of that month ties both
    assert await findings(world) == []


async def test_what_waits_comes_a_page_at_a_time_the_oldest_first(world, member):
    reads = [(await break_glass(world, member)).audit_id for _ in range(5)]
    await review(world, reads[1])
    first = await waiting(world, most=2)
    assert first == [reads[0], reads[2]]
    assert await waiting(world, most=2, after=first[-1]) == [reads[3], reads[4]]
    assert await waiting(world, after=reads[4]) == []
