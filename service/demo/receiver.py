"""The message sender's own machine in the demo: takes webhooks and checks who signed them.

It verifies as the Standard Webhooks specification says and knows nothing of this program but
the key that it was given.
"""

import base64
import hashlib
import hmac
import http.server
import queue
import threading
from typing import Any

import orjson

from service.demo.stage import HOST, DemoError

_SECONDS = 20.0


class Receiver:
    """An HTTP server on loopback that keeps what it was told, once its signature holds."""

    def __init__(self) -> None:
        self.secret = ""
        self._heard: queue.Queue[dict[str, Any]] = queue.Queue()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                is_signed = receiver.is_signed(dict(self.headers.items()), body)
                self.send_response(204 if is_signed else 401)
                self.end_headers()
                if is_signed:
                    receiver.keep(orjson.loads(body))

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer((HOST, 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self._server.server_address[1]}/hooks/yinyom"

    def is_signed(self, headers: dict[str, str], body: bytes) -> bool:
        """Check the signature over id, moment and body (Standard Webhooks, `v1`)."""
        named = {name.lower(): value for name, value in headers.items()}
        signed = f"{named['webhook-id']}.{named['webhook-timestamp']}.".encode() + body
        key = base64.b64decode(self.secret.removeprefix("whsec_"))
        mac = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
        return any(
            hmac.compare_digest(one, f"v1,{mac}") for one in named["webhook-signature"].split()
        )

    def keep(self, told: dict[str, Any]) -> None:
        """Keep what was told."""
        self._heard.put(told)

    def next_about(self, kind: str, member: str) -> dict[str, Any]:
        """Wait for a message of a type about a member."""
        while True:
            try:
                told = self._heard.get(timeout=_SECONDS)
            except queue.Empty:
                raise DemoError(f"no webhook of type {kind} came") from None
            if told["type"] == kind and told["data"]["id"] == member:
                return told

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
