"""The flows of the mission, gone through by canaries: each keeps what was said and may show nobody.

A flow asserts that it came about, so that a search of what it left is a search of something.
"""

import io
import json
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

from service.commands import COMMANDS
from service.tasks import system_caller
from tests.support.canaries import CHINESE, LATIN, THAI, canary
from tests.support.portal import Browser
from tests.support.world import EVERYTHING, registration

PEOPLE = 110
REGISTERED, DOUBLES = range(60), range(60, 66)
GUARDED, BY_FILE = range(66, 72), range(72, 86)
UPLOADED, JOINING = range(86, 100), range(100, 110)
SCOPES = (
    *EVERYTHING,
    *("duplicates:resolve", "loyalty:write", "imports:write", "webhooks:manage", "changes:read"),
    *("audiences:query", "audiences:export", "suppressions:read", "governance:read"),
    *("rights-requests:open", "rights-requests:handle", "restrictions:write"),
)
PURCHASE = {
    "at": "2026-11-20T10:15:00+07:00",
    "amount": "1250.00",
    "currency": "THB",
    "items": 3,
    "branch": "siam",
}
HOUR_US = 3_600_000_000
RECEIPTS = ("yinyom", "iso27560", "kantara-1.1", "html")
REQUESTS = "/v1/rights-requests"


@dataclass
class Mission:
    """The place, the app that talks to it, and all that was said where no value belongs."""

    at: object
    talk: object
    kept: dict[str, list[bytes]] = field(default_factory=dict)

    @property
    def world(self):
        return self.at.world

    @property
    def runtime(self):
        return self.at.world.runtime

    def keep(self, name, *said):
        kept = self.kept.setdefault(name, [])
        kept += [one if isinstance(one, bytes) else str(one).encode() for one in said]

    async def ask(self, method, path, body=None, *, wanted=None, may_show=False, **details):
        answer = await self.talk.ask(method, path, json=body, may_show=may_show, **details)
        if wanted is not None:
            assert answer.status_code == wanted, (method, path, answer.status_code, answer.text)
        return answer

    async def settle(self):
        """Everything that waits in the background."""
        await self.runtime.courier.deliver()
        while await self.runtime.worker.run_one():
            pass
        await self.runtime.courier.deliver()
        await self.runtime.webhooks.send_due()
        await self.runtime.sequencer.drain()

    def look_at(self, browser, name):
        """Keep of a browser's answers what may hold no value."""
        for answer in browser.answers:
            html = answer.text if "html" in answer.headers.get("content-type", "") else ""
            self.keep(
                name,
                unquote(str(answer.request.url)),
                *(f"{key}: {value}" for key, value in answer.headers.items()),
                *re.findall(r"<title>(.*?)</title>", html, re.DOTALL),
                *re.findall(r'(?:href|action|src)="(.*?)"', html),
            )
            if answer.status_code >= 400 and answer.status_code != 422:  # what was mistyped stands
                self.keep(name, answer.text)
        browser.answers.clear()


def person(at):
    """A canary whose notes hold what notes should not."""
    values = canary(at)
    notes = f"{LATIN} โทร {values['phone']} {values['email']} ไลน์ไอดี: zqxcanary{at} เบาหวาน"
    return values | {"notes": f"{notes} {values['national_id']} {THAI}"}


async def registered(mission, at, **more):
    values = person(at) | more
    body = registration(
        values, [mission.world.decision("marketing", "sms"), mission.world.decision("profiling")]
    )
    made = (await mission.ask("POST", "/v1/members", body, wanted=201)).json()
    await mission.runtime.courier.deliver()
    point = next(one["id"] for one in made["contact_points"] if one["kind"] == "phone")
    verify = f"/v1/members/{made['id']}/contact-points/{point}:verify"
    code = {"code": mission.world.code_for(point)}
    await mission.ask("POST", verify, {"code": "000000"})
    await mission.ask("POST", verify, code, wanted=200)
    return made


