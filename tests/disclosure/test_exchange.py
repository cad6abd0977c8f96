"""The main job as one exchange, shape by shape as SURFACE prints it, on both engines."""

import re

import pytest

pytestmark = pytest.mark.anyio

ID = "[0-9a-hjkmnp-tv-z]{26}"
PROBLEMS = "https://yinyom.dev/problems"


def shaped(value, prefix):
    assert re.fullmatch(f"{prefix}_{ID}", value), value
    return value


async def test_register_verify_view_withdraw_and_be_refused(world):
    crm = await world.app("crm", "members:write", "purpose:marketing", "consents:read")
    notice = (await world.http.get("/v1/notices/marketing", params={"lang": "th"})).json()
    assert notice.keys() == {"key", "version", "lang", "text", "revision", "effective_from"}
    assert re.fullmatch("sha256:[0-9a-f]{64}", notice["revision"])

    registered = await crm.post(
        "/v1/members",
        {
            "brand": "main",
            "jurisdiction": "TH",
            "formats": {"phone_region": "TH", "date_era": "be-dmy"},
            "fields": {
                "given_name": "สมหญิง",
                "family_name": "ใจดี",
                "phone": "081-234-5678",
                "birth_date": "12/03/2535",
            },
            "consents": [
                {
                    "purpose": "marketing",
                    "channel": "sms",
                    "decision": "given",
                    "notice_revision": notice["revision"],
                    "lang": "th",
                    "evidence": {"ui_action": "switch_on", "shown_at": "2026-11-23T03:00:00Z"},
                }
            ],
        },
    )
    assert registered.status_code == 201
    body = registered.json()
    sub = shaped(body["id"], "sub")
    con = shaped(body["consents"][0]["id"], "con")
    cp = shaped(body["contact_points"][0]["id"], "cp")
    assert body == {
        "id": sub,
        "consents": [{"id": con, "receipt": f"/v1/consents/{con}/receipt"}],
        "contact_points": [{"id": cp, "kind": "phone", "verified": False}],
        "audit_id": shaped(body["audit_id"], "evt"),
    }

    view = f"/v1/members/{sub}/view"
    query = {"purpose": "marketing", "channel": "sms", "fields": "given_name,phone,birth_date"}
    early = (await crm.get(view, params=query)).json()
    assert early["data"] == {"given_name": "สมหญิง"}
    assert early["omitted"] == {"phone": "unverified", "birth_date": "not_in_purpose"}

    verified = await crm.post(
        f"/v1/members/{sub}/contact-points/{cp}:verify", {"code": world.code_for(cp)}
    )
    assert verified.status_code == 200

    answer = await crm.get(view, params=query)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {
        "id": sub,
        "purpose": "marketing",
        "channel": "sms",
        "data": {"given_name": "สมหญิง", "phone": "+66812345678"},
        "omitted": {"birth_date": "not_in_purpose"},
        "basis": {"type": "consent", "id": con, "notice_revision": notice["revision"]},
        "audit_id": shaped(answer.json()["audit_id"], "evt"),
    }

    withdrawn = await crm.post(
        f"/v1/members/{sub}/consents:withdraw", {"purpose": "marketing", "channel": "sms"}
    )
    assert withdrawn.status_code == 200

    refused = await crm.get(view, params=query)
    assert refused.status_code == 403
    assert refused.headers["content-type"] == "application/problem+json"
    problem = refused.json()
    assert problem["type"] == f"{PROBLEMS}/no-lawful-basis"
    assert problem["reason"] == "consent_withdrawn"
    shaped(problem["audit_id"], "evt")
    assert problem.keys() == {
        "type",
        "title",
        "status",
        "next",
        "reason",
        "audit_id",
        "request_id",
    }

    await world.runtime.sequencer.drain()
    for audit_id in (body["audit_id"], answer.json()["audit_id"], problem["audit_id"]):
        rows = await world.fetch("SELECT 1 FROM audit_leaf WHERE event_id = :id", id=audit_id)
        assert len(rows) == 1


async def test_another_client_knows_the_member_by_an_id_of_its_own(world):
    crm = await world.app("crm")
    sender = await world.app("sender", "purpose:marketing")
    member = await crm.register(phone="081-234-5678", consents={"marketing": "sms"})
    assert (await sender.view(member, "marketing", "sms")).status_code == 404
    introduced = await crm.post(f"/v1/members/{member.id}:introduce", {"to": sender.id})
    assert introduced.status_code == 200
    assert introduced.json() == {"to": sender.id, "id": shaped(introduced.json()["id"], "sub")}
    assert introduced.json()["id"] != member.id
    assert (await sender.view(introduced.json()["id"], "marketing", "sms")).status_code == 200
    assert (await sender.view(introduced.json()["id"])).status_code == 403
    stranger = await crm.post(f"/v1/members/{member.id}:introduce", {"to": "cli_" + "0" * 26})
    assert (stranger.status_code, stranger.json()["reason"]) == (404, "client_unknown")


async def test_a_look_up_tells_an_id_or_that_there_is_none(world):
    crm = await world.app("crm")
    till = await world.app("till", "purpose:membership")
    await crm.register(phone="081-234-5678", card_no="Y-0042")
    body = {"kind": "phone", "value": "081-234-5678", "region": "TH", "purpose": "membership"}
    found = await till.post("/v1/members:lookup", body)
    assert found.status_code == 200
    assert found.json() == {"id": shaped(found.json()["id"], "sub")}
    same = await till.post(
        "/v1/members:lookup", {"kind": "card_no", "value": "Y-0042", "purpose": "membership"}
    )
    assert same.json() == found.json()
    none = await till.post("/v1/members:lookup", body | {"value": "089-999-9999"})
    assert (none.status_code, none.json()["type"]) == (404, f"{PROBLEMS}/member-unknown")
    for purpose in ("marketing", "analytics"):
        refused = await till.post("/v1/members:lookup", body | {"purpose": purpose})
        assert (refused.status_code, refused.json()["reason"]) == (403, "scope_missing")
