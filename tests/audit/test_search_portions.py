"""A search that no index serves looks through so much at a time, and its pages lose nothing."""

import random
from dataclasses import replace

import pytest

import audit.search as searching
from audit import EventFilter, saved_views
from audit.repository import append_events
from audit.walk_repository import walking
from kernel import from_rfc3339, new_id
from kernel.http import encode_cursor
from service.audit_commands import audit_search
from tests.audit.test_views import caller, found, hours, moment, plan_of, read_by
from tests.support.world import (  # noqa: F401 (fixtures)
    DAY_US,
    JumpingClock,
    installed_sqlite,
    open_world,
    postgres_settings,
    settings,
    sqlite_settings,
    world,
)
from vault import PSEUDONYM, OwnerKey

# ruff: noqa: F811 (fixtures)
pytestmark = pytest.mark.anyio
START_US = moment("2024-11-20T00:00")
ACTORS, ACTIONS = ("1", "2", "3"), ("member.view", "consent.given", "member.break_glass")
PURPOSES = ("marketing", "membership", None)


@pytest.fixture
def portions(monkeypatch):
    """What a page may cost, made so small that every search needs many."""
    monkeypatch.setattr(searching, "_FIRST_PORTION", 2)
    monkeypatch.setattr(searching, "_LONGER", 2)
    monkeypatch.setattr(searching, "_MOST_WALKED", 13)
    monkeypatch.setattr(searching, "_MOST_LOOKED_AT", 11)
    monkeypatch.setattr(searching, "_CHUNK", 3)


async def fill(world, number, *, only=None):
    """Events of every sort, some of them of one moment."""
    rng, audit, rows, bodies = random.Random(11), world.runtime.audit, [], []
    for at in range(number):
        at_us = START_US + at // 3 * 1_000_000
        event = audit.draft(
            caller(world, rng.choice(ACTORS), via=rng.choice(("console", "api"))),
            only or rng.choices(ACTIONS, (60, 39, 1))[0],
            purpose=rng.choices(PURPOSES, (2, 60, 38))[0],
            decision=rng.choices(("allow", "deny", None), (90, 3, 7))[0],
        )
        event = replace(event, id=new_id("evt", at_us), ts=at_us)
        rows.append(audit.row(event))
        bodies.append(event)
    async with world.runtime.database.unit_of_work() as work:
        await append_events(work, rows)
    return bodies


def fits(event, *, actor=None, action=None, purpose=None, decision=None):
    said = (event.actor.id, event.action, event.purpose, event.decision)
    return all(
        a in {None, b} for a, b in zip((actor, action, purpose, decision), said, strict=True)
    )


QUESTIONS = [
    {},
    {"action": "member.break_glass"},
    {"action": "member.view"},
    {"purpose": "marketing"},
    {"decision": "deny"},
    {"decision": "deny", "purpose": "marketing"},
    {"decision": "allow", "purpose": "marketing"},
    {"actor": f"stf_{'2':0>26}"},
    {"actor": f"stf_{'2':0>26}", "purpose": "marketing"},
    {"actor": f"stf_{'2':0>26}", "decision": "deny", "action": "consent.given"},
    {"action": "nothing.like_it"},
]


async def test_no_event_is_lost_or_doubled_between_portions(world, portions):
    before = {body["id"] for body in await world.events()}
    events = await fill(world, 260)
    for asked in QUESTIONS:
        wanted = sorted((e.id for e in events if fits(e, **asked)), reverse=True)
        for most in (1, 4, 50):
            if most == 1 and len(wanted) > 90:
                continue
            ids = await found(world, EventFilter(**asked), most=most)
            assert [one for one in ids if one not in before] == wanted, (asked, most)


async def test_no_event_is_lost_between_portions_of_a_view_or_a_period(world, portions):
    events = await fill(world, 200)
    views = saved_views(hours(), 500)
    night = [
        e for e in events if e.decision == "allow" and e.action in views["after-hours"].actions
    ]
    wanted = {
        "break-glass": [e for e in events if e.action == "member.break_glass"],
        "denied": [e for e in events if e.decision == "deny"],
        "after-hours": [e for e in night if e.actor.via == "console"],
        "bulk": [],
    }
    for key, kept in wanted.items():
        for most in (3, 50):
            ids = await found(world, EventFilter(view=views[key]), most=most)
            assert ids == sorted((e.id for e in kept), reverse=True), (key, most)
    first, last = START_US + 20_000_000, START_US + 40_000_000
    for asked in ({"purpose": "membership"}, {"actor": f"stf_{'1':0>26}"}, {"decision": "deny"}):
        kept = [e.id for e in events if first <= e.ts < last and fits(e, **asked)]
        question = EventFilter(**asked, from_us=first, until_us=last)
        assert await found(world, question, most=2) == sorted(kept, reverse=True)