async def lives(mission, at):
    """Registration, loyalty, look-ups and views of one person."""
    values = person(at)
    made = await registered(mission, at)
    sub = made["id"]
    base = f"/v1/members/{sub}"
    for body in (
        {"kind": "earn", "points": 120, "reference": f"bill-{at}"},
        {"kind": "redeem", "points": 20, "reference": f"gift-{at}"},
    ):
        await mission.ask("POST", f"{base}/points", body, wanted=200)
    await mission.ask(
        "POST",
        "/v1/purchases",
        {
            "purchases": [
                PURCHASE | {"member": sub, "reference": f"buy-{at}"},
                {"member": values["phone"], "branch": THAI, "reference": values["email"]},
            ]
        },
        wanted=200,
    )
    coupon = await mission.ask("POST", f"{base}/coupons", {"offer": "welcome"}, wanted=201)
    await mission.ask("POST", f"{base}/coupons/{coupon.json()['id']}:use", wanted=200)
    await mission.ask("POST", "/v1/tags/gift_buyer:set", {"members": [sub]}, wanted=200)
    await mission.ask("POST", "/v1/tags/gift_buyer:set", {"members": [values["email"]]})
    await mission.ask("GET", f"{base}/loyalty", wanted=200)
    for kind in ("phone", "email", "national_id", "line_uid", "card_no"):
        look = {"kind": kind, "value": values[kind], "purpose": "membership"}
        look |= {"region": "TH"} if kind == "phone" else {}
        look |= {"id_country": "TH"} if kind == "national_id" else {}
        await mission.ask("POST", "/v1/members:lookup", look)
    view = {"purpose": "marketing", "channel": "sms"}
    seen = await mission.ask(
        "GET", f"{base}/view", wanted=200, may_show=True, params={"purpose": "membership"}
    )
    assert values["given_name"] in seen.text
    await mission.ask("GET", f"{base}/view", wanted=200, may_show=True, params=view)
    await mission.ask("GET", f"{base}/view", wanted=403, params={"purpose": "analytics"})
    await mission.ask("GET", base, wanted=200, may_show=True, params={"purpose": "membership"})
    for path in ("disclosures", "consents", "objections", "guardians"):
        await mission.ask("GET", f"{base}/{path}", wanted=200)
    return made


async def goes_on(mission, at, made):
    """What members and apps do later, by turns."""
    base, turn = f"/v1/members/{made['id']}", at % 6
    if turn == 0:
        body = {"fields": {"notes": f"{CHINESE} {at} {canary(at)['email']}"}}
        await mission.ask("PATCH", base, body, wanted=200)
    elif turn == 1:
        await mission.ask("POST", f"{base}/consents:withdraw", {"purpose": "marketing"}, wanted=200)
    elif turn == 2:
        await mission.ask("POST", f"{base}/objections", {"purpose": "marketing"}, wanted=201)
    elif turn == 3:
        body = {"member": made["id"], "ground": "accuracy_contested"}
        held = await mission.ask("POST", "/v1/restrictions", body, wanted=201)
        if at % 2:
            await mission.ask("DELETE", f"/v1/restrictions/{held.json()['id']}", wanted=200)
    for form in RECEIPTS:
        consent = made["consents"][at % 2]["id"]
        said = await mission.ask(
            "GET", f"/v1/consents/{consent}/receipt", wanted=200, params={"format": form}
        )
        mission.keep("receipts", said.content)


# --- apps -----------------------------------------------------------------------------


async def out_to_apps(mission, subs):
    """Batches, audiences, changes and suppressions."""
    body = {"ids": subs[:20], "purpose": "membership"}
    batch = await mission.ask("POST", "/v1/members:view", body, wanted=200, may_show=True)
    assert canary(1)["given_name"] in batch.text
    query = {"purpose": "marketing", "channel": "sms"}
    counted = await mission.ask("POST", "/v1/audiences:query", query, wanted=200)
    assert counted.json()["count"]
    sent = await mission.ask("POST", "/v1/audiences:export", query, wanted=200, may_show=True)
    assert len(sent.text.splitlines()) > 10
    changes = await mission.ask("GET", "/v1/changes", wanted=200)
    assert changes.json()["changes"]
    await mission.ask("GET", "/v1/suppressions", wanted=200, params=query)
    await mission.ask("GET", "/v1/audit/events", wanted=200)


