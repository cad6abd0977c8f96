"""What events said goes when its time has come, and no day earlier: both engines."""

import asyncio
import json
import sqlite3

import asyncpg
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from audit import (
    EventPrunedError,
    Holds,
    HoldScope,
    check_document,
    export_log,
    retention_repository,
    verify_stored_log,
)
from audit.retention import MOST_GAPS, RetentionRule, bounds_us, rule_of, told
from audit.verify import verify_bundle
from kernel import IntegrityError, InvalidRequestError, NotFoundError, rfc3339
from policies import kept_until, load_pack
from tests.support.stores import begin, create
from tests.support.world import DAY_US, JumpingClock, open_world

pytestmark = pytest.mark.anyio

LONG_AGO_US = 8 * 366 * DAY_US


def holds_of(world):
    return Holds(world.runtime.database, world.runtime.audit, world.runtime.clock)


@pytest.fixture
async def aged(settings):
    """A registry eight years on: a member was registered and read in its first days."""
    clock = JumpingClock()
    clock.jump_us = -LONG_AGO_US
    async with open_world(settings, clock=clock, background=False) as world:
        crm = await world.app()
        member = await crm.register(phone="081-234-5678")
        for _ in range(5):
            assert (await crm.view(member)).status_code == 200
        other = await crm.register({"given_name": "ชัย"}, phone="082-345-6789")
        assert (await crm.view(other)).status_code == 200
        await world.runtime.sequencer.drain()
        clock.jump_us = 0
        await crm.sign_in()
        world.member, world.other, world.crm, world.clock = member, other, crm, clock
        yield world


async def prune(world, **details):
    found = await world.runtime.pruning.prune(world.operator, **details)
    await world.runtime.sequencer.drain()
    return found


async def bodies(world, action):
    return await world.fetch("SELECT id FROM audit_event WHERE action = :action", action=action)


async def hold(world, reason="litigation", **scope):
    async with world.runtime.database.unit_of_work() as work:
        return await holds_of(world).add(work, world.operator, HoldScope(**scope), reason)


async def report_of(world, tmp_path):
    path = tmp_path / "bundle"
    await export_log(world.runtime.database, path)
    return verify_bundle(path, world.runtime.audit.vkey)


# What stays.


async def test_what_is_not_due_stays(world):
    crm = await world.app()
    member = await crm.register(phone="081-234-5678")
    await crm.view(member)
    assert await prune(world) == []
    assert await world.events("retention.pruned") == []


async def test_what_waits_for_its_place_stays(aged):
    await aged.rest()
    aged.clock.jump_us = -LONG_AGO_US
    await aged.crm.sign_in()
    await aged.crm.view(aged.member)
    aged.clock.jump_us = 0
    waiting = {row["event_id"] for row in await aged.fetch("SELECT event_id FROM audit_pending")}
    await aged.runtime.pruning.prune(aged.operator)
    kept = {row["id"] for row in await bodies(aged, "member.view")}
    assert kept == waiting & kept
    assert len(kept) == 1


async def test_what_no_signed_head_an_hour_old_covers_stays(settings):
    clock = JumpingClock()
    clock.jump_us = -LONG_AGO_US
    async with open_world(settings, clock=clock, background=False) as world:
        crm = await world.app()
        await crm.view(await crm.register(phone="081-234-5678"))
        clock.jump_us = 0
        await world.runtime.sequencer.drain()  # eight years late
        assert await prune(world) == []
        assert len(await bodies(world, "member.view")) == 1


async def test_proof_of_consent_and_what_rows_are_held_against_stay(aged):
    rules = aged.runtime.pruning.rules
    await prune(aged)
    assert len(await bodies(aged, "member.register")) == 2
    for action in ("consent.given", "consent.withdrawn", "member.update", "retention.pruned"):
        assert rule_of(rules, action) is None


async def test_a_dry_run_deletes_and_writes_nothing(aged):
    before = await aged.fetch("SELECT id FROM audit_event")
    found = await prune(aged, dry_run=True)
    assert sum(one.bodies for one in found) >= 6
    assert await aged.fetch("SELECT id FROM audit_event") == before


async def test_months_from_a_given_one_on_stay(aged):
    month = rfc3339(aged.runtime.clock.now_us() - LONG_AGO_US)[:7]
    assert await prune(aged, before=month) == []
    assert len(await prune(aged)) == 1


# What holds.


async def cover_month(world):
    month = rfc3339(world.runtime.clock.now_us() - LONG_AGO_US)[:7]
    return await hold(world, from_month=month, to_month=month)


