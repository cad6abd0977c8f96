"""The base of every request and answer schema, and the documented shape of a problem."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

IdText = Annotated[str, Field(max_length=64, pattern=r"^[a-z]{2,5}_[0-9a-z]{1,40}$")]
# A field's value as somebody typed it. Control characters have no look, so nobody meant them;
# PostgreSQL has no text that holds the first of them.
TypedText = Annotated[str, Field(pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$")]
Key = Annotated[str, Field(max_length=64, pattern=r"^[a-z][a-z0-9_]*$")]


class RequestBody(BaseModel):
    """A request body: a key it does not know is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_max_length=16_384)


class Answer(BaseModel):
    """An answer body."""

    model_config = ConfigDict(frozen=True)


class FaultyPlace(Answer):
    """One faulty place of a request; never its value."""

    pointer: str = Field(examples=["/fields/phone"])
    code: str = Field(examples=["invalid"])
    detail: str | None = None


class Problem(Answer):
    """RFC 9457 problem details; `type` is stable, no member ever repeats a personal value."""

    type: str = Field(examples=["https://yinyom.dev/problems/no-lawful-basis"])
    title: str
    status: int
    next: str
    detail: str | None = None
    reason: str | None = Field(None, examples=["consent_withdrawn"])
    audit_id: str | None = None
    errors: list[FaultyPlace] | None = None
    request_id: str | None = None


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document which problems an endpoint answers with."""
    return {
        status: {
            "description": "Problem",
            "content": {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            },
        }
        for status in statuses
    }
