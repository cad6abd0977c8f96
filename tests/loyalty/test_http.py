"""The programme over HTTP, as a till, a crm and a marketing app meet it."""

import pytest

from tests.support.world import EVERYTHING, JumpingClock, open_world

pytestmark = pytest.mark.anyio

LOYALTY = (*EVERYTHING, "loyalty:write")
BILL = {"kind": "earn", "points": 120, "reference": "bill-1"}


@pytest.fixture
async def crm(world):
    return await world.app("crm", *LOYALTY)


@pytest.fixture
async def member(crm):
    return await crm.register(phone="081-234-5678")


def row(member, reference="r1", **changes):
    return {
        "member": member.id,
        "at": "2026-11-20T10:15:00+07:00",
        "amount": "1250.00",
        "currency": "THB",
        "items": 3,
        "branch": "siam",
        "reference": reference,
        **changes,
    }


async def buy(app, *rows):
    answer = await app.post("/v1/purchases", {"purchases": list(rows)})
    assert answer.status_code == 200, answer.text
    return answer.json()


def outcomes(report):
    return [(one["outcome"], one.get("reason")) for one in report["results"]]


# --- the till -------------------------------------------------------------------------


async def test_a_till_looks_up_earns_and_reads_what_its_purpose_shows(world, crm, member):
    till = await world.app("till", "purpose:membership", "loyalty:write")
    found = await till.post(
        "/v1/members:lookup",
        {"kind": "phone", "value": "081-234-5678", "region": "TH", "purpose": "membership"},
    )
    sub = found.json()["id"]
    earned = await till.post(f"/v1/members/{sub}/points", BILL)
    assert (earned.status_code, earned.json()["points"]) == (200, 120)
    assert "balance" not in earned.text
    seen = await till.get(f"/v1/members/{sub}/loyalty")
    assert seen.json()["data"] == {"tier": "member", "points_balance": 120, "coupons": 0}
    assert seen.json()["basis"]["type"] == "contract"
    assert seen.json()["omitted"] == {
        "activity_class": "not_held",
        "branch": "not_held",
        "tags": "not_held",
    }
    event = next(e for e in await world.events("member.view") if e["id"] == seen.json()["audit_id"])
    assert event["fields"] == ["coupons", "points_balance", "tier"]
    assert (event["purpose"], event["decision"]) == ("membership", "allow")


@pytest.mark.parametrize(
    ("purpose", "reason"),
    [("profiling", "consent_not_given"), ("analytics", "consent_not_given")],
)
async def test_a_purpose_without_consent_gets_403_and_an_event(world, crm, member, purpose, reason):
    await crm.post(f"/v1/members/{member.id}/points", BILL)
    for path in ("loyalty", "coupons"):
        answer = await crm.get(f"/v1/members/{member.id}/{path}", params={"purpose": purpose})
        assert (answer.status_code, answer.json()["reason"]) == (403, reason)
        denied = [e for e in await world.events("member.view") if e["decision"] == "deny"]
        assert denied[-1]["id"] == answer.json()["audit_id"]


async def test_a_purpose_that_the_client_was_not_given_is_refused(world, crm, member):
    till = await world.app("till", "purpose:membership", "loyalty:read")
    answer = await crm.post(f"/v1/members/{member.id}:introduce", {"to": till.id})
    sub = answer.json()["id"]
    refused = await till.get(f"/v1/members/{sub}/loyalty", params={"purpose": "profiling"})
    assert (refused.status_code, refused.json()["reason"]) == (403, "scope_missing")
    assert (await till.get(f"/v1/members/{sub}/loyalty")).status_code == 200


