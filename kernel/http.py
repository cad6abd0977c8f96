"""The HTTP conventions every room shares: problem details, cursors, entity tags.

Pure functions, so that the service, the command line and the tests agree on one spelling.
Nothing here ever copies request content into an answer.
"""

import base64
import binascii
import hashlib
import re
from typing import Any

import orjson

from kernel.errors import FieldProblem, InvalidRequestError, PreconditionError, YinyomError
from kernel.ids import is_id

PROBLEM_MEDIA_TYPE = "application/problem+json"
IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_ETAG = re.compile(r'(?:W/)?"v(\d{1,18})"')


def problem(error: YinyomError, request_id: str | None = None) -> dict[str, Any]:
    """Write an error as RFC 9457 problem details."""
    body: dict[str, Any] = {
        "type": error.type_uri,
        "title": error.title,
        "status": error.status,
        "next": error.remedy,
    }
    if error.detail:
        body["detail"] = error.detail
    if error.reason is not None:
        body["reason"] = error.reason
    if error.audit_id is not None:
        body["audit_id"] = error.audit_id
    if error.errors:
        body["errors"] = [
            {"pointer": p.pointer, "code": p.code, **({"detail": p.detail} if p.detail else {})}
            for p in error.errors
        ]
    if request_id is not None:
        body["request_id"] = request_id
    return body


def encode_cursor(*keys: str | int) -> str:
    """Pack the last row's sort keys into an opaque, URL-safe cursor."""
    return base64.urlsafe_b64encode(orjson.dumps(keys)).decode().rstrip("=")


def decode_cursor(cursor: str, *kinds: type) -> list[Any]:
    """Unpack a cursor into values of exactly these types, or refuse it."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        keys = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error) as error:
        raise _bad_cursor() from error
    if not isinstance(keys, list) or [type(key) for key in keys] != list(kinds):
        raise _bad_cursor()
    return keys


def decode_id_cursor(prefix: str, cursor: str | None) -> str | None:
    """Unpack a cursor that holds one id of ours with this prefix, or refuse it."""
    if cursor is None:
        return None
    identifier: str = decode_cursor(cursor, str)[0]
    if not is_id(prefix, identifier):
        raise _bad_cursor()
    return identifier


def _bad_cursor() -> InvalidRequestError:
    return InvalidRequestError(
        "the cursor is not one that this listing gave out",
        errors=[FieldProblem("/query/cursor", "cursor")],
        remedy="Start again without a cursor.",
    )


def etag(version: int) -> str:
    """Write a row version as an entity tag (RFC 9110 section 8.8.3)."""
    return f'"v{version}"'


def check_if_match(header: str | None, version: int) -> None:
    """Refuse a change whose `If-Match` names another version than the present one."""
    if header is None or header.strip() == "*":
        return
    versions = [int(found) for found in _ETAG.findall(header)]
    if version not in versions:
        raise PreconditionError("the ETag given is not the present one")


def digest(*parts: bytes) -> bytes:
    """Hash length-prefixed parts, so that no two lists of parts collide by joining."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(len(part).to_bytes(8))
        hasher.update(part)
    return hasher.digest()
