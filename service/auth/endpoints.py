"""The token endpoint (RFC 6749 section 4.4, client credentials with a secret)."""

import base64
import binascii
from urllib.parse import parse_qs, unquote_plus

from fastapi import APIRouter, Request
from pydantic import Field

from kernel import is_id
from kernel.schemas import Answer
from kernel.web import JSONBytes
from service.auth.clients import Clients, OAuthError

_FORM = "application/x-www-form-urlencoded"
_MOST_PARAMETERS = 20


class TokenAnswer(Answer):
    """An access token: opaque, for minutes, bound to the client's brand."""

    access_token: str
    token_type: str = Field(examples=["Bearer"])
    expires_in: int = Field(examples=[600])
    scope: str


class OAuthProblem(Answer):
    """The errors of RFC 6749 section 5.2."""

    error: str = Field(examples=["invalid_client"])


_REQUEST_SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {
            _FORM: {
                "schema": {
                    "type": "object",
                    "required": ["grant_type"],
                    "properties": {
                        "grant_type": {"type": "string", "const": "client_credentials"},
                        "client_id": {"type": "string"},
                        "client_secret": {"type": "string", "format": "password"},
                        "scope": {"type": "string"},
                    },
                }
            }
        },
    }
}


def router(clients: Clients, *, token_minutes: int) -> APIRouter:
    """Make the token route."""
    routes = APIRouter(tags=["Clients"])

    @routes.post(
        "/oauth/token",
        response_model=TokenAnswer,
        responses={400: {"model": OAuthProblem}, 401: {"model": OAuthProblem}},
        openapi_extra=_REQUEST_SCHEMA,
        summary="Exchange client credentials for an access token",
    )
    async def token(request: Request) -> JSONBytes:
        try:
            form = await _form(request)
            client_id, secret = _credentials(request, form)
            scope = form.get("scope")
            answer = await clients.issue_token(
                client_id,
                secret,
                scope.split() if scope else None,
                minutes=token_minutes,
            )
        except OAuthError as error:
            challenge = {"WWW-Authenticate": "Basic"} if error.status == 401 else {}  # noqa: PLR2004 (an HTTP status)
            return JSONBytes({"error": error.code}, error.status, challenge)
        return JSONBytes(answer)

    return routes


async def _form(request: Request) -> dict[str, str]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise OAuthError("invalid_request")
    try:
        parsed = parse_qs(
            (await request.body()).decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            max_num_fields=_MOST_PARAMETERS,
        )
    except ValueError:
        raise OAuthError("invalid_request") from None
    if any(len(values) != 1 for values in parsed.values()):
        raise OAuthError("invalid_request")
    form = {name: values[0] for name, values in parsed.items()}
    if "grant_type" not in form:
        raise OAuthError("invalid_request")
    if form["grant_type"] != "client_credentials":
        raise OAuthError("unsupported_grant_type")
    return form


def _credentials(request: Request, form: dict[str, str]) -> tuple[str, str]:
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            text = base64.b64decode(encoded.strip(), validate=True).decode()
        except (ValueError, binascii.Error):
            raise OAuthError("invalid_client", 401) from None
        client_id, secret = map(unquote_plus, text.split(":", 1)) if ":" in text else (text, "")
    else:
        client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
    if not is_id("cli", client_id):
        raise OAuthError("invalid_client", 401)
    return client_id, secret
