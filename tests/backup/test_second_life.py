"""What apps and other rooms must not lose, or get back, when a registry is restored."""

import pytest

from audit import RightsKind
from kernel import new_id
from members.repository import propose_pair
from tests.support.stores import begin, create
from tests.support.world import EVERYTHING, open_world, recorded

pytestmark = pytest.mark.anyio

SCOPES = (
    *EVERYTHING,
    "duplicates:resolve",
    "changes:read",
)


async def again(world, app):
    same = type(app)(world, world.http, {"client_id": app.id, "client_secret": app.secret})
    await same.sign_in()
    return same


async def settle(world):
    await world.runtime.courier.deliver()


async def merge(world, app, one, other):
    """Merge the second into the first."""
    ids = tuple(sorted([await world.member_id(one), await world.member_id(other)]))
    pair, now_us = new_id("dup"), world.runtime.clock.now_us()
    async with recorded(world.runtime.database) as work:
        await propose_pair(work, pair, "main", ids, 90, ["phone"], now_us=now_us)
    answer = await app.post(f"/v1/duplicates/{pair}:merge", {"survivor": one.id})
    assert answer.status_code == 200, answer.text


async def test_a_no_said_after_a_merge_is_not_lost_by_going_back_to_before_it(
    sqlite_settings, folder_store, restore
):
    async with open_world(sqlite_settings) as world:
        crm = await world.app("crm", *SCOPES)
        survivor = await crm.register(phone="081-234-5678", consents={"marketing": "sms"})
        merged = await crm.register(phone="082-345-6789", consents={"marketing": "sms"})
        await crm.verify(merged)
        await begin(world, folder_store)
        await create(world)
        assert (await crm.view(merged, "marketing", "sms")).status_code == 200
        await merge(world, crm, survivor, merged)
        await crm.withdraw(survivor, channel="sms")
    made, told = await restore(sqlite_settings, folder_store)
    assert told["replayed"]["merge"] == 1
    async with open_world(made) as world:
        crm = await again(world, crm)
        assert (await crm.view(merged, "marketing", "sms")).status_code == 423


async def test_the_end_of_a_restriction_does_not_lift_what_waits_for_a_person(
    sqlite_settings, folder_store, restore
):
    async with open_world(sqlite_settings) as world:
        crm = await world.app("crm", *SCOPES)
        member = await crm.register(phone="081-234-5678", consents={"marketing": "sms"})
        await begin(world, folder_store)
        await create(world)
        member_id = await world.member_id(member)
        runtime = world.runtime
        async with runtime.database.unit_of_work() as work:
            detail = {"guardian": new_id("grd"), "on": False}
            await runtime.rights.record(work, RightsKind.GUARDIAN, member_id, detail)
        await world.restrict(member)
        await world.restrict(member, on=False)
    made, told = await restore(sqlite_settings, folder_store)
    assert told["replayed"] == {"guardian": 1, "restriction": 2}
    async with open_world(made) as world:
        crm = await again(world, crm)
        assert (await crm.view(member)).status_code == 423


async def test_an_erasure_is_done_again_in_every_room(stored_settings, kept, restore):
    async with open_world(stored_settings) as world:
        crm = await world.app("crm", *SCOPES)
        member = await crm.register(phone="081-234-5678")
        member_id = await world.member_id(member)
        now_us = world.runtime.clock.now_us()
        async with world.runtime.database.unit_of_work() as work:
            await world.runtime.rights_requests.restrictions.begin(
                work, world.caller(crm), member_id, "accuracy_contested", now_us=now_us
            )
        await begin(world, kept)
        await create(world)
        await world.erase(member)
        left = "SELECT 1 FROM restriction WHERE member_id = :id"
        assert not await world.fetch(left, id=member_id)
    made, _ = await restore(stored_settings, kept)
    async with open_world(made) as world:
        assert not await world.fetch(left, id=member_id)


async def test_no_cursor_of_the_lost_life_is_good_in_the_next_one(stored_settings, kept, restore):
    async with open_world(stored_settings, background=False) as world:
        crm = await world.app("crm", *SCOPES)
        await crm.register(consents={"marketing": "sms"})
        await settle(world)
        await begin(world, kept)
        await create(world)
        seen = (await crm.get("/v1/changes")).json()["next_cursor"]
        await crm.register(consents={"marketing": "sms"})
        await settle(world)
        lost = (await crm.get("/v1/changes")).json()["next_cursor"]
        assert lost != seen
    made, _ = await restore(stored_settings, kept)
    async with open_world(made, background=False) as world:
        crm = await again(world, crm)
        for _ in range(3):
            await crm.register(consents={"marketing": "sms"})
        await settle(world)
        for cursor in (seen, lost):
            expired = await crm.get("/v1/changes", params={"cursor": cursor})
            assert expired.status_code == 410, expired.text
        page = (await crm.get("/v1/changes", params={"limit": 1})).json()
        following = await crm.get("/v1/changes", params={"cursor": page["next_cursor"]})
        assert following.status_code == 200, following.text