async def cover_action(world):
    return await hold(world, action="member.view")


async def cover_member(world):
    member_id = await world.member_id(world.member)
    async with world.runtime.database.read() as session:
        key = await world.runtime.members.pseudonym(session, member_id)
    return await hold(world, member=key)


@pytest.mark.parametrize(
    ("cover", "left"), [(cover_month, 6), (cover_action, 6), (cover_member, 5)]
)
async def test_a_hold_keeps_what_it_covers_until_it_is_released(aged, cover, left, tmp_path):
    hold_id = await cover(aged)
    found = await prune(aged)
    assert sum(one.held for one in found) >= left
    assert len(await bodies(aged, "member.view")) == left
    async with aged.runtime.database.unit_of_work() as work:
        await holds_of(aged).release(work, aged.operator, hold_id)
    assert await aged.fetch("SELECT token FROM audit_hold_subject") == []
    await prune(aged)
    assert await bodies(aged, "member.view") == []
    placed, released = await aged.events("retention.hold"), await aged.events("retention.release")
    assert placed[0]["resource"] == released[0]["resource"] == f"hold:{hold_id}"
    report = await report_of(aged, tmp_path)
    assert report.ok, report.findings


async def test_a_hold_on_a_member_outlives_the_erasure_and_names_nobody(aged):
    await cover_member(aged)
    member_id = await aged.erase(aged.member)
    await prune(aged)
    assert len(await bodies(aged, "member.view")) == 5
    listed = await holds_of(aged).list()
    assert member_id not in json.dumps(listed)
    assert not any(member_id in str(row) for row in await aged.fetch("SELECT * FROM audit_hold"))


async def test_a_hold_for_no_known_reason_or_backwards_is_refused(aged):
    for scope, reason in (
        ({}, "because"),
        ({"from_month": "2020-02", "to_month": "2020-01"}, None),
    ):
        with pytest.raises(InvalidRequestError):
            await hold(aged, reason or "litigation", **scope)
    with pytest.raises(NotFoundError):
        async with aged.runtime.database.unit_of_work() as work:
            await holds_of(aged).release(work, aged.operator, "hld_none")


async def test_no_sql_by_accident_takes_a_hold_away(aged):
    await cover_member(aged)
    for sql in (
        "DELETE FROM audit_hold",
        "DELETE FROM audit_hold_subject",
        "UPDATE audit_hold_subject SET token = 'x'",
        "UPDATE audit_pruned SET last_index = 99",
    ):
        if "pruned" in sql:
            await prune(aged)
        with pytest.raises((sqlite3.IntegrityError, asyncpg.IntegrityConstraintViolationError)):
            await aged.execute(sql)


# What goes.


async def test_what_is_due_goes_and_the_log_still_verifies(aged, tmp_path):
    views = await bodies(aged, "member.view")
    found = await prune(aged)
    assert await bodies(aged, "member.view") == []
    (event,) = await aged.events("retention.pruned")
    assert event["id"] in found[0].events
    pruned = event["pruned"]
    assert (pruned["rule"], pruned["month"]) == ("readings", found[0].month)
    assert event["count"] == found[0].bodies >= len(views)
    assert pruned["first"] <= pruned["last"]
    report = await report_of(aged, tmp_path)
    assert report.ok, report.findings
    assert report.pruned == event["count"]
    stored, misleading = await verify_stored_log(aged.runtime.database, aged.runtime.audit)
    assert stored.ok, stored.findings
    assert misleading == []
    assert await prune(aged) == []  # done is done


async def test_a_deletion_that_nobody_told_of_is_missing_and_not_pruned(aged, tmp_path):
    await prune(aged)
    await aged.unguard("audit_event")
    event = (await bodies(aged, "member.register"))[0]["id"]
    (leaf,) = await aged.fetch("SELECT leaf_index FROM audit_leaf WHERE event_id = :id", id=event)
    await aged.execute("DELETE FROM audit_event WHERE id = :id", id=event)
    report = await report_of(aged, tmp_path)
    assert not report.ok
    assert [(finding.code, finding.index) for finding in report.findings] == [
        ("missing", leaf["leaf_index"])
    ]
    stored, _ = await verify_stored_log(aged.runtime.database, aged.runtime.audit)
    assert not stored.ok


async def test_a_place_that_no_event_names_is_found_in_the_table(aged):
    await prune(aged)
    (event,) = await aged.events("retention.pruned")
    await aged.execute("INSERT INTO audit_pruned VALUES (0, 0, :event, 0, 1, 1)", event=event["id"])
    stored, _ = await verify_stored_log(aged.runtime.database, aged.runtime.audit)
    assert ("pruned", 0) in [(finding.code, finding.index) for finding in stored.findings]


