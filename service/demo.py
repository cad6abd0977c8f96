"""The story in one command: sample members, and the main job told step by step.

Every line that is printed is the result of a real call: over HTTP to a server started here, or
of a command of the command line. What does not come out as the story says stops the demo.
"""

import asyncio
import base64
import csv
import http.client
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from audit.verify import verify_bundle
from kernel import ConfigurationError, MemberId
from kernel.logging import configure_logging
from members import PROFILES
from service.asgi import Service
from service.commands import audit_export
from service.control import ControlServer
from service.schema import has_schema
from service.server import listen, uvicorn_server
from service.settings import LogSettings, Settings
from service.setup import set_up
from service.tasks import system_caller
from vault import write_private

SAMPLE = Path(__file__).parent / "sample" / "members_sample.csv"
CREDENTIALS_FILE = "demo-credentials.json"
CLIENTS: Mapping[str, tuple[str, ...]] = {
    "crm": (
        "members:write",
        "members:introduce",
        "duplicates:read",
        "audit:read",
        "purpose:membership",
        "purpose:marketing",
    ),
    "till": ("purpose:membership",),
    "sender": ("purpose:marketing",),
    "cdp": ("purpose:analytics", "purpose:profiling"),
}
_HOST = "127.0.0.1"
_FIELDS = "given_name,phone,birth_date"


class DemoError(ConfigurationError):
    """The story did not come out as it should: a defect, or a registry that is not a demo."""

    slug = "demo"
    title = "The demo stopped"
    exit_code = 1


