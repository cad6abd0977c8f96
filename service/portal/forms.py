"""Forms that come back: taken only from our own page, in the session it was made for.

Keeps out a page of another site that makes a member's browser send a form (cross-site request
forgery), at sign-in too, where it would sign the member in as somebody else. Two independent
checks must both pass: where the browser says the form comes from, and the secret it carries.
"""

import hmac
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit

from fastapi import Request

from service.portal.errors import FormRefusedError, SessionEndedError

CSRF_FIELD = "csrf"
_FORM_TYPE = "application/x-www-form-urlencoded"
_MOST_BYTES = 16_384
_MOST_FIELDS = 60


class Visitor(Protocol):
    """Who sends a form: a visit of the portal or of the console."""

    @property
    def csrf(self) -> str:
        """The secret that forms of this visit carry."""
        ...

    @property
    def is_new(self) -> bool:
        """Whether the browser does not have its token yet."""
        ...

    @property
    def ended(self) -> bool:
        """Whether it came with the token of a session that is over."""
        ...


async def read_form(request: Request, visit: Visitor) -> dict[str, str]:
    """Read a form of our own page, or refuse it; the last of two equal names counts.

    Raises:
        FormRefusedError: another origin, no cookie, a wrong secret, or not a plain form.
        SessionEndedError: the form is ours, and the session it belongs to has run out.
    """
    if not is_same_origin(request.headers, request.url.scheme):
        raise FormRefusedError(reason="cross_origin")
    if visit.ended:
        raise SessionEndedError(reason="session_ended")
    fields = await _fields(request)
    sent = fields.pop(CSRF_FIELD, "")
    if visit.is_new or not hmac.compare_digest(sent.encode(), visit.csrf.encode()):
        raise FormRefusedError(reason="csrf")
    return fields


def is_same_origin(headers: Mapping[str, str], scheme: str) -> bool:
    """Say whether a browser sent this from a page of ours; silence is a no.

    `Origin` is what every current browser sends with a form; `Referer` speaks only where it is
    missing. `Sec-Fetch-Site`, where it is sent, must agree.
    """
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return False
    host = headers.get("host")
    origin = headers.get("origin") or _origin_of(headers.get("referer", ""))
    return host is not None and origin == f"{scheme}://{host}"


def _origin_of(address: str) -> str:
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}"


async def _fields(request: Request) -> dict[str, str]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await request.body()
    if kind != _FORM_TYPE or len(body) > _MOST_BYTES:
        raise FormRefusedError(reason="malformed")
    try:
        return dict(
            parse_qsl(
                body.decode("ascii"),
                keep_blank_values=True,
                max_num_fields=_MOST_FIELDS,
                errors="strict",
            )
        )
    except ValueError:
        raise FormRefusedError(reason="malformed") from None