async def test_a_body_that_waits_for_nothing_cannot_be_deleted_by_hand(aged):
    """Not even where a run is named for it: the day, the event and the head are asked again."""
    await aged.runtime.sequencer.drain()
    leaf = (
        await aged.fetch(
            "SELECT l.leaf_index, e.id, e.recorded_us FROM audit_event e "
            "JOIN audit_leaf l ON l.event_id = e.id WHERE e.action = 'member.view'"
        )
    )[0]
    now_us = aged.runtime.clock.now_us()
    some_event = (await aged.events("client.add"))[0]["id"]
    await aged.execute(
        "INSERT INTO audit_pruned VALUES (:one, :last, :event, :begin, :until, :due)",
        one=leaf["leaf_index"],
        last=leaf["leaf_index"],
        event=some_event,
        begin=leaf["recorded_us"],
        until=leaf["recorded_us"] + 1,
        due=now_us,
    )
    with pytest.raises((sqlite3.IntegrityError, asyncpg.IntegrityConstraintViolationError)):
        await aged.execute("DELETE FROM audit_event WHERE id = :id", id=leaf["id"])


async def prune_by_hand(world, place, bounds, due_us, action="retention.pruned"):
    """Delete one body with an event of the same transaction, as whoever may prune could."""
    from_us, until_us = bounds
    async with world.runtime.database.unit_of_work() as work:
        by = await world.runtime.audit.record(work, world.operator, action)
        await work.run(
            retention_repository._ADD_RUN,
            first_index=place,
            last_index=place,
            event_id=by,
            from_us=from_us,
            until_us=until_us,
            due_us=due_us,
        )
        assert await retention_repository.delete_bodies(work, by) == 1


async def test_each_condition_alone_keeps_a_body(aged):
    """Everything fits but one thing, each in its turn; in the end all fits, and it goes."""
    crm = aged.crm
    await crm.view(aged.member)
    await aged.runtime.sequencer.drain()
    rows = await aged.fetch(
        "SELECT l.leaf_index AS place, e.recorded_us AS moment FROM audit_event e "
        "JOIN audit_leaf l ON l.event_id = e.id WHERE e.action = 'member.view' "
        "ORDER BY l.leaf_index"
    )
    old, young = rows[0], rows[-1]
    born_us, place = old["moment"], old["place"]
    now_us = aged.runtime.clock.now_us()
    ago_us = now_us - DAY_US
    around = (born_us, born_us + 1)
    if not aged.settings.on_postgres:  # its clock has whole seconds
        after_us = young["moment"] + 1
        await aged.until(f"SELECT 1 WHERE strftime('%s', 'now') * 1000000 >= {after_us}")
    for what, jump_us, arguments in (
        ("its day is yet to come", 10 * DAY_US, (place, around, now_us + 9 * DAY_US)),
        ("the event tells of a day behind it", -2 * DAY_US, (place, around, ago_us)),
        ("the days end behind their day", 0, (place, (born_us, ago_us + 1), ago_us)),
        ("it was there before the days began", 0, (place, (born_us + 1, born_us + 2), ago_us)),
        ("the days had ended", 0, (place, (born_us - 1, born_us), ago_us)),
        (
            "its month runs",
            0,
            (young["place"], (young["moment"], young["moment"] + 1), young["moment"] + 1),
        ),
        ("the event tells of something else", 0, (place, around, ago_us, "member.view")),
    ):
        aged.clock.jump_us = jump_us
        with pytest.raises(IntegrityError):
            await prune_by_hand(aged, *arguments)
            pytest.fail(what)
    aged.clock.jump_us = 0
    many = len(await bodies(aged, "member.view"))
    await prune_by_hand(aged, place, around, ago_us)
    assert len(await bodies(aged, "member.view")) == many - 1


async def test_a_clock_that_runs_ahead_deletes_nothing(world):
    """The application's clock says that years have passed; the database's own does not."""
    crm = await world.app()
    await crm.view(await crm.register(phone="081-234-5678"))
    await world.runtime.sequencer.drain()
    ahead = JumpingClock()
    ahead.jump_us = LONG_AGO_US
    world.runtime.pruning._clock = ahead
    world.runtime.audit._clock = ahead
    with pytest.raises(Exception, match=r"constraint|refused"):
        await world.runtime.pruning.prune(world.operator)
    assert len(await bodies(world, "member.view")) == 1
    assert await world.events("retention.pruned") == []


