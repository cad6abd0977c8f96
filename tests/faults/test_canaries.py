"""Three hundred people who must not be found: in no file, dump, log, error or export.

Every value they have is unmistakable, goes through every door of the API and of the import, good
and bad requests alike, and is then looked for in all that is left: as it is written, in other
encodings, and as a plain hash.
"""

import base64
import hashlib
import unicodedata
from urllib.parse import quote

import pytest

from audit import export_log
from members import PROFILES
from service.metrics import MetricsServer
from tests.support.canaries import (
    CHINESE,
    LATIN,
    THAI,
    Hunter,
    canary,
    normal_forms,
    remains,
    watched_log,
)
from tests.support.world import open_world, registration

pytestmark = pytest.mark.anyio

MEMBERS, IMPORTED = 240, 60


class Talk:
    """Sends requests, and keeps every answer that has no business to show a value."""

    def __init__(self, app):
        self.app = app
        self.kept = []

    async def ask(self, method, path, *, may_show=False, **details):
        answer = await self.app.request(method, path, **details)
        if not may_show or answer.status_code >= 400:
            headers = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
            self.kept.append(f"{headers}\n{answer.text}".encode())
        return answer


async def live(world, talk, at):
    """One canary's life, with mistakes; every third is withdrawn, every fifth erased."""
    values = canary(at)
    body = registration(values, [world.decision("marketing", "sms")])
    made = await talk.ask("POST", "/v1/members", json=body)
    assert made.status_code == 201, made.text
    member = made.json()
    sub, point = member["id"], member["contact_points"][0]["id"]
    base = f"/v1/members/{sub}"
    verify = f"{base}/contact-points/{point}:verify"
    await talk.ask("POST", verify, json={"code": "000000"})
    await talk.ask("POST", verify, json={"code": world.code_for(point)})
    view = {"purpose": "marketing", "channel": "sms"}
    answer = await talk.ask("GET", f"{base}/view", params=view, may_show=True)
    assert values["given_name"] in answer.text
    await talk.ask("GET", f"{base}/view", params={"purpose": "analytics"})
    await talk.ask("GET", base, params={"purpose": "membership"}, may_show=True)
    look = {"kind": "phone", "value": values["phone"], "region": "TH", "purpose": "membership"}
    await talk.ask("POST", "/v1/members:lookup", json=look)
    await talk.ask(
        "PATCH",
        base,
        json={"fields": {"notes": f"{LATIN} {at} {THAI}"}, "formats": {"date_era": "iso"}},
    )
    if at % 3 == 0:
        await talk.ask("POST", f"{base}/consents:withdraw", json={"purpose": "marketing"})
        await talk.ask("GET", f"{base}/view", params=view)
    if at % 5 == 0:
        await world.erase(sub)
        await talk.ask("GET", f"{base}/view", params=view)
    return sub


