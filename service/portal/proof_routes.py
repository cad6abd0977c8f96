"""Before a contact changes: where the code shall go, and the code itself.

`then` says what the member was about to do, out of a short list; it never holds what they typed.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from kernel.i18n import Language
from service.portal.parts import Portal, address_of, home_of
from service.portal.screens import go_to

_Point = Annotated[str, Path(pattern="^cp_[0-9a-z]{26}$")]
_Then = Annotated[str, Query(max_length=8)]
ADD = "add"
REMOVE = "remove"
_NEXT = {
    ADD: "data/contact",
    "phone": "data/contact?instead_of=phone",
    "email": "data/contact?instead_of=email",
    REMOVE: "data?said=may_remove",
}


def proof_place(language: Language, then: str) -> str:
    """Give the address of the page that asks for a code before a change of the contacts."""
    return f"{home_of(language)}data/proof?then={then if then in _NEXT else ADD}"


def add_routes(routes: APIRouter, language: Language, portal: Portal) -> None:
    """Add the fresh code for contacts to the routes of one language."""
    home = home_of(language)
    show = portal.screens.show

    @routes.get("/data/proof")
    async def choose(request: Request, then: _Then = ADD) -> Response:
        visit, member = await portal.visitor(request)
        if member is None:
            return go_to(home)
        points = await portal.contact_proof.points(member.session)
        details: dict[str, Any] = {
            "points": sorted(points, key=lambda one: one.id != member.session.contact_point_id),
            "then": then if then in _NEXT else ADD,
        }
        here = f"data/proof?then={details['then']}"
        return show(request, language, visit, "contact_proof", here=here, current="data", **details)

    @routes.post("/data/proof/{point}/send")
    async def send(request: Request, point: _Point) -> Response:
        member, fields = await portal.form_of_member(request)
        if member is None:
            return go_to(home)
        await portal.contact_proof.send(member.session, point, address_of(request))
        return go_to(_code_place(point, fields.get("then", "")))

    @routes.get("/data/proof/{point}")
    async def code(request: Request, point: _Point, then: _Then = ADD) -> Response:
        visit, member = await portal.visitor(request)
        if member is None:
            return go_to(home)
        wanted = then if then in _NEXT else ADD
        is_faulty = request.query_params.get("said") == "wrong"
        return show(
            request,
            language,
            visit,
            "contact_proof_code",
            here=f"data/proof/{point}?then={wanted}",
            current="data",
            point=point,
            then=wanted,
            is_faulty=is_faulty,
        )

    @routes.post("/data/proof/{point}")
    async def take(request: Request, point: _Point) -> Response:
        member, fields = await portal.form_of_member(request)
        if member is None:
            return go_to(home)
        then = fields.get("then", "")
        if not await portal.contact_proof.take(
            member.caller, member.session, point, fields.get("code", "")
        ):
            return go_to(f"{_code_place(point, then)}&said=wrong")
        return go_to(f"{home}{_NEXT.get(then, _NEXT[ADD])}")

    def _code_place(point: str, then: str) -> str:
        return f"{home}data/proof/{point}?then={then if then in _NEXT else ADD}"
