"""The officer in the demo: a browser without scripts that signs in and sends forms."""

import asyncio
import http.client
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from service.demo.stage import HOST, DemoError

_CSRF = re.compile(r'name="csrf" value="([^"]+)"')
_SIGN_IN = "/console/sign-in"


class Officer:
    """One signed-in account at the console."""

    def __init__(self, port: int, account: Mapping[str, Any]) -> None:
        self._port = port
        self._account = account
        self._cookie = ""

    async def sign_in(self) -> None:
        """Sign in by name and password."""
        given = {"name": self._account["name"], "password": self._account["password"]}
        await self.send(_SIGN_IN, given)

    async def send(self, page: str, fields: Mapping[str, str]) -> None:
        """Open a page and send a form of it."""
        await asyncio.to_thread(self._send_form, page, fields)

    def _send_form(self, page: str, fields: Mapping[str, str]) -> None:
        status, text = self._ask("GET", page)
        found = _CSRF.search(text)
        if status != http.client.OK or found is None:
            raise DemoError(f"the console shows no form at {page.rpartition('/')[0]}")
        status, _ = self._ask("POST", page, urlencode({**fields, "csrf": found[1]}))
        if status != http.client.SEE_OTHER:
            raise DemoError(f"the console did not take a form: status {status}")

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[int, str]:
        headers = {"Cookie": self._cookie, "Origin": f"http://{HOST}:{self._port}"}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection = http.client.HTTPConnection(HOST, self._port, timeout=30)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            given = answer.getheader("set-cookie")
            if given:
                self._cookie = given.partition(";")[0]
            return answer.status, answer.read().decode()
        finally:
            connection.close()
