"""What anybody may know: the purposes, and the words of the notices in force."""

from datetime import UTC
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import Field

from kernel import Clock, FieldProblem, InvalidRequestError, rfc3339, to_datetime
from kernel.i18n import Language
from kernel.schemas import Answer, problems
from kernel.web import JSONBytes
from policies.model import PolicyPack
from policies.publication import public_purposes


class NoticeAnswer(Answer):
    """A notice exactly as it is to be shown, under the hash of its text."""

    key: str = Field(examples=["marketing"])
    version: str
    lang: str = Field(examples=["th"])
    text: str
    revision: str = Field(examples=["sha256:3f9c…"])
    effective_from: str


class PurposesAnswer(Answer):
    """Every purpose with its basis, channels, fields and words."""

    purposes: list[dict[str, Any]]


def router(pack: PolicyPack, clock: Clock) -> APIRouter:
    """Make the routes of this room."""
    routes = APIRouter(prefix="/v1", tags=["Consent"])

    @routes.get("/purposes", response_model=PurposesAnswer, summary="List the purposes")
    async def purposes() -> JSONBytes:
        now = to_datetime(clock.now_us())
        return JSONBytes({"purposes": public_purposes(pack, now)})

    @routes.get(
        "/notices/{key}",
        response_model=NoticeAnswer,
        responses=problems(404, 422),
        summary="Read the words of a notice in force",
    )
    async def notice(
        key: Annotated[str, Path(max_length=64, examples=["marketing"])],
        lang: Annotated[
            str, Query(max_length=16, json_schema_extra={"enum": [one.value for one in Language]})
        ] = "th",
    ) -> JSONBytes:
        try:
            language = Language(lang)
        except ValueError:
            known = ", ".join(language.value for language in Language)
            raise InvalidRequestError(
                errors=[FieldProblem("/query/lang", "unknown_language", f"one of {known}")]
            ) from None
        found = pack.current_notice(key, language, to_datetime(clock.now_us()))
        return JSONBytes(
            {
                "key": found.key,
                "version": found.version,
                "lang": found.lang.value,
                "text": found.text,
                "revision": found.revision,
                "effective_from": rfc3339(
                    int(found.effective_from.astimezone(UTC).timestamp()) * 1_000_000
                ),
            }
        )

    return routes