class Api:
    """A plain HTTP client for one internal app, on the standard library."""

    def __init__(self, port: int, credentials: Mapping[str, Any]) -> None:
        self._port = port
        self._credentials = credentials
        self._token: str | None = None

    async def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, auth: bool = True
    ) -> tuple[int, dict[str, Any]]:
        """Make one request and give status and JSON."""
        if auth and self._token is None:
            self._token = await self._fetch_token()
        headers = {"Authorization": f"Bearer {self._token}"} if auth else {}
        data = None if body is None else orjson.dumps(body)
        if data is not None:
            headers["Content-Type"] = "application/json"
        return await asyncio.to_thread(self._send, method, path, data, headers)

    async def _fetch_token(self) -> str:
        pair = f"{self._credentials['client_id']}:{self._credentials['client_secret']}"
        headers = {
            "Authorization": "Basic " + base64.b64encode(pair.encode()).decode(),
            "Content-Type": "application/x-www-form-urlencoded",
        }
        form = b"grant_type=client_credentials"
        status, answer = await asyncio.to_thread(self._send, "POST", "/oauth/token", form, headers)
        if status != http.client.OK:
            raise DemoError("a client of an earlier demo does not work any more")
        return str(answer["access_token"])

    def _send(
        self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection(_HOST, self._port, timeout=30)
        try:
            connection.request(method, path, data, dict(headers))
            answer = connection.getresponse()
            return answer.status, orjson.loads(answer.read())
        finally:
            connection.close()


class Stage:
    """Prints the story."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._step = 0

    def step(self, title: str) -> None:
        """Begin a step."""
        self._step += 1
        self._console.print(f"\n[bold]{self._step}. {escape(title)}[/]")

    def done(self, line: str) -> None:
        """Print what came out."""
        self._console.print(f"   [green]✓[/] {escape(line)}")

    def words(self, text: str) -> None:
        """Quote words that a member saw."""
        for line in text.strip().splitlines():
            self._console.print(f"   │ {escape(line)}", style="dim")

    def table(self, columns: list[str], rows: list[list[str]]) -> None:
        """Print a table."""
        drawn = Table(*columns, header_style="bold", pad_edge=False)
        for row in rows:
            drawn.add_row(*(escape(cell) for cell in row))
        self._console.print(drawn)

    def line(self, text: str) -> None:
        """Print a plain line."""
        self._console.print(text)


def expect(found: tuple[int, dict[str, Any]], status: int, what: str) -> dict[str, Any]:
    """Give the answer if it has the status the story needs."""
    if found[0] != status:
        detail = f"{what}: status {found[0]} {found[1].get('reason', '')}, the story has {status}"
        raise DemoError(detail)
    return found[1]


def tell(settings: Settings, *, port: int, serve_on: bool) -> int:
    """Tell the story, then serve on if asked to; gives the exit code."""
    configure_logging("warning")
    return asyncio.run(_tell(settings, port=port, serve_on=serve_on))


async def _tell(settings: Settings, *, port: int, serve_on: bool) -> int:
    stage = Stage()
    credentials_file = settings.data_dir / CREDENTIALS_FILE
    if not credentials_file.exists() and await has_schema(settings):
        raise DemoError(
            "this data directory or database holds a registry that is not a demo",
            remedy="Choose an empty one with --data-dir, or another database.url.",
        )
    with listen(_HOST, port if serve_on else 0) as listening:
        return await _tell_on(listening, stage, settings, credentials_file, serve_on=serve_on)


async def _tell_on(
    listening: socket.socket,
    stage: Stage,
    settings: Settings,
    credentials_file: Path,
    *,
    serve_on: bool,
) -> int:
    began = time.monotonic()
    made = await set_up(settings)
    quiet = LogSettings(level="warning", requests=False)
    service = Service(settings.model_copy(update={"log": quiet}))
    runtime = await service.open()
    control = None if settings.on_postgres else ControlServer(runtime)
    if control is not None:
        await control.start()
    bound = listening.getsockname()[1]
    server = uvicorn_server(service, host=_HOST, port=bound)
    serving = asyncio.create_task(server.serve([listening]))
    try:
        while not server.started:
            if serving.done():
                raise DemoError("the server did not start")
            await asyncio.sleep(0.01)
        story = Story(stage, service, settings, bound)
        stage.line(f"[bold]Yinyom[/]  ยินยอม  ·  registry in {made.data_dir} on {made.engine}")
        await story.tell(credentials_file)
        stage.line(f"\n[green]✓[/] the whole story in {time.monotonic() - began:.1f} s")
        stage.line(f"  credentials of the sample clients: {credentials_file}")
        if serve_on:
            base = f"http://{_HOST}:{bound}"
            stage.line(f"\nServing on [bold]{base}[/]  ·  portal {base}/th/  ·  API {base}/docs")
            stage.line("Codes for the portal arrive in " + str(settings.outbox_file))
            stage.line("Stop with Ctrl-C.")
            await serving
    finally:
        server.should_exit = True
        await serving
        if control is not None:
            await control.stop()
        await service.close()
    return 0


class Story:
    """The main job, from registering to a log that strangers verify."""

    def __init__(self, stage: Stage, service: Service, settings: Settings, port: int) -> None:
        if service.runtime is None:
            raise DemoError("the registry is not open")
        self._stage = stage
        self._runtime = service.runtime
        self._settings = settings
        self._port = port
        self._clients: dict[str, dict[str, Any]] = {}

    async def tell(self, credentials_file: Path) -> None:
        """Tell it, step by step."""
        await self._set_the_scene(credentials_file)
        crm, till, sender = (self._api(name) for name in ("crm", "till", "sender"))
        member, point = await self._register(crm)
        await self._verify(crm, member, point)
        for_sender = await self._read(crm, sender, member)
        await self._refuse(till)
        await self._withdraw(crm, sender, member, for_sender)
        await self._import()
        await self._who_read(crm, member)
        await self._erase(crm, sender, member, for_sender)
        await self._verify_log()

    def _api(self, name: str) -> Api:
        return Api(self._port, self._clients[name])

    async def _set_the_scene(self, credentials_file: Path) -> None:
        self._stage.step("Four internal apps, each with the purposes its work needs")
        self._clients = _known_clients(credentials_file)
        if not self._clients:
            for name, scopes in CLIENTS.items():
                self._clients[name] = await self._runtime.clients.add(
                    system_caller("cli"), name, scopes, brand=self._settings.brand
                )
        write_private(
            credentials_file,
            orjson.dumps(
                {
                    "base_url": f"http://{_HOST}:{self._port}",
                    "clients": self._clients,
                    "staff": {},
                    "outbox": str(self._settings.outbox_file),
                },
                option=orjson.OPT_INDENT_2,
            ),
            replace=True,
        )
        self._stage.table(
            ["app", "scopes"],
            [[name, " ".join(c["scopes"])] for name, c in self._clients.items()],
        )

    async def _register(self, crm: Api) -> tuple[str, dict[str, Any]]:
        self._stage.step("Somying joins at the counter; she sees these words and says yes")
        notice = expect(
            await crm.call("GET", "/v1/notices/marketing?lang=th", auth=False), 200, "notice"
        )
        self._stage.words(notice["text"])
        body = {
            "brand": self._settings.brand,
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
        self._stage.done(f"registered as {member['id']} (as crm knows her)")
        self._stage.done(f"consent {consent['id']} on words {notice['revision'][:19]}…")
        receipt = expect(await crm.call("GET", consent["receipt"]), 200, "receipt")
        self._stage.done(f"receipt signed: {receipt['jws'][:40]}…")
        self._stage.done(f"on record: {member['audit_id']}")
        return member["id"], member["contact_points"][0]

    async def _verify(self, crm: Api, member: str, point: dict[str, Any]) -> None:
        self._stage.step("She proves that the phone is hers")
        codes = [
            orjson.loads(line) for line in self._settings.outbox_file.read_bytes().splitlines()
        ]
        code = next(c["code"] for c in reversed(codes) if c["contact_point"] == point["id"])
        self._stage.done(f"the code that went out by SMS: {code}")
        path = f"/v1/members/{member}/contact-points/{point['id']}:verify"
        answer = expect(await crm.call("POST", path, {"code": code}), 200, "verify")
        self._stage.done(f"{answer['kind']} verified: {answer['verified']}")

    async def _read(self, crm: Api, sender: Api, member: str) -> str:
        self._stage.step("The message sender reads her, for marketing by SMS")
        introduced = expect(
            await crm.call(
                "POST",
                f"/v1/members/{member}:introduce",
                {"to": self._clients["sender"]["client_id"]},
            ),
            200,
            "introduce",
        )
        known: str = introduced["id"]
        self._stage.done(f"sender knows her by an id of its own: {known}")
        answer = expect(
            await sender.call("GET", _view(known, "marketing", "sms", _FIELDS)), 200, "read"
        )
        rows = [[key, value, "disclosed"] for key, value in answer["data"].items()]
        rows += [[key, "—", reason] for key, reason in answer["omitted"].items()]
        self._stage.table(["field", "value", "why"], rows)
        self._stage.done(f"basis: {answer['basis']['type']} {answer['basis']['id']}")
        self._stage.done(f"on record before the first byte left: {answer['audit_id']}")
        return known

    async def _refuse(self, till: Api) -> None:
        self._stage.step("The till tries the same purpose; it was never given that")
        lookup = {
            "kind": "phone",
            "value": "081-234-5678",
            "region": "TH",
            "purpose": "membership",
        }
        known = expect(await till.call("POST", "/v1/members:lookup", lookup), 200, "look-up")["id"]
        answer = expect(await till.call("GET", _view(known, "marketing", "sms")), 403, "refusal")
        self._stage.done(f"403 {answer['reason']}, on record: {answer['audit_id']}")

    async def _withdraw(self, crm: Api, sender: Api, member: str, known: str) -> None:
        self._stage.step("She withdraws; the very next read is refused")
        body = {"purpose": "marketing", "channel": "sms"}
        path = f"/v1/members/{member}/consents:withdraw"
        withdrawn = expect(await crm.call("POST", path, body), 200, "withdraw")
        self._stage.done(f"withdrawn: {withdrawn['consents'][0]['id']}")
        answer = expect(await sender.call("GET", _view(known, "marketing", "sms")), 403, "refusal")
        self._stage.done(f"403 {answer['reason']}, on record: {answer['audit_id']}")

    async def _import(self) -> None:
        self._stage.step("The old membership list comes in, messy as it is")
        totals = {"rows": 0, "accepted": 0, "quarantined": 0, "exact_repeats": 0}
        issues: dict[str, int] = {}
        with tempfile.TemporaryDirectory(prefix="yinyom-demo-") as folder:
            for region, file in _by_region(Path(folder)):
                declared = PROFILES["plain"].declare(
                    phone_region=region, date_era="iso", columns=_IGNORED_COLUMNS
                )
                report = await self._runtime.imports.run(
                    system_caller("cli", self._settings.brand),
                    file,
                    declared,
                    brand=self._settings.brand,
                    jurisdiction="TH",
                )
                for name in totals:
                    totals[name] += getattr(report, name)
                for reason, count in report.issues.items():
                    issues[reason] = issues.get(reason, 0) + count
        self._stage.table(
            ["rows", "accepted", "quarantined", "exact repeats"],
            [[str(totals[name]) for name in totals]],
        )
        accounted = totals["accepted"] + totals["quarantined"] + totals["exact_repeats"]
        if accounted != totals["rows"]:
            raise DemoError("the import did not account for every row")
        self._stage.done("every row is stored, set aside with its reason, or a known repeat")
        for reason, count in sorted(issues.items()):
            self._stage.done(f"set aside: {reason} × {count}")

    async def _who_read(self, crm: Api, member: str) -> None:
        self._stage.step("Who read my data?")
        answer = expect(
            await crm.call("GET", f"/v1/members/{member}/disclosures"), 200, "disclosures"
        )
        names = {client["client_id"]: name for name, client in self._clients.items()}
        self._stage.table(
            ["when (UTC)", "who", "purpose", "fields", "decision"],
            [
                [
                    reading["at"][:19],
                    names.get(reading["by"]["id"], reading["by"]["role"]),
                    reading["purpose"],
                    ", ".join(reading["fields"]) or "—",
                    reading["reason"] or reading["decision"],
                ]
                for reading in answer["disclosures"]
            ],
        )

    async def _erase(self, crm: Api, sender: Api, member: str, known: str) -> None:
        self._stage.step("She asks to be erased; her keys are destroyed and nothing opens")
        runtime = self._runtime
        caller = system_caller("cli")
        async with runtime.database.read() as session:
            found = await runtime.members.resolve_for(
                session, member, self._clients["crm"]["client_id"], self._settings.brand
            )
        async with runtime.database.unit_of_work() as work:
            destroyed, audit_id = await runtime.members.erase(
                work, caller, MemberId(found), now_us=runtime.clock.now_us()
            )
        self._stage.done(f"{destroyed} key destroyed, on record: {audit_id}")
        async with runtime.database.read() as session:
            row = await runtime.members.read(session, MemberId(found))
            keys = await runtime.vault.keys_of(session, found)
        self._stage.done(f"cells left: {len(row.cells)}; keys left that open cells: "
                         f"{sum(kind != 'pseudonym' for kind in keys)}")  # fmt: skip
        answer = expect(
            await sender.call("GET", _view(known, "marketing", "sms")), 404, "read after erasure"
        )
        self._stage.done(f"sender: 404 {answer['reason']}")
        answer = expect(
            await crm.call("GET", _view(member, "membership", None)), 404, "read after erasure"
        )
        self._stage.done(f"crm: 404 {answer['reason']}")

    async def _verify_log(self) -> None:
        self._stage.step("The trail, checked as a stranger would: from files and one public key")
        with tempfile.TemporaryDirectory(prefix="yinyom-demo-") as folder:
            bundle = Path(folder) / "log"
            made = await audit_export(self._runtime, lambda _d, _t: None, out=str(bundle))
            report = await asyncio.to_thread(verify_bundle, bundle, made["vkey"])
            if not report.ok:
                raise DemoError("the exported log does not verify")
            self._stage.done(f"audit verify OK: {report.size} events, root {report.root}")
            forged = Path(folder) / "forged"
            shutil.copytree(bundle, forged)
            where = _change_one_byte(forged)
            self._stage.done(f"one byte changed in {where}")
            report = await asyncio.to_thread(verify_bundle, forged, made["vkey"])
            if report.ok:
                raise DemoError("the verifier let a changed byte through")
            self._stage.done(f"audit verify names it: {report.findings[0]}")


_IGNORED_COLUMNS = {"language": "", "region": "", "marketing_sms": "", "marketing_email": "",
                    "marketing_line": ""}  # fmt: skip


def _known_clients(credentials_file: Path) -> dict[str, dict[str, Any]]:
    """Give the clients of an earlier demo in the same place."""
    if not credentials_file.exists():
        return {}
    known: dict[str, dict[str, Any]] = orjson.loads(credentials_file.read_bytes())["clients"]
    return known


def _view(member: str, purpose: str, channel: str | None, fields: str | None = None) -> str:
    path = f"/v1/members/{member}/view?purpose={purpose}"
    if channel is not None:
        path += f"&channel={channel}"
    return path if fields is None else f"{path}&fields={quote(fields)}"


def _by_region(folder: Path) -> list[tuple[str, Path]]:
    """Split the sample by its region column: a phone's region is declared per file."""
    with SAMPLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    header, region_at = rows[0], rows[0].index("region")
    regions: dict[str, list[list[str]]] = {}
    for row in rows[1:]:
        region = row[region_at] if len(row) == len(header) else "TH"
        regions.setdefault(region or "TH", []).append(row)
    files: list[tuple[str, Path]] = []
    for region, part in sorted(regions.items()):
        path = folder / f"{region}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *part])
        files.append((region, path))
    return files


def _change_one_byte(bundle: Path) -> str:
    tile = max((bundle / "tile" / "entries").rglob("*"))
    tile = tile if tile.is_file() else next(p for p in sorted(tile.rglob("*")) if p.is_file())
    data = bytearray(tile.read_bytes())
    data[len(data) // 2] ^= 1
    tile.write_bytes(data)
    return str(tile.relative_to(bundle))
