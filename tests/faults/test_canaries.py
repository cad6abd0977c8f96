"""Three hundred people who must not be found: in no file, dump, log, error or export.

Every value they have is unmistakable, goes through every door of the API and of the import, good
and bad requests alike, and is then looked for in all that is left: as it is written, in other
encodings, and as a plain hash.
"""

import base64
import hashlib
import io
import re
import subprocess
import sys
from contextlib import contextmanager
from itertools import product
from urllib.parse import quote

import pytest
import structlog

from audit import export_log
from kernel.logging import configure_logging
from members import PROFILES
from service.metrics import MetricsServer
from tests.support.world import open_world, registration

pytestmark = pytest.mark.anyio

MEMBERS, IMPORTED = 240, 60
THAI, CHINESE, LATIN = "กานารีทองคำ", "鳥籠金絲雀", "Zqxcanary"


def thai_id(at):
    """A Thai identity number with a true check digit (mod 11 over weights 13 to 2)."""
    head = f"19988776{at:04}"
    total = sum(int(digit) * weight for digit, weight in zip(head, range(13, 1, -1), strict=True))
    return head + str((11 - total % 11) % 10)


def canary(at):
    """A person no file would hold by chance."""
    names = (
        (f"{THAI}{'กขคงจ'[at % 5]}", f"{THAI}สกุล"),
        (f"{CHINESE}{'甲乙丙丁戊'[at % 5]}", CHINESE),
        (f"{LATIN}{'abcde'[at % 5]}", f"Mac{LATIN}"),
    )[at % 3]
    return {
        "given_name": names[0],
        "family_name": names[1],
        "phone": f"087-777-0{at:03}",
        "email": f"zqxcanary.{at}@birdcage.example",
        "national_id": thai_id(at),
        "line_uid": f"Uc0ffee0ddba11{at:019x}",
        "card_no": f"ZQX-CARD-{at:04}",
        "birth_date": f"1923-{at % 12 + 1:02}-{at % 28 + 1:02}",
        "address": f"{at} ซอย{THAI} {CHINESE}路 {LATIN} street",
        "notes": f"{LATIN} likes {THAI}",
    }


MARKS = (
    *(THAI, CHINESE, LATIN, LATIN.lower(), LATIN.upper()),
    *("zqxcanary.", "birdcage.example", "c0ffee0ddba11", "C0FFEE0DDBA11", "ZQX-CARD-", "zqx-card-"),
)
NUMBERS = re.compile(
    # a telephone number, with and without dashes; a moment in microseconds may end like one
    rb"(?<![0-9])(?:\+?66|0)-?87-?777-?0-?[0-2][0-9][0-9]"
    rb"|1-?9988-?776\d{2}-?\d{2}-?\d"  # an identity number
    rb"|1923-[01][0-9]-[0-3][0-9]"  # a birthday
    rb"|[0-3][0-9]/[01][0-9]/(?:1923|2466)"
)
HEX_NUMBERS = re.compile(
    rb"(?:2b3636|3636|30)3837373737303[0-2]3[0-9]3[0-9]"
    rb"|313939383837373[67](?:3[0-9]){4}"
    rb"|313932332d3[01]3[0-9]2d3[0-3]3[0-9]",
    re.IGNORECASE,
)


def spellings(mark):
    """The mark as it would look in one encoding or another."""
    plain = mark.encode()
    yield plain
    yield mark.encode("utf-16-le")
    yield mark.encode("utf-16-be")
    yield quote(mark).encode()
    yield quote(mark).lower().encode()
    yield plain.hex().encode()
    yield plain.hex().upper().encode()
    yield mark.encode("unicode_escape")
    for shift in range(3):  # base64 has three ways to begin
        yield base64.b64encode(b"x" * shift + plain)[(0, 4, 4)[shift] : -4]
        yield base64.urlsafe_b64encode(b"x" * shift + plain)[(0, 4, 4)[shift] : -4]


def normal_forms(world):
    """Every value as the registry keeps and compares it."""
    from datetime import UTC, date, datetime

    from members.normalise import Formats, index_form
    from members.registration import prepare

    formats = Formats("TH", "iso", "TH", datetime.now(UTC).date())  # noqa: TID251 (only its year)
    assert isinstance(formats.today, date)
    for at in range(MEMBERS + IMPORTED):
        values = canary(at)
        yield from values.values()
        for field, value in prepare(world.runtime.pack, values, formats).values.items():
            yield value
            if world.runtime.pack.fields[field].index is not None:
                yield index_form(world.runtime.pack.fields[field].index.value, value)


class Hunter:
    """Looks for every canary in every spelling."""

    def __init__(self, forms):
        forms = set(forms)
        self.needles = {
            spelling: mark for mark in MARKS for spelling in spellings(mark) if len(spelling) > 6
        }
        self.digests = {}
        self.raw = {}
        for form, name in product(forms, ("md5", "sha1", "sha256")):
            digest = hashlib.new(name, form.encode())
            self.digests[digest.hexdigest().encode()] = form
            self.digests[base64.b64encode(digest.digest())] = form
            self.raw[digest.digest()] = form

    def hunt(self, data):
        """Every canary in it."""
        found = [mark for needle, mark in self.needles.items() if needle in data]
        found += [match.group().decode() for match in NUMBERS.finditer(data)]
        found += [match.group().decode() for match in HEX_NUMBERS.finditer(data)]
        found += [form for digest, form in self.raw.items() if digest in data]
        for run in re.finditer(rb"[0-9a-f]{32,}", data.lower()):
            found += self._windows(run.group(), (32, 40, 64))
        for run in re.finditer(rb"[A-Za-z0-9+/]{20,}={0,2}", data):
            found += self._windows(run.group(), (24, 28, 44))
        return found

    def _windows(self, run, sizes):
        for size in sizes:
            for start in range(len(run) - size + 1):
                form = self.digests.get(run[start : start + size])
                if form is not None:
                    yield form


@contextmanager
def watched_log():
    """All that the process writes to its log, at the most talkative level."""
    written, genuine = io.BytesIO(), sys.stderr
    sys.stderr = kept = io.TextIOWrapper(written, write_through=True)
    configure_logging("debug", written)
    try:
        yield written
    finally:
        sys.stderr = genuine
        kept.detach()
        structlog.reset_defaults()


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


def remains(world, server):
    """The database as a thief would carry it off."""
    settings = world.settings
    if settings.on_postgres:
        dump = subprocess.run(
            [server.binaries / "pg_dump", settings.database.url], check=True, capture_output=True
        )
        yield "pg_dump", dump.stdout
        return
    for suffix in ("", "-wal", "-shm"):
        file = settings.database_file.with_name(settings.database_file.name + suffix)
        if file.exists():
            yield file.name, file.read_bytes()


def test_the_hunter_finds_what_it_looks_for(sqlite_settings):
    """Each canary and each spelling, planted in noise; and nothing in noise alone."""
    values = canary(7)
    hunter = Hunter([*values.values(), "+66877770007"])
    noise = hashlib.sha512(b"noise").hexdigest().encode() * 50
    assert hunter.hunt(noise) == []
    planted = [
        *values.values(),
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
        async with open_world(settings) as world:
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
            hunter = Hunter(normal_forms(world))
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
