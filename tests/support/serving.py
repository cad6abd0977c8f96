"""The registry from outside: `yinyom` as a child process, a served registry, clients over HTTP.

Nothing here reaches into the service: a test sees what a user of the command line, another
program on the network or an operator with the data directory sees.
"""

import asyncio
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from service.runtime import Runtime
from service.settings import Settings
from service.tasks import system_caller

REPOSITORY = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-c", "from service.cli import main; main()"]
START_SECONDS = 120
_OWN_PORTS = (10_000, 32_000)  # Linux lets connections go out from 32,768 on
SHOWN_AT = "2026-11-23T03:00:00Z"

SCOPES: Mapping[str, tuple[str, ...]] = {
    "crm": (
        "members:write",
        "members:introduce",
        "members:search",
        "duplicates:read",
        "duplicates:resolve",
        "imports:write",
        "audit:read",
        "audiences:query",
        "audiences:export",
        "changes:read",
        "suppressions:read",
        "webhooks:manage",
        "loyalty:write",
        "rights-requests:open",
        "rights-requests:handle",
        "restrictions:write",
        "legal-holds:manage",
        "governance:read",
        "purpose:membership",
        "purpose:marketing",
    ),
    "till": ("purpose:membership", "loyalty:write"),
    "sender": ("purpose:marketing",),
    "cdp": ("purpose:analytics", "purpose:profiling"),
}