async def blunder(world, talk, sub, at):
    """Every way of putting a person where no person belongs."""
    values, base = canary(at), f"/v1/members/{sub}"
    name, phone, email = values["given_name"], values["phone"], values["email"]
    number = values["national_id"]
    good = registration(values)
    wrong_fields = [
        {"phone": name},
        {"phone": email, "email": phone},
        {"national_id": phone},
        {"birth_date": f"{name} 1923-01-01"},
        {"email": f"{name}@@birdcage.example"},
        {"line_uid": email},
        {name: "x"},
        {"zqxcanary": "x", "phone": phone},
        {email: phone},
        {number: number},
        {"phone": {"value": phone}},
        {"zqxcanary": 1},
        {number: 1},
        {"phone": [phone]},
        {"given_name": name * 1_000},
    ]
    for fields in wrong_fields:
        await talk.ask("POST", "/v1/members", json=good | {"fields": fields})
        await talk.ask("PATCH", base, json={"fields": fields})
    for change in (
        {"brand": "zqxcanary"},
        {"jurisdiction": "ZQX" + number[:4]},
        {"formats": {"phone_region": name[:2], "zqxcanary": phone}},
        {"formats": {"date_era": name}},
        {"consents": [{"purpose": "zqxcanary", "decision": name}]},
        {"consents": [world.decision("marketing", "sms") | {"evidence": {"device": name}}]},
        {"consents": [world.decision("marketing", "sms") | {"evidence": {name: phone}}]},
        {"consents": [world.decision("marketing", "sms") | {"notice_revision": email}]},
        {"consents": [world.decision("marketing", "sms") | {"channel": "zqxcanary"}]},
        {name: phone},
        {"zqxcanary": phone},
    ):
        await talk.ask("POST", "/v1/members", json=good | change)
    look = {"kind": "phone", "value": phone, "region": "TH", "purpose": "membership"}
    for change in (
        {"value": name},
        {"kind": "zqxcanary"},
        {"kind": name},
        {"purpose": "zqxcanary"},
        {"region": name[:2]},
        {"kind": "email", "value": f"{email}.nobody.example"},
        {"kind": "national_id", "value": number[:-1]},
        {"kind": "card_no", "value": values["card_no"] + "x"},
    ):
        await talk.ask("POST", "/v1/members:lookup", json=look | change)
    for path in (
        f"/v1/members/{quote(name)}/view",
        f"/v1/members/{phone}/view",
        f"/v1/members/{email}",
        f"/v1/members/{sub}/contact-points/{quote(name)}:verify",
        f"/v1/consents/{email}/receipt",
        f"/v1/notices/{quote(name)}",
        f"/v1/{quote(name)}/{phone}",
        f"/audit/log/tile/{quote(name)}",
        f"/{quote(THAI)}",
    ):
        for method in ("GET", "POST", "DELETE"):
            await talk.ask(method, path, params={"purpose": "membership"})
    for params in (
        {"purpose": name},
        {"purpose": "zqxcanary"},
        {"purpose": "membership", "fields": f"{name},{phone}"},
        {"purpose": "membership", "channel": email},
        {"purpose": "membership", "q": name},
        {"purpose": "membership", name: phone},
    ):
        await talk.ask("GET", f"{base}/view", params=params)
    cursor = base64.urlsafe_b64encode(f'["{name}"]'.encode()).decode()
    await talk.ask("GET", "/v1/audit/events", params={"cursor": cursor})
    await talk.ask("GET", f"{base}/consents", params={"as_of": name})
    raw = {"content-type": "application/json"}
    for content in (
        f'{{"brand": "{name}", '.encode(),
        name.encode("cp874", errors="ignore") or b"\xff",
        f'"{email}"'.encode(),
        b'{"fields": {"given_name": "\\ud800zqxcanary"}}',
        f'{{"fields": {{"given_name": "{name}\\u0000"}}}}'.encode(),
    ):
        await talk.ask("POST", "/v1/members", content=content, headers=raw)
        await talk.ask("PATCH", base, content=content, headers=raw)
    for headers in (
        {"x-request-id": "zqxcanary.1@birdcage.example"},
        {"idempotency-key": "zqxcanary.1@birdcage.example"},
        {"if-match": '"zqxcanary"'},
        {"authorization": "Bearer zqxcanary.1@birdcage.example"},
        {"accept-language": "zqxcanary"},
        {"user-agent": "Zqxcanary 087-777-0001"},
    ):
        await talk.ask("PATCH", base, json={"fields": {"gender": "zqxcanary"}}, headers=headers)
        await talk.ask("POST", f"{base}/contact-points", json={"kind": "email", "value": name},
                       headers=headers)  # fmt: skip
    form = {"grant_type": "client_credentials", "client_id": email, "client_secret": name}
    await talk.ask("POST", "/oauth/token", data=form)
    await talk.ask("POST", f"{base}:introduce", json={"to": email})
    await talk.ask("POST", f"{base}/contact-points", json={"kind": name, "value": phone})
    await talk.ask("POST", "/v1/members:view", json={"ids": [name], "purpose": "membership"})
    await talk.ask("POST", "/v1/decisions:check", json={"id": phone, "purpose": "zqxcanary"})


