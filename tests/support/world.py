"""Worlds: an installed registry of either engine, open, with clients that talk to its API.

The fixtures are asked for by importing them into a folder's conftest. Installing takes half a
second, so it is done once a run and copied: every world starts from the same keys and an empty
log. `World.fetch` and `World.execute` go behind the application, as an owner of the database can.
"""

import asyncio
import contextlib
import json
import re
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from audit import AuditEvent, AuditLog
from audit.event import Actor
from audit.repository import append_event
from kernel import (
    Caller,
    Clock,
    Database,
    MemberId,
    RequestId,
    SystemClock,
    UnitOfWork,
    metadata,
    new_id,
)
from service.app import create_app
from service.middleware import Edge
from service.runtime import Runtime
from service.settings import DatabaseSettings, Settings
from service.setup import set_up
from service.tasks import system_caller

DAY_US = 86_400_000_000
UNTIL_SECONDS = 90.0
"""How long a condition is waited for: it is there at once, or the machine is very busy."""
EVIDENCE = {"ui_action": "switch_on", "shown_at": "2026-11-23T03:00:00Z"}
EVERYTHING = (
    "members:write",
    "members:introduce",
    "duplicates:read",
    "audit:read",
    "purpose:membership",
    "purpose:marketing",
    "purpose:profiling",
    "purpose:analytics",
)


class JumpingClock:
    """The machine's clock plus a jump that a test may change at any time."""

    def __init__(self) -> None:
        self.jump_us = 0
        self._real = SystemClock()

    def now_us(self) -> int:
        return self._real.now_us() + self.jump_us


@dataclass(frozen=True)
class Known:
    """A member as one client knows it."""

    id: str
    consents: list[dict[str, Any]]
    contact_points: list[dict[str, Any]]
    answer: dict[str, Any] = field(repr=False)

    def point(self, kind: str) -> str:
        return next(point["id"] for point in self.contact_points if point["kind"] == kind)


class App:
    """A registered client with a token, and the requests it makes most often."""

    def __init__(self, world: "World", http: httpx2.AsyncClient, made: Mapping[str, Any]) -> None:
        self.world = world
        self.id: str = made["client_id"]
        self.secret: str = made["client_secret"]
        self.token = ""
        self._http = http

    async def sign_in(self) -> None:
        answer = await self._http.post(
            "/oauth/token", data={"grant_type": "client_credentials"}, auth=(self.id, self.secret)
        )
        assert answer.status_code == 200, answer.text
        self.token = answer.json()["access_token"]

    async def request(self, method: str, path: str, **details: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self.token}", **details.pop("headers", {})}
        return await self._http.request(method, path, headers=headers, **details)

    async def get(self, path: str, **details: Any) -> httpx2.Response:
        return await self.request("GET", path, **details)

    async def post(self, path: str, body: Any = None, **details: Any) -> httpx2.Response:
        return await self.request("POST", path, json=body, **details)

    async def patch(self, path: str, body: Any, **details: Any) -> httpx2.Response:
        return await self.request("PATCH", path, json=body, **details)

    def through(self, other: "World") -> "App":
        """The same client, with the same token, at another worker of the same registry."""
        twin = App(other, other.http, {"client_id": self.id, "client_secret": self.secret})
        twin.token = self.token
        return twin

    async def register(
        self,
        fields: Mapping[str, str] | None = None,
        *,
        consents: Mapping[str, str | None] | None = None,
        jurisdiction: str = "TH",
        brand: str = "main",
        **more: str,
    ) -> Known:
        """Register a member; `consents` maps a purpose to its channel, both decided `given`."""
        body = registration(
            {"given_name": "สมหญิง", **(fields or {}), **more},
            [self.world.decision(p, c) for p, c in (consents or {}).items()],
            jurisdiction=jurisdiction,
            brand=brand,
        )
        answer = await self.post("/v1/members", body)
        assert answer.status_code == 201, answer.text
        made = answer.json()
        return Known(made["id"], made["consents"], made["contact_points"], made)

    async def verify(self, member: Known, kind: str = "phone") -> None:
        point = member.point(kind)
        answer = await self.post(
            f"/v1/members/{member.id}/contact-points/{point}:verify",
            {"code": self.world.code_for(point)},
        )
        assert answer.status_code == 200, answer.text

    async def view(
        self,
        member: "Known | str",
        purpose: str = "membership",
        channel: str | None = None,
        **query: str,
    ) -> httpx2.Response:
        identifier = member if isinstance(member, str) else member.id
        query = {"purpose": purpose, **({"channel": channel} if channel else {}), **query}
        return await self.get(f"/v1/members/{identifier}/view", params=query)

    async def withdraw(
        self, member: "Known | str", purpose: str = "marketing", channel: str | None = None
    ) -> httpx2.Response:
        identifier = member if isinstance(member, str) else member.id
        return await self.post(
            f"/v1/members/{identifier}/consents:withdraw",
            {"purpose": purpose, **({"channel": channel} if channel else {})},
        )


