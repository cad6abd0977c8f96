"""The consented read over HTTP: parse, authenticate, disclose, answer bytes.

The hot path of the registry. It is called with the bare parts of a request, so that the edge
can come here without passing the routing of the framework; the documented route calls the very
same function.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qsl

import orjson

from disclosure.service import DisclosureService, Epochs, Question, StaleEpochError
from kernel import Caller, FieldProblem, InvalidRequestError, UnavailableError

_ATTEMPTS = 3
_MOST_QUESTIONS = 2_000
_LONGEST_QUERY = 4_096
_PARAMETERS = frozenset({"purpose", "channel", "fields"})
_Answer = TypeVar("_Answer")


class EpochKeeper(Protocol):
    """Authenticates callers, and knows under which epochs it did; the service has it."""

    async def authenticate(self, authorization: str, request_id: str) -> Caller:
        """Give who asks, from the Authorization header, or raise `NotAuthenticatedError`."""
        ...

    def epochs(self) -> Epochs:
        """Give the epochs of the caches in use."""
        ...

    async def refresh(self) -> None:
        """Throw the caches away and read the epochs again."""
        ...


class Reader:
    """Answers `GET /v1/members/{member}/view` and its masked form."""

    def __init__(self, disclosure: DisclosureService, keeper: EpochKeeper) -> None:
        self._disclosure = disclosure
        self._keeper = keeper
        self._questions: dict[tuple[bytes, bool], Question] = {}

    async def view(
        self, member: str, query: bytes, authorization: str, request_id: str, *, masked: bool
    ) -> bytes:
        """Disclose a member; gives the JSON answer or raises the refusal."""
        question = self._questions.get((query, masked)) or self._question(query, masked=masked)

        async def act(caller: Caller, epochs: Epochs) -> dict[str, Any]:
            """Disclose as this caller, under these epochs."""
            return await self._disclosure.view(caller, member, question, epochs)

        return orjson.dumps(await self.under_present_epochs(authorization, request_id, act))

    async def under_present_epochs(
        self,
        authorization: str,
        request_id: str,
        act: Callable[[Caller, Epochs], Awaitable[_Answer]],
    ) -> _Answer:
        """Act as the caller; when clients or policy changed meanwhile, begin anew."""
        for _ in range(_ATTEMPTS):
            caller = await self._keeper.authenticate(authorization, request_id)
            try:
                return await act(caller, self._keeper.epochs())
            except StaleEpochError:
                await self._keeper.refresh()
        raise UnavailableError("clients and policies are changing", reason="epochs_moving")

    def _question(self, query: bytes, *, masked: bool) -> Question:
        """Parse and check a query; one that passed holds keys of the pack only, and is kept."""
        if len(query) > _LONGEST_QUERY:
            raise InvalidRequestError("the query is too long", reason="query_too_long")
        try:
            pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict")
        except ValueError:
            raise InvalidRequestError("the query is not well formed", reason="query") from None
        given = dict(pairs)
        if len(given) < len(pairs):
            raise InvalidRequestError("a query parameter is repeated", reason="query")
        if not _PARAMETERS.issuperset(given):
            # `field=` for `fields=` must not disclose every field of the purpose.
            raise InvalidRequestError(
                "a query parameter is not known", errors=[FieldProblem("/query", "extra_forbidden")]
            )
        purpose = given.get("purpose")
        if not purpose:
            raise InvalidRequestError(
                "every read names its purpose", errors=[FieldProblem("/query/purpose", "missing")]
            )
        fields = given.get("fields")
        question = self._disclosure.question(
            purpose,
            given.get("channel"),
            None if fields is None else fields.split(","),
            masked=masked,
        )
        if len(self._questions) < _MOST_QUESTIONS:
            self._questions[query, masked] = question
        return question
