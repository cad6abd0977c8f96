"""Searching by a piece of a name over HTTP: the piece is in the body, never in a URL."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from audit import AuditLog
from disclosure.errors import PurposeNotAllowedError
from disclosure.feed import PURPOSE_PREFIX
from disclosure.name_index import search_words
from disclosure.reading import Reader
from disclosure.schemas import BasisAnswer
from disclosure.search import EVENT, NameSearch
from disclosure.service import DisclosureService, Epochs
from kernel import Caller, Database
from kernel.schemas import Answer, IdText, Key, RequestBody, TypedText, problems
from kernel.web import Gatekeeper, JSONBytes, credentials

_FieldKeys = Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=100)]


class SearchBody(RequestBody):
    """A piece of a name to look for: two letters at least, or one Chinese character."""

    purpose: Key = Field(examples=["membership"])
    channel: Key | None = None
    name_contains: Annotated[TypedText, Field(min_length=1, max_length=100, examples=["สมหญิง"])]
    fields: _FieldKeys | None = Field(None, examples=[["given_name", "family_name"]])
    limit: int = Field(20, ge=1, le=100)
    cursor: Annotated[str, Field(max_length=200)] | None = None


class FoundAnswer(Answer):
    """One member whose name fits: what `view` answers for the purpose."""

    id: IdText
    data: dict[str, str | int | list[str]]
    omitted: dict[str, str]
    basis: BasisAnswer
    audit_id: IdText


class SearchAnswer(Answer):
    """Members found, the best fit first.

    `refine` says that too many fit to be put into an order: a longer piece finds better.
    """

    purpose: str = Field(examples=["membership"])
    channel: str | None
    results: list[FoundAnswer]
    refine: bool
    next_cursor: str | None
    audit_id: IdText


def router(
    database: Database,
    disclosure: DisclosureService,
    reader: Reader,
    search: NameSearch,
    audit: AuditLog,
    gatekeeper: Gatekeeper,
) -> APIRouter:
    """Make the route of the search."""
    routes = APIRouter(prefix="/v1", tags=["Data out"])

    @routes.post(
        "/members:search",
        response_model=SearchAnswer,
        responses=problems(401, 403, 422, 429, 503),
        summary="Find members by a piece of their name, and read them for a purpose",
    )
    async def find(request: Request, body: SearchBody) -> JSONBytes:
        await gatekeeper.caller(request)
        question = disclosure.question(body.purpose, body.channel, body.fields)
        words = search_words(body.name_contains)
        caller = await gatekeeper.require(request, "member", "search", body.purpose)
        if PURPOSE_PREFIX + question.purpose.key not in caller.scopes:
            async with database.unit_of_work() as work:
                audit_id = await audit.record(
                    work,
                    caller,
                    EVENT,
                    purpose=question.purpose.key,
                    channel=question.channel,
                    decision="deny",
                    reason="scope_missing",
                )
            raise PurposeNotAllowedError(reason="scope_missing", audit_id=audit_id)

        async def act(caller: Caller, epochs: Epochs) -> dict[str, Any]:
            return await search.search(
                caller, question, words, epochs, cursor=body.cursor, most=body.limit
            )

        return JSONBytes(await reader.under_present_epochs(*credentials(request), act))

    return routes
