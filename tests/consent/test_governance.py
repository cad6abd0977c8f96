"""The record of processing and consent in numbers: made from what is, and holding no person."""

import pytest

from policies import load_pack
from service.settings import ControllerSettings
from tests.support.world import DAY_US, JumpingClock, open_world

pytestmark = pytest.mark.anyio


async def officer(world):
    return await world.app("governor", "governance:read")


async def test_the_record_has_every_column_of_both_laws(world):
    app = await officer(world)
    await world.app("sender", "purpose:marketing")

    record = (await app.get("/v1/ropa")).json()

    letters = {law["EU"] for law in record["columns"].values()}
    assert {f"30(1)({letter})" for letter in "abcdefg"} <= letters
    assert {f"s.39({number})" for number in range(1, 9)} <= {
        law["TH"] for law in record["columns"].values()
    }
    by_purpose = {one["purpose"]: one for one in record["activities"]}
    assert set(by_purpose) == set(load_pack().purposes)
    marketing = by_purpose["marketing"]
    assert marketing["recipients"]["clients"] == [{"name": "sender", "brand": "main"}]
    assert marketing["basis"]["TW"] == {"type": "consent", "section": "19-1-5"}
    assert "phone" in marketing["fields"]
    assert record["rights"]["TH"]["rectification"]["unverified"] is True


async def test_what_nobody_configured_is_said_to_be_so(settings):
    async with open_world(settings) as world:
        record = (await (await officer(world)).get("/v1/ropa")).json()
        assert set(record["controller"].values()) == {"not configured"}
    known = settings.model_copy(
        update={"controller": ControllerSettings(name="A Shop", contact="dpo@shop.example")}
    )
    async with open_world(known) as world:
        app = await world.app("other", "governance:read")
        controller = (await app.get("/v1/ropa")).json()["controller"]
        assert (controller["name"], controller["contact"]) == ("A Shop", "dpo@shop.example")
        assert controller["dpo_contact"] == "not configured"


async def test_consent_is_counted_by_state_and_by_day(settings):
    clock = JumpingClock()
    async with open_world(settings, clock=clock) as world:
        crm = await world.app()
        first = await crm.register(phone="081-234-5678", consents={"marketing": "sms"})
        await crm.register(phone="089-999-8888", consents={"marketing": "sms"})
        clock.jump_us += DAY_US
        await crm.sign_in()
        assert (await crm.withdraw(first, channel="sms")).status_code == 200
        app = await officer(world)

        report = (await app.get("/v1/reports/consent", params={"days": "3"})).json()

        assert report["states"] == [
            {"purpose": "marketing", "channel": "sms", "status": "given", "members": 1},
            {"purpose": "marketing", "channel": "sms", "status": "withdrawn", "members": 1},
        ]
        assert [(day["given"], day["withdrawn"]) for day in report["days"]] == [
            (0, 0),
            (2, 0),
            (0, 1),
        ]


async def test_both_need_the_scope_of_governance(world):
    crm = await world.app()
    for path in ("/v1/ropa", "/v1/reports/consent"):
        assert (await crm.get(path)).status_code == 403
    app = await officer(world)
    for days in ("0", "367", "x"):
        answer = await app.get("/v1/reports/consent", params={"days": days})
        assert answer.status_code == 422


async def test_neither_holds_a_person(world):
    crm = await world.app()
    member = await crm.register(
        given_name="สมหญิงลับ", phone="081-234-5678", consents={"marketing": "sms"}
    )
    app = await officer(world)
    member_id = await world.member_id(member)
    for path in ("/v1/ropa", "/v1/reports/consent"):
        text = (await app.get(path)).text
        assert not any(word in text for word in ("สมหญิงลับ", "812345678", member_id, member.id))
