"""The way in for new people: three fields, the code, the questions."""

from fastapi import APIRouter, Request, Response

from kernel.i18n import Language
from service.claims import CODE_TRIES
from service.portal.forms import read_form
from service.portal.joining import Application
from service.portal.parts import Portal, address_of, home_of, request_id
from service.portal.screens import go_to
from service.portal.sessions import State, Visit
from service.portal.sign_in import NOTE_NEW_CODE

_FIELDS = ("contact", "given_name", "day", "month", "year")


def add_routes(routes: APIRouter, language: Language, portal: Portal) -> None:
    """Add joining and its questions to the routes of one language."""
    home = home_of(language)
    show = portal.screens.show

    def join_page(
        request: Request, visit: Visit, typed: dict[str, str], found: dict[str, str]
    ) -> Response:
        return show(
            request,
            language,
            visit,
            "join",
            here="join",
            status=422 if found else 200,
            typed={name: typed.get(name, "") for name in _FIELDS},
            faults=found,
        )

    @routes.get("/join")
    async def join(request: Request) -> Response:
        visit, member = await portal.visitor(request)
        return go_to(home) if member is not None else join_page(request, visit, {}, {})

    @routes.post("/join")
    async def apply(request: Request) -> Response:
        visit = await portal.sessions.visit(request)
        typed = await read_form(request, visit)
        application = portal.joining.read(typed, language)
        if not isinstance(application, Application):
            return join_page(request, visit, typed, application)
        token = await portal.joining.apply(
            application, address_of(request), request_id(request), former=visit.session
        )
        return go_to(f"{home}join/code", request, token)

    @routes.get("/join/code")
    async def join_code(request: Request) -> Response:
        visit = await portal.sessions.visit(request)
        if visit.session is None or visit.state is not State.JOINING:
            return go_to(f"{home}join")
        claim = await portal.joining.claim_of(visit.session)
        if claim is None:
            return go_to(f"{home}join")
        return show(
            request,
            language,
            visit,
            "code",
            here="join/code",
            say="join_code",
            place="join/code",
            back="join",
            tries=claim.attempts,
            tries_left=CODE_TRIES - claim.attempts,
            is_new_code=visit.session.note == NOTE_NEW_CODE,
        )

    @routes.post("/join/code")
    async def take_join_code(request: Request) -> Response:
        visit = await portal.sessions.visit(request)
        fields = await read_form(request, visit)
        if visit.session is None or visit.state is not State.JOINING:
            return go_to(f"{home}join")
        claim = await portal.joining.claim_of(visit.session)
        if claim is None:
            return go_to(f"{home}join")
        joined = await portal.joining.try_code(
            visit.session, claim, fields.get("code", ""), request_id(request)
        )
        if joined is None:
            return go_to(f"{home}join/code")
        next_page = "choices?said=joined" if joined.is_new else "?said=member_already"
        return go_to(home + next_page, request, joined.token)

    @routes.post("/join/code/new")
    async def new_join_code(request: Request) -> Response:
        visit = await portal.sessions.visit(request)
        await read_form(request, visit)
        if visit.session is None or visit.state is not State.JOINING:
            return go_to(f"{home}join")
        claim = await portal.joining.claim_of(visit.session)
        if claim is None:
            return go_to(f"{home}join")
        await portal.joining.new_code(visit.session, claim, address_of(request))
        return go_to(f"{home}join/code")

    @routes.get("/choices")
    async def questions(request: Request) -> Response:
        visit, member = await portal.visitor(request)
        if member is None:
            return go_to(home)
        context = await portal.questions.open(member, language, visit.csrf)
        said = portal.screens.said(request)
        return show(request, language, visit, "choices", here="choices", said=said, **context)

    @routes.post("/choices")
    async def answer(request: Request) -> Response:
        visit = await portal.sessions.visit(request)
        fields = await read_form(request, visit)
        member = await portal.member(request, visit)
        if member is None:
            return go_to(home)
        async with portal.database.unit_of_work() as work:
            count = await portal.questions.answer(work, member, language, visit.csrf, fields)
        return go_to(f"{home}?said=answered" if count else home)
