"""Posts webhooks: the only connections that the registry opens to the outside, each one checked.

A receiver is a stranger. Its name is looked up by us, every address it leads to is judged, and
the connection goes to the address that was judged, so that a name that changes its mind in
between gains nothing. No redirect is followed, no proxy or cookie is known, TLS is verified, the
answer's body is left unread, and whoever dawdles is cut off.
"""

import asyncio
import socket
import ssl
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial

import httpcore2

from disclosure import Answer, TargetRules

_REDIRECTS = range(300, 400)
# A receiver's name server may take its time; nobody else's work waits behind these threads.
_LOOKUPS = ThreadPoolExecutor(16, thread_name_prefix="webhook-lookup")


class TargetRefusedError(Exception):
    """The name leads to an address to which webhooks do not go."""


class CheckedBackend(httpcore2.AsyncNetworkBackend):
    """Connects to judged addresses only."""

    def __init__(self, rules: TargetRules) -> None:
        self._rules = rules
        self._network = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (the library's signature)
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Look a name up and connect to its first address, if every one of them is allowed."""
        loop = asyncio.get_running_loop()
        look_up = partial(socket.getaddrinfo, host.strip("[]"), port, type=socket.SOCK_STREAM)
        found = await loop.run_in_executor(_LOOKUPS, look_up)
        addresses = [str(entry[4][0]) for entry in found]
        if not addresses or not all(self._rules.allows(host.strip("[]"), a) for a in addresses):
            raise TargetRefusedError
        return await self._network.connect_tcp(
            addresses[0], port, timeout, local_address, socket_options
        )


class WebhookPoster:
    """Sends one signed body at a time over a connection of its own."""

    def __init__(self, rules: TargetRules, *, timeout_seconds: float) -> None:
        self._rules = rules
        self._timeout_seconds = timeout_seconds

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> Answer:
        """Send once; whatever the receiver does becomes an answer, within the timeout."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                status = await self._status(url, headers, body)
        except TargetRefusedError:
            return Answer(None, "target_not_allowed")
        except (TimeoutError, httpcore2.TimeoutException):
            return Answer(None, "timeout")
        except (socket.gaierror, UnicodeError):  # a label of more than 63 letters is none
            return Answer(None, "name_unknown")
        except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
            return Answer(None, "tls" if _is_tls(error) else "connection")
        if status in _REDIRECTS:
            return Answer(status, "redirect")
        answer = Answer(status)
        return answer if answer.acknowledged else Answer(status, "not_taken")

    async def _status(self, url: str, headers: dict[str, str], body: bytes) -> int:
        async with (
            httpcore2.AsyncConnectionPool(
                ssl_context=self._tls,
                max_connections=1,
                max_keepalive_connections=0,
                network_backend=CheckedBackend(self._rules),
            ) as pool,
            pool.stream("POST", url, headers=list(headers.items()), content=body) as response,
        ):
            return int(response.status)


def _is_tls(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False