def file_of(people):
    """A member file; every fourth row has a value in the wrong place, every seventh is torn."""
    header = "ชื่อ,นามสกุล,เบอร์โทรศัพท์,อีเมล,เลขบัตรประชาชน,วันเกิด,หมายเหตุ,แต้ม,ยินยอม"
    header += f",{THAI}087-777-0001\n"  # a column whose name is somebody
    lines = []
    for at in people:
        values = person(at)
        phone = values["phone"] if at % 4 else values["given_name"]
        email = values["email"] if at % 8 else values["family_name"]
        number = values["national_id"] if at % 8 else values["phone"]
        cells = [values["given_name"], values["family_name"], phone, email, number]
        cells += [values["birth_date"], values["notes"], LATIN, THAI, "x"]
        lines.append(",".join(cells) + ("\n" if at % 7 else f",{CHINESE}\n"))
    return (header + "".join(lines)).encode()


def read_away(path):
    """Read a file that is for staff, and take it away as they do."""
    text = Path(path).read_text(encoding="utf-8")
    Path(path).unlink()
    return text


async def brought_in(mission, folder):
    """Two files: one by the command line, one over HTTP; the error file is for staff."""
    path = folder / "members.csv"
    path.write_bytes(file_of(BY_FILE))
    declared = {"path": str(path), "brand": "main", "profile": "th", "columns": {}}
    declared |= dict.fromkeys(("region", "dates", "encoding", "id_country", "jurisdiction"))
    report = await COMMANDS["members.import"](
        *(mission.runtime, lambda _done, _total: None),
        **declared,
        dry_run=False,
    )
    assert report["accepted"]
    assert report["quarantined"]
    assert THAI in read_away(report["error_file"])
    assert THAI[:-2] in str(report.pop("unknown_columns"))  # told to the operator who has the file
    mission.keep("reports", json.dumps(report, ensure_ascii=False))
    sent = {"file": (f"{LATIN} 087-777-0001.csv", io.BytesIO(file_of(UPLOADED)), "text/csv")}
    taken = await mission.talk.ask("POST", "/v1/imports", files=sent, data={"profile": "th"})
    assert taken.status_code == 202, taken.text
    stray = {**sent, "zqxcanary.1": (f"{THAI}.csv", io.BytesIO(b"x"), "text/csv")}
    for form in (
        {"files": sent, "data": {"profile": THAI}},
        {"files": sent, "data": {"map": f"{THAI}={LATIN}"}},
        {"files": sent, "data": {"map": f"{LATIN}=phone"}},
        {"files": stray},
        {"files": {"file": (f"{THAI}.csv", io.BytesIO(f"{THAI},{LATIN}\n1,2\n".encode()), THAI)}},
    ):
        await mission.talk.ask("POST", "/v1/imports", **form)
    await mission.settle()
    place = f"/v1/imports/{taken.json()['id']}"
    done = (await mission.ask("GET", place, wanted=200)).json()
    assert done["state"] == "finished"
    assert done["quarantined"]
    await mission.ask("GET", f"{place}/quarantine", wanted=200)


async def matched(mission):
    """People who are there twice: proposed, merged, parted again."""
    for at in DOUBLES:
        await registered(mission, at)
        await registered(mission, at)
    await mission.settle()
    await COMMANDS["members.dedupe"](mission.runtime, lambda _d, _t: None, brand="main")
    queue = (await mission.ask("GET", "/v1/duplicates", wanted=200)).json()["duplicates"]
    assert len(queue) >= len(DOUBLES)
    for turn, pair in enumerate(queue):
        path = f"/v1/duplicates/{pair['id']}"
        if turn % 3 == 2:
            await mission.ask("POST", f"{path}:dismiss", wanted=200)
            continue
        merged = (await mission.ask("POST", f"{path}:merge", {}, wanted=200)).json()
        if turn % 3 == 1:
            await mission.ask("POST", f"/v1/merges/{merged['merge_id']}:undo", wanted=200)


