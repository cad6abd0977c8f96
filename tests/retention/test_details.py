"""The clock of sealed details, and the guards that keep them until then: both engines."""

import json

import asyncpg
import pytest
from sqlalchemy import text

from audit import Details, Holds, HoldScope, verify_stored_log
from audit.detail_repository import drop_detail
from kernel import IntegrityError, NotFoundError, Statement, new_id
from policies import detail_kept_until, kept_until, load_pack
from tests.support.emergency import break_glass
from tests.support.requests import staff
from tests.support.world import DAY_US, JumpingClock, fetch, open_world

pytestmark = pytest.mark.anyio

YEAR_US = 366 * DAY_US


@pytest.fixture
async def aged(settings):
    """A registry some years on: two members were opened in emergencies long ago, one today."""
    clock = JumpingClock()
    clock.jump_us = -3 * YEAR_US
    async with open_world(settings, clock=clock, background=False) as world:
        crm = await world.app()
        world.members, world.old = [], []
        for phone in ("081-234-5678", "082-345-6789"):
            member = await world.member_id(await crm.register(phone=phone))
            world.members.append(member)
            world.old.append((await break_glass(world, member)).audit_id)
        clock.jump_us = 0
        await world.runtime.gatekeeper.refresh()
        world.new = (await break_glass(world, world.members[0])).audit_id
        world.clock = clock
        yield world


def details_of(world):
    return Details(world.runtime.database, world.runtime.vault, world.runtime.audit)


async def prune(world, **details):
    found = await world.runtime.pruning.prune(world.operator, **details)
    await world.runtime.sequencer.drain()
    return [(one.rule, one.bodies, one.held) for one in found]


async def sealed(world):
    rows = await fetch(world.settings, "SELECT event_id, ciphertext FROM audit_detail")
    return {row["event_id"] for row in rows if row["ciphertext"] is not None}


async def findings(world):
    await world.runtime.sequencer.drain()
    report, _ = await verify_stored_log(world.runtime.database, world.runtime.audit)
    return [(one.code, one.detail) for one in report.findings]


async def hold(world, **scope):
    holds = Holds(world.runtime.database, world.runtime.audit, world.runtime.clock)
    async with world.runtime.database.unit_of_work() as work:
        return await holds.add(work, world.operator, HoldScope(**scope), "litigation")


async def test_a_detail_goes_when_its_time_has_come_and_its_event_stays(aged):
    assert await prune(aged, dry_run=True) == [("detail", 2, 0)]
    assert await sealed(aged) == {*aged.old, aged.new}
    assert await prune(aged) == [("detail", 2, 0)]
    assert await sealed(aged) == {aged.new}
    told = await aged.events("retention.detail_pruned")
    assert [event["resource"] for event in told] == aged.old
    bodies = {event["id"] for event in await aged.events("member.break_glass")}
    assert bodies == {*aged.old, aged.new}
    assert await prune(aged) == []
    assert await findings(aged) == []
    with pytest.raises(NotFoundError) as refused:
        await details_of(aged).read(staff("auditor"), aged.old[0])
    assert refused.value.reason == "detail_gone"


async def test_a_hold_keeps_a_detail_and_its_release_lets_it_go(aged):
    async with aged.runtime.database.read() as session:
        key = await aged.runtime.members.pseudonym(session, aged.members[0])
    held = await hold(aged, member=key)
    assert await prune(aged) == [("detail", 1, 1)]
    assert await sealed(aged) == {aged.old[0], aged.new}
    holds = Holds(aged.runtime.database, aged.runtime.audit, aged.runtime.clock)
    async with aged.runtime.database.unit_of_work() as work:
        await holds.release(work, aged.operator, held)
    assert await prune(aged) == [("detail", 1, 0)]


async def test_an_event_waits_for_its_detail(aged):
    """By the packaged rules it never has to; an overlay may say otherwise."""
    pack = load_pack()
    assert detail_kept_until(pack, "2026-11") < kept_until(
        pack, pack.trail_rules["readings"], "2026-11"
    )
    aged.runtime.pruning._details = None
    aged.runtime.pruning.rules = [
        type(rule)(rule.key, rule.actions, lambda _: 1) for rule in aged.runtime.pruning.rules
    ]
    await aged.runtime.sequencer.drain()
    aged.clock.jump_us = DAY_US // 8
    await prune(aged)
    assert len(await aged.events("member.break_glass")) == 3


