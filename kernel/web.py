"""What endpoints of every room share: who asks, idempotent writes, and answers in bytes.

`Gatekeeper` is a port: the service authenticates, the rooms only see a `Caller` who may do
what the endpoint needs. Nothing here knows a room.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import orjson
from fastapi import Request, Response
from starlette.convertors import Convertor, register_url_convertor

from kernel.caller import Caller
from kernel.clock import Clock
from kernel.db import Database, UnitOfWork
from kernel.errors import ConflictError, FieldProblem, InvalidRequestError
from kernel.http import IDEMPOTENCY_KEY, digest
from kernel.repository import (
    IdempotencyKey,
    claim_idempotency_key,
    remember_result,
)


class _IdConvertor(Convertor[str]):
    """A path part that is an id, so that `…/{member:id}` is not also `…/{member}:introduce`."""

    regex = "[^/:]+"

    def convert(self, value: str) -> str:
        """Take the part as it is."""
        return value

    def to_string(self, value: str) -> str:
        """Write the part as it is."""
        return value


register_url_convertor("id", _IdConvertor())

Made = TypeVar("Made")
NO_STORE = {"Cache-Control": "no-store"}


class Gatekeeper(Protocol):
    """Authenticates requests and says no with an event."""

    async def caller(self, request: Request) -> Caller:
        """Give who asks, or raise `NotAuthenticatedError`."""
        ...

    async def require(
        self, request: Request, resource: str, action: str, purpose: str | None = None
    ) -> Caller:
        """Give who asks if role and scopes allow this, or raise; a refusal is an event."""
        ...


class JSONBytes(Response):
    """An answer that orjson wrote; personal answers are never stored on the way."""

    media_type = "application/json"

    def __init__(
        self, content: Any, status_code: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(orjson.dumps(content), status_code, {**NO_STORE, **(headers or {})})


def credentials(request: Request) -> tuple[str, str]:
    """Give the Authorization header and the id of a request."""
    return request.headers.get("authorization", ""), request.scope["yinyom.request_id"]


async def idempotency_key(request: Request, caller: Caller, route: str) -> IdempotencyKey | None:
    """Read the `Idempotency-Key` header and bind it to caller, route and body."""
    header = request.headers.get("idempotency-key")
    if header is None:
        return None
    if not IDEMPOTENCY_KEY.fullmatch(header):
        raise InvalidRequestError(
            "Idempotency-Key is 1 to 255 printable ASCII characters",
            errors=[FieldProblem("/headers/Idempotency-Key", "idempotency_key")],
        )
    body = await request.body()
    path = request.url.path.encode()
    return IdempotencyKey(caller.id, route, digest(header.encode()), digest(path, body))


async def once(
    work: UnitOfWork,
    key: IdempotencyKey | None,
    act: Callable[[], Awaitable[dict[str, Any]]],
    *,
    now_us: int,
    status: int = 200,
) -> tuple[dict[str, Any], bool]:
    """Act once per key; gives the result and whether it is a replay of an earlier one.

    The result holds ids and states only, so that it may be stored for 24 hours.
    """
    if key is None:
        return await act(), False
    stored = await claim_idempotency_key(work, key, now_us=now_us)
    if stored is not None:
        if stored.request_hash != key.request_hash:
            raise ConflictError(
                "this Idempotency-Key was used with another request",
                reason="idempotency_key_reused",
                remedy="Use a fresh key for a new request.",
            )
        return stored.result, True
    result = await act()
    await remember_result(work, key, status=status, result=result)
    return result, False


def replayed(*, replay: bool) -> dict[str, str]:
    """Give the header that tells a client it sees an earlier answer."""
    return {"Idempotency-Replayed": "true"} if replay else {}


class _NotYetError(Exception):
    """Nobody has done this under this key."""


async def earlier_answer(
    database: Database, key: IdempotencyKey | None, clock: Clock
) -> dict[str, Any] | None:
    """Give the answer that was stored under a key, if there is one."""

    async def not_yet() -> dict[str, Any]:
        """Leave the unit of work before anything is stored."""
        raise _NotYetError

    if key is None:
        return None
    try:
        async with database.unit_of_work() as work:
            answer, _ = await once(work, key, not_yet, now_us=clock.now_us())
    except _NotYetError:
        return None
    return answer


class OnceMade(Generic[Made]):
    """Stores the answer under a key in the last unit of work of what was done, and keeps it.

    For acts that need units of work of their own, where `once` cannot stand around them.
    """

    def __init__(
        self,
        key: IdempotencyKey | None,
        clock: Clock,
        answered: Callable[[UnitOfWork, Made], Awaitable[dict[str, Any]]],
    ) -> None:
        self._key = key
        self._clock = clock
        self._answered = answered
        self.answer: dict[str, Any] = {}

    async def __call__(self, work: UnitOfWork, made: Made) -> None:
        """Make the answer and store it, inside the unit of work that made what it tells."""
        self.answer, _ = await once(
            work, self._key, lambda: self._answered(work, made), now_us=self._clock.now_us()
        )
