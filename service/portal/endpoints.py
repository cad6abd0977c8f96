"""The portal over HTTP: each language under its own path, forms answered by a redirect.

`/{lang}/` is the sign-in page to a stranger and the home page to a member. No address holds
anything personal: a page says who it is about by the session alone.
"""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from kernel import NotFoundError
from kernel.i18n import Language, negotiate
from service.pages import PAGE_HEADERS
from service.portal import data_routes, history_routes, join_routes, proof_routes, rights_routes
from service.portal.account import DONE, STOPPED, UNDO
from service.portal.decisions import Recorded, Topic
from service.portal.forms import read_form
from service.portal.parts import REGIONS, Portal, address_of, home_of, request_id
from service.portal.screens import ERROR_PAGE, go_to
from service.portal.sessions import State, Visit
from service.portal.sign_in import CODE_TRIES, NOTE_NEW_CODE, tries_of
from service.portal.typed import LONGEST_TYPED, contact_kind
from service.runtime import Runtime

_Key = Annotated[str, Path(max_length=64)]
_Digest = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]


def routers(runtime: Runtime) -> list[tuple[str, APIRouter]]:
    """Make the routes of the portal over an open installation, each part with its prefix."""
    portal = Portal(runtime)
    routes = APIRouter(include_in_schema=False)

    @routes.get("/")
    async def choose_language(request: Request) -> Response:
        language = negotiate(request.headers.get("accept-language"))
        answer = go_to(f"/{language.value}/")
        answer.headers["Vary"] = "Accept-Language"
        return answer

    for language in Language:
        routes.add_api_route(f"/{language.value}", partial(_to, f"/{language.value}/"))
    pages = [(f"/{language.value}", _in(language, portal)) for language in Language]
    return [("", routes), *pages]


async def _to(place: str) -> Response:
    return go_to(place)


