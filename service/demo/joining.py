"""The main job: from joining at the counter to a withdrawal that stops the very next read."""

from typing import Any

from service.demo.scene import Scene
from service.demo.stage import Api, expect, view_path

_FIELDS = "given_name,phone,birth_date"


async def register(scene: Scene, crm: Api) -> tuple[str, dict[str, Any]]:
    """Register a member who says yes to the words she sees; gives her id and contact point."""
    scene.stage.step("Somying joins at the counter; she sees these words and says yes")
    notice = expect(
        await crm.call("GET", "/v1/notices/marketing?lang=th", auth=False), 200, "notice"
    )
    scene.stage.words(notice["text"])
    body = {
        "brand": scene.settings.brand,
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
    }
    member = expect(await crm.call("POST", "/v1/members", body), 201, "register")
    consent = member["consents"][0]
    scene.stage.done(f"registered as {member['id']} (as crm knows her)")
    scene.stage.done(f"consent {consent['id']} on words {notice['revision'][:19]}…")
    receipt = expect(await crm.call("GET", consent["receipt"]), 200, "receipt")
    scene.stage.done(f"receipt signed: {receipt['jws'][:40]}…")
    scene.stage.done(f"on record: {member['audit_id']}")
    return member["id"], member["contact_points"][0]


async def verify(scene: Scene, crm: Api, member: str, point: dict[str, Any]) -> None:
    """Answer the code that went out."""
    scene.stage.step("She proves that the phone is hers")
    code = scene.code_for(point["id"])
    scene.stage.done(f"the code that went out by SMS: {code}")
    path = f"/v1/members/{member}/contact-points/{point['id']}:verify"
    answer = expect(await crm.call("POST", path, {"code": code}), 200, "verify")
    scene.stage.done(f"{answer['kind']} verified: {answer['verified']}")


async def read(scene: Scene, crm: Api, sender: Api, member: str) -> str:
    """Read her for a purpose she allowed; gives the id by which the sender knows her."""
    scene.stage.step("The message sender reads her, for marketing by SMS")
    introduced = expect(
        await crm.call(
            "POST",
            f"/v1/members/{member}:introduce",
            {"to": scene.clients["sender"]["client_id"]},
        ),
        200,
        "introduce",
    )
    known: str = introduced["id"]
    scene.stage.done(f"sender knows her by an id of its own: {known}")
    answer = expect(
        await sender.call("GET", view_path(known, "marketing", "sms", _FIELDS)), 200, "read"
    )
    rows = [[key, value, "disclosed"] for key, value in answer["data"].items()]
    rows += [[key, "—", reason] for key, reason in answer["omitted"].items()]
    scene.stage.table(["field", "value", "why"], rows)
    scene.stage.done(f"basis: {answer['basis']['type']} {answer['basis']['id']}")
    scene.stage.done(f"on record before the first byte left: {answer['audit_id']}")
    return known


async def refuse(scene: Scene, till: Api) -> None:
    """Ask for a purpose that the till was never given."""
    scene.stage.step("The till tries the same purpose; it was never given that")
    lookup = {
        "kind": "phone",
        "value": "081-234-5678",
        "region": "TH",
        "purpose": "membership",
    }
    known = expect(await till.call("POST", "/v1/members:lookup", lookup), 200, "look-up")["id"]
    answer = expect(await till.call("GET", view_path(known, "marketing", "sms")), 403, "refusal")
    scene.stage.done(f"403 {answer['reason']}, on record: {answer['audit_id']}")


async def withdraw(scene: Scene, crm: Api, sender: Api, member: str, known: str) -> None:
    """Take the consent back and read again."""
    scene.stage.step("She withdraws; the very next read is refused")
    body = {"purpose": "marketing", "channel": "sms"}
    path = f"/v1/members/{member}/consents:withdraw"
    withdrawn = expect(await crm.call("POST", path, body), 200, "withdraw")
    scene.stage.done(f"withdrawn: {withdrawn['consents'][0]['id']}")
    answer = expect(await sender.call("GET", view_path(known, "marketing", "sms")), 403, "refusal")
    scene.stage.done(f"403 {answer['reason']}, on record: {answer['audit_id']}")
