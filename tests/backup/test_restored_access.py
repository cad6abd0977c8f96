"""After a restore nobody has back what was taken from them, and nothing put right is forgotten."""

import pytest

from dsar import Right
from kernel import RequestId, new_id
from service.staff import staff_caller
from tests.support.requests import Desk
from tests.support.stores import begin, create
from tests.support.world import EVERYTHING, open_world

pytestmark = pytest.mark.anyio


async def token(world, app, secret=None):
    return (
        await world.http.post(
            "/oauth/token",
            data={"grant_type": "client_credentials"},
            auth=(app.id, secret or app.secret),
        )
    ).status_code


async def test_a_client_revoked_or_rotated_after_the_backup_stays_out(
    settings, folder_store, restore
):
    async with open_world(settings, background=False) as world:
        gone, leaked, stays = [await world.app(name) for name in ("gone", "leaked", "stays")]
        await begin(world, folder_store)
        await create(world)
        await world.runtime.clients.revoke(world.operator, gone.id)
        made_anew = await world.runtime.clients.rotate(world.operator, leaked.id)
    made, told = await restore(settings, folder_store)
    assert told["replayed"]["client"] == 2
    async with open_world(made) as world:
        assert await token(world, gone) == 401
        assert await token(world, leaked) == 401
        assert await token(world, leaked, made_anew["client_secret"]) == 401
        assert await token(world, stays) == 200
        anew = await world.runtime.clients.rotate(world.operator, leaked.id)
        assert await token(world, leaked, anew["client_secret"]) == 200
        again = type(stays)(
            world, world.http, {"client_id": stays.id, "client_secret": stays.secret}
        )
        again.token = stays.token  # of the life before
        assert (await again.get("/v1/audit/events")).status_code == 401


async def test_staff_get_back_no_account_role_password_or_session(settings, folder_store, restore):
    async with open_world(settings, background=False) as world:
        staff, made_staff = world.runtime.staff, {}
        for name in ("gone", "demoted", "leaked", "stays"):
            made_staff[name] = await staff.add(
                world.operator, name, "dpo", brand="main", one_time=False
            )
        session = (
            await staff.sign_in("stays", made_staff["stays"]["password"], None, new_id("req"))
        ).token
        await begin(world, folder_store)
        await create(world)
        await staff.disable(world.operator, "gone")
        await staff.give_role(world.operator, "demoted", "clerk")
        changed = await staff.reset(world.operator, "leaked")
    made, told = await restore(settings, folder_store)
    assert told["replayed"]["staff"] == 3
    async with open_world(made) as world:
        staff = world.runtime.staff

        async def enters(name, password):
            return hasattr(await staff.sign_in(name, password, None, new_id("req")), "account")

        for name in ("gone", "leaked"):
            assert not await enters(name, made_staff[name]["password"])
        assert not await enters("leaked", changed["password"])
        assert await enters("stays", made_staff["stays"]["password"])
        roles = {one["name"]: one["role"] for one in await staff.listing()}
        assert roles["demoted"] == "clerk"
        assert len(await world.fetch("SELECT 1 FROM staff_session")) == 1  # opened just now
        assert session
        anew = await staff.reset(world.operator, "leaked")
        assert await enters("leaked", anew["password"])


async def test_no_session_of_a_member_outlives_a_restore(settings, folder_store, restore):
    async with open_world(settings, background=False) as world:
        crm = await world.app()
        member_id = await world.member_id(await crm.register(phone="081-234-5678"))
        await world.execute(
            "INSERT INTO portal_session (token_hash, state, member_id, expires_us)"
            " VALUES (:t, 'signed_in', :m, :e)",
            t=b"t" * 32,
            m=member_id,
            e=world.runtime.clock.now_us() + 10**12,
        )
        await begin(world, folder_store)
        await create(world)
    made, _ = await restore(settings, folder_store)
    async with open_world(made) as world:
        assert await world.fetch("SELECT 1 FROM portal_session") == []
        assert await world.fetch("SELECT 1 FROM access_token") == []


async def test_a_restriction_stands_again_with_its_ground_and_can_be_ended(
    settings, folder_store, restore
):
    async with open_world(settings, background=False) as world:
        crm = await world.app("crm", *EVERYTHING, "restrictions:write")
        begun = await crm.register(phone="081-234-5678")
        ended = await crm.register(phone="082-345-6789")
        earlier = await crm.post("/v1/restrictions", restricting(ended))
        await begin(world, folder_store)
        await create(world)
        later = await crm.post("/v1/restrictions", restricting(begun))
        assert later.status_code == 201, later.text
        await crm.request("DELETE", f"/v1/restrictions/{earlier.json()['id']}")
    made, told = await restore(settings, folder_store)
    assert (told["replayed"]["restriction_begun"], told["replayed"]["restriction_ended"]) == (1, 1)
    async with open_world(made) as world:
        again = type(crm)(world, world.http, {"client_id": crm.id, "client_secret": crm.secret})
        await again.sign_in()
        assert (await again.view(begun)).status_code == 423
        assert (await again.view(ended)).status_code == 200
        (row,) = await world.fetch("SELECT * FROM restriction WHERE ended_us IS NULL")
        assert (row["id"], row["ground"]) == (later.json()["id"], "unlawful")
        answer = await again.request("DELETE", f"/v1/restrictions/{row['id']}")
        assert answer.status_code == 200, answer.text
        assert (await again.view(begun)).status_code == 200


def restricting(member):
    return {"member": member.id, "ground": "unlawful"}


async def test_who_corrected_something_after_the_backup_is_asked_again(
    settings, folder_store, restore
):
    async with open_world(settings, background=False) as world:
        crm = await world.app()
        wrong = await crm.register({"given_name": "เก่า"}, phone="081-234-5678")
        right = await crm.register({"given_name": "ถูก"}, phone="082-345-6789")
        await begin(world, folder_store)
        await create(world)
        for name in ("ใหม่", "ใหม่กว่า"):
            answer = await crm.patch(f"/v1/members/{wrong.id}", {"fields": {"given_name": name}})
            assert answer.status_code == 200, answer.text
        (first, _) = await world.fetch("SELECT body FROM rights_ledger")
        assert "ใหม่" not in bytes(first["body"]).decode()
        assert b"given_name" not in bytes(first["body"])
    made, told = await restore(settings, folder_store)
    assert told["replayed"]["rectification"] == 2
    async with open_world(made) as world:
        desk = Desk(world)
        (row,) = await world.fetch("SELECT id, member_id FROM rights_request")
        assert row["member_id"] == await world.member_id(wrong)
        assert row["member_id"] != await world.member_id(right)
        async with world.runtime.database.read() as session:
            request = await desk.rights.read(session, row["id"])
        assert (request.right, request.details) == (Right.RECTIFICATION, {"restored": "ask_again"})
        staff = await world.runtime.staff.add(
            world.operator, "dpo", "dpo", brand="main", one_time=False
        )
        async with world.runtime.database.read() as session:
            account = await world.runtime.staff.account(session, staff["staff_id"])
        await desk.do("fulfil", staff_caller(account, RequestId(new_id("req"))), request.id)
        done = await desk.carry_out(request)
        assert done is None or done.state.value == "fulfilled"
