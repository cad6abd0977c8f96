"""Our side of the benchmarks, driven only through its public doors: the CLI and HTTP.

A `Yinyom` is one installation on one engine: initialised, with one client, served, and filled
through `POST /v1/members` and one-time codes as any shop's application would.
"""

import asyncio
import base64
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from benchmarks.load import Client, spread
from benchmarks.servers import Server, UnavailableError, free_port

PURPOSE = "marketing"
CHANNEL = "sms"
FIELDS = "given_name,phone"
START_SECONDS = 60
CODE_SECONDS = 120.0
REPOSITORY = Path(__file__).resolve().parent.parent
_BATCH = 1_000
_TOKEN_SECONDS = 240.0
_GIVEN = ("สมหญิง", "สมชาย", "กมลชนก", "ณัฐวุฒิ", "ปิยะดา", "ธนกร", "วราภรณ์", "อนุชา")
_FAMILY = ("ใจดี", "รักไทย", "ศรีสุข", "ทองแท้", "บุญมา", "แสงทอง", "วงศ์สวัสดิ์", "พึ่งพา")


@dataclass(frozen=True)
class Person:
    """One made-up person; even numbers give consent, odd ones do not."""

    number: int
    given_name: str
    family_name: str
    phone: str
    birth_date: str
    consents: bool


def people(count: int, seed: int = 20_261_123) -> list[Person]:
    """Make `count` people with distinct Thai mobile numbers; the same for every contender."""
    chance = random.Random(seed)
    phones = chance.sample(range(10_000_000), count)
    return [
        Person(
            number,
            chance.choice(_GIVEN),
            chance.choice(_FAMILY),
            f"081{phone:07d}",
            f"{chance.randint(1, 28):02d}/{chance.randint(1, 12):02d}/{chance.randint(2500, 2545)}",
            number % 2 == 0,
        )
        for number, phone in enumerate(phones)
    ]


def command() -> list[str]:
    """Give the `yinyom` command: the installed script, or the checkout's own entry."""
    script = Path(sys.executable).parent / "yinyom"
    if script.exists():
        return [str(script)]
    return [sys.executable, "-c", "from service.cli import main; main()"]