async def bring_in(world, tmp_path):
    """Import sixty more: some set aside, some with a value that is kept because it is bad."""
    header = "ชื่อ,นามสกุล,เบอร์โทรศัพท์,อีเมล,เลขบัตรประชาชน,วันเกิด,หมายเหตุ,แต้ม,ยินยอม\n"
    lines = []
    for at in range(MEMBERS, MEMBERS + IMPORTED):
        values = canary(at)
        phone = values["phone"] if at % 4 else values["given_name"]
        email = values["email"] if at % 8 else values["family_name"]
        number = values["national_id"] if at % 8 else values["phone"]
        cells = [values["given_name"], values["family_name"], phone, email, number]
        cells += [values["birth_date"], values["notes"], LATIN, THAI]
        lines.append(",".join(cells) + ("\n" if at % 7 else f",{CHINESE}\n"))
    path = tmp_path / "import.csv"
    path.write_text(header + "".join(lines), encoding="utf-8")
    report = await world.runtime.imports.run(
        world.operator, path, PROFILES["th"], brand="main", jurisdiction="TH"
    )
    assert report.accepted
    assert report.quarantined
    assert report.issues
    return str(report).encode()


def test_the_hunter_finds_what_it_looks_for(sqlite_settings):
    """Each canary and each spelling, planted in noise; and nothing in noise alone."""
    values = canary(7)
    hunter = Hunter([*values.values(), "+66877770007"])
    noise = hashlib.sha512(b"noise").hexdigest().encode() * 50
    assert hunter.hunt(noise) == []
    planted = [
        *values.values(),
        unicodedata.normalize("NFKC", THAI),
        "+66877770007",
        "0877770007",
        "12/05/2466",
        THAI.encode().hex(),
        quote(CHINESE),
        base64.b64encode(f"xy{LATIN}z".encode()).decode(),
        b"+66877770007".hex(),
        values["national_id"].encode().hex(),
        values["birth_date"].encode().hex(),
        hashlib.sha256(b"+66877770007").hexdigest(),
        hashlib.sha1(values["email"].encode()).hexdigest(),
        base64.b64encode(hashlib.sha256(values["email"].encode()).digest()).decode(),
    ]
    for value in planted:
        assert hunter.hunt(noise + b"\0" + value.encode() + b"\0" + noise), value
    assert hunter.hunt(noise + THAI.encode("utf-16-le") + noise)
    assert hunter.hunt(noise + hashlib.sha256(b"+66877770007").digest() + noise)


@pytest.mark.slow
async def test_three_hundred_canaries_leave_no_trace(settings, tmp_path, request):
    server = request.getfixturevalue("postgres_server") if settings.on_postgres else None
    with watched_log() as log:
        async with open_world(settings, routine=True) as world:
            talk = Talk(await world.app())
            subs = [await live(world, talk, at) for at in range(MEMBERS)]
            for at in (1, 2, 4):
                await blunder(world, talk, subs[at], at)
            reported = await bring_in(world, tmp_path)
            rows = await world.fetch("SELECT outcome, cell FROM import_row")
            assert {row["outcome"] for row in rows if row["cell"]} == {"accepted", "quarantined"}
            await world.runtime.housekeeping.sweep()
            await world.runtime.sequencer.drain()
            await export_log(world.runtime.database, tmp_path / "bundle")
            metrics = await MetricsServer(world.runtime, world.edge).text()
            world.edge.flush_log()
            hunter = Hunter(normal_forms(world, MEMBERS + IMPORTED))
            haystacks = {
                **dict(remains(world, server)),
                "log": log.getvalue(),
                "metrics": metrics.encode(),
                "answers": b"\n".join(talk.kept),
                "report": reported,
                "codes": world.settings.outbox_file.read_bytes(),
                **{
                    f"export {file.name}": file.read_bytes()
                    for file in (tmp_path / "bundle").rglob("*")
                    if file.is_file()
                },
            }
    assert len(haystacks["log"]) > 10_000
    assert len(talk.kept) > 1_000
    found = {name: sorted(set(hunter.hunt(data)))[:5] for name, data in haystacks.items()}
    assert {name: hits for name, hits in found.items() if hits} == {}
