"""Signing in and out of the console, one's own password, and the language of the pages."""

from fastapi import APIRouter, Request, Response

from kernel.i18n import Language
from service.console.desk import HOME, PASSWORD, SIGN_IN, Console, address_of, go_to, request_id
from service.console.places import PLACES
from service.portal.forms import read_form
from service.staff import SignedIn, staff_caller


def routes(console: Console) -> APIRouter:
    """Make the routes of the door."""
    door = APIRouter()
    staff = console.runtime.staff

    @door.get("/sign-in")
    async def sign_in_page(request: Request) -> Response:
        visit = console.visit(request)
        if visit.account is not None:
            return go_to(HOME)
        return console.show(request, "sign_in", is_faulty=False, has_ended=visit.ended, typed="")

    @door.post("/sign-in")
    async def sign_in(request: Request) -> Response:
        visit = console.visit(request)
        fields = await read_form(request, visit)
        name = fields.get("name", "")
        signed = await staff.sign_in(
            name,
            fields.get("password", ""),
            address_of(request),
            request_id(request),
            former=visit.session,
        )
        if signed is None:
            return console.show(
                request, "sign_in", status=422, is_faulty=True, has_ended=False, typed=name
            )
        language = request.query_params.get("lang")
        if signed.account.language is None and language in set(Language):
            async with console.runtime.database.unit_of_work() as work:
                caller = staff_caller(signed.account, request_id(request))
                await staff.choose_language(work, caller, signed.account, language)
        place = PASSWORD if signed.account.must_change else HOME
        return go_to(place, request, signed.token)

    @door.post("/sign-out")
    async def sign_out(request: Request) -> Response:
        await read_form(request, console.visit(request))
        desk = console.at_door(request)
        await staff.sign_out(desk.account, desk.session, desk.caller.request_id)
        return go_to(SIGN_IN)

    @door.get("/password")
    async def password_page(request: Request) -> Response:
        desk = console.at_door(request)
        return console.show(request, "password", desk, wrong=None)

    @door.post("/password")
    async def password(request: Request) -> Response:
        fields = await read_form(request, console.visit(request))
        desk = console.at_door(request)
        changed = await staff.change_password(
            desk.account,
            fields.get("old", ""),
            fields.get("new", ""),
            address_of(request),
            desk.caller.request_id,
        )
        if isinstance(changed, SignedIn):
            return go_to(HOME, request, changed.token)
        return console.show(request, "password", desk, status=422, wrong=changed)

    @door.post("/language")
    async def language(request: Request) -> Response:
        fields = await read_form(request, console.visit(request))
        desk = console.at_door(request)
        chosen, back = fields.get("lang", ""), PLACES.get(fields.get("back", ""))
        if chosen in set(Language):
            async with console.runtime.database.unit_of_work() as work:
                await staff.choose_language(work, desk.caller, desk.account, chosen)
        return go_to(HOME if back is None else HOME + back.path)

    return door
