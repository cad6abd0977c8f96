"""Break-glass at the console: a form that asks why, and a page that shows one member's fields once.

Both answer forms and have no address of their own: whoever loads the page again opens the fields
again, as another event and another of the day's few. What was typed goes back to whoever typed it
and is kept, sealed, only when the fields were opened.
"""

from typing import Any

from fastapi import APIRouter, Request, Response

from disclosure import (
    LEAST_WORDS,
    MOST_WORDS,
    CopiedValue,
    Emergency,
    EmergencyAccess,
    EmergencyRefusedError,
    EmergencyView,
    StaleEpochError,
)
from kernel import InvalidRequestError, MemberId, UnavailableError
from policies import loyalty_words
from service.console.desk import Console, Desk

_PLACE = "members"
_FIELD = "field."
_REFRESHES = 3


def emergency_access(console: Console) -> EmergencyAccess:
    """Wire the road by which officers open one member in an emergency."""
    runtime = console.runtime
    return EmergencyAccess(
        runtime.database,
        runtime.vault,
        runtime.audit,
        runtime.pack,
        runtime.access,
        runtime.consent,
        runtime.members,
        a_day=runtime.settings.emergency.reads_a_day,
    )


def routes(console: Console) -> APIRouter:
    """Make the routes of the emergency."""
    pages = APIRouter()
    access = emergency_access(console)

    def form(
        request: Request, desk: Desk, fields: dict[str, str], status: int = 200, **told: Any
    ) -> Response:
        context: dict[str, Any] = {"faults": (), "refused": None, "audit_id": None, **told}
        reasons = console.runtime.pack.emergency_reasons
        return console.show(
            request,
            "emergency",
            desk,
            current=_PLACE,
            status=status,
            member=fields.get("member", ""),
            fields=[
                (one.key, one.title.in_language(desk.language), _FIELD + one.key in fields)
                for one in access.fields(desk.caller)
            ],
            reasons=[(key, words.in_language(desk.language)) for key, words in reasons.items()],
            reason=fields.get("reason", ""),
            justification=fields.get("justification", ""),
            least=LEAST_WORDS,
            most=MOST_WORDS,
            a_day=console.runtime.settings.emergency.reads_a_day,
            **context,
        )

    @pages.post("/members/emergency")
    async def ask(request: Request) -> Response:
        desk, fields = await console.act(request, _PLACE)
        if not access.may(desk.caller):
            await console.refuse(desk, "emergency")
        return form(request, desk, {"member": fields.get("member", "")})

    @pages.post("/members/emergency/open")
    async def open_fields(request: Request) -> Response:
        desk, fields = await console.act(request, _PLACE)
        member = MemberId(fields.get("member", ""))
        asked = Emergency(
            tuple(name.removeprefix(_FIELD) for name in fields if name.startswith(_FIELD)),
            fields.get("reason", ""),
            fields.get("justification", "").replace("\r\n", "\n"),
        )
        try:
            view = await _opened(console, access, desk, member, asked)
        except InvalidRequestError as error:
            faults = [problem.pointer.removeprefix("/") for problem in error.errors]
            return form(request, desk, fields, error.status, faults=faults)
        except EmergencyRefusedError as error:
            told = {"refused": error.reason, "audit_id": error.audit_id}
            return form(request, desk, fields, error.status, **told)
        return console.show(
            request,
            "emergency_opened",
            desk,
            current=_PLACE,
            member=member,
            values=[_shown(console, desk, value) for value in view.values],
            audit_id=view.audit_id,
        )

    return pages


async def _opened(
    console: Console, access: EmergencyAccess, desk: Desk, member: MemberId, asked: Emergency
) -> EmergencyView:
    """Open the fields under the epochs of now."""
    keeper = console.runtime.gatekeeper
    for _ in range(_REFRESHES):
        try:
            return await access.open(desk.caller, member, asked, keeper.epochs())
        except StaleEpochError:
            await keeper.refresh()
    raise UnavailableError("clients and policies are changing", reason="epochs_moving")


def _shown(console: Console, desk: Desk, value: CopiedValue) -> dict[str, str]:
    return {
        "title": value.field.title.in_language(desk.language),
        "text": loyalty_words(
            console.runtime.pack.loyalty, value.field.key, value.value, desk.language
        ),
    }