def environment(**more: str) -> dict[str, str]:
    """This process's environment without any setting of Yinyom's, and with the sources."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("YINYOM_")}
    return {**plain, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200", **more}


def settings_environment(settings: Settings) -> dict[str, str]:
    """What makes a child process use the engine of these settings."""
    url = settings.database.url
    return {"YINYOM_DATABASE__URL": url} if url else {}


# --- the command line -----------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def answer(self) -> Any:
        """The one JSON line that `--json` prints."""
        (line,) = self.out.splitlines()
        return json.loads(line)

    @property
    def said(self) -> str:
        """Everything a person sees, on one line."""
        return " ".join((self.out + self.err).split())


def yinyom(
    *arguments: object,
    data_dir: Path | None = None,
    cwd: Path | None = None,
    stdin: str = "",
    seconds: float = 120,
    **env: str,
) -> Ran:
    """Run a command of the command line to its end."""
    where = [] if data_dir is None else ["--data-dir", str(data_dir)]
    ended = subprocess.run(
        [*COMMAND, *where, *map(str, arguments)],
        env=environment(**env),
        cwd=cwd or "/",
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=seconds,
        check=False,
    )
    return Ran(ended.returncode, ended.stdout, ended.stderr)


# --- the server -----------------------------------------------------------------------


def free_port() -> int:
    """Give a port that is free, and that no connection will take before the server has it.

    Those that the system gives out are also the ones that connections go out from: of thousands a
    run, one may take the port in the seconds until the server listens.
    """
    while True:
        port = random.SystemRandom().randrange(*_OWN_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass
class Server:
    """A running `yinyom serve`."""

    process: subprocess.Popen[bytes]
    settings: Settings
    port: int
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def data_dir(self) -> Path:
        return self.settings.data_dir

    def logged(self) -> str:
        """What the server has written to its log; a moment later than it happened."""
        time.sleep(0.5)
        return self.log.read_text(encoding="utf-8", errors="replace")

    def cli(self, *arguments: object, **details: Any) -> Ran:
        """Run a command on the registry that this server has open."""
        return yinyom(*arguments, data_dir=self.data_dir, **{**self.env, **details})

    def end(self) -> int:
        """Ask it to stop, and give its exit code."""
        self.process.terminate()
        return self.process.wait(START_SECONDS)

    def kill(self) -> None:
        """End it as a power cut does."""
        self.process.kill()
        self.process.wait(START_SECONDS)


@contextlib.contextmanager
def serving(
    settings: Settings,
    *arguments: object,
    prefix: Sequence[str] = (),
    **env: str,
) -> Iterator[Server]:
    """Serve a registry that was set up, until the block ends; `prefix` runs before the command."""
    env = {**settings_environment(settings), **env}
    port = free_port()
    log = settings.data_dir.parent / f"serve-{port}.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [
                *(*prefix, *COMMAND, "--data-dir", str(settings.data_dir)),
                *("serve", "--port", str(port), *map(str, arguments)),
            ],
            env=environment(**env),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
    server = Server(process, settings, port, log, env)
    try:
        _await_readiness(server)
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(START_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await_readiness(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            break
        with contextlib.suppress(httpx2.TransportError):
            if httpx2.get(f"{server.base_url}/readyz", timeout=5).status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError(f"the server did not get ready:\n{server.log.read_text()}")


# --- clients --------------------------------------------------------------------------


class Client:
    """A registered internal app that talks to a served registry."""

    def __init__(self, base_url: str, made: Mapping[str, Any]) -> None:
        self.id: str = made["client_id"]
        self.secret: str = made["client_secret"]
        self.http = httpx2.Client(base_url=base_url, timeout=60)
        self.token = ""

    def sign_in(self) -> "Client":
        answer = self.http.post(
            "/oauth/token", data={"grant_type": "client_credentials"}, auth=(self.id, self.secret)
        )
        assert answer.status_code == 200, answer.text
        self.token = answer.json()["access_token"]
        return self

    def request(self, method: str, path: str, **details: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self.token}", **details.pop("headers", {})}
        return self.http.request(method, path, headers=headers, **details)

    def get(self, path: str, **details: Any) -> httpx2.Response:
        return self.request("GET", path, **details)

    def post(self, path: str, body: Any = None, **details: Any) -> httpx2.Response:
        return self.request("POST", path, json=body, **details)

    def patch(self, path: str, body: Any, **details: Any) -> httpx2.Response:
        return self.request("PATCH", path, json=body, **details)

    def revision(self, purpose: str = "marketing", lang: str = "th") -> str:
        """The revision of the words in force, as an app shows them."""
        return str(
            self.http.get(f"/v1/notices/{purpose}", params={"lang": lang}).json()["revision"]
        )

    def decision(self, purpose: str = "marketing", channel: str | None = "sms") -> dict[str, Any]:
        return {
            "purpose": purpose,
            **({"channel": channel} if channel else {}),
            "decision": "given",
            "notice_revision": self.revision(purpose),
            "lang": "th",
            "evidence": {"ui_action": "switch_on", "shown_at": SHOWN_AT},
        }

    def registration(self, *decisions: Mapping[str, Any], **fields: str) -> dict[str, Any]:
        """The body of `POST /v1/members` as the documentation of the main job prints it."""
        return {
            "brand": "main",
            "jurisdiction": "TH",
            "formats": {"phone_region": "TH", "date_era": "be-dmy"},
            "fields": fields
            or {
                "given_name": "สมหญิง",
                "family_name": "ใจดี",
                "phone": "081-234-5678",
                "birth_date": "12/03/2535",
            },
            "consents": list(decisions),
        }

    def register(self, *decisions: Mapping[str, Any], **fields: str) -> dict[str, Any]:
        answer = self.post("/v1/members", self.registration(*decisions, **fields))
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made


@dataclass
class Registry:
    """A served registry with the sample clients signed in."""

    server: Server
    clients: dict[str, Client]
    http: httpx2.Client
    """Somebody on the network without credentials."""

    def __getattr__(self, name: str) -> Client:
        try:
            return self.clients[name]
        except KeyError:
            raise AttributeError(name) from None

    def close(self) -> None:
        for client in self.clients.values():
            client.http.close()
        self.http.close()

    def codes(self) -> list[dict[str, Any]]:
        """What the outbox file holds; it is not there before the first code."""
        file = self.server.settings.outbox_file
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return [told for told in map(json.loads, lines) if "code" in told]

    def code_for(self, contact_point: str) -> str:
        return next(
            str(c["code"]) for c in reversed(self.codes()) if c["contact_point"] == contact_point
        )

    def verify(self, member: Mapping[str, Any], kind: str = "phone") -> None:
        """Prove the first contact point of this kind, as its holder does."""
        point = next(p["id"] for p in member["contact_points"] if p["kind"] == kind)
        answer = self.crm.post(
            f"/v1/members/{member['id']}/contact-points/{point}:verify",
            {"code": self.code_for(point)},
        )
        assert answer.status_code == 200, answer.text

    def introduced(self, member: str, to: str) -> str:
        """The id by which another client knows a member of crm's."""
        answer = self.crm.post(f"/v1/members/{member}:introduce", {"to": self.clients[to].id})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])


def add_clients(
    settings: Settings, wanted: Mapping[str, Sequence[str]], *, brand: str = "main"
) -> dict[str, dict[str, Any]]:
    """Register internal apps before a server has the registry open."""

    async def add() -> dict[str, dict[str, Any]]:
        runtime = await Runtime.open(settings)
        try:
            return {
                name: await runtime.clients.add(
                    system_caller("cli"), name, list(scopes), brand=brand
                )
                for name, scopes in wanted.items()
            }
        finally:
            await runtime.close()

    return asyncio.run(add())


@contextlib.contextmanager
def served_registry(settings: Settings, *arguments: object, **env: str) -> Iterator[Registry]:
    """Serve a registry that was set up, with the sample clients."""
    made = add_clients(settings, SCOPES)
    with serving(settings, *arguments, **env) as server:
        clients = {name: Client(server.base_url, one).sign_in() for name, one in made.items()}
        registry = Registry(server, clients, httpx2.Client(base_url=server.base_url, timeout=60))
        try:
            yield registry
        finally:
            registry.close()
