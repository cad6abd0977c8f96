"""What you can ask: requests, their clocks, the fresh code, and the page after an erasure."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from dsar import RESTRICTION_GROUNDS, Right
from kernel import NotFoundError, UnavailableError
from kernel.i18n import Language
from members import MemberDataError
from policies import FieldKey
from service.pages import PAGE_HEADERS
from service.portal.forms import read_form
from service.portal.parts import Portal, home_of
from service.portal.rights import COPIES
from service.portal.screens import go_to
from service.portal.sessions import State, Visit
from service.portal.typed import faults

_RequestId = Annotated[str, Path(pattern="^rr_[0-9a-z]{26}$")]
_FIELDS = ("field", "value", "day", "month", "year")
_ASKABLE = COPIES | {Right.OBJECTION}


def add_routes(routes: APIRouter, language: Language, portal: Portal) -> None:
    """Add the requests to the routes of one language."""
    home = home_of(language)
    place = f"{home}requests"
    show = portal.screens.show

    @routes.get("/requests")
    async def requests(request: Request) -> Response:
        visit, member = await portal.visitor(request)
        if member is None:
            return go_to(home)
        context = await portal.requests.page(member, language)
        said = portal.screens.said(request)
        return show(
            request,
            language,
            visit,
            "requests",
            here="requests",
            current="requests",
            said=said,
            **context,
        )

    @routes.post("/requests")
    async def ask(request: Request) -> Response:
        member, fields = await portal.form_of_member(request)
        if member is None:
            return go_to(home)
        right = next((one for one in _ASKABLE if one.value == fields.get("right")), None)
        if right is None:
            raise NotFoundError(reason="right_unknown")
        opened = await portal.requests.ask(member, right, language)
        return go_to(f"{place}/{opened}?said=asked")

    # --- erasure ----------------------------------------------------------------------

    @routes.get("/requests/erasure")
    async def erasure(request: Request) -> Response:
        visit, member = await portal.visitor(request)
        if member is None:
            return go_to(home)
        context = await portal.requests.plan(member, language)
        return show(
            request,
            language,
            visit,
            "erasure",
            here="requests/erasure",
            current="requests",
            **context,
        )

    @routes.post("/requests/erasure")
    async def begin_erasure(request: Request) -> Response:
        member, _ = await portal.form_of_member(request)
        if member is None:
            return go_to(home)
        opened = await portal.requests.begin_erasure(member)
        return go_to(f"{place}/{opened}/code")

    # --- restriction and rectification ------------------------------------------------

    @routes.get("/requests/restriction")
    async def restriction(request: Request) -> Response:
        visit, member = await portal.visitor(request)
        if member is None:
            return go_to(home)
        return show(
            request,
            language,
            visit,
            "restriction",
            here="requests/restriction",
            current="requests",
            grounds=sorted(RESTRICTION_GROUNDS),
            fault="",
        )

    @routes.post("/requests/restriction")
    async def restrict(request: Request) -> Response:
        visit = await portal.sessions.visit(request)
        fields = await read_form(request, visit)
        member = await portal.member(request, visit)
        if member is None:
            return go_to(home)
        ground = fields.get("ground", "")
        if ground not in RESTRICTION_GROUNDS:
            return show(
                request,
                language,
                visit,
                "restriction",
                here="requests/restriction",
                current="requests",
                status=422,
                grounds=sorted(RESTRICTION_GROUNDS),
                fault="ground",
            )
        opened = await portal.requests.restrict(member, ground)
        return go_to(f"{place}/{opened}?said=paused")

    async def rectification_page(
        request: Request, visit: Visit, typed: dict[str, str], fault: str
    ) -> Response:
        member = await portal.member(request, visit)
        if member is None:
            return go_to(home)
        fields = portal.requests.by_request(member, language)
        chosen = typed.get("field", fields[0][0])
        return show(
            request,
            language,
            visit,
            "rectification",
            here="requests/rectification",
            current="requests",
            status=422 if fault else 200,
            fields=fields,
            is_minor_date=any(key == "birth_date" for key, _ in fields),
            chosen=chosen,
            typed={name: typed.get(name, "") for name in _FIELDS},
            fault=fault,
        )

    @routes.get("/requests/rectification")
    async def rectification(request: Request) -> Response:
        return await rectification_page(request, await portal.sessions.visit(request), {}, "")

    @routes.post("/requests/rectification")
    async def rectify(request: Request) -> Response:
        visit = await portal.sessions.visit(request)
        fields = await read_form(request, visit)
        member = await portal.member(request, visit)
        if member is None:
            return go_to(home)
        key = fields.get("field", "")
        if key not in {known for known, _ in portal.requests.by_request(member, language)}:
            raise NotFoundError(reason="field_unknown")
        try:
            opened = await portal.requests.rectify(member, FieldKey(key), fields, language)
        except MemberDataError as error:
            fault = faults(error.errors).get(key, "invalid")
            return await rectification_page(request, visit, fields, fault)
        return go_to(f"{place}/{opened}?said=asked")

    # --- one request ------------------------------------------------------------------

    @routes.get("/requests/{request_id}")
    async def one(request: Request, request_id: _RequestId) -> Response:
        visit, member = await portal.visitor(request)
        if member is None:
            return go_to(home)
        context = await portal.requests.one(member, request_id, language)
        said = portal.screens.said(request)
        return show(
            request,
            language,
            visit,
            "request",
            here=f"requests/{request_id}",
            current="requests",
            said=said,
            **context,
        )

    @routes.post("/requests/{request_id}/withdraw")
    async def withdraw(request: Request, request_id: _RequestId) -> Response:
        member, _ = await portal.form_of_member(request)
        if member is None:
            return go_to(home)
        await portal.requests.withdraw(member, request_id)
        return go_to(f"{place}?said=taken_back")

    @routes.post("/requests/{request_id}/resume")
    async def resume(request: Request, request_id: _RequestId) -> Response:
        member, _ = await portal.form_of_member(request)
        if member is None:
            return go_to(home)
        await portal.requests.resume(member, request_id)
        return go_to(f"{place}?said=resumed")

    @routes.get("/requests/{request_id}/code")
    async def code(request: Request, request_id: _RequestId) -> Response:
        visit, member = await portal.visitor(request)
        if member is None:
            return go_to(home)
        found = (await portal.requests.one(member, request_id, language))["one"]
        is_faulty = request.query_params.get("said") == "wrong"
        return show(
            request,
            language,
            visit,
            "proof",
            here=f"requests/{request_id}/code",
            current="requests",
            one=found,
            is_faulty=is_faulty,
        )

    @routes.post("/requests/{request_id}/code/new")
    async def new_code(request: Request, request_id: _RequestId) -> Response:
        member, _ = await portal.form_of_member(request)
        if member is None:
            return go_to(home)
        await portal.requests.send_code(member, request_id)
        return go_to(f"{place}/{request_id}/code")

    @routes.post("/requests/{request_id}/code")
    async def take_code(request: Request, request_id: _RequestId) -> Response:
        member, fields = await portal.form_of_member(request)
        if member is None:
            return go_to(home)
        proven = await portal.requests.take_code(member, request_id, fields.get("code", ""))
        if proven is None:
            return go_to(f"{place}/{request_id}/code?said=wrong")
        if proven.right is Right.ERASURE:
            token = await portal.requests.erase(member, request_id)
            return go_to(f"{home}erased", request, token)
        return go_to(f"{place}/{request_id}?said=unlocked")

    @routes.post("/requests/{request_id}/download")
    async def download(request: Request, request_id: _RequestId) -> Response:
        member, _ = await portal.form_of_member(request)
        if member is None:
            return go_to(home)
        content = await portal.requests.download(member, request_id)
        return _file(content, f"{request_id}.zip", "application/zip")

    @routes.get("/requests/{request_id}/certificate")
    async def certificate(request: Request, request_id: _RequestId) -> Response:
        _, member = await portal.visitor(request)
        if member is None:
            return go_to(home)
        try:
            note = await portal.requests.certificate(member, request_id)
        except UnavailableError:  # the log signs in a moment
            return go_to(f"{place}/{request_id}?said=not_yet")
        return _file(note.encode(), f"{request_id}.txt", "text/plain; charset=utf-8")

    # --- after the erasure ------------------------------------------------------------

    @routes.get("/erased")
    async def erased(request: Request) -> Response:
        visit = await portal.sessions.visit(request)
        if visit.session is None or visit.state is not State.ERASED:
            return go_to(home)
        context = await portal.requests.erased(visit.session.contact_point_id or "", language)
        said = portal.screens.said(request)
        return show(request, language, visit, "erased", here="erased", said=said, **context)

    @routes.get("/erased/certificate")
    async def erased_certificate(request: Request) -> Response:
        visit = await portal.sessions.visit(request)
        if visit.session is None or visit.state is not State.ERASED:
            return go_to(home)
        request_id = visit.session.contact_point_id or ""
        try:
            note = await portal.requests.rights.certificate(request_id)
        except UnavailableError:  # the log signs in a moment
            return go_to(f"{home}erased?said=not_yet")
        return _file(note.encode(), f"{request_id}.txt", "text/plain; charset=utf-8")


def _file(content: bytes, name: str, kind: str) -> Response:
    headers = {**PAGE_HEADERS, "Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, 200, headers, kind)