FORGERIES = {
    "deleted": "DELETE FROM audit_detail WHERE event_id = :old",
    "changed": "UPDATE audit_detail SET ciphertext = :cell WHERE event_id = :old",
    "moved": "UPDATE audit_detail SET event_id = :fresh, member_id = NULL WHERE event_id = :old",
    "given to another": "UPDATE audit_detail SET member_id = :other WHERE event_id = :old",
    "dropped without an event": "UPDATE audit_detail SET ciphertext = NULL WHERE event_id = :old",
    "dropped by a reading": "UPDATE audit_detail SET ciphertext = NULL, member_id = NULL, "
    "dropped_by = :old, due_us = 1 WHERE event_id = :old",
}


async def test_the_database_itself_refuses_every_other_change_of_a_detail(aged):
    values = {
        "old": aged.old[0],
        "cell": b"another",
        "fresh": new_id("evt"),
        "other": aged.members[1],
    }
    for name, sql in FORGERIES.items():
        used = {key: value for key, value in values.items() if f":{key}" in sql}
        with pytest.raises(Exception, match="append-only"):
            await aged.execute(sql, **used)
            pytest.fail(name)
    replace = "INSERT OR REPLACE INTO audit_detail (event_id, ciphertext) VALUES (:old, :cell)"
    if not aged.settings.on_postgres:
        with pytest.raises(Exception, match="append-only"):
            await aged.execute(replace, old=aged.old[0], cell=b"another")
    else:
        with pytest.raises(asyncpg.PostgresError, match="append-only"):
            await aged.execute("TRUNCATE audit_detail")
    assert await findings(aged) == []


async def test_a_detail_that_is_held_or_young_is_not_dropped_by_hand(aged):
    """Even with an event that says so, written by somebody who knows how."""
    await hold(aged, action="member.break_glass")
    drop = (
        "UPDATE audit_detail SET ciphertext = NULL, member_id = NULL, dropped_by = :by, "
        "due_us = :due WHERE event_id = :old"
    )
    async with aged.runtime.database.unit_of_work() as work:
        by = await aged.runtime.audit.record(
            work, aged.operator, "retention.detail_pruned", resource=aged.old[0]
        )
    due = (await aged.events("retention.detail_pruned"))[-1]
    assert json.dumps(due)
    now_us = aged.runtime.clock.now_us() - DAY_US
    with pytest.raises(Exception, match="append-only"):
        await aged.execute(drop, by=by, due=now_us, old=aged.old[0])
    with pytest.raises(Exception, match="append-only"):
        await aged.execute(drop, by=by, due=now_us + 9 * DAY_US, old=aged.new)
    with pytest.raises(Exception, match="append-only"):
        await aged.execute(drop, by=by, due=now_us, old=aged.new)


async def drop_by_hand(world, event_id, due_us, action="retention.detail_pruned"):
    """Drop a detail with an event of the same transaction, as whoever may prune could."""
    async with world.runtime.database.unit_of_work() as work:
        by = await world.runtime.audit.record(work, world.operator, action, resource=event_id)
        await drop_detail(work, event_id, dropped_by=by, due_us=due_us)


async def drop_again(world, event_id, due_us):
    """Say of a detail that is gone that another event dropped it."""
    async with world.runtime.database.unit_of_work() as work:
        by = await world.runtime.audit.record(
            work, world.operator, "retention.detail_pruned", resource=event_id
        )
        sql = "UPDATE audit_detail SET dropped_by = :by, due_us = :due WHERE event_id = :id"
        await work.run(Statement(text(sql)), by=by, due=due_us, id=event_id)


async def moment_of(world, event_id):
    rows = await world.fetch("SELECT recorded_us FROM audit_event WHERE id = :id", id=event_id)
    return rows[0]["recorded_us"]