async def guarded(mission):
    """Minors whose guardian is reached by a canary's number or address."""
    for at in GUARDED:
        values, own = canary(at), {"phone": f"081-555-{at:04}", "birth_date": "2012-05-06"}
        kept = {key: values[key] for key in ("given_name", "family_name", "line_uid", "address")}
        made = await mission.ask("POST", "/v1/members", registration(kept | own), wanted=201)
        base = f"/v1/members/{made.json()['id']}/guardians"
        contact = {"kind": "email", "value": values["email"]}
        if at % 2:
            contact = {"kind": "phone", "value": values["phone"], "region": "TH"}
        body = {"relation": "parent", "contact": contact}
        named = await mission.ask("POST", base, body, wanted=201)
        guardian = named.json()["id"]
        await mission.runtime.courier.deliver()
        code = {"code": mission.world.code_for(guardian)}
        await mission.ask("POST", f"{base}/{guardian}:verify", {"code": "000000"})
        await mission.ask("POST", f"{base}/{guardian}:verify", code, wanted=200)
        contact["value"] = values["given_name"]
        await mission.ask("POST", base, {"relation": THAI, "contact": contact})
        await mission.ask("GET", base, wanted=200)


# --- rights ---------------------------------------------------------------------------


async def opened(mission, sub, right, *, prove=True, **details):
    body = {"member": sub, "right": right, "details": details}
    made = (await mission.ask("POST", REQUESTS, body, wanted=201)).json()
    if prove:
        point = made["contact_points"][0]["id"]
        path = f"{REQUESTS}/{made['id']}:verify"
        await mission.ask("POST", path, {"contact_point": point}, wanted=200)
        await mission.runtime.courier.deliver()
        code = mission.world.code_for(point)
        await mission.ask("POST", path, {"contact_point": point, "code": code}, wanted=200)
    return f"{REQUESTS}/{made['id']}"


