"""Reviews of emergency reads: who may not, what is refused, and what stays open until somebody has."""

from dataclasses import replace
from datetime import date

import pytest

from kernel import (
    InvalidRequestError,
    MemberId,
    NotAllowedError,
    NotFoundError,
    UnavailableError,
    new_id,
    rfc3339,
)
from policies import load_pack, review_overdue_from
from service.commands import COMMANDS
from service.reviews import reviews_of
from tests.support.console import CHEAP
from tests.support.emergency import EMERGENCY, break_glass
from tests.support.requests import staff
from tests.support.reviews import findings, nothing_reviewed, review, waiting

pytestmark = pytest.mark.anyio


@pytest.fixture
def settings(sqlite_settings):
    """One engine: what is decided here is decided before the database is asked."""
    return sqlite_settings


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


# --- who may not ----------------------------------------------------------------------


async def test_nobody_reviews_their_own_read(world, read, officer):
    with pytest.raises(NotAllowedError) as refused:
        await review(world, read, caller=officer)
    assert refused.value.reason == "own_read"
    assert await nothing_reviewed(world, read)


async def test_a_second_account_of_the_same_person_is_no_second_person(world, member):
    accounts = world.runtime.staff
    accounts._cost = CHEAP
    made = {
        name: await accounts.add(world.operator, name, role, brand="main", person=person)
        for name, role, person in (
            ("one", "dpo", "somsri"),
            ("two", "dpo", "somsri"),
            ("other", "auditor", "malee"),
        )
    }
    callers = {name: replace(staff(), id=one["staff_id"]) for name, one in made.items()}
    event = (await break_glass(world, member, caller=callers["one"])).audit_id
    with pytest.raises(NotAllowedError) as refused:
        await review(world, event, caller=callers["two"])
    assert refused.value.reason == "own_read"
    assert await nothing_reviewed(world, event)
    assert await review(world, event, caller=callers["other"])


async def test_an_app_and_the_command_line_are_nobody(world, read):
    crm = await world.app("other")
    for caller in (world.caller(crm), world.operator):
        with pytest.raises(NotAllowedError):
            await review(world, read, caller=caller)
    assert await nothing_reviewed(world, read)


async def test_what_is_no_finding_of_the_list_is_not_recorded(world, read):
    for outcome in ("", "maybe", "Justified", "she asked me to, her name is Malee"):
        with pytest.raises(InvalidRequestError) as refused:
            await review(world, read, outcome)
        assert [problem.pointer for problem in refused.value.errors] == ["/outcome"]
        assert "Malee" not in str(refused.value.errors)
    assert await nothing_reviewed(world, read)


async def test_only_an_emergency_read_of_the_brand_is_reviewed(world, read, member):
    with pytest.raises(NotFoundError):
        await break_glass(world, MemberId(new_id("mem")))
    (denied,) = [e["id"] for e in await world.events("member.break_glass") if e["id"] != read]
    registered = (await world.events("member.register"))[0]["id"]
    for event in (denied, registered, new_id("evt")):
        with pytest.raises(NotFoundError) as refused:
            await review(world, event)
        assert refused.value.reason == "event_unknown"
    with pytest.raises(NotFoundError):
        await review(world, read, caller=staff(brand="elsewhere"))
    assert await waiting(world) == await waiting(world, "*") == [read]
    assert await waiting(world, "elsewhere") == []
    assert await nothing_reviewed(world, read)
    del member


async def test_nothing_is_reviewed_while_the_trail_takes_no_events(world, read):
    world.runtime.audit.block("audit_test")
    with pytest.raises(UnavailableError):
        await review(world, read)
    world.runtime.audit.unblock()
    assert await nothing_reviewed(world, read)


# --- what waits, and for how long -----------------------------------------------------


async def test_an_erasure_leaves_the_review_open(world):
    crm = await world.app()
    member = await crm.register(phone="082-345-6789")
    read = (await break_glass(world, await world.member_id(member))).audit_id
    await world.erase(member)
    assert await waiting(world) == [read]
    assert await review(world, read, "not_justified")
    assert await findings(world) == []


async def test_a_read_is_overdue_when_the_packs_time_has_run_and_never_too_late(
    world, read, monkeypatch
):
    reviews = reviews_of(world.runtime)
    async with world.runtime.database.read() as session:
        one = await reviews.read(session, read, "main")
    day = review_overdue_from(world.runtime.pack, date.fromisoformat(one.event["ts"][:10]))
    assert rfc3339(one.due_us)[:19] == f"{day.isoformat()}T00:00:00"
    counted = []
    for moment in (one.due_us - 1, one.due_us):
        monkeypatch.setattr(world.runtime.audit, "now_us", lambda moment=moment: moment)
        async with world.runtime.database.read() as session:
            counted.append(await reviews.count(session, "main", most=9))
    assert [(one.reads, one.overdue) for one in counted] == [(1, 0), (1, 1)]
    monkeypatch.undo()
    assert await review(world, read)


def test_the_time_for_a_review_is_a_rule_of_the_house_that_says_so():
    fact = load_pack().emergency_review
    assert fact.unverified
    assert fact.status.value == "conservative_default"
    assert "house" in fact.source


async def test_an_officers_own_reads_are_not_counted_among_what_they_can_review(
    world, read, officer
):
    reviews = reviews_of(world.runtime)
    async with world.runtime.database.read() as session:
        mine = await reviews.count(session, "main", but_of=officer.id, most=9)
        others = await reviews.count(session, "main", but_of=staff().id, most=9)
    assert (mine.reads, others.reads) == (0, 1)
    del read


async def test_the_command_line_lists_what_waits_as_a_search_and_reviews_nothing(world, read):
    answer = await COMMANDS["audit.reviews"](world.runtime, lambda *_: None, after=None)
    (one,) = answer["reviews"]
    assert (one["event"], one["role"], one["reason"]) == (read, "dpo", EMERGENCY.reason)
    assert (one["fields"], one["overdue"]) == (["birth_date", "phone"], False)
    assert (answer["overdue"], answer["next"]) == (0, None)
    assert answer["within"]["unverified"] is True
    search = (await world.events("audit.search"))[-1]
    assert (search["resource"], search["actor"]["via"]) == ("view/to-review", "cli")
    assert not any(name.startswith("audit.review.") for name in COMMANDS)