async def test_a_page_costs_no_more_than_it_may_and_says_how_far_it_looked(world, portions):
    events = sorted(await fill(world, 60), key=lambda event: event.id, reverse=True)
    audit, asked = world.runtime.audit, EventFilter(action="nothing.like_it")
    async with world.runtime.database.read() as session:
        page = await audit.search(session, asked, before=new_id("evt", START_US + DAY_US))
        assert page.events == ()
        assert page.next_before == events[12].id
        assert 0 < page.searched_to_us - events[12].ts <= 1_000
        second = await audit.search(session, asked, before=page.next_before)
        assert second.next_before == events[25].id
        actors = EventFilter(action="nothing.like_it", actor=f"stf_{'2':0>26}")
        theirs = [event for event in events if event.actor.id == actors.actor]
        page = await audit.search(session, actors, before=new_id("evt", START_US + DAY_US))
        assert page.next_before == theirs[12].id


async def test_what_an_index_serves_is_looked_for_to_the_end(world, monkeypatch):
    monkeypatch.setattr(searching, "_MOST_WALKED", 1)
    monkeypatch.setattr(searching, "_FIRST_PORTION", 1)
    events = await fill(world, 80)
    async with world.runtime.database.read() as session:
        page = await world.runtime.audit.search(session, EventFilter(decision="deny"), most=100)
    assert page.next_before is None
    assert page.searched_to_us is None
    assert len(page.events) == sum(fits(event, decision="deny") for event in events)


async def test_a_day_that_ends_a_page_hides_nothing_of_the_day_before(world):
    """The last millisecond of a day is as good as any other."""
    clerk = caller(world, "7")
    keys = [OwnerKey(f"mem_{at}", PSEUDONYM, 1, at.to_bytes(32)) for at in range(4)]
    over = set()
    for day in (2, 1):
        end_us = START_US + day * DAY_US
        for at in range(2):
            await read_by(world, clerk, at_us=end_us - 10_000_000 + at, subject=keys[at])
        over.add(await read_by(world, clerk, at_us=end_us - 400, subject=keys[2]))
    view = saved_views(hours(), 2)["many-members"]
    for most in (1, 50):
        assert set(await found(world, EventFilter(view=view), most=most)) == over


async def test_the_api_says_with_an_empty_page_how_far_it_looked(world, portions):
    auditor = await world.app("auditor", "audit:read")
    await fill(world, 60)
    params = {
        "action": "nothing.like_it",
        "cursor": encode_cursor(new_id("evt", START_US + DAY_US)),
    }
    moments = []
    while params["cursor"] is not None:
        answer = (await auditor.get("/v1/audit/events", params=params)).json()
        assert answer["events"] == []
        assert (answer["searched_to"] is None) == (answer["next_cursor"] is None)
        params["cursor"] = answer["next_cursor"]
        moments.append(answer["searched_to"])
    *told, end = moments
    assert len(told) >= 4
    assert end is None
    assert told == sorted(told, reverse=True)
    assert START_US < from_rfc3339(told[-1]) < from_rfc3339(told[0])


async def test_the_command_goes_on_by_itself_and_is_one_event(world, portions):
    events = await fill(world, 150)
    wanted = sorted((e.id for e in events if e.purpose == "marketing"), reverse=True)
    told = await audit_search(world.runtime, lambda *_: None, purpose="marketing", most=2)
    assert [one["id"] for one in told["events"]] == wanted[:2]
    rest = await audit_search(
        world.runtime, lambda *_: None, purpose="marketing", cursor=told["next_cursor"]
    )
    assert [one["id"] for one in rest["events"]] == wanted[2:]
    assert (rest["next_cursor"], rest["searched_to"]) == (None, None)
    said = await world.events("audit.search")
    assert [(one["fields"], one["actor"]["via"]) for one in said] == [
        (["filter.purpose"], "cli")
    ] * 2


# --- cost -----------------------------------------------------------------------------


async def test_the_planner_walks_along_the_index_that_fits(world):
    await fill(world, 3_000, only="member.view")
    if world.settings.on_postgres:
        await world.execute("ANALYZE audit_event")
    asked = {"before": "evt_~", "oldest": "", "portion": 1_000, "most": 51, "purpose": "marketing"}
    by_ids = "pk_audit_event" if world.settings.on_postgres else "sqlite_autoindex_audit_event_1"
    for along, values, index in (
        ((), {}, by_ids),
        (("actor",), {"actor": "stf_x"}, "ix_audit_event_actor"),
        (("denied",), {}, "ix_audit_event_denied"),
    ):
        statement = walking(frozenset({"purpose", *along}), of_actions=False)
        told = await plan_of(world, statement, **asked, **values)
        assert index in told, told
        assert "Seq Scan" not in told, told
        assert "SCAN audit_event" not in told, told