class Yinyom:
    """One installation of ours under benchmark."""

    def __init__(self, name: str, folder: Path, database_url: str | None = None) -> None:
        self.name = name
        self.port = 0
        self.server: Server | None = None
        self.database = None if database_url is None else database_url.rpartition("/")[2]
        self._folder = folder
        self._data = folder / f"{name}-data"
        self._env = {"PYTHONPATH": str(REPOSITORY)}
        if database_url is not None:
            self._env["YINYOM_DATABASE__URL"] = database_url
        self._client: dict[str, Any] = {}
        self._token = ""
        self._token_from = float("-inf")

    def cli(self, *arguments: str) -> str:
        """Run one `yinyom` command on this installation and give what it printed.

        Raises:
            UnavailableError: it failed; with the end of its error output.
        """
        done = subprocess.run(
            [*command(), "--data-dir", str(self._data), *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=self._folder,
            env={**os.environ, **self._env},
        )
        if done.returncode:
            raise UnavailableError(f"yinyom {arguments[0]} failed: {done.stderr.strip()[-500:]}")
        return done.stdout

    def prepare(self) -> None:
        """Initialise the installation and add the client that writes and reads."""
        self.cli("init", "--yes")
        scopes = ("--scope", f"purpose:{PURPOSE}", "--scope", "members:write")
        self._client = orjson.loads(self.cli("clients", "add", "sender", *scopes, "--json"))

    def start(self, *, workers: int = 1) -> float:
        """Serve; gives the seconds from the command to the first good /readyz."""
        self.port = free_port()
        arguments = ["--data-dir", str(self._data), "serve", "--host", "127.0.0.1"]
        arguments += ["--port", str(self.port), "--workers", str(workers)]
        began = time.perf_counter()
        self.server = Server(
            self.name,
            [*command(), *arguments],
            log=self._folder / f"{self.name}.log",
            cwd=self._folder,
            env=self._env,
        )
        self.server.wait_for_http(self.port, "/readyz", within_seconds=START_SECONDS)
        return time.perf_counter() - began

    @property
    def pid(self) -> int:
        """The process id of the server.

        Raises:
            UnavailableError: it is not serving.
        """
        if self.server is None:
            raise UnavailableError(f"{self.name} is not serving")
        return self.server.pid

    def stop(self) -> None:
        """Stop serving; the data stays."""
        if self.server is not None:
            self.server.stop()
            self.server = None

    async def headers(self) -> dict[str, str]:
        """Give request headers with a bearer token that has minutes to live."""
        if time.perf_counter() - self._token_from > _TOKEN_SECONDS:
            pair = f"{self._client['client_id']}:{self._client['client_secret']}".encode()
            client = Client(self.port)
            answer = await client.call(
                "POST",
                "/oauth/token",
                form="grant_type=client_credentials",
                headers={"Authorization": "Basic " + base64.b64encode(pair).decode()},
            )
            await client.close()
            self._token = answer["access_token"]
            self._token_from = time.perf_counter()
        return {"Authorization": f"Bearer {self._token}"}

    async def fill(self, everyone: Sequence[Person]) -> list[str]:
        """Register everyone, verify the phones of those who consent, give the paths to read."""
        client = Client(self.port)
        notice = await client.call(
            "GET", f"/v1/notices/{PURPOSE}?lang=th", headers=await self.headers()
        )
        await client.close()
        paths: list[str] = []
        codes = _Codes(self._data / "outbox.jsonl")
        for at in range(0, len(everyone), _BATCH):
            batch = everyone[at : at + _BATCH]
            headers = await self.headers()

            async def register(
                client: Client, person: Person, headers: dict[str, str] = headers
            ) -> tuple[str, str]:
                body = _registration(person, notice["revision"])
                made = await client.call("POST", "/v1/members", json=body, headers=headers)
                return made["id"], made["contact_points"][0]["id"]

            made = await spread(self.port, batch, register)
            willing = [ids for ids, person in zip(made, batch, strict=True) if person.consents]
            known = await codes.of([contact_point for _, contact_point in willing])

            async def verify(
                client: Client,
                ids: tuple[str, str],
                headers: dict[str, str] = headers,
                known: dict[str, str] = known,
            ) -> str:
                member, contact_point = ids
                await client.call(
                    "POST",
                    f"/v1/members/{member}/contact-points/{contact_point}:verify",
                    json={"code": known[contact_point]},
                    headers=headers,
                )
                return f"/v1/members/{member}/view"

            paths += await spread(self.port, willing, verify)
        question = f"?purpose={PURPOSE}&channel={CHANNEL}&fields={FIELDS}"
        return [path + question for path in paths]

    async def check(self, everyone: Sequence[Person], paths: Sequence[str]) -> None:
        """See on a sample that the answers disclose what was registered.

        Raises:
            UnavailableError: an answer is not what the benchmark says it measures.
        """
        willing = [person for person in everyone if person.consents]
        client = Client(self.port)
        headers = await self.headers()
        for person, path in list(zip(willing, paths, strict=True))[:: max(1, len(paths) // 100)]:
            answer = await client.call("GET", path, headers=headers)
            expected = {"given_name": person.given_name, "phone": "+66" + person.phone[1:]}
            if answer["data"] != expected or not answer["audit_id"]:
                raise UnavailableError("the view does not disclose what was registered")
        await client.close()


class _Codes:
    """Reads the one-time codes that the outbox delivers in the background."""

    def __init__(self, outbox: Path) -> None:
        self._outbox = outbox
        self._at = 0
        self._codes: dict[str, str] = {}

    async def of(self, contact_points: Sequence[str]) -> dict[str, str]:
        """Wait for the codes of these contact points.

        Raises:
            UnavailableError: one of them was not delivered in time.
        """
        ends = time.perf_counter() + CODE_SECONDS
        while time.perf_counter() < ends:
            self._read()
            if all(one in self._codes for one in contact_points):
                return self._codes
            await asyncio.sleep(0.05)
        raise UnavailableError(f"a one-time code did not come within {CODE_SECONDS:.0f} s")

    def _read(self) -> None:
        if not self._outbox.exists():
            return
        with self._outbox.open("rb") as file:
            file.seek(self._at)
            for line in file:
                if line.endswith(b"\n"):
                    self._at += len(line)
                    message = orjson.loads(line)
                    self._codes[message["contact_point"]] = message["code"]


def _registration(person: Person, revision: str) -> dict[str, Any]:
    consent = {
        "purpose": PURPOSE,
        "channel": CHANNEL,
        "decision": "given",
        "notice_revision": revision,
        "lang": "th",
        "evidence": {
            "ui_action": "switch_on",
            "shown_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        },
    }
    return {
        "brand": "main",
        "jurisdiction": "TH",
        "formats": {"phone_region": "TH", "date_era": "be-dmy"},
        "fields": {
            "given_name": person.given_name,
            "family_name": person.family_name,
            "phone": person.phone,
            "birth_date": person.birth_date,
        },
        "consents": [consent] if person.consents else [],
    }
