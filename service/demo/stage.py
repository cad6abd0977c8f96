"""The stage of the demo: a plain HTTP client for each internal app, and what is printed.

Every call is a real one, and an answer that is not what the story says stops the demo.
"""

import asyncio
import base64
import http.client
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kernel import ConfigurationError

HOST = "127.0.0.1"


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

    async def fetch(self, path: str) -> tuple[int, bytes]:
        """Get what is not JSON; gives status and bytes."""
        if self._token is None:
            self._token = await self._fetch_token()
        headers = {"Authorization": f"Bearer {self._token}"}
        return await asyncio.to_thread(self._exchange, "GET", path, None, headers)

    async def lines(self, path: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Post and give every line of an NDJSON answer."""
        if self._token is None:
            self._token = await self._fetch_token()
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Content-Type": "application/json",
        }
        status, text = await asyncio.to_thread(
            self._exchange, "POST", path, orjson.dumps(body), headers
        )
        if status != http.client.OK:
            raise DemoError(f"{path}: status {status}")
        return [orjson.loads(line) for line in text.splitlines()]

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
        status, text = self._exchange(method, path, data, headers)
        return status, orjson.loads(text)

    def _exchange(
        self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=30)
        try:
            connection.request(method, path, data, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read()
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


def view_path(member: str, purpose: str, channel: str | None, fields: str | None = None) -> str:
    """Give the path of a consented read."""
    path = f"/v1/members/{member}/view?purpose={purpose}"
    if channel is not None:
        path += f"&channel={channel}"
    return path if fields is None else f"{path}&fields={quote(fields)}"