def _in(language: Language, portal: Portal) -> APIRouter:
    """Make the routes of one language."""
    home = home_of(language)
    show = portal.screens.show

    def with_error_page(request: Request) -> None:
        request.scope[ERROR_PAGE] = portal.screens.error_page(request, language)

    routes = APIRouter(include_in_schema=False, dependencies=[Depends(with_error_page)])

    # --- signing in -------------------------------------------------------------------

    def sign_in_page(
        request: Request, visit: Visit, *, faulty: bool = False, typed: str = "", region: str = ""
    ) -> Response:
        return show(
            request,
            language,
            visit,
            "sign_in",
            status=422 if faulty else 200,
            regions=REGIONS,
            region=region or REGIONS[0],
            typed=typed,
            is_faulty=faulty,
            has_ended=visit.ended,
        )

    @routes.get("/")
    async def start(request: Request) -> Response:
        visit = await portal.sessions.visit(request)
        member = await portal.member(request, visit)
        if member is None:
            return sign_in_page(request, visit)
        context = await portal.account.home(member, language)
        context["said"] = portal.screens.said(request)
        return show(request, language, visit, "home", current="home", **context)

    @routes.post("/sign-in")
    async def ask_for_code(request: Request) -> Response:
        visit = await portal.sessions.visit(request)
        fields = await read_form(request, visit)
        typed, region = fields.get("contact", ""), fields.get("region", "")
        kind = contact_kind(typed) if len(typed) <= LONGEST_TYPED else None
        if kind is None or region not in REGIONS:
            known = region if region in REGIONS else ""
            return sign_in_page(request, visit, faulty=True, typed=typed, region=known)
        token = await portal.sign_in.request_code(
            kind, typed, region, address_of(request), former=visit.session
        )
        return go_to(f"{home}code", request, token)

    @routes.get("/code")
    async def code_page(request: Request) -> Response:
        visit = await portal.sessions.visit(request)
        if visit.session is None or visit.state is not State.WAITING:
            return go_to(home)
        tries = tries_of(visit.session)
        return show(
            request,
            language,
            visit,
            "code",
            here="code",
            tries=tries,
            tries_left=CODE_TRIES - tries,
            is_new_code=visit.session.note == NOTE_NEW_CODE,
        )

    @routes.post("/code")
    async def take_code(request: Request) -> Response:
        visit = await portal.sessions.visit(request)
        fields = await read_form(request, visit)
        if visit.session is None or visit.state is not State.WAITING:
            return go_to(home)
        token = await portal.sign_in.try_code(
            visit.session, fields.get("code", ""), request_id(request)
        )
        return go_to(f"{home}code") if token is None else go_to(home, request, token)

    @routes.post("/code/new")
    async def new_code(request: Request) -> Response:
        visit = await portal.sessions.visit(request)
        await read_form(request, visit)
        if visit.session is None or visit.state is not State.WAITING:
            return go_to(home)
        token = await portal.sign_in.new_code(visit.session, address_of(request))
        return go_to(f"{home}code", request, token)

    @routes.post("/sign-out")
    async def sign_out(request: Request) -> Response:
        member, _ = await portal.form_of_member(request)
        if member is not None:
            async with portal.database.unit_of_work() as work:
                await portal.audit.record(
                    work,
                    member.caller,
                    "session.end",
                    subject=await portal.members.pseudonym(work, member.id),
                )
                await portal.sessions.close(work, member.session)
        return go_to(f"{home}signed-out")

    @routes.get("/signed-out")
    async def signed_out(request: Request) -> Response:
        visit = await portal.sessions.visit(request)
        return show(request, language, visit, "signed_out", here="signed-out")

    # --- choices ----------------------------------------------------------------------

    @routes.post("/withdraw")
    async def withdraw(request: Request) -> Response:
        member, fields = await portal.form_of_member(request)
        if member is None:
            return go_to(home)
        topic = Topic(fields.get("purpose", ""), fields.get("channel", ""))
        portal.account.purpose_of(topic)
        async with portal.database.unit_of_work() as work:
            recorded = await portal.decisions.withdraw(
                work, member.caller, member.id, topic, now_us=portal.clock.now_us()
            )
            if recorded is not None:
                await portal.sessions.leave_note(work, member.session, _note(recorded))
        return go_to(home)

    @routes.post("/undo")
    async def undo(request: Request) -> Response:
        member, _ = await portal.form_of_member(request)
        if member is None or not (member.session.note or "").startswith(UNDO):
            return go_to(home)
        event_id = (member.session.note or "").removeprefix(UNDO)
        async with portal.database.unit_of_work() as work:
            undone = await portal.decisions.undo(
                work, member.caller, member.id, event_id, now_us=portal.clock.now_us()
            )
            if isinstance(undone, Recorded):
                await portal.sessions.leave_note(work, member.session, _note(undone))
        return go_to(home + _place(undone) if isinstance(undone, Topic) else home)

    @routes.post("/stop-marketing")
    async def stop_marketing(request: Request) -> Response:
        member, _ = await portal.form_of_member(request)
        if member is None:
            return go_to(home)
        async with portal.database.unit_of_work() as work:
            ended = await portal.decisions.stop_marketing(
                work, member.caller, member.id, now_us=portal.clock.now_us()
            )
            note = STOPPED + ",".join(event.id for event in ended)
            await portal.sessions.leave_note(work, member.session, note)
        return go_to(f"{home}?said=stopped")

    @routes.post("/stop-marketing/undo")
    async def allow_again(request: Request) -> Response:
        member, _ = await portal.form_of_member(request)
        note = "" if member is None else member.session.note or ""
        if member is None or not note.startswith(f"{STOPPED}con_"):
            return go_to(home)
        async with portal.database.unit_of_work() as work:
            count = await portal.decisions.allow_again(
                work,
                member.caller,
                member.id,
                note.removeprefix(STOPPED).split(","),
                now_us=portal.clock.now_us(),
            )
            await portal.sessions.leave_note(work, member.session, None)
        return go_to(f"{home}?said=restarted" if count else home)

    async def purpose_page(request: Request, topic: Topic) -> Response:
        visit = await portal.sessions.visit(request)
        member = await portal.member(request, visit)
        if member is None:
            portal.account.purpose_of(topic)
            return go_to(home)
        context = await portal.account.purpose(member, topic, language)
        seal = portal.shown.seal(
            visit.csrf, topic, context["words"].revision, portal.clock.now_us()
        )
        return show(request, language, visit, "purpose", here=_place(topic), seal=seal, **context)

    async def decide(request: Request, topic: Topic) -> Response:
        visit = await portal.sessions.visit(request)
        fields = await read_form(request, visit)
        member = await portal.member(request, visit)
        portal.account.purpose_of(topic)
        if member is None or fields.get("decision") not in {"given", "refused"}:
            return go_to(home)
        now_us = portal.clock.now_us()
        notice = portal.decisions.notice_in_force(topic, fields.get("revision", ""), now_us)
        shown_us = portal.shown.shown_us(
            fields.get("seal", ""), visit.csrf, topic, notice.revision, now_us
        )
        async with portal.database.unit_of_work() as work:
            recorded = await portal.decisions.decide(
                work,
                member.caller,
                member.id,
                topic,
                notice,
                allow=fields["decision"] == "given",
                shown_us=shown_us,
                now_us=now_us,
            )
            if recorded is not None:
                await portal.sessions.leave_note(work, member.session, _note(recorded))
        return go_to(home)

    @routes.get("/purposes/{purpose}")
    async def purpose_whole(request: Request, purpose: _Key) -> Response:
        return await purpose_page(request, Topic(purpose, ""))

    @routes.get("/purposes/{purpose}/{channel}")
    async def purpose_channel(request: Request, purpose: _Key, channel: _Key) -> Response:
        return await purpose_page(request, Topic(purpose, channel))

    @routes.post("/purposes/{purpose}")
    async def decide_whole(request: Request, purpose: _Key) -> Response:
        return await decide(request, Topic(purpose, ""))

    @routes.post("/purposes/{purpose}/{channel}")
    async def decide_channel(request: Request, purpose: _Key, channel: _Key) -> Response:
        return await decide(request, Topic(purpose, channel))

    # --- reading ----------------------------------------------------------------------

    @routes.get("/readers")
    async def readers(
        request: Request, before: Annotated[str | None, Query(max_length=200)] = None
    ) -> Response:
        visit = await portal.sessions.visit(request)
        member = await portal.member(request, visit)
        if member is None:
            return go_to(home)
        context = await portal.account.readers(member, language, before)
        here = "readers" if before is None else f"readers?before={before}"
        return show(request, language, visit, "readers", here=here, current="readers", **context)

    @routes.get("/words/{digest}")
    async def words(request: Request, digest: _Digest) -> Response:
        visit = await portal.sessions.visit(request)
        found = await portal.account.words(f"sha256:{digest}")
        return show(request, language, visit, "words", here=f"words/{digest}", words=found)

    @routes.get("/words/{digest}/text")
    async def exact_words(digest: _Digest) -> Response:
        text = await portal.account.exact_words(f"sha256:{digest}")
        return Response(text, 200, PAGE_HEADERS, "text/plain; charset=utf-8")

    join_routes.add_routes(routes, language, portal)
    proof_routes.add_routes(routes, language, portal)
    data_routes.add_routes(routes, language, portal)
    history_routes.add_routes(routes, language, portal)
    rights_routes.add_routes(routes, language, portal)

    @routes.api_route("/{place:path}", methods=["GET", "POST"])
    async def nowhere() -> Response:
        raise NotFoundError(reason="path_unknown")

    return routes


def _note(recorded: Recorded) -> str:
    return (UNDO if recorded.undoable else DONE) + recorded.event.id


def _place(topic: Topic) -> str:
    return f"purposes/{topic.purpose}" + (f"/{topic.channel}" if topic.channel else "")