@dataclass
class World:
    """An open registry behind its own app, as one worker process has it."""

    runtime: Runtime
    edge: Edge
    http: httpx2.AsyncClient

    @property
    def settings(self) -> Settings:
        return self.runtime.settings

    @property
    def operator(self) -> Caller:
        return system_caller("cli")

    async def app(
        self, name: str = "crm", *scopes: str, brand: str = "main", person: str | None = None
    ) -> App:
        """Register a client and sign it in; without scopes it may everything an app can."""
        made = await self.runtime.clients.add(
            self.operator, name, list(scopes or EVERYTHING), brand=brand, person=person
        )
        app = App(self, self.http, made)
        await app.sign_in()
        return app

    def caller(self, app: App, brand: str = "main") -> Caller:
        """A caller such as the gatekeeper makes, for calls past HTTP."""
        scopes = frozenset(f"purpose:{key}" for key in self.runtime.pack.purposes)
        return Caller(app.id, "app", "api", brand, RequestId(new_id("req")), scopes)

    def decision(
        self, purpose: str, channel: str | None = None, decision: str = "given", lang: str = "th"
    ) -> dict[str, Any]:
        return {
            "purpose": purpose,
            **({"channel": channel} if channel else {}),
            "decision": decision,
            "notice_revision": self.revision(purpose, lang),
            "lang": lang,
            "evidence": EVIDENCE,
        }

    def revision(self, purpose: str, lang: str = "th") -> str:
        pack = self.runtime.pack
        key = next(p.notice for p in pack.purposes.values() if p.key == purpose)
        return next(n.revision for n in pack.notices[key] if n.lang.value == lang)

    def codes(self) -> list[dict[str, Any]]:
        file = self.settings.outbox_file
        lines = (
            [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        )
        return [line for line in lines if "code" in line]

    def notices(self) -> list[dict[str, Any]]:
        file = self.settings.outbox_file
        lines = (
            [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        )
        return [line for line in lines if "notice" in line]

    def code_for(self, contact_point: str) -> str:
        return next(
            c["code"] for c in reversed(self.codes()) if c["contact_point"] == contact_point
        )

    async def member_id(self, member: "Known | str") -> MemberId:
        identifier = member if isinstance(member, str) else member.id
        rows = await self.fetch("SELECT member_id FROM pairwise_id WHERE id = :id", id=identifier)
        return MemberId(rows[0]["member_id"])

    async def erase(self, member: "Known | str") -> MemberId:
        """Erase a member as the registry itself does it; there is no route for it yet."""
        member_id = await self.member_id(member)
        async with self.runtime.database.unit_of_work() as work:
            await self.runtime.members.erase(
                work, self.operator, member_id, now_us=self.runtime.clock.now_us()
            )
        return member_id

    async def restrict(self, member: "Known | str", *, on: bool = True) -> None:
        member_id = await self.member_id(member)
        async with self.runtime.database.unit_of_work() as work:
            await plant_event(work)
            await self.runtime.consent.restrict(work, member_id, on=on)

    async def rest(self) -> None:
        """Stop whatever runs beside the test, so that what it reads is of one moment."""
        runtime = self.runtime
        for part in (runtime.webhooks, runtime.worker, runtime.courier, runtime.sequencer):
            await part.stop()

    async def fetch(self, sql: str, **parameters: Any) -> list[dict[str, Any]]:
        """Read what has been committed, past the application; parameters are `:name`."""
        return await fetch(self.settings, sql, **parameters)

    async def execute(self, sql: str, **parameters: Any) -> None:
        """Change the database past the application, with an owner's rights."""
        await execute(self.settings, sql, **parameters)

    async def unguard(self, table: str) -> None:
        """Take the guards off a table, as whoever owns the database can."""
        if self.settings.on_postgres:
            await self.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            return
        triggers = await self.fetch(
            "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :name", name=table
        )
        for trigger in triggers:
            await self.execute(f"DROP TRIGGER {trigger['name']}")

    async def until(self, sql: str) -> None:
        """Wait until a query finds something, as long as the busiest machine may take."""
        deadline = time.monotonic() + UNTIL_SECONDS
        while not await self.fetch(sql):
            if time.monotonic() > deadline:
                pytest.fail(f"nothing came of {sql}")
            await asyncio.sleep(0.02)

    async def until_waiting_for_a_lock(self) -> None:
        """Wait until a statement waits for another transaction (PostgreSQL)."""
        await self.until(
            "SELECT 1 FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )

    async def events(self, action: str | None = None) -> list[dict[str, Any]]:
        """Bodies of committed audit events, the oldest first."""
        rows = await self.fetch("SELECT body FROM audit_event ORDER BY id")
        bodies = [json.loads(bytes(row["body"])) for row in rows]
        return [body for body in bodies if action is None or body["action"] == action]


def registration(
    fields: Mapping[str, str],
    consents: list[dict[str, Any]] | None = None,
    *,
    jurisdiction: str = "TH",
    brand: str = "main",
) -> dict[str, Any]:
    """The body of `POST /v1/members`; dates are ISO and numbers Thai unless written otherwise."""
    if not {"phone", "email", "national_id", "line_uid", "card_no"} & set(fields):
        fields = {**fields, "phone": "081-234-5678"}
    return {
        "brand": brand,
        "jurisdiction": jurisdiction,
        "formats": {"phone_region": "TH", "date_era": "iso", "id_country": "TH"},
        "fields": dict(fields),
        "consents": consents or [],
    }


async def fetch(settings: Settings, sql: str, **parameters: Any) -> list[dict[str, Any]]:
    """Run a query on the database of these settings, past the application."""
    if settings.on_postgres:
        async with _postgres(settings) as connection:
            rows = await connection.fetch(*_numbered(sql, parameters))
            return [dict(row) for row in rows]
    with contextlib.closing(sqlite3.connect(settings.database_file, timeout=60)) as file:
        file.row_factory = sqlite3.Row
        return [dict(row) for row in file.execute(sql, parameters)]


async def execute(settings: Settings, sql: str, **parameters: Any) -> None:
    """Run a change on the database of these settings, past the application, and commit it."""
    if settings.on_postgres:
        async with _postgres(settings) as connection, connection.transaction():
            governed = _CHANGE.match(sql)
            on = (governed["table"], f"{governed['table']}_recorded") if governed else None
            if on:  # the owner's way past the guard that asks for an event
                await connection.execute(f"ALTER TABLE {on[0]} DISABLE TRIGGER {on[1]}")
            await connection.execute(*_numbered(sql, parameters))
            if on:
                await connection.execute(f"ALTER TABLE {on[0]} ENABLE ALWAYS TRIGGER {on[1]}")
        return

    def change() -> None:
        with contextlib.closing(sqlite3.connect(settings.database_file, timeout=60)) as file, file:
            file.execute(sql, parameters)

    # On a thread: the application may be about to commit, and could not while its loop waits.
    await asyncio.to_thread(change)


_GOVERNED = {name for name, table in metadata.tables.items() if table.info.get("governed")}
_CHANGE = re.compile(
    rf"\s*(?:UPDATE|DELETE FROM|INSERT INTO)\s+(?P<table>{'|'.join(sorted(_GOVERNED))})\b",
    re.IGNORECASE,
)


@contextlib.asynccontextmanager
async def recorded(database: Database) -> AsyncIterator[UnitOfWork]:
    """Open a unit of work that bears an event of the test, for rooms that are below the trail."""
    async with database.unit_of_work() as work:
        await plant_event(work)
        yield work


async def plant_event(work: UnitOfWork) -> None:
    """Append an event that only says that a test was here."""
    now_us = SystemClock().now_us()
    actor = Actor("test", "tester", "cli")
    event = AuditEvent(
        id=new_id("evt", now_us), ts=now_us, nonce=bytes(16), actor=actor, action="test.change"
    )
    await append_event(work, AuditLog.row(event))


@contextlib.asynccontextmanager
async def _postgres(settings: Settings) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(settings.database.url)
    try:
        yield connection
    finally:
        await connection.close()


def _numbered(sql: str, parameters: Mapping[str, Any]) -> list[Any]:
    """Turn `:name` into asyncpg's `$1`."""
    for at, name in enumerate(parameters, start=1):
        sql = sql.replace(f":{name}", f"${at}")
    return [sql, *parameters.values()]


@contextlib.asynccontextmanager
async def open_world(
    settings: Settings,
    *,
    clock: Clock | None = None,
    background: bool = True,
    routine: bool = False,
) -> AsyncIterator[World]:
    """Open a registry as a worker does; on PostgreSQL several may be open on one database.

    Args:
        clock: The clock to live by; the system's when None.
        background: Whether sequencer, outbox and worker run.
        routine: Whether the worker also gives itself what comes round by the hour and the day.
            Without it nothing happens beside a test that the test did not ask for.
    """
    runtime = await Runtime.open(settings, clock=clock)
    if not routine:
        runtime.worker._every_us.clear()
    try:
        await runtime.start(background=background)
        edge = create_app(runtime)
        transport = httpx2.ASGITransport(app=edge)
        async with httpx2.AsyncClient(transport=transport, base_url="http://registry") as http:
            yield World(runtime, edge, http)
    finally:
        await runtime.close()


# --- fixtures -------------------------------------------------------------------------


def _copy(installed: Path, tmp_path: Path) -> Path:
    data_dir = tmp_path / "yinyom-data"
    shutil.copytree(installed, data_dir)
    return data_dir


@pytest.fixture(scope="session")
def installed_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a fresh SQLite registry; copy it, never open it."""
    data_dir = tmp_path_factory.mktemp("installed") / "data"
    asyncio.run(set_up(Settings(data_dir=data_dir)))
    return data_dir


@pytest.fixture
def sqlite_settings(installed_sqlite: Path, tmp_path: Path) -> Settings:
    """A fresh SQLite registry."""
    return Settings(data_dir=_copy(installed_sqlite, tmp_path))


def installed_on(server: Any, make_database: Callable[[str], str], tmp_path: Path) -> Settings:
    """A fresh registry on a PostgreSQL server; its keys stand beside the template database."""
    installed = server.folder / "installed"

    def fill(url: str) -> None:
        asyncio.run(set_up(Settings(data_dir=installed, database=DatabaseSettings(url=url))))

    template = server.template("installed", fill)
    url = make_database(template)
    return Settings(data_dir=_copy(installed, tmp_path), database=DatabaseSettings(url=url))


@pytest.fixture
def postgres_settings(
    postgres_server: Any, new_postgres_database: Callable[..., str], tmp_path: Path
) -> Settings:
    """A fresh PostgreSQL registry."""
    return installed_on(postgres_server, new_postgres_database, tmp_path)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def settings(request: pytest.FixtureRequest) -> Settings:
    """A fresh registry, once on SQLite and once on PostgreSQL."""
    made: Settings = request.getfixturevalue(f"{request.param}_settings")
    return made


@pytest.fixture
async def world(settings: Settings) -> AsyncIterator[World]:
    """An open world on either engine, its sequencer, outbox and worker running."""
    async with open_world(settings) as opened:
        yield opened
