"""Legal holds over HTTP: who may not, whose is whose, once per key, and nobody is named."""

import asyncio

import pytest

from audit import Holds, HoldScope
from kernel import new_id

pytestmark = pytest.mark.anyio

PATH = "/v1/legal-holds"
SCOPES = ("members:write", "purpose:membership", "legal-holds:manage")
EVERYTHING = {"reason": "litigation"}
NOBODY = f"sub_{'0' * 26}"


BOTH_ENGINES = pytest.mark.parametrize(
    "settings", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)


@pytest.fixture
def settings(request):
    """One engine, but where the database is asked."""
    return request.getfixturevalue(f"{getattr(request, 'param', 'sqlite')}_settings")


@pytest.fixture
async def desk(world):
    return await world.app("desk", *SCOPES)


async def holds(world):
    return await world.fetch("SELECT * FROM audit_hold ORDER BY id")


async def in_force(world):
    return [one["id"] for one in await holds(world) if one["released_us"] is None]


async def place(app, **body):
    answer = await app.post(PATH, {**EVERYTHING, **body})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def of_the_house(world):
    """A hold of the whole installation, as the command line places one."""
    kept = Holds(world.runtime.database, world.runtime.audit, world.runtime.clock)
    async with world.runtime.database.unit_of_work() as work:
        return await kept.add(work, world.operator, HoldScope(), "authority_order")


# --- who may not ----------------------------------------------------------------------


async def test_an_app_without_the_scope_neither_sees_nor_places_nor_releases(world, desk):
    made = (await place(desk))["id"]
    crm = await world.app("crm", "audit:read", "governance:read", "restrictions:write")
    for method, path, body in (
        ("GET", PATH, None),
        ("POST", PATH, EVERYTHING),
        ("DELETE", f"{PATH}/{made}", None),
    ):
        refused = await crm.request(method, path, json=body)
        assert refused.status_code == 403
        assert made not in refused.text
        assert (await world.http.request(method, path, json=body)).status_code == 401
    assert await in_force(world) == [made]
    assert len(await world.events("retention.hold")) == 1


@BOTH_ENGINES
async def test_another_brands_app_neither_sees_nor_releases_a_hold(world, desk):
    made = (await place(desk))["id"]
    there = await world.app("there", *SCOPES, brand="elsewhere")
    assert (await there.get(PATH)).json()["holds"] == []
    refused = await there.request("DELETE", f"{PATH}/{made}")
    assert (refused.status_code, refused.json()["reason"]) == (404, "hold_unknown")
    assert await in_force(world) == [made]
    assert await world.events("retention.release") == []
    assert (await desk.request("DELETE", f"{PATH}/{made}")).status_code == 200


async def test_a_hold_of_the_whole_installation_is_seen_and_not_an_apps_to_release(world, desk):
    made = await of_the_house(world)
    (seen,) = (await desk.get(PATH)).json()["holds"]
    assert (seen["id"], seen["brand"]) == (made, None)
    assert (await desk.request("DELETE", f"{PATH}/{made}")).status_code == 404
    assert await in_force(world) == [made]


async def test_nobody_is_held_who_is_not_the_apps_to_name(world, desk):
    there = await world.app("there", *SCOPES, brand="elsewhere")
    other = await there.register(brand="elsewhere", phone="089-111-2222")
    for member in (other.id, NOBODY):
        refused = await desk.post(PATH, {**EVERYTHING, "member": member})
        assert refused.status_code == 404
    staffs = await desk.post(PATH, {**EVERYTHING, "member": await world.member_id(other)})
    assert staffs.status_code == 422
    assert await holds(world) == []


FAULTY = (
    ({"reason": "because"}, "/reason"),
    ({"reason": None}, "/reason"),
    ({"from": "2026-13"}, "/from"),
    ({"from": "0000-01"}, "/from"),
    ({"to": "9999-12"}, "/to"),
    ({"from": "2026-02", "to": "2026-01"}, "/to"),
    ({"action": "somying@example.co.th"}, "/action"),
    ({"action": "member..view"}, "/action"),
    ({"until": "2026-01"}, ""),
)