async def test_without_the_scope_of_loyalty_nothing_is_read_or_written(world, crm, member):
    other = await world.app("other", *EVERYTHING)
    sub = (await crm.post(f"/v1/members/{member.id}:introduce", {"to": other.id})).json()["id"]
    for answer in (
        await other.get(f"/v1/members/{sub}/loyalty"),
        await other.get(f"/v1/members/{sub}/coupons"),
        await other.post(f"/v1/members/{sub}/points", BILL),
        await other.post("/v1/purchases", {"purchases": [row(member)]}),
        await other.post(f"/v1/members/{sub}/coupons", {"offer": "welcome"}),
        await other.post("/v1/tags/event_guest:set", {"members": [sub]}),
        await other.get("/v1/tags"),
    ):
        assert (answer.status_code, answer.json()["reason"]) == (403, "scope_missing")
    assert await world.fetch("SELECT 1 FROM points_entry") == []


async def test_who_may_read_may_not_write(world, crm, member):
    reader = await world.app("reader", "purpose:membership", "loyalty:read")
    sub = (await crm.post(f"/v1/members/{member.id}:introduce", {"to": reader.id})).json()["id"]
    assert (await reader.post(f"/v1/members/{sub}/points", BILL)).status_code == 403


async def test_a_redeem_of_too_much_is_a_conflict(crm, member):
    body = {"kind": "redeem", "points": 1, "reference": "x"}
    answer = await crm.post(f"/v1/members/{member.id}/points", body)
    assert (answer.status_code, answer.json()["reason"]) == (409, "insufficient_points")


async def test_the_same_key_or_the_same_reference_is_done_once(world, crm, member):
    path = f"/v1/members/{member.id}/points"
    key = {"Idempotency-Key": "once"}
    first = await crm.post(path, BILL, headers=key)
    again = await crm.post(path, BILL, headers=key)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json() == first.json()
    third = await crm.post(path, BILL)
    assert (third.json()["entry"], third.json()["repeated"]) == (first.json()["entry"], True)
    assert len(await world.fetch("SELECT 1 FROM points_entry")) == 1


# --- the consented read ---------------------------------------------------------------


async def test_plain_fields_come_with_the_read_of_their_purpose_and_no_other(world, crm):
    member = await crm.register(
        phone="081-234-5678",
        gender="F",
        consents={"profiling": None, "marketing": "sms"},
    )
    await crm.verify(member)
    await buy(crm, row(member))
    await crm.post("/v1/tags/gift_buyer:set", {"members": [member.id]})
    seen = (await crm.view(member, "membership")).json()
    assert seen["data"]["points_balance"] == 50
    assert seen["data"]["given_name"] == "สมหญิง"
    profiled = (await crm.view(member, "profiling")).json()
    assert profiled["data"] == {
        "gender": "F",
        "tier": "member",
        "points_balance": 50,
        "branch": "siam",
        "activity_class": "new",
        "tags": ["gift_buyer"],
    }
    written_to = await crm.view(member, "marketing", "sms", fields="given_name,tier,points_balance")
    assert written_to.json()["omitted"] == {
        "tier": "not_in_purpose",
        "points_balance": "not_in_purpose",
    }
    batch = {"ids": [member.id], "purpose": "profiling", "fields": ["tier", "tags"]}
    (one,) = (await crm.post("/v1/members:view", batch)).json()["results"]
    assert one["data"] == {"tier": "member", "tags": ["gift_buyer"]}
    masked = await crm.get(f"/v1/members/{member.id}", params={"purpose": "membership"})
    assert masked.json()["data"]["points_balance"] == 50
    assert masked.json()["data"]["given_name"] != "สมหญิง"


async def test_plain_fields_alone_open_no_cell(world, crm, member, monkeypatch):
    await buy(crm, row(member))

    def nothing(*_, **__):
        pytest.fail("a cell was opened")

    for way in ("open", "open_many"):
        monkeypatch.setattr(type(world.runtime.vault), way, nothing)
    seen = await crm.view(member, "membership", fields="tier,points_balance,branch")
    assert seen.json()["data"] == {"tier": "member", "points_balance": 50, "branch": "siam"}


