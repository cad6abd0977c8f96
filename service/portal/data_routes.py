"""What we hold, in full view: corrections field by field, and the contacts."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from kernel.i18n import Language
from policies import AgeTier, FieldKind
from service.claims import CODE_TRIES
from service.portal.account import Member
from service.portal.forms import read_form
from service.portal.parts import Portal, address_of, home_of
from service.portal.proof_routes import ADD, REMOVE, proof_place
from service.portal.proving import CONTACTS
from service.portal.screens import go_to
from service.portal.sessions import Visit

_Key = Annotated[str, Path(max_length=64)]
_Point = Annotated[str, Path(pattern="^cp_[0-9a-z]{26}$")]
_FIELDS = ("value", "day", "month", "year")


def add_routes(routes: APIRouter, language: Language, portal: Portal) -> None:
    """Add the member's own data to the routes of one language."""
    home = home_of(language)
    show = portal.screens.show

    @routes.get("/data")
    async def data(request: Request) -> Response:
        visit, member = await portal.visitor(request)
        if member is None:
            return go_to(home)
        context = await portal.account.data(
            member, language, portal.corrections, await portal.contacts.ways(member.id)
        )
        said = portal.screens.said(request)
        return show(
            request, language, visit, "data", here="data", current="data", said=said, **context
        )

    # --- corrections ------------------------------------------------------------------

    def correction_page(
        request: Request,
        visit: Visit,
        member: Member,
        key: str,
        typed: dict[str, str],
        fault: str,
    ) -> Response:
        field = portal.corrections.field(key, member.caller, AgeTier(member.gate.age_tier))
        return show(
            request,
            language,
            visit,
            "correct",
            here=f"data/{key}",
            current="data",
            status=422 if fault else 200,
            key=key,
            title=field.title.in_language(language),
            kind=field.kind.value,
            is_date=field.kind is FieldKind.DATE,
            typed={name: typed.get(name, "") for name in _FIELDS},
            fault=fault,
        )

    @routes.get("/data/contact")
    async def new_contact(request: Request, instead_of: str | None = None) -> Response:
        visit, member = await portal.visitor(request)
        if member is None:
            return go_to(home)
        if not portal.sessions.is_proven(member.session, CONTACTS):
            return go_to(proof_place(language, instead_of or ADD))
        return contact_page(request, visit, instead_of, "", "")

    @routes.get("/data/contact/code")
    async def contact_code(request: Request) -> Response:
        visit, member = await portal.visitor(request)
        claim = None if member is None else await portal.contacts.waiting(member.id)
        if claim is None:
            return go_to(f"{home}data")
        return show(
            request,
            language,
            visit,
            "code",
            here="data/contact/code",
            current="data",
            say="contact_code",
            place="data/contact/code",
            back="data",
            tries=claim.attempts,
            tries_left=CODE_TRIES - claim.attempts,
            is_new_code=portal.screens.said(request) == "new_code",
        )

    @routes.get("/data/{key}")
    async def correction(request: Request, key: _Key) -> Response:
        visit, member = await portal.visitor(request)
        if member is None:
            return go_to(home)
        return correction_page(request, visit, member, key, {}, "")

    # --- contacts ---------------------------------------------------------------------

    def contact_page(
        request: Request, visit: Visit, slot: str | None, typed: str, fault: str
    ) -> Response:
        replaced = slot if slot in {"phone", "email"} else ""
        details: dict[str, Any] = {"slot": replaced, "typed": typed, "fault": fault}
        here = f"data/contact?instead_of={replaced}" if replaced else "data/contact"
        return show(
            request,
            language,
            visit,
            "contact",
            here=here,
            current="data",
            status=422 if fault else 200,
            **details,
        )

    @routes.post("/data/contact")
    async def propose(request: Request) -> Response:
        visit = await portal.sessions.visit(request)
        fields = await read_form(request, visit)
        member = await portal.member(request, visit)
        if member is None:
            return go_to(home)
        typed, slot = fields.get("contact", ""), fields.get("instead_of") or None
        if not portal.sessions.is_proven(member.session, CONTACTS):
            return go_to(proof_place(language, slot or ADD))
        fault = await portal.contacts.propose(
            member.caller, member.session, typed, slot, address_of(request)
        )
        if fault is not None:
            return contact_page(request, visit, slot, typed, fault)
        return go_to(f"{home}data/contact/code")

    @routes.post("/data/contact/code")
    async def prove(request: Request) -> Response:
        member, fields = await portal.form_of_member(request)
        claim = None if member is None else await portal.contacts.waiting(member.id)
        if member is None or claim is None:
            return go_to(f"{home}data")
        proven = await portal.contacts.prove(
            member.caller, member.session, claim, fields.get("code", "")
        )
        return go_to(f"{home}data?said=proven" if proven else f"{home}data/contact/code")

    @routes.post("/data/contact/code/new")
    async def new_contact_code(request: Request) -> Response:
        member, _ = await portal.form_of_member(request)
        claim = None if member is None else await portal.contacts.waiting(member.id)
        if claim is None:
            return go_to(f"{home}data")
        await portal.contacts.new_code(claim, address_of(request))
        return go_to(f"{home}data/contact/code?said=new_code")

    @routes.post("/data/contact/{point}/remove")
    async def remove(request: Request, point: _Point) -> Response:
        member, _ = await portal.form_of_member(request)
        if member is None:
            return go_to(home)
        if not portal.sessions.is_proven(member.session, CONTACTS):
            return go_to(proof_place(language, REMOVE))
        await portal.contacts.remove(member.caller, member.session, point)
        return go_to(f"{home}data?said=removed")

    @routes.post("/data/{key}")
    async def correct(request: Request, key: _Key) -> Response:
        visit = await portal.sessions.visit(request)
        fields = await read_form(request, visit)
        member = await portal.member(request, visit)
        if member is None:
            return go_to(home)
        field = portal.corrections.field(key, member.caller, AgeTier(member.gate.age_tier))
        async with portal.database.unit_of_work() as work:
            fault = await portal.corrections.correct(
                work,
                member.caller,
                member.id,
                field,
                fields,
                language,
                now_us=portal.clock.now_us(),
            )
        if fault is not None:
            return correction_page(request, visit, member, key, fields, fault)
        return go_to(f"{home}data?said=corrected")
