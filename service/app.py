"""The app: every room's routes behind one edge, with one shape of error."""

from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, iter_route_contexts
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

import audit.endpoints
import audit.hold_endpoints
import consent.endpoints
import consent.guardian_endpoints
import consent.receipt_endpoints
import disclosure.endpoints
import disclosure.feed_endpoints
import disclosure.loyalty_endpoints
import disclosure.search_endpoints
import disclosure.webhook_endpoints
import dsar.endpoints
import loyalty.endpoints
import members.duplicate_endpoints
import members.endpoints
import members.import_endpoints
import policies.endpoints
import service.auth.endpoints
import service.console
import service.docs_page
import service.governance
import service.health
import service.portal
from disclosure import BudgetSpentError
from kernel import (
    FieldProblem,
    InvalidRequestError,
    NotFoundError,
    YinyomError,
    to_datetime,
)
from kernel.http import PROBLEM_MEDIA_TYPE, problem
from kernel.web import JSONBytes
from service.middleware import Edge, note_crash
from service.openapi import document
from service.portal import ERROR_PAGE
from service.runtime import Runtime
from service.trail_views import finder, trail_views
from service.version import VERSION

STATIC = Path(__file__).parent / "static"


class MethodNotAllowedError(YinyomError):
    """The path exists, the method does not."""

    slug = "method-not-allowed"
    status = 405
    title = "This path does not take this method"
    remedy = "See /docs for the methods of this path."


class UnsupportedMediaTypeError(YinyomError):
    """The body is not of a type that this path reads."""

    slug = "unsupported-media-type"
    status = 415
    title = "The body is not of a type that this path reads"
    remedy = "Send JSON with Content-Type: application/json."


def create_app(runtime: Runtime) -> Edge:
    """Build the app over an open installation."""
    app = FastAPI(
        title="Yinyom",
        version=VERSION,
        summary="A privacy-first member registry",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        dependencies=[Depends(_known_parameters)],
        redirect_slashes=False,  # a redirect would repeat what somebody typed into the address
        separate_input_output_schemas=False,
    )
    app.exception_handler(YinyomError)(_on_error)
    app.exception_handler(RequestValidationError)(_on_invalid)
    app.exception_handler(HTTPException)(_on_http_error)
    app.exception_handler(Exception)(_on_crash)
    _mount(app, runtime)
    app.state.fields = frozenset(runtime.pack.fields)
    app.openapi = lambda: _openapi(app, runtime)  # type: ignore[method-assign]
    return Edge(
        app,
        runtime.reader,
        max_body_bytes=runtime.settings.server.max_body_bytes,
        larger_bodies={"/v1/imports": runtime.settings.members.max_import_bytes},
        log_requests=runtime.settings.log.requests,
    )


def _mount(app: FastAPI, runtime: Runtime) -> None:
    database, clock, gatekeeper = runtime.database, runtime.clock, runtime.gatekeeper
    routers = [
        disclosure.endpoints.router(
            database,
            runtime.disclosure,
            runtime.reader,
            runtime.members,
            runtime.audit,
            gatekeeper,
        ),
        disclosure.feed_endpoints.router(
            database,
            runtime.disclosure,
            runtime.reader,
            runtime.audiences,
            runtime.feed,
            runtime.audit,
            gatekeeper,
        ),
        disclosure.search_endpoints.router(
            database,
            runtime.disclosure,
            runtime.reader,
            runtime.search,
            runtime.audit,
            gatekeeper,
        ),
        disclosure.webhook_endpoints.router(database, runtime.webhooks, gatekeeper, clock),
        disclosure.loyalty_endpoints.router(
            database,
            runtime.disclosure,
            runtime.reader,
            runtime.loyalty,
            runtime.members,
            runtime.pack,
            gatekeeper,
            clock,
        ),
        loyalty.endpoints.router(
            database,
            runtime.loyalty,
            runtime.members,
            runtime.pack,
            gatekeeper,
            clock,
        ),
        members.endpoints.router(
            database,
            runtime.members,
            runtime.pack,
            gatekeeper,
            runtime.clients,
            runtime.courier,
            clock,
        ),
        members.import_endpoints.router(
            database,
            runtime.uploads,
            runtime.pack,
            gatekeeper,
            clock,
            max_bytes=runtime.settings.members.max_import_bytes,
            jurisdiction=runtime.settings.jurisdiction,
        ),
        members.duplicate_endpoints.router(
            database, runtime.members, runtime.duplicates, gatekeeper, clock
        ),
        consent.endpoints.router(database, runtime.consent, runtime.members, gatekeeper, clock),
        consent.receipt_endpoints.router(
            database, runtime.consent, runtime.receipt_forms, runtime.members, gatekeeper
        ),
        consent.guardian_endpoints.router(
            database, runtime.guardians, runtime.members, gatekeeper, runtime.courier, clock
        ),
        policies.endpoints.router(runtime.pack, clock),
        service.governance.router(runtime),
        audit.endpoints.router(
            database, runtime.audit, gatekeeper, trail_views(runtime.settings), finder(runtime)
        ),
        audit.hold_endpoints.router(database, runtime.audit, gatekeeper, finder(runtime), clock),
        service.auth.endpoints.router(
            runtime.clients, token_minutes=runtime.settings.server.token_minutes
        ),
        dsar.endpoints.router(
            database,
            runtime.rights_requests,
            runtime.members,
            runtime.pack,
            gatekeeper,
            runtime.courier,
            runtime.sequencer,
            clock,
        ),
        service.health.router(runtime),
        service.docs_page.router(lambda: _openapi(app, runtime)),
    ]
    for router in routers:
        app.include_router(router)
    for prefix, router in (*service.portal.routers(runtime), *service.console.routers(runtime)):
        app.include_router(router, prefix=prefix)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")