async def test_two_prunes_at_once_delete_each_body_once(aged, tmp_path):
    await asyncio.gather(prune(aged), prune(aged))
    await prune(aged)
    told_of = sum(event["count"] for event in await aged.events("retention.pruned"))
    leaves = await aged.fetch("SELECT count(*) AS n FROM audit_leaf")
    left = await aged.fetch(
        "SELECT count(*) AS n FROM audit_leaf l JOIN audit_event e ON e.id = l.event_id"
    )
    assert told_of == leaves[0]["n"] - left[0]["n"]
    report = await report_of(aged, tmp_path)
    assert report.ok, report.findings


# What is said of what is gone.


async def test_a_pruned_event_is_gone_and_its_leaf_is_still_proven(aged):
    event = (await bodies(aged, "member.view"))[0]["id"]
    await prune(aged)
    async with aged.runtime.database.read() as session:
        with pytest.raises(EventPrunedError):
            await aged.runtime.audit.event(session, event)
        with pytest.raises(NotFoundError):
            await aged.runtime.audit.event(session, "evt_unknown")
    answer = await aged.crm.get(f"/v1/audit/events/{event}/proof")
    assert answer.status_code == 404  # a client stands for one brand; whose it was nobody knows
    async with aged.runtime.database.read() as session:
        document = await aged.runtime.audit.proof(session, event)
    assert document["event"] is None
    said, head = check_document(document, aged.runtime.audit.vkey)
    assert said is None
    assert head.size == len(await aged.fetch("SELECT 1 FROM audit_leaf"))


async def test_a_bundle_with_a_gap_is_gone_over_http_and_tiles_are_served(aged):
    await prune(aged)
    size = len(await aged.fetch("SELECT 1 FROM audit_leaf"))
    answer = await aged.crm.get(f"/audit/log/tile/entries/000.p/{size}")
    assert answer.status_code == 410
    assert answer.json()["type"].endswith("/event-pruned")
    assert (await aged.crm.get(f"/audit/log/tile/0/000.p/{size}")).status_code == 200


# Pure parts.


def test_no_rule_of_the_pack_lets_a_month_go_before_its_last_day_has_been_kept_long_enough():
    pack = load_pack()
    for rule in pack.trail_rules.values():
        assert set(rule.period) == set(pack.jurisdictions)
        years = max(int(fact.value) for fact in rule.period.values())
        assert kept_until(pack, rule, "2020-12").isoformat() == f"{2020 + years + 1}-01-01"


def test_the_longest_beginning_of_an_action_decides_its_rule():
    rules = [
        RetentionRule("all", ("member.*",), lambda _: 0),
        RetentionRule("one", ("member.view",), lambda _: 0),
    ]
    assert rule_of(rules, "member.view").key == "one"
    assert rule_of(rules, "member.lookup").key == "all"
    assert rule_of(rules, "members") is None


@hypothesis_settings(deadline=None)
@given(st.sets(st.integers(0, 3_000), min_size=1, max_size=1_500))
def test_events_name_exactly_the_places_that_go(places):
    events = told("2020-01", "readings", sorted(places))
    named = [at for one in events for first, last in one.runs for at in range(first, last + 1)]
    assert named == sorted(places)
    assert all(len(one.gaps) <= MOST_GAPS for one in events)
    assert sum(one.bodies for one in events) == len(places)


def test_a_month_ends_where_the_next_begins():
    assert bounds_us("2020-12")[1] == bounds_us("2021-01")[0]
    assert bounds_us("2020-02")[1] - bounds_us("2020-02")[0] == 29 * DAY_US


async def test_a_prune_beside_a_sequencer_and_a_backup_loses_nothing_of_either(
    aged, tmp_path, folder_store
):
    """What is shipped while bodies go is whole: each as a body, or by its leaf and its event."""
    await begin(aged, folder_store)
    runtime = aged.runtime

    async def sequences():
        for _ in range(20):
            async with runtime.database.unit_of_work() as work:
                await runtime.audit.record(work, aged.operator, "test.event")
            await runtime.sequencer.drain()

    pruned, _, _ = await asyncio.gather(prune(aged), create(aged), sequences())
    assert sum(each.bodies for each in pruned)
    await create(aged)
    await runtime.sequencer.drain()
    assert await aged.fetch("SELECT event_id FROM audit_pending") == []
    assert (await report_of(aged, tmp_path)).ok
    stored, misleading = await verify_stored_log(runtime.database, runtime.audit)
    assert stored.ok
    assert not misleading
