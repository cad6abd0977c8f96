"""Points under stress: races, repeats, expiry, and a ledger that always adds up."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel import IntegrityError, UnrecordedChangeError
from loyalty import InsufficientPointsError, ReferenceReusedError
from loyalty.model import Lot
from loyalty.points import use_up
from loyalty.repository import hold_accounts
from members import MemberNotFoundError
from tests.support.world import DAY_US, EVERYTHING, JumpingClock, execute, open_world

pytestmark = pytest.mark.anyio

LIFETIME = 730


async def post(world, kind, member_id, points, reference):
    act = getattr(world.runtime.loyalty, kind)
    async with world.runtime.database.unit_of_work() as work:
        return await act(
            work,
            world.operator,
            member_id,
            points,
            reference,
            now_us=world.runtime.clock.now_us(),
        )


async def balance(world, member_id):
    async with world.runtime.database.read() as session:
        account = await world.runtime.loyalty.account(session, member_id)
    return 0 if account is None else account.points_balance


async def adds_up(world):
    """Account, ledger and open lots say the same of every member."""
    rows = await world.fetch(
        "SELECT a.member_id, a.points_balance AS account,"
        " (SELECT COALESCE(SUM(points), 0) FROM points_entry e WHERE e.member_id = a.member_id)"
        " AS ledger,"
        " (SELECT COALESCE(SUM(remaining), 0) FROM points_lot l WHERE l.member_id = a.member_id)"
        " AS lots FROM loyalty_account a"
    )
    for row in rows:
        assert row["account"] == int(row["ledger"]) == int(row["lots"]) >= 0, dict(row)
    return True


@asynccontextmanager
async def two_workers(settings):
    """Two workers of one registry; SQLite has one process for both."""
    async with open_world(settings) as here:
        if not settings.on_postgres:
            yield here, here
            return
        async with open_world(settings) as there:
            yield here, there


@pytest.fixture
async def jumping(settings):
    """A world whose clock the test moves."""
    clock = JumpingClock()
    async with open_world(settings, clock=clock, background=False) as world:
        yield world, clock


async def test_two_redeems_at_once_never_overdraw(settings):
    async with two_workers(settings) as (here, there):
        crm = await here.app()
        member_id = await here.member_id(await crm.register())
        await post(here, "earn", member_id, 100, "start")
        both = await asyncio.gather(
            *(
                post(world, "redeem", member_id, 60, f"r{at}")
                for at, world in enumerate([here, there] * 4)
            ),
            return_exceptions=True,
        )
        refused = [one for one in both if isinstance(one, InsufficientPointsError)]
        assert len(refused) == 7, both
        assert await balance(here, member_id) == 40
        assert await adds_up(here)


async def test_a_redeem_of_more_than_there_is_takes_nothing(world):
    member_id = await world.member_id(await (await world.app()).register())
    with pytest.raises(InsufficientPointsError):
        await post(world, "redeem", member_id, 1, "too-much")
    await post(world, "earn", member_id, 5, "five")
    with pytest.raises(InsufficientPointsError):
        await post(world, "redeem", member_id, 6, "too-much")
    await post(world, "redeem", member_id, 5, "all")
    assert await balance(world, member_id) == 0
    assert await adds_up(world)


async def test_the_same_reference_again_changes_nothing(world):
    member_id = await world.member_id(await (await world.app()).register())
    first = await post(world, "earn", member_id, 10, "receipt-1")
    again = await post(world, "earn", member_id, 10, "receipt-1")
    assert (again.entry_id, again.repeated) == (first.entry_id, True)
    assert await balance(world, member_id) == 10
    assert len(await world.events("loyalty.earn")) == 1


async def test_the_same_reference_at_once_is_counted_once(settings):
    async with two_workers(settings) as (here, there):
        member_id = await here.member_id(await (await here.app()).register())
        await asyncio.gather(
            *(post(world, "earn", member_id, 10, "receipt-1") for world in (here, there, here))
        )
        assert await balance(here, member_id) == 10
        assert await adds_up(here)


@pytest.mark.parametrize(("kind", "points"), [("redeem", 10), ("earn", 11)])
async def test_a_reference_with_other_content_is_refused(world, kind, points):
    member_id = await world.member_id(await (await world.app()).register())
    await post(world, "earn", member_id, 10, "receipt-1")
    with pytest.raises(ReferenceReusedError):
        await post(world, kind, member_id, points, "receipt-1")
    assert await balance(world, member_id) == 10


async def test_a_reference_of_another_member_is_refused(world):
    crm = await world.app()
    one = await world.member_id(await crm.register())
    two = await world.member_id(await crm.register(phone="089-876-5432"))
    await post(world, "earn", one, 10, "receipt-1")
    with pytest.raises(ReferenceReusedError):
        await post(world, "earn", two, 10, "receipt-1")
    assert await balance(world, two) == 0


async def test_points_end_on_their_day_oldest_first(jumping):
    world, clock = jumping
    member_id = await world.member_id(await (await world.app()).register())
    await post(world, "earn", member_id, 10, "old")
    clock.jump_us += 100 * DAY_US
    await post(world, "earn", member_id, 10, "young")
    await post(world, "redeem", member_id, 4, "takes-from-the-old")
    clock.jump_us += (LIFETIME - 100) * DAY_US - 60_000_000
    assert await world.runtime.loyalty.expire_due(world.operator) == 0
    clock.jump_us += 120_000_000
    assert await world.runtime.loyalty.expire_due(world.operator) == 6
    assert await world.runtime.loyalty.expire_due(world.operator) == 0
    assert await balance(world, member_id) == 10
    assert await adds_up(world)
    (event,) = await world.events("loyalty.expire")
    assert event["count"] == 6


async def test_points_that_are_over_cannot_be_redeemed_though_no_worker_has_run(jumping):
    world, clock = jumping
    member_id = await world.member_id(await (await world.app()).register())
    await post(world, "earn", member_id, 10, "old")
    clock.jump_us += (LIFETIME - 1) * DAY_US
    await post(world, "earn", member_id, 3, "young")
    clock.jump_us += 2 * DAY_US
    with pytest.raises(InsufficientPointsError):
        await post(world, "redeem", member_id, 4, "late")
    await post(world, "redeem", member_id, 3, "fine")
    assert await balance(world, member_id) == 0
    assert await adds_up(world)


async def test_the_tier_follows_the_points_of_the_window(jumping):
    world, clock = jumping
    member_id = await world.member_id(await (await world.app()).register())
    await post(world, "earn", member_id, 199, "a")

    async def tier():
        async with world.runtime.database.read() as session:
            return (await world.runtime.loyalty.account(session, member_id)).tier

    assert await tier() == "member"
    await post(world, "earn", member_id, 1, "b")
    assert await tier() == "silver"
    await post(world, "redeem", member_id, 200, "spent")
    assert await tier() == "silver", "points that were earned lead to a tier, spent or not"
    clock.jump_us += 366 * DAY_US
    await post(world, "earn", member_id, 1, "c")
    assert await tier() == "member"


async def test_a_ledger_entry_is_never_changed_or_taken_out(world):
    member_id = await world.member_id(await (await world.app()).register())
    await post(world, "earn", member_id, 10, "a")
    for change in (
        "UPDATE points_entry SET points = 1000",
        "UPDATE points_entry SET reference = 'other'",
        "DELETE FROM points_entry",
    ):
        with pytest.raises(Exception, match="append-only"):
            await execute(world.settings, change)
    assert await adds_up(world)


async def test_nobody_earns_or_redeems_for_an_erased_member(world):
    member = await (await world.app()).register()
    member_id = await world.member_id(member)
    await post(world, "earn", member_id, 10, "a")
    await world.erase(member)
    for kind in ("earn", "redeem"):
        with pytest.raises(MemberNotFoundError):
            await post(world, kind, member_id, 1, "b")


async def test_an_erased_members_points_lead_to_nobody(world):
    crm = await world.app()
    member = await crm.register()
    member_id = await world.member_id(member)
    await post(world, "earn", member_id, 10, "a")
    await post(world, "redeem", member_id, 3, "b")
    await world.erase(member)
    assert await world.fetch("SELECT 1 FROM loyalty_account") == []
    assert await world.fetch("SELECT 1 FROM points_lot") == []
    left = await world.fetch(
        "SELECT member_id, reference, points FROM points_entry ORDER BY points"
    )
    assert [(row["member_id"], row["reference"], row["points"]) for row in left] == [
        (None, None, -3),
        (None, None, 10),
    ]


lots = st.lists(
    st.builds(Lot, st.uuids().map(str), st.integers(1, 50), st.integers(0, 100)), max_size=8
).map(lambda found: sorted(found, key=lambda lot: (lot.expires_us, lot.entry_id)))


@given(lots, st.data())
def test_what_ends_first_is_used_first_and_nothing_is_lost(held, data):
    total = sum(lot.remaining for lot in held)
    points = data.draw(st.integers(0, total))
    changed = {lot.entry_id: lot for lot in use_up(held, points)}
    after = [changed.get(lot.entry_id, lot) for lot in held]
    assert total - sum(lot.remaining for lot in after) == points
    assert all(lot.remaining >= 0 for lot in after)
    touched = [lot.remaining for lot in after]
    whole = [lot.remaining for lot in held]
    first_whole = next((at for at, lot in enumerate(after) if lot.remaining), len(after))
    assert touched[first_whole + 1 :] == whole[first_whole + 1 :]


def test_more_than_the_lots_hold_is_a_defect_and_never_a_debt():
    with pytest.raises(ValueError, match="fewer points"):
        use_up([Lot("pts_x", 3, 0)], 4)


async def test_an_account_that_nothing_speaks_of_is_not_opened(world):
    crm = await world.app("crm", *EVERYTHING)
    member_id = await world.member_id(await crm.register())
    with pytest.raises((UnrecordedChangeError, IntegrityError)):
        async with world.runtime.database.unit_of_work() as work:
            await hold_accounts(work, [member_id], "member", now_us=1)
    assert (
        await world.fetch("SELECT * FROM loyalty_account WHERE member_id = :id", id=member_id) == []
    )
