"""What every request passes: an id, a bound on its body, headers, one log line, one error shape.

Plain ASGI, because it stands on the hot path. An exception that nobody meant becomes a 500
problem without its text: messages of libraries may quote what a person typed.
"""

import re
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from disclosure import BudgetSpentError, Reader
from kernel import (
    FieldProblem,
    InvalidRequestError,
    NotAuthenticatedError,
    UnavailableError,
    YinyomError,
    new_id,
)
from kernel.http import PROBLEM_MEDIA_TYPE, problem
from kernel.logging import RequestLog

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# A request id enters the trail, where nothing personal may have a place: a UUID or one of ours.
_REQUEST_ID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|req_[0-9a-hjkmnp-tv-z]{26}")
_MEMBERS = "/v1/members/"
_VIEW = "/view"
_VIEW_ROUTE = "/v1/members/{member}/view"
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


class BodyTooLargeError(YinyomError):
    """The request body is larger than the service takes."""

    slug = "body-too-large"
    status = 413
    title = "The request body is too large"
    remedy = "Send less at a time."


class BrokenAnswerError(Exception):
    """The answer broke off half-way; the connection must close, and nothing is quoted."""


@dataclass(slots=True)
class Served:
    """How often a route answered with a status, and how long that took in all."""

    count: int = 0
    total_us: int = 0


class Edge:
    """The outermost layer of the app; takes the consented read to its reader by itself."""

    def __init__(
        self,
        app: App,
        reader: Reader,
        *,
        max_body_bytes: int,
        log_requests: bool,
        larger_bodies: Mapping[str, int] | None = None,
    ) -> None:
        self._app = app
        self._reader = reader
        self._max_body_bytes = max_body_bytes
        self._larger_bodies = dict(larger_bodies or {})
        self._log = RequestLog() if log_requests else None
        self.served: dict[tuple[str, int], Served] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; lifespan and websocket messages pass as they are."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter_ns()
        request_id, length, authorization, fault = self._read(scope)
        path = scope["path"]
        if fault is not None:
            status = await _answer_problem(fault, request_id, send)
            route = "none"
        elif scope["method"] == "GET" and path.startswith(_MEMBERS) and path.endswith(_VIEW):
            member = path[len(_MEMBERS) : -len(_VIEW)]
            status = await self._view(member, scope, authorization, request_id, send)
            route = _VIEW_ROUTE
        else:
            scope["yinyom.request_id"] = request_id
            status = await self._pass_on(scope, receive, send, request_id, length)
            route = getattr(scope.get("route"), "path_format", "none")
        duration_us = (time.perf_counter_ns() - began) // 1000
        numbers = self.served.get((route, status))
        if numbers is None:
            numbers = self.served[route, status] = Served()
        numbers.count += 1
        numbers.total_us += duration_us
        if self._log is not None:
            self._log.write(
                request_id=request_id,
                method=scope["method"],
                route=route,
                status=status,
                duration_us=duration_us,
            )

    def flush_log(self) -> None:
        """Write the last lines of the request log."""
        if self._log is not None:
            self._log.flush()

    async def _view(
        self, member: str, scope: Scope, authorization: bytes, request_id: str, send: Send
    ) -> int:
        try:
            body = await self._reader.view(
                member,
                scope["query_string"],
                authorization.decode("latin-1"),
                request_id,
                masked=False,
            )
        except YinyomError as error:
            if error.status == 500:  # noqa: PLR2004 (an HTTP status)
                note_crash(error, request_id)
            return await _answer_problem(error, request_id, send)
        except Exception as error:  # noqa: BLE001 (the edge: nothing may get past it)
            note_crash(error, request_id)
            return await _answer_problem(YinyomError(), request_id, send)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            *_HEADERS,
            (b"x-request-id", request_id.encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return 200

    async def _pass_on(
        self, scope: Scope, receive: Receive, send: Send, request_id: str, length: int
    ) -> int:
        status = 0
        complete = False
        most = self._larger_bodies.get(scope["path"], self._max_body_bytes)

        async def answer(message: MutableMapping[str, Any]) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                given = list(message.get("headers", ()))
                names = {name for name, _ in given}
                given += [header for header in _HEADERS if header[0] not in names]
                message["headers"] = [*given, (b"x-request-id", request_id.encode())]
            else:
                complete = not message.get("more_body", False)
            await send(message)

        try:
            if length > most:
                return await _answer_problem(BodyTooLargeError(), request_id, send)
            await self._app(scope, _bounded(receive, most), answer)
        except Exception as error:  # noqa: BLE001 (the edge: nothing may get past it)
            note_crash(error, request_id)
            if not status:
                return await _answer_problem(YinyomError(), request_id, send)
            if not complete:
                raise BrokenAnswerError from None
        return status

    def _read(self, scope: Scope) -> tuple[str, int, bytes, YinyomError | None]:
        """Give the request's id (made here unless the client sent one), length and credentials.

        And what makes the request unfit for any answer: two credentials, of which two readers
        might see a different one, or a character that no id has and no database text can hold.
        """
        request_id, length = "", 0
        authorization: bytes | None = None
        fault: YinyomError | None = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                if authorization is not None:
                    fault = NotAuthenticatedError("credentials twice", reason="token_repeated")
                authorization = value
            elif name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
                request_id = value.decode()
            elif name == b"content-length":
                length = int(value) if value.isdigit() else sys.maxsize
        if "\0" in scope["path"]:
            fault = InvalidRequestError(errors=[FieldProblem("/path", "character")])
        return request_id or new_id("req"), length, authorization or b"", fault


def _bounded(receive: Receive, most: int) -> Receive:
    """Count a body that did not say its length."""
    received = 0

    async def bounded() -> MutableMapping[str, Any]:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > most:
            raise BodyTooLargeError
        return message

    return bounded


def _where(error: BaseException) -> str:
    """Name file and line of the crash, and nothing that was being worked on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "unknown"
    return f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}"


def note_crash(error: BaseException, request_id: str) -> None:
    """Tell the log of a defect: which error, where, and nothing that was being worked on."""
    structlog.get_logger().error(
        "crash", request_id=request_id, error_type=type(error).__name__, where=_where(error)
    )


async def _answer_problem(error: YinyomError, request_id: str, send: Send) -> int:
    body = orjson.dumps(problem(error, request_id))
    headers = [
        (b"content-type", PROBLEM_MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *_HEADERS,
        (b"x-request-id", request_id.encode()),
    ]
    if isinstance(error, UnavailableError):
        headers.append((b"retry-after", b"5"))
    if isinstance(error, BudgetSpentError):
        headers += [(k.lower().encode(), v.encode()) for k, v in error.headers.items()]
    if error.status == 401:  # noqa: PLR2004 (an HTTP status)
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    return error.status
