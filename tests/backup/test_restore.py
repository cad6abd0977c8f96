"""A restore goes back in data and never in rights: whole, or not at all."""

import pytest

from audit import verify_stored_log
from tests.support.stores import begin, create
from tests.support.world import EVERYTHING, open_world

pytestmark = pytest.mark.anyio


async def lookup(app, phone):
    return await app.post(
        "/v1/members:lookup",
        {"kind": "phone", "value": phone, "region": "TH", "purpose": "membership"},
    )


async def test_who_was_erased_after_the_backup_stays_erased(stored_settings, kept, restore):
    async with open_world(stored_settings) as world:
        crm = await world.app()
        gone = await crm.register(phone="081-234-5678", consents={"marketing": "sms"})
        stays = await crm.register({"given_name": "ชัย"}, phone="082-345-6789")
        await crm.verify(stays)
        await begin(world, kept)
        await create(world)
        gone_id = await world.erase(gone)
        vkey = world.runtime.audit.vkey
        token = crm.token
    made, told = await restore(stored_settings, kept)
    assert told["erased_again"] == 1
    async with open_world(made) as world:
        again = type(crm)(world, world.http, {"client_id": crm.id, "client_secret": crm.secret})
        again.token = token  # a token is in no backup
        assert (await again.view(stays)).status_code == 401
        await again.sign_in()
        assert (await again.view(gone)).status_code == 404
        assert (await lookup(again, "081-234-5678")).status_code == 404
        read = await again.view(stays)
        assert read.json()["data"]["given_name"] == "ชัย"
        assert (await lookup(again, "082-345-6789")).json() == {"id": stays.id}
        keys = await world.fetch("SELECT kind FROM vault_key WHERE owner_id = :id", id=gone_id)
        assert "ordinary" not in {row["kind"] for row in keys}
        assert not await world.fetch("SELECT 1 FROM vault_tag WHERE owner_id = :id", id=gone_id)
        assert not await world.fetch(
            "SELECT 1 FROM contact_point WHERE member_id = :id", id=gone_id
        )
        points = await world.fetch(
            "SELECT sign_in_tag FROM contact_point WHERE verified_us IS NOT NULL"
        )
        assert [row for row in points if row["sign_in_tag"] is not None]
        assert world.runtime.audit.vkey == vkey
        await world.runtime.sequencer.drain()
        report, misleading = await verify_stored_log(world.runtime.database, world.runtime.audit)
        assert report.ok, report.findings
        assert misleading == []
        assert [event["action"] for event in await world.events()].count("backup.restore") == 1
        assert [event["action"] for event in await world.events("member.erase")] == ["member.erase"]


async def test_what_is_restored_after_a_re_index_is_findable_under_the_newest_key(
    stored_settings, kept, restore
):
    """The restored ring has the newest index secret alone; data go back, keys never do."""
    async with open_world(stored_settings) as world:
        crm = await world.app()
        member = await crm.register(phone="081-234-5678", consents={"marketing": "sms"})
        await crm.verify(member)
        await crm.post(f"/v1/members/{member.id}/objections", {"purpose": "marketing"})
        await begin(world, kept)
        await create(world)
        kinds = ["phone", "email", "line_uid", "national_id", "card_no"]
        await world.runtime.reindex.renew(world.operator, kinds)
        await create(world)
    made, _ = await restore(stored_settings, kept)
    async with open_world(made) as world:
        assert "index" not in world.runtime.vault.buckets.ring.secrets()
        tags = await world.fetch("SELECT DISTINCT index_version AS v FROM vault_tag")
        assert [row["v"] for row in tags] == [2]
        again = type(crm)(world, world.http, {"client_id": crm.id, "client_secret": crm.secret})
        await again.sign_in()
        assert (await lookup(again, "081-234-5678")).json() == {"id": member.id}
        refused = await again.view(member, "marketing", "sms")
        assert refused.json()["reason"] == "objected"


async def test_who_withdrew_after_the_backup_is_denied_after_the_restore(
    stored_settings, kept, restore
):
    async with open_world(stored_settings) as world:
        crm = await world.app()
        member = await crm.register(phone="081-234-5678", consents={"marketing": "sms"})
        await crm.verify(member)
        other = await crm.register(phone="082-345-6789", consents={"marketing": "sms"})
        await crm.verify(other)
        await begin(world, kept)
        await create(world)
        assert (await crm.view(member, "marketing", "sms")).status_code == 200
        assert (await crm.withdraw(member, channel="sms")).status_code == 200
        await world.restrict(other)
    made, told = await restore(stored_settings, kept)
    assert told["replayed"] == {"withdrawal": 1, "restriction": 1}
    async with open_world(made) as world:
        again = type(crm)(world, world.http, {"client_id": crm.id, "client_secret": crm.secret})
        await again.sign_in()
        denied = await again.view(member, "marketing", "sms")
        assert denied.status_code == 403
        assert denied.json()["reason"] == "consent_withdrawn"
        assert (await again.view(other, "marketing", "sms")).status_code == 423


async def test_who_objected_and_was_erased_after_the_backup_is_still_not_written_to(
    settings, folder_store, restore
):
    async with open_world(folder_store.used_by(settings)) as world:
        crm = await world.app()
        member = await crm.register(phone="081-234-5678", consents={"marketing": "sms"})
        await begin(world, folder_store)
        await create(world)
        member_id = await world.member_id(member)
        runtime = world.runtime
        async with runtime.database.unit_of_work() as work:
            pseudonym = await runtime.members.pseudonym(work, member_id)
            await runtime.consent.object(
                work,
                world.operator,
                member_id,
                pseudonym,
                "marketing",
                now_us=runtime.clock.now_us(),
            )
        before = await world.fetch("SELECT tag, purpose, channel FROM suppression ORDER BY 1, 2, 3")
        assert before
        await world.erase(member)
    made, told = await restore(settings, folder_store)
    assert told["replayed"]["objection"] > 0
    async with open_world(made) as world:
        sql = "SELECT tag, purpose, channel FROM suppression ORDER BY 1, 2, 3"
        assert await world.fetch(sql) == before


async def test_a_restored_registry_calls_nobody_until_webhooks_are_made_again(
    stored_settings, kept, restore
):
    async with open_world(stored_settings) as world:
        crm = await world.app("crm", *EVERYTHING, "webhooks:manage")
        member = await crm.register(phone="081-234-5678")
        body = {"url": "https://crm.example.com/hooks", "types": ["member.erased"]}
        assert (await crm.post("/v1/webhooks", body)).status_code == 201
        await begin(world, kept)
        await create(world)
        await world.erase(member)
    made, told = await restore(stored_settings, kept)
    assert told["to_look_at"] == {"webhook": 1}
    async with open_world(made) as world:
        again = type(crm)(world, world.http, {"client_id": crm.id, "client_secret": crm.secret})
        await again.sign_in()
        assert (await again.get("/v1/webhooks")).json()["webhooks"] == []
        assert await world.fetch("SELECT 1 FROM webhook WHERE url <> ''") == []
