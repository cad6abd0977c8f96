"""A loyalty brand at work: purchases, an audience, and a withdrawal that the sender hears of."""

import asyncio
import http.client
from typing import Any, NamedTuple

from kernel import rfc3339
from service.demo.receiver import Receiver
from service.demo.scene import Scene
from service.demo.stage import Api, DemoError, expect, view_path

# Made up. Nobody in this list exists.
FRIENDS = (
    ("มาลี", "081-555-0101"),
    ("อนันต์", "081-555-0102"),
    ("ปรียา", "081-555-0103"),
    ("กิตติ", "081-555-0104"),
    ("วิภา", "081-555-0105"),
    ("ธนา", "081-555-0106"),
    ("นภา", "081-555-0107"),
    ("ชัยวัฒน์", "081-555-0108"),
    ("สุดา", "081-555-0109"),
    ("ประเสริฐ", "081-555-0110"),
    ("จันทร์เพ็ญ", "081-555-0111"),
    ("เกรียงไกร", "081-555-0112"),
)
_WHERE = {"tier": ["silver", "gold"]}
_DAY_US = 86_400_000_000


class Joined(NamedTuple):
    """A member by the id that crm knows, and the contact point of her phone."""

    id: str
    point: str


async def member_day(scene: Scene, crm: Api) -> list[Joined]:
    """Let twelve friends join and allow marketing by SMS."""
    scene.stage.step("Twelve friends join on member day; each allows marketing by SMS")
    notice = expect(
        await crm.call("GET", "/v1/notices/marketing?lang=th", auth=False), 200, "notice"
    )
    consent = {
        "purpose": "marketing",
        "channel": "sms",
        "decision": "given",
        "notice_revision": notice["revision"],
        "lang": "th",
        "evidence": {"ui_action": "switch_on", "shown_at": rfc3339(scene.runtime.clock.now_us())},
    }
    joined: list[Joined] = []
    for given_name, phone in FRIENDS:
        body = {
            "brand": scene.settings.brand,
            "jurisdiction": "TH",
            "formats": {"phone_region": "TH", "date_era": "iso"},
            "fields": {"given_name": given_name, "phone": phone, "birth_date": "1990-11-24"},
            "consents": [consent],
        }
        member = expect(await crm.call("POST", "/v1/members", body), 201, "register")
        joined.append(Joined(member["id"], member["contact_points"][0]["id"]))
    for one in joined:
        path = f"/v1/members/{one.id}/contact-points/{one.point}:verify"
        code = scene.code_for(one.point)
        expect(await crm.call("POST", path, {"code": code}), 200, "verify")
    scene.stage.done(f"{len(joined)} joined, each on the same words, each phone verified")
    return joined


async def buy(scene: Scene, crm: Api, till: Api, joined: list[Joined]) -> None:
    """Post a batch of purchases from the till; points, tiers and activity classes follow."""
    scene.stage.step("The till posts a day of purchases; one row is wrong")
    now_us = scene.runtime.clock.now_us()
    run = str(now_us)[-7:-1]
    rows: list[dict[str, Any]] = []
    for at, member in enumerate(joined):
        path = f"/v1/members/{member.id}:introduce"
        known = expect(
            await crm.call("POST", path, {"to": scene.clients["till"]["client_id"]}), 200, "meet"
        )
        rows.append(
            {
                "member": known["id"],
                "at": rfc3339(now_us - (at + 1) * _DAY_US),
                "amount": f"{5_500 + 250 * at}.00",
                "currency": "THB",
                "items": at + 1,
                "branch": "siam",
                "reference": f"bill-{run}-{at:03}",
            }
        )
    wrong = {**rows[0], "amount": "a lot", "reference": f"bill-{run}-x"}
    answer = expect(
        await till.call("POST", "/v1/purchases", {"purchases": [*rows, wrong]}), 200, "purchases"
    )
    again = expect(await till.call("POST", "/v1/purchases", {"purchases": rows}), 200, "repeat")
    if (answer["accepted"], answer["rejected"]) != (len(rows), 1) or again["accepted"]:
        raise DemoError("the purchases were not each accounted for")
    scene.stage.done(f"{answer['accepted']} accepted, {answer['rejected']} set aside by name")
    scene.stage.done(f"the same batch again: {again['repeated']} known repeats, no point twice")
    account = expect(
        await till.call("GET", f"/v1/members/{rows[0]['member']}/loyalty?purpose=membership"),
        200,
        "loyalty",
    )
    shown = {key: account["data"][key] for key in ("tier", "points_balance")}
    scene.stage.done(f"the first of them now: {shown}")