async def test_a_withdrawn_purpose_shows_no_plain_field(crm):
    member = await crm.register(phone="081-234-5678", consents={"profiling": None})
    await buy(crm, row(member))
    assert (await crm.view(member, "profiling")).status_code == 200
    await crm.withdraw(member, "profiling")
    answer = await crm.view(member, "profiling")
    assert (answer.status_code, answer.json()["reason"]) == (403, "consent_withdrawn")


async def test_a_restricted_member_shows_nothing(world, crm, member):
    await buy(crm, row(member))
    await world.restrict(member)
    for path in ("loyalty", "coupons"):
        assert (await crm.get(f"/v1/members/{member.id}/{path}")).status_code == 423


# --- coupons --------------------------------------------------------------------------


async def test_a_coupon_is_held_and_used_once(world, crm, member):
    path = f"/v1/members/{member.id}/coupons"
    issued = await crm.post(path, {"offer": "welcome"})
    assert issued.status_code == 201
    coupon = issued.json()["id"]
    (listed,) = (await crm.get(path)).json()["coupons"]
    assert (listed["id"], listed["state"]) == (coupon, "held")
    assert (await crm.get(f"/v1/members/{member.id}/loyalty")).json()["data"]["coupons"] == 1
    used = await crm.post(f"{path}/{coupon}:use")
    assert (used.status_code, used.json()["state"]) == (200, "used")
    again = await crm.post(f"{path}/{coupon}:use")
    assert (again.status_code, again.json()["reason"]) == (409, "coupon_used")
    assert (await crm.get(f"/v1/members/{member.id}/loyalty")).json()["data"]["coupons"] == 0
    for action in ("coupon.issue", "coupon.use"):
        (event,) = await world.events(action)
        assert event["resource"] == "offer:welcome"
        assert coupon not in str(event)


async def test_a_coupon_of_somebody_else_or_of_no_offer_is_unknown(crm, member):
    other = await crm.register(phone="089-876-5432")
    path = f"/v1/members/{member.id}/coupons"
    coupon = (await crm.post(path, {"offer": "welcome"})).json()["id"]
    answer = await crm.post(f"/v1/members/{other.id}/coupons/{coupon}:use")
    assert (answer.status_code, answer.json()["reason"]) == (404, "coupon_unknown")
    answer = await crm.post(path, {"offer": "free_house"})
    assert (answer.status_code, answer.json()["reason"]) == (422, "unknown_offer")


async def test_a_coupon_is_over_after_its_days(settings):
    clock = JumpingClock()
    async with open_world(settings, clock=clock, background=False) as world:
        crm = await world.app("crm", *LOYALTY)
        member = await crm.register(phone="081-234-5678")
        path = f"/v1/members/{member.id}/coupons"
        coupon = (await crm.post(path, {"offer": "birthday"})).json()["id"]
        clock.jump_us += 30 * 86_400_000_000
        await crm.sign_in()
        answer = await crm.post(f"{path}/{coupon}:use")
        assert (answer.status_code, answer.json()["reason"]) == (409, "coupon_expired")
        await world.runtime.loyalty.expire_due(world.operator)
        assert (await crm.get(f"/v1/members/{member.id}/loyalty")).json()["data"]["coupons"] == 0
        assert [one["state"] for one in (await crm.get(path)).json()["coupons"]] == ["expired"]
        assert len(await world.events("coupon.expire")) == 1


async def test_a_restricted_member_gets_no_coupon_and_may_still_use_one(world, crm, member):
    path = f"/v1/members/{member.id}/coupons"
    coupon = (await crm.post(path, {"offer": "welcome"})).json()["id"]
    await world.restrict(member)
    assert (await crm.post(path, {"offer": "welcome"})).status_code == 423
    assert (await crm.post(f"{path}/{coupon}:use")).status_code == 200


# --- tags -----------------------------------------------------------------------------