async def test_what_cannot_be_held_is_refused_and_not_repeated(world, desk):
    for body, pointer in FAULTY:
        refused = await desk.post(PATH, {**EVERYTHING, **body})
        assert refused.status_code == 422, refused.text
        assert [one["pointer"] for one in refused.json()["errors"]] == [pointer]
        assert "somying" not in refused.text
    assert await holds(world) == []


async def test_a_key_places_one_hold_and_another_body_is_a_conflict(world, desk):
    headers = {"Idempotency-Key": "court-order-7"}
    first = await desk.post(PATH, EVERYTHING, headers=headers)
    again = await desk.post(PATH, EVERYTHING, headers=headers)
    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    other = await desk.post(PATH, {"reason": "investigation"}, headers=headers)
    assert other.status_code == 409
    assert len(await holds(world)) == len(await world.events("retention.hold")) == 1


@BOTH_ENGINES
async def test_a_hold_is_released_once_however_many_ask(world, desk):
    made = (await place(desk))["id"]
    answers = await asyncio.gather(*(desk.request("DELETE", f"{PATH}/{made}") for _ in range(4)))
    assert sorted(one.status_code for one in answers) == [200, 404, 404, 404]
    assert len(await world.events("retention.release")) == 1
    for hold in (new_id("hld"), "hld_x"):
        assert (await desk.request("DELETE", f"{PATH}/{hold}")).status_code in {404, 422}


@BOTH_ENGINES
async def test_the_database_lets_nobody_make_a_hold_another_brands(world, desk):
    await place(desk)
    with pytest.raises(Exception, match=r"append-only|only released"):
        await world.execute("UPDATE audit_hold SET brand = 'elsewhere'")
    with pytest.raises(Exception, match=r"append-only|only released"):
        await world.execute("UPDATE audit_hold SET brand = 'elsewhere', released_us = 1")


# --- what is kept ---------------------------------------------------------------------


async def test_a_hold_on_a_member_is_an_event_of_theirs_and_names_nobody(world, desk):
    member = await desk.register(phone="081-234-5678")
    made = await place(
        desk, member=member.id, action="member.view", **{"from": "2026-01", "to": "2026-12"}
    )
    assert made == {
        "id": made["id"],
        "reason": "litigation",
        "from": "2026-01",
        "to": "2026-12",
        "action": "member.view",
        "of_a_member": True,
        "brand": "main",
        "placed_at": made["placed_at"],
        "released_at": None,
    }
    (event,) = await world.events("retention.hold")
    assert (event["resource"], event["brand"]) == (f"hold:{made['id']}", "main")
    assert event["subject"]["token"]
    tokens = await world.fetch("SELECT token FROM audit_hold_subject")
    assert event["subject"]["token"] in {one["token"] for one in tokens}
    listed = (await desk.get(PATH)).text
    assert member.id not in listed
    ended = (await desk.request("DELETE", f"{PATH}/{made['id']}")).json()
    assert ended["released_at"]
    assert await world.fetch("SELECT token FROM audit_hold_subject") == []


@BOTH_ENGINES
async def test_holds_are_listed_in_pages_the_newest_first(world, desk):
    made = [(await place(desk))["id"] for _ in range(3)]
    await desk.request("DELETE", f"{PATH}/{made[0]}")
    first = (await desk.get(PATH, params={"limit": 2})).json()
    assert [one["id"] for one in first["holds"]] == [made[2], made[1]]
    rest = await desk.get(PATH, params={"limit": 2, "cursor": first["next_cursor"]})
    (last,) = rest.json()["holds"]
    assert (last["id"], rest.json()["next_cursor"]) == (made[0], None)
    assert last["released_at"]
    assert (await desk.get(PATH, params={"cursor": "nonsense"})).status_code == 422
    del world