async def reach(scene: Scene, sender: Api) -> list[str]:
    """Count and export an audience for a birthday campaign; gives the ids the sender knows."""
    scene.stage.step("A birthday campaign: members who allowed SMS")
    asked = {"purpose": "marketing", "channel": "sms"}
    by_tier = {**asked, "where": _WHERE}
    counted = expect(await sender.call("POST", "/v1/audiences:query", by_tier), 200, "count")
    scene.stage.done(
        f"silver and gold: about {counted['count']} (rounded down, so that nobody is counted out)"
    )
    small = {**asked, "where": {"tier": ["platinum"]}}
    few = expect(await sender.call("POST", "/v1/audiences:query", small), 200, "small count")
    if few["count"] is not None:
        raise DemoError("a handful of people was counted")
    scene.stage.done(f"platinum: fewer than {few['minimum']}, so no number is told")
    named = expect(await sender.call("POST", "/v1/audiences:export", by_tier), 422, "tier")
    scene.stage.done(
        f"a list by tier: refused, {named['errors'][0]['pointer']} is not in marketing"
    )
    lines = await sender.lines("/v1/audiences:export", asked)
    members, end = lines[:-1], lines[-1]
    if not end.get("end") or end["count"] != len(members):
        raise DemoError("the export did not end as it should")
    scene.stage.table(
        ["member", "name", "phone"],
        [[m["id"], m["data"]["given_name"], m["data"].get("phone", "—")] for m in members[:3]],
    )
    scene.stage.done(f"{end['count']} exported; each had its own event before its line left")
    return [member["id"] for member in members]


async def hear(
    scene: Scene,
    crm: Api,
    sender: Api,
    receiver: Receiver,
    joined: list[Joined],
    reached: list[str],
) -> str:
    """Withdraw one of them; the sender is told by a signed webhook. Gives whom crm knows."""
    scene.stage.step("Malee withdraws; the sender is told, and cannot say it was not")
    hook = expect(
        await sender.call(
            "POST",
            "/v1/webhooks",
            {"url": receiver.url, "types": ["consent.withdrawn", "member.erased"]},
        ),
        201,
        "webhook",
    )
    receiver.secret = hook["secret"]
    malee = joined[0].id
    path = f"/v1/members/{malee}:introduce"
    known = expect(
        await crm.call("POST", path, {"to": scene.clients["sender"]["client_id"]}), 200, "meet"
    )["id"]
    if known not in reached:
        raise DemoError("the audience left somebody out")
    body = {"purpose": "marketing", "channel": "sms"}
    expect(await crm.call("POST", f"/v1/members/{malee}/consents:withdraw", body), 200, "withdraw")
    told = await asyncio.to_thread(receiver.next_about, "consent.withdrawn", known)
    scene.stage.done(f"webhook, signature verified: {told['type']} {told['data']['id']}")
    refused = expect(
        await sender.call("GET", view_path(known, "marketing", "sms")),
        http.client.FORBIDDEN,
        "refusal",
    )
    scene.stage.done(f"her next read: 403 {refused['reason']}")
    listed = expect(
        await sender.call("GET", "/v1/suppressions?purpose=marketing&channel=sms"), 200, "list"
    )
    if known not in {one["id"] for one in listed["suppressions"]}:
        raise DemoError("whoever withdrew is not on the suppression list")
    scene.stage.done(f"on the suppression list, with {len(listed['suppressions']) - 1} others")
    return malee