async def test_each_condition_alone_keeps_a_detail(aged):
    """Everything fits but one thing, each in its turn; in the end all fits, and it goes."""
    old, young = aged.old[0], aged.new
    now_us = aged.runtime.clock.now_us()
    ago_us = now_us - DAY_US
    born_us, today_us = await moment_of(aged, old), await moment_of(aged, young) + 1
    if not aged.settings.on_postgres:  # its clock has whole seconds
        await aged.until(f"SELECT 1 WHERE strftime('%s', 'now') * 1000000 >= {today_us}")
    for what, jump_us, arguments in (
        ("its day is yet to come", 10 * DAY_US, (old, now_us + 9 * DAY_US)),
        ("the event tells of a day behind it", -2 * DAY_US, (old, ago_us)),
        ("its day was before it was there", 0, (old, born_us)),
        ("its month runs", 0, (young, today_us)),
        ("the event tells of something else", 0, (old, ago_us, "retention.pruned")),
    ):
        aged.clock.jump_us = jump_us
        with pytest.raises(IntegrityError):
            await drop_by_hand(aged, *arguments)
            pytest.fail(what)
    aged.clock.jump_us = 0
    await hold(aged, action="member.break_glass")
    with pytest.raises(IntegrityError):
        await drop_by_hand(aged, old, ago_us)
    held = (await aged.fetch("SELECT id FROM audit_hold"))[0]["id"]
    holds = Holds(aged.runtime.database, aged.runtime.audit, aged.runtime.clock)
    async with aged.runtime.database.unit_of_work() as work:
        await holds.release(work, aged.operator, held)
    assert old in await sealed(aged)
    await drop_by_hand(aged, old, ago_us)
    assert old not in await sealed(aged)
    with pytest.raises(IntegrityError):  # whoever dropped it stays the one that did
        await drop_again(aged, old, ago_us)


@pytest.mark.postgres
async def test_only_the_transaction_that_tells_drops_and_it_sees_holds_as_they_are(aged):
    if not aged.settings.on_postgres:
        pytest.skip("SQLite has one writer, and no event bears its transaction")
    old, other = aged.old
    now_us = aged.runtime.clock.now_us()
    tell = (
        "INSERT INTO audit_event (id, recorded_us, actor, action, body) "
        "VALUES ($1, $2, 'sys_registry', 'retention.detail_pruned', '{}')"
    )
    drop = (
        "UPDATE audit_detail SET ciphertext = NULL, member_id = NULL, dropped_by = $1, "
        "due_us = $2 WHERE event_id = $3"
    )
    connection = await asyncpg.connect(aged.settings.database.url)
    try:
        for isolation in ("repeatable_read", "serializable"):
            with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="append-only"):
                async with connection.transaction(isolation=isolation):
                    await connection.execute(tell, "evt_one", now_us)
                    await connection.execute(drop, "evt_one", now_us - DAY_US, old)
        async with connection.transaction():
            await connection.execute(tell, "evt_two", now_us)
            await connection.execute(drop, "evt_two", now_us - DAY_US, old)
        with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="append-only"):
            async with connection.transaction():
                await connection.execute(tell, "evt_three", now_us)
                await connection.execute(drop, "evt_two", now_us - DAY_US, other)
    finally:
        await connection.close()
    assert await sealed(aged) == {other, aged.new}


async def test_the_check_of_the_log_finds_a_detail_that_is_not_its_events(aged):
    await aged.unguard("audit_detail")
    drop = "UPDATE audit_detail SET ciphertext = NULL WHERE event_id = :old"
    await aged.execute(drop, old=aged.old[0])
    change = "UPDATE audit_detail SET ciphertext = :cell WHERE event_id = :old"
    await aged.execute(change, cell=b"another", old=aged.old[1])
    await aged.execute("DELETE FROM audit_detail WHERE event_id = :old", old=aged.new)
    stray = new_id("evt")
    add = "INSERT INTO audit_detail (event_id, ciphertext) VALUES (:id, :cell)"
    await aged.execute(add, id=stray, cell=b"x")
    found = await findings(aged)
    assert {code for code, _ in found} == {"detail"}
    assert {
        next(one for one in (*aged.old, aged.new, stray) if one in detail) for _, detail in found
    } == {*aged.old, aged.new, stray}
