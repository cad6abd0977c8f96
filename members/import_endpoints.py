"""Imports over HTTP: send a file, ask how far it is, see which rows were set aside and why.

The upload is taken apart in memory and never written to a temporary file in the clear.
"""

from collections.abc import AsyncGenerator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from kernel import Caller, Clock, Database, FieldProblem, UnitOfWork, rfc3339
from kernel.http import decode_cursor, encode_cursor
from kernel.schemas import problems
from kernel.web import (
    Gatekeeper,
    JSONBytes,
    OnceMade,
    earlier_answer,
    idempotency_key,
    replayed,
)
from members.errors import UploadError
from members.importing import PROFILES, Profile
from members.schemas import ImportAnswer, ImportTakenAnswer, QuarantineAnswer
from members.uploads import Received, Uploads
from policies import PolicyPack

_PAGE: Final = 500
_MOST_ROW: Final = 2**31 - 1
_FILE: Final = "file"
_MULTIPART: Final = "multipart/form-data"
_WORDS: Final = ("profile", "region", "dates", "encoding", "id_country", "jurisdiction", "map")
_MOST_PARTS: Final = 64
_ImpId = Annotated[str, Path(max_length=40, examples=["imp_01m834me8bfjwbgnk89sr02kdz"])]
_Cursor = Annotated[str | None, Query(max_length=200)]
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            _MULTIPART: {
                "schema": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": [_FILE],
                    "properties": {
                        _FILE: {"type": "string", "format": "binary"},
                        "profile": {"type": "string", "enum": sorted(PROFILES)},
                        "region": {"type": "string", "maxLength": 2},
                        "dates": {"type": "string", "maxLength": 32},
                        "encoding": {"type": "string", "maxLength": 32},
                        "id_country": {"type": "string", "maxLength": 2},
                        "jurisdiction": {"type": "string", "maxLength": 8},
                        "map": {"type": "array", "items": {"type": "string", "maxLength": 200}},
                    },
                    "examples": [{"profile": "th", "jurisdiction": "TH"}],
                }
            }
        },
    }
}


def router(
    database: Database,
    uploads: Uploads,
    pack: PolicyPack,
    gatekeeper: Gatekeeper,
    clock: Clock,
    *,
    max_bytes: int,
    jurisdiction: str,
) -> APIRouter:
    """Make the routes of imports; `jurisdiction` is taken where neither file nor region say."""
    routes = APIRouter(prefix="/v1", tags=["Registry"])

    @routes.post(
        "/imports",
        status_code=202,
        response_model=ImportTakenAnswer,
        responses=problems(401, 403, 409, 413, 422),
        openapi_extra=_BODY,
        summary="Send a file of members to be imported",
    )
    async def receive(request: Request) -> JSONBytes:
        caller = await gatekeeper.require(request, "import", "write")
        key = await idempotency_key(request, caller, "POST /v1/imports")
        earlier = await earlier_answer(database, key, clock)
        if earlier is not None:
            return JSONBytes(earlier, 202, replayed(replay=True))
        content, words = await _taken_apart(request, max_bytes)
        profile = _declared(words)
        law = _one(words, "jurisdiction") or _law_of(pack, profile, jurisdiction)

        async def answered(_work: UnitOfWork, received: Received) -> dict[str, Any]:
            return {"id": received.import_id, "rows": received.rows}

        done = OnceMade(key, clock, answered)
        await uploads.receive(caller, content, profile, law, then=done)
        return JSONBytes(done.answer, 202)

    @routes.get(
        "/imports/{import_id}",
        response_model=ImportAnswer,
        responses=problems(401, 403, 404),
        summary="Say how far an import is",
    )
    async def progress(request: Request, import_id: _ImpId) -> JSONBytes:
        caller: Caller = await gatekeeper.require(request, "import", "write")
        async with database.read() as session:
            found = await uploads.progress(session, caller, import_id)
        return JSONBytes(
            {
                "id": found.import_id,
                "state": found.state,
                "rows": found.rows,
                "done": found.done,
                "accepted": found.accepted,
                "quarantined": found.quarantined,
                "exact_repeats": found.exact_repeats,
                "issues": dict(found.issues),
                "failure": found.failure,
                "expires_at": None if found.expires_us is None else rfc3339(found.expires_us),
            }
        )

    @routes.get(
        "/imports/{import_id}/quarantine",
        response_model=QuarantineAnswer,
        responses=problems(401, 403, 404, 422),
        summary="List rows that were set aside, by number and reason",
    )
    async def quarantine(request: Request, import_id: _ImpId, cursor: _Cursor = None) -> JSONBytes:
        caller = await gatekeeper.require(request, "import", "write")
        after = 0 if cursor is None else min(decode_cursor(cursor, int)[0], _MOST_ROW)
        async with database.read() as session:
            rows = await uploads.quarantine(session, caller, import_id, after=after, most=_PAGE)
        listed = [
            {
                "row": row.row_no,
                "issues": [{"field": field, "code": code} for field, code in row.issues],
            }
            for row in rows
        ]
        more = encode_cursor(rows[-1].row_no) if len(rows) == _PAGE else None
        return JSONBytes({"rows": listed, "cursor": more})

    return routes


class _InMemory(MultiPartParser):
    """Keeps files in memory: a temporary file would hold members in the clear."""

    def __init__(self, request: Request, stream: AsyncGenerator[bytes, None], most: int) -> None:
        self.spool_max_size = most + 1
        super().__init__(
            request.headers, stream, max_files=1, max_fields=_MOST_PARTS, max_part_size=1_024
        )


async def _taken_apart(request: Request, most: int) -> tuple[bytes, dict[str, list[str]]]:
    """Give the file and the declarations of a request, or refuse it."""
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != _MULTIPART:
        raise UploadError(errors=[FieldProblem("/headers/Content-Type", "multipart")])
    try:
        form: FormData = await _InMemory(request, request.stream(), most).parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise UploadError(errors=[FieldProblem("", "multipart")]) from error
    try:
        return await _sorted_out(form)
    finally:
        await form.close()


async def _sorted_out(form: FormData) -> tuple[bytes, dict[str, list[str]]]:
    content: bytes | None = None
    words: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name != _FILE or content is not None:
                raise UploadError(errors=[FieldProblem("", "extra_forbidden")])
            content = await value.read()
        elif name not in _WORDS or (name in words and name != "map"):
            raise UploadError(errors=[FieldProblem("", "extra_forbidden")])
        else:
            words.setdefault(name, []).append(value)
    if content is None:
        raise UploadError(errors=[FieldProblem("/file", "missing")])
    return content, words


def _declared(words: dict[str, list[str]]) -> Profile:
    name = _one(words, "profile") or "plain"
    if name not in PROFILES:
        raise UploadError(errors=[FieldProblem("/profile", "unknown", ", ".join(sorted(PROFILES)))])
    columns: dict[str, str] = {}
    for mapping in words.get("map", ()):
        column, separator, field = mapping.rpartition("=")
        if not separator:
            raise UploadError(errors=[FieldProblem("/map", "map", "takes COLUMN=field")])
        columns[column] = field
    return PROFILES[name].declare(
        phone_region=_one(words, "region"),
        date_era=_one(words, "dates"),
        encoding=_one(words, "encoding"),
        id_country=_one(words, "id_country"),
        columns=columns,
    )


def _one(words: dict[str, list[str]], name: str) -> str | None:
    return words[name][0] if words.get(name) else None


def _law_of(pack: PolicyPack, profile: Profile, otherwise: str) -> str:
    region = profile.phone_region
    return region if region is not None and region in set(pack.jurisdictions) else otherwise
