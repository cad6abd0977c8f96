"""Looking a member up: an identifier in the body of a form, outlines on the page that answers.

The page has no address of its own, so nothing personal is left in a history or a log.
"""

from typing import Any

from fastapi import APIRouter, Request, Response

from disclosure import (
    PurposeNotAllowedError,
    RestrictedError,
    SearchUnavailableError,
    SelfAccess,
    SelfView,
    StaffAccess,
    StaleEpochError,
    TooManySearchesError,
    search_words,
)
from dsar import CHECKS
from kernel import InvalidRequestError, MemberId, NotFoundError, UnavailableError, to_date
from members import MemberDataError, formats
from policies import IndexKind, MaskRule, loyalty_words
from service.console.desk import Console, Desk
from service.console.handling import OPENED_AT_COUNTER, counter_choices
from service.portal.moments import year_text

_PLACE = "members"
REGIONS = ("TH", "TW", "HK", "JP", "MY", "SG", "GB", "US")
_MOST_SHOWN = 5
_LONGEST = 320
_LONGEST_NAME = 100
_MOST_NAMED = 10
_REFRESHES = 3


def staff_access(console: Console) -> StaffAccess:
    """Wire the road by which staff look members up."""
    runtime = console.runtime
    outlines = SelfAccess(
        runtime.database,
        runtime.vault,
        runtime.audit,
        runtime.pack,
        runtime.access,
        runtime.consent,
        runtime.members,
    )
    return StaffAccess(
        runtime.database,
        runtime.vault,
        runtime.audit,
        runtime.pack,
        runtime.access,
        runtime.members,
        outlines,
        runtime.search,
    )


def routes(console: Console) -> APIRouter:
    """Make the routes of the look-up."""
    lookup = APIRouter()
    access = staff_access(console)

    def page(request: Request, desk: Desk, status: int = 200, **found: Any) -> Response:
        note = desk.session.note or ""
        is_note = note.startswith(OPENED_AT_COUNTER)
        context = {
            "is_faulty": False,
            "members": None,
            "more": 0,
            "audit_id": "",
            "kind": "",
            "region": "",
            "trouble": None,
            "name": "",
            "next_cursor": None,
            "refine": False,
        }
        return console.show(
            request,
            "members",
            desk,
            current=_PLACE,
            status=status,
            kinds=[kind.value for kind in IndexKind],
            regions=REGIONS,
            may_search=console.may(desk, "audit", "read"),
            may_request=console.may(desk, "rights_request", "open"),
            may_break_glass=console.may(desk, "member", "break_glass"),
            may_search_names=console.may(desk, "member", "search"),
            rights=counter_choices(),
            checks=sorted(CHECKS),
            opened=note.removeprefix(OPENED_AT_COUNTER) if is_note else None,
            **{"kind": "", "region": "", **context, **found},
        )

    @lookup.get("/members")
    async def form(request: Request) -> Response:
        return page(request, await console.enter(request, _PLACE))

    @lookup.post("/members")
    async def find(request: Request) -> Response:
        desk, fields = await console.act(request, _PLACE)
        kind, value = fields.get("kind", ""), fields.get("value", "").strip()
        region = fields.get("region", "")
        typed: dict[str, Any] = {"kind": kind, "region": region}
        if not 0 < len(value) <= _LONGEST or region not in REGIONS:
            return page(request, desk, status=422, is_faulty=True, **typed)
        declared = formats(region, None, None, to_date(console.runtime.clock.now_us()))
        try:
            found = await access.find(desk.caller, kind, value, declared)
        except MemberDataError:
            return page(request, desk, status=422, is_faulty=True, **typed)
        members = [
            shown(console, desk, one, await outline(console, access, desk, one))
            for one in found.members[:_MOST_SHOWN]
        ]
        return page(
            request,
            desk,
            members=members,
            more=len(found.members) - len(members),
            audit_id=found.audit_id,
            **typed,
        )

    @lookup.post("/members/names")
    async def find_by_name(request: Request) -> Response:
        desk, fields = await console.act(request, _PLACE)
        name = fields.get("name", "").strip()[:_LONGEST_NAME]
        try:
            found = await access.find_by_name(
                desk.caller,
                search_words(name, pointer="/name"),
                cursor=fields.get("cursor") or None,
                most=_MOST_NAMED,
            )
        except (InvalidRequestError, SearchUnavailableError, TooManySearchesError) as error:
            reason = error.reason or "cursor"
            return page(request, desk, status=error.status, trouble=reason, name=name)
        members = [
            shown(console, desk, one, view)
            for one in found.members
            if (view := await outline_if_open(console, access, desk, one)) is not None
        ]
        return page(
            request,
            desk,
            members=members,
            audit_id=found.audit_id,
            name=name,
            next_cursor=found.next_cursor,
            refine=found.refine,
        )

    return lookup


async def outline_if_open(
    console: Console, access: StaffAccess, desk: Desk, member_id: MemberId
) -> SelfView | None:
    """Show a member whom a search proposed; None when they may not be shown any more."""
    try:
        return await outline(console, access, desk, member_id)
    except (NotFoundError, RestrictedError, PurposeNotAllowedError):
        return None


async def outline(
    console: Console, access: StaffAccess, desk: Desk, member_id: MemberId
) -> SelfView:
    """Show what is held about a member under the epochs of now."""
    keeper = console.runtime.gatekeeper
    for _ in range(_REFRESHES):
        try:
            return await access.outline(desk.caller, member_id, keeper.epochs())
        except StaleEpochError:
            await keeper.refresh()
    raise UnavailableError("clients and policies are changing", reason="epochs_moving")


def shown(console: Console, desk: Desk, member_id: MemberId, view: SelfView) -> dict[str, Any]:
    """Prepare one member's outlines for a page."""
    values = []
    for value in view.values:
        text: str | None = loyalty_words(
            console.runtime.pack.loyalty, value.field.key, value.outline, desk.language
        )
        if value.field.mask is MaskRule.FULL:
            text = None
        elif value.field.mask is MaskRule.YEAR and value.outline.isdecimal():
            text = year_text(int(value.outline), desk.language)
        source = value.source.partition(":")[0]
        values.append(
            {
                "title": value.field.title.in_language(desk.language),
                "outline": text,
                "source": console.say(desk, "source", source),
                "collected": desk.when(value.collected_us),
            }
        )
    return {"id": member_id, "values": values, "audit_id": view.audit_id}