async def rights(mission, subs):
    """Copies fetched and left to expire, corrections, erasures and a refusal."""
    for at in (4, 10, 16):
        place = await opened(mission, subs[at], ("access", "portability")[at % 4 // 2], lang="en")
        await mission.ask("POST", f"{place}:fulfil", wanted=200)
        await mission.settle()
        if at != 16:  # nobody fetches the last
            copy = await mission.ask("GET", f"{place}/export", wanted=200, may_show=True)
            with zipfile.ZipFile(io.BytesIO(copy.content)) as archive:
                mission.keep("names in copies", *archive.namelist())
                assert canary(at)["given_name"] in archive.read("data.json").decode()
            await mission.ask("GET", f"{place}/export", wanted=404)
    for at in (22, 28):
        changed = {"family_name": f"{THAI}ใหม่", "email": f"zqxcanary.{at}b@birdcage.example"}
        place = await opened(mission, subs[at], "rectification", fields=changed)
        await mission.ask("POST", f"{place}:fulfil", wanted=200)
        await mission.settle()
        await mission.ask("GET", place, wanted=200)
    place = await opened(mission, subs[34], "restriction", ground="unlawful")
    await mission.ask("POST", f"{place}:fulfil")
    for at in (5, 11, 17, 23):
        place = await opened(mission, subs[at], "erasure", ground="no_longer_needed")
        await mission.ask("GET", f"{place}/plan", wanted=200)
        await mission.ask("POST", f"{place}:fulfil", wanted=200)
        await mission.settle()
        note = await mission.ask("GET", f"{place}/certificate", wanted=200)
        mission.keep("certificates", note.content)
    colleagues = [
        await mission.world.app(f"desk-{name}", *SCOPES, person=name) for name in ("ann", "bob")
    ]
    place = await opened(mission, subs[29], "access")
    for app in colleagues:
        answer = await app.post(f"{place}:refuse", {"reason": "third_party"})
        mission.keep("refusals", answer.content)
        assert answer.status_code == 200, answer.text
    for path in (REQUESTS, "/v1/refusals"):
        await mission.ask("GET", path, wanted=200)


async def expire_copies(mission):
    mission.runtime.clock.jump_us += (mission.world.settings.rights.export_hours + 1) * HOUR_US
    await mission.talk.app.sign_in()
    assert await mission.world.fetch("SELECT * FROM rights_export")
    await mission.runtime.rights_requests.look_after(system_caller("worker"))
    await mission.runtime.housekeeping.sweep()
    await mission.settle()
    assert await mission.world.fetch("SELECT * FROM rights_export") == []
    await mission.talk.app.sign_in()


# --- people at their browsers ---------------------------------------------------------


async def joined(mission, at):
    """Join, see and change one's data, ask for things, stumble, and leave."""
    values, lang = canary(at), ("th", "en", "zh-Hant")[at % 3]
    browser = Browser(mission.world, address=f"198.51.100.{at}")
    day = {"day": "12", "month": "3", "year": "1923"}
    await browser.open(f"/{lang}/join")
    page = await browser.send("join", contact=f"{values['phone']}x", given_name=THAI, **day)
    assert page.answer.status_code == 422
    page = await browser.send(
        "join", contact=values["phone"], given_name=values["given_name"], **day
    )
    assert page.has_form("join/code"), (page.url, page.text)
    await browser.send("join/code", code="000000")
    page = await browser.send("join/code", code=await browser.newest_code())
    assert page.has_form("sign-out"), page.text
    for path in ("", "data", "data/contact", "history", "choices", "readers", "requests"):
        page = await browser.open(f"/{lang}/{path}")
        assert page.answer.status_code == 200
    for key in ("family_name", "address"):
        await browser.open(f"/{lang}/data/{key}")
        page = await browser.send(f"data/{key}", value=values[key])
        assert page.answer.status_code == 200
    await browser.prove_contacts(lang=lang)
    await browser.send("data/contact", contact=values["email"])
    await browser.send("contact/code", code=await browser.newest_code())
    await browser.open(f"/{lang}/requests/rectification")
    await browser.send("requests/rectification", field="card_no", value=values["card_no"])
    csrf = browser.page.form("sign-out").fields["csrf"]
    await browser.open(f"/{lang}/requests/rectification")
    number = {"field": "national_id", "value": values["phone"]}
    await browser.send("requests/rectification", **number)
    for path in (
        *("sign-in", "code", "join", "withdraw", "undo", "data/contact/code", "choices"),
        *("data/address", f"data/{THAI}", f"purposes/{LATIN}", f"requests/{values['email']}/code"),
        *("purposes/marketing/sms", "requests", "requests/restriction", "stop-marketing/undo"),
    ):
        sent = dict.fromkeys(("contact", "code", "purpose", "value", "right", "seal"), THAI)
        answer = await browser.http.post(
            f"/{lang}/{path}",
            data=sent | {"csrf": csrf, values["phone"]: values["email"]},
            headers={"Origin": browser.origin},
        )
        mission.keep("portal: refused", *map(str, answer.headers.items()))
        if answer.status_code >= 400 and answer.status_code != 422:
            mission.keep("portal: refused", answer.text)
    mission.look_at(browser, "portal")
    if at % 2:
        signed_out = Browser(mission.world, address=f"203.0.113.{at}")
        page = await signed_out.sign_in(values["phone"], lang=lang)
        assert page.has_form("sign-out")
        page = await signed_out.open(f"/{lang}/requests/erasure")
        await signed_out.send("requests/erasure")
        await signed_out.send("/code", code=await signed_out.newest_code())
        await mission.settle()
        mission.look_at(signed_out, "portal")


async def at_the_desk(mission, request_place):
    """Staff look people up, take steps, search the trail and mistype."""
    for role in ("dpo", "clerk"):
        browser = await mission.at.sign_in(role)
        for at in (1, 2, 3, 70, 101):
            for kind in ("phone", "email", "national_id", "line_uid", "card_no"):
                await browser.open("/console/members")
                region = {"kind": kind, "value": canary(at)[kind], "region": "TH"}
                page = await browser.send("members", **region)
                assert page.answer.status_code == 200, page.text
                # The name is masked, as every value of the outline is; what was typed is not shown.
                mission.keep("console: outlines", page.html)
        await browser.open("/console/members")
        await browser.send("members", kind=THAI, value=canary(1)["email"], region="TH")
        mission.look_at(browser, "console")
    for role in mission.at.staff:
        browser = await mission.at.sign_in(role)
        for place in sorted(set(browser.page.links)):
            if place.startswith("/console/"):
                page = await browser.open(place)
                mission.keep("console: pages", page.html)
        csrf = browser.page.forms[0].fields["csrf"]
        name, phone = canary(3)["given_name"], canary(3)["phone"]
        for path in ("members", "trail/member", "requests/open", f"requests/{name}", "language",
                     f"approvals/{phone}", f"duplicates/{name}", "password",
                     "duplicates/undo", request_place.replace(REQUESTS[4:], "")):  # fmt: skip
            sent = dict.fromkeys(("member", "right", "checked", "step", "reason", "bound"), name)
            sent |= {"csrf": csrf, "kind": phone, "value": name, "region": phone, phone: name}
            page = await browser.post(f"/console/{path.lstrip('/')}", sent)
            mission.keep("console: pages", page.html)
        for query in ({"actor": phone}, {"action": name}, {"field": name}):
            page = await browser.open("/console/trail", params=query)
            mission.keep("console: pages", page.html)
            browser.answers.clear()
    pair = await mission.at.sign_in("dpo")
    for place in (await pair.open("/console/duplicates")).links:
        if "/duplicates/dup_" in place:
            mission.keep("console: pages", (await pair.open(place)).html)


# --- hostile requests -----------------------------------------------------------------


async def stumbles(mission):
    """Every operation of the API with a person where an id, a word or a number belongs."""
    document = (await mission.world.http.get("/openapi.json")).json()
    values = canary(7)
    asked = 0
    for path, operations in document["paths"].items():
        for method in operations.keys() & {"get", "post", "patch", "put", "delete"}:
            for value in (values["given_name"], values["email"], values["phone"], CHINESE):
                place = re.sub(r"\{[^}]*\}", quote(value, safe="@"), path)
                details = {"params": dict.fromkeys(("purpose", "cursor", "state", "fields"), value)}
                if method != "get":
                    body = operations[method].get("requestBody", {}).get("content", {})
                    schema = body.get("application/json", {}).get("schema", {})
                    schema = document["components"]["schemas"].get(
                        schema.get("$ref", "").rpartition("/")[2], {}
                    )
                    keys = schema.get("properties", {"x": {}})
                    details["json"] = dict.fromkeys(keys, value) | {value: value}
                await mission.talk.ask(method.upper(), place, **details)
                asked += 1
            deep = {"json": {"fields": {values["phone"]: [values["email"]]}, THAI: [{THAI: THAI}]}}
            await mission.talk.ask(method.upper(), path, **({} if method == "get" else deep))
    assert asked > 200
    for lang in ("th", "en", "zh-Hant", "console"):
        for value in (values["given_name"], values["email"], values["phone"]):
            for path in ("", "data/", "history/", "requests/", "purposes/", "words/", "trail/"):
                answer = await mission.world.http.get(f"/{lang}/{path}{quote(value, safe='@')}")
                mission.keep("pages that are not there", answer.text, *answer.headers.values())
                answer = await mission.world.http.get(
                    f"/{lang}/{path}", params={"said": value, "before": value, value: value}
                )
                mission.keep("pages that are not there", answer.text, *answer.headers.values())