async def _known_parameters(request: Request) -> None:
    """Refuse a query that the API route does not know: a misspelt word must not be left out."""
    route = request.scope.get("route")
    given = [name for name, _ in request.query_params.multi_items()]
    if not given or not isinstance(route, APIRoute) or not route.path.startswith("/v1/"):
        return
    documented = (route.openapi_extra or {}).get("parameters", [])
    known = {parameter.alias for parameter in route.dependant.query_params}
    if len(set(given)) < len(given):
        raise InvalidRequestError("a query parameter is repeated", reason="query")
    if not {*given} <= known | {parameter["name"] for parameter in documented}:
        raise InvalidRequestError(
            "a query parameter is not known", errors=[FieldProblem("/query", "extra_forbidden")]
        )


def _openapi(app: FastAPI, runtime: Runtime) -> dict[str, Any]:
    if app.openapi_schema is None:
        now = to_datetime(runtime.clock.now_us())
        app.openapi_schema = document(app, runtime.pack, runtime.settings, now)
    return app.openapi_schema


async def _on_error(request: Request, error: YinyomError) -> Response:
    if error.status == 500 and type(error) is not YinyomError:  # noqa: PLR2004 (an HTTP status)
        # A defect that has a name, as a change without its event; others the edge notes itself.
        note_crash(error, request.scope.get("yinyom.request_id", ""))
    page = request.scope.get(ERROR_PAGE)
    if page is not None:
        return page(error)  # type: ignore[no-any-return]
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}  # noqa: PLR2004 (an HTTP status)
    if error.status == 503:  # noqa: PLR2004 (an HTTP status)
        headers["Retry-After"] = "5"
    if error.status == 429:  # noqa: PLR2004 (an HTTP status)
        headers["Retry-After"] = "60"
    if isinstance(error, BudgetSpentError):
        headers |= error.headers
    answer = JSONBytes(
        problem(error, request.scope.get("yinyom.request_id")), error.status, headers
    )
    answer.headers["content-type"] = PROBLEM_MEDIA_TYPE
    return answer


async def _on_crash(request: Request, _error: Exception) -> Response:
    """Answer what nobody meant to happen, without its text; the edge writes the log line."""
    return await _on_error(request, YinyomError())


async def _on_invalid(request: Request, error: RequestValidationError) -> Response:
    """Name every faulty place and never its value, nor the name of an unknown key."""
    if isinstance(error.body, bytes) and error.body:  # nothing took it for JSON
        return await _on_error(request, UnsupportedMediaTypeError())
    places = []
    words = _known_words(request.app)
    for fault in error.errors():
        location = [
            str(part) if isinstance(part, int) or part in words else "*" for part in fault["loc"]
        ]
        if location and location[0] == "body":
            location = location[1:]
        if fault["type"] == "extra_forbidden" and location:
            location = location[:-1]
        pointer = "".join(f"/{part}" for part in location)
        places.append(FieldProblem(pointer, str(fault["type"])))
    malformed = any(place.code == "json_invalid" for place in places)
    if malformed:
        places = [FieldProblem("", "json_invalid")]
    return await _on_error(request, InvalidRequestError(errors=list(dict.fromkeys(places))))


_LOCATIONS = frozenset({"body", "query", "path", "header", "cookie"})


def _known_words(app: FastAPI) -> frozenset[str]:
    """Give the names a pointer may hold; any other may be something a person typed."""
    words: frozenset[str] | None = getattr(app.state, "words", None)
    if words is None:
        schema = app.openapi()
        operations = [one for path in schema["paths"].values() for one in path.values()]
        words = app.state.words = frozenset(
            {
                *_LOCATIONS,
                *app.state.fields,
                *(name for one in schema["components"]["schemas"].values()
                  for name in one.get("properties", ())),
                *(parameter["name"] for one in operations
                  for parameter in one.get("parameters", ())),
            }
        )  # fmt: skip
    return words


def _methods_at(request: Request) -> set[str]:
    """Give every method that some route takes at this path; files are only ever fetched."""
    path = request.scope["path"]
    return {
        method
        for route in iter_route_contexts(request.app.routes)
        if route.path_regex.match(path) is not None
        for method in route.methods or ("GET", "HEAD")
    }


async def _on_http_error(request: Request, error: HTTPException) -> Response:
    if isinstance(error.__cause__, YinyomError):
        return await _on_error(request, error.__cause__)
    if error.status_code == 405:  # noqa: PLR2004 (an HTTP status)
        answer = await _on_error(request, MethodNotAllowedError())
        answer.headers["Allow"] = ", ".join(sorted(_methods_at(request)))
        return answer
    if error.status_code == 404:  # noqa: PLR2004 (an HTTP status)
        return await _on_error(request, NotFoundError("no such path", reason="path_unknown"))
    return await _on_error(request, InvalidRequestError(reason="malformed"))