async def test_a_tag_is_set_only_where_its_purpose_is_allowed(world, crm, member):
    willing = await crm.register(phone="089-876-5432", consents={"profiling": None})
    restricted = await crm.register(phone="086-111-2222", consents={"profiling": None})
    await world.restrict(restricted)
    body = {"members": [member.id, willing.id, restricted.id, "sub_" + "0" * 26, willing.id]}
    answer = (await crm.post("/v1/tags/gift_buyer:set", body)).json()
    assert outcomes(answer) == [
        ("rejected", "no_lawful_basis"),
        ("set", None),
        ("rejected", "member.restricted"),
        ("rejected", "member.unknown"),
        ("unchanged", None),
    ]
    assert answer["changed"] == 1
    (event,) = await world.events("tag.set")
    assert (event["resource"], event["purpose"], event["count"]) == (
        "tag:gift_buyer",
        "profiling",
        1,
    )
    again = (await crm.post("/v1/tags/gift_buyer:set", {"members": [willing.id]})).json()
    assert outcomes(again) == [("unchanged", None)]
    assert len(await world.events("tag.set")) == 1


async def test_a_tag_goes_when_its_consent_is_withdrawn(world, crm):
    member = await crm.register(phone="081-234-5678", consents={"profiling": None})
    for tag in ("gift_buyer", "event_guest"):
        await crm.post(f"/v1/tags/{tag}:set", {"members": [member.id]})
    await crm.withdraw(member, "profiling")
    await world.until("SELECT 1 FROM loyalty_account WHERE tags = '[\"event_guest\"]'")


async def test_a_tag_is_cleared(crm, member):
    await crm.post("/v1/tags/event_guest:set", {"members": [member.id]})
    answer = (await crm.post("/v1/tags/event_guest:clear", {"members": [member.id]})).json()
    assert outcomes(answer) == [("cleared", None)]
    seen = (await crm.get(f"/v1/members/{member.id}/loyalty")).json()
    assert seen["omitted"]["tags"] == "not_held"


async def test_a_tag_is_never_free_text(crm, member):
    answer = await crm.post("/v1/tags/likes_cats:set", {"members": [member.id]})
    assert (answer.status_code, answer.json()["reason"]) == (404, "tag_unknown")
    listed = (await crm.get("/v1/tags")).json()["tags"]
    assert {"event_guest", "gift_buyer"} <= {tag["key"] for tag in listed}


async def test_a_tag_of_a_purpose_that_the_client_was_not_given_is_refused(world, crm, member):
    till = await world.app("till", "purpose:membership", "loyalty:write")
    sub = (await crm.post(f"/v1/members/{member.id}:introduce", {"to": till.id})).json()["id"]
    answer = await till.post("/v1/tags/gift_buyer:set", {"members": [sub]})
    assert (answer.status_code, answer.json()["reason"]) == (403, "scope_missing")
    (event,) = await world.events("tag.set")
    assert (event["decision"], event["id"]) == ("deny", answer.json()["audit_id"])


# --- erasure --------------------------------------------------------------------------


async def test_after_an_erasure_no_row_leads_to_the_person(world, crm):
    member = await crm.register(phone="081-234-5678", consents={"profiling": None})
    other = await crm.register(phone="089-876-5432")
    await buy(crm, row(member), row(other, "r2"))
    await crm.post(f"/v1/members/{member.id}/coupons", {"offer": "welcome"})
    await crm.post("/v1/tags/gift_buyer:set", {"members": [member.id]})
    member_id = await world.erase(member)
    for table in ("loyalty_account", "points_entry", "points_lot", "purchase", "coupon"):
        rows = await world.fetch(f"SELECT * FROM {table}")
        assert not [one for one in rows if member_id in map(str, one.values())], table
    kept = await world.fetch("SELECT reference, amount_milli FROM purchase WHERE member_id IS NULL")
    assert [(one["reference"], one["amount_milli"]) for one in kept] == [(None, 1_250_000)]
    again = await buy(crm, row(member))
    assert outcomes(again) == [("rejected", "member.unknown")]
    assert (await crm.get(f"/v1/members/{member.id}/loyalty")).status_code == 404
    assert (await crm.get(f"/v1/members/{other.id}/loyalty")).status_code == 200
