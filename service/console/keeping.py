"""How long data and the trail are kept, by which law, and what a legal hold keeps longer.

Whoever may place a hold here keeps evidence and deletes none. Whom a hold is for is said in the
body of a form, and shown nowhere afterwards: the register of holds knows tokens only.
"""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from audit import BREAK_GLASS, EVERY_BRAND, HOLD_REASONS, Holds, HoldScope, epoch_of
from kernel import InvalidRequestError, MemberId, NotFoundError, from_rfc3339, is_id
from policies import Fact, JurisdictionCode, detail_kept_until, kept_until
from service.console.desk import HOME, Console, Desk, go_to

_PLACE = "retention"
_AUDIT, _HOLD = "audit", "hold"


def routes(console: Console) -> APIRouter:
    """Make the routes of retention and holds."""
    keeping = APIRouter()
    runtime = console.runtime
    holds = Holds(runtime.database, runtime.audit, runtime.clock)

    @keeping.get("/retention")
    async def periods(request: Request) -> Response:
        return await page(request, await console.enter(request, _PLACE))

    @keeping.post("/retention/hold")
    async def place(request: Request) -> Response:
        desk, typed = await act(request)
        try:
            await add(desk, typed)
        except InvalidRequestError:
            return await page(request, desk, status=422, fault="faulty", typed=typed)
        except NotFoundError:
            return await page(request, desk, status=404, fault="nobody", typed=typed)
        return go_to(f"{HOME}{_PLACE}")

    @keeping.post("/retention/hold/{hold}/release")
    async def release(request: Request, hold: str) -> Response:
        desk, _ = await act(request)
        async with runtime.database.unit_of_work() as work:
            await holds.release(work, desk.caller, hold)
        return go_to(f"{HOME}{_PLACE}")

    async def act(request: Request) -> tuple[Desk, dict[str, str]]:
        desk, typed = await console.act(request, _PLACE)
        if not console.may(desk, _AUDIT, _HOLD):
            await console.refuse(desk, f"{_PLACE}/{_HOLD}")
        return desk, typed

    async def add(desk: Desk, typed: Mapping[str, str]) -> None:
        said = {name: text.strip() or None for name, text in typed.items()}
        member = said.get("member")
        if member is not None and not is_id("mem", member):
            raise NotFoundError(reason="member_unknown")
        async with runtime.database.unit_of_work() as work:
            key = member and await runtime.members.pseudonym(work, MemberId(member))
            if member and not desk.sees((await runtime.members.read(work, MemberId(member))).brand):
                raise NotFoundError(reason="member_unknown")
            scope = HoldScope(said.get("from"), said.get("until"), said.get("action"), key or None)
            await holds.add(work, desk.caller, scope, said.get("reason") or "")

    async def page(
        request: Request,
        desk: Desk,
        *,
        status: int = 200,
        fault: str | None = None,
        typed: Mapping[str, str] | None = None,
    ) -> Response:
        async with runtime.database.read() as session:
            pruned_us = await runtime.audit.pruned_until(session)
        return console.show(
            request,
            "retention",
            desk,
            current=_PLACE,
            status=status,
            trail=_trail_rules(console, desk),
            classes=_classes(console, desk),
            holds=[_hold(desk, one) for one in reversed(await holds.list(desk.account.brand))],
            reasons=HOLD_REASONS,
            may_hold=console.may(desk, _AUDIT, _HOLD),
            pruned=None if pruned_us is None else desk.when(pruned_us),
            fault=fault,
            typed=typed or {},
        )

    return keeping


def _trail_rules(console: Console, desk: Desk) -> list[dict[str, Any]]:
    """Say of each rule what it is for, for how long, and when this month's events go by it."""
    pack = console.runtime.pack
    month = epoch_of(console.runtime.clock.now_us())
    details = {
        "title": console.text(desk, "retention.details"),
        "actions": (BREAK_GLASS,),
        "periods": _periods(console, desk, dict.fromkeys(pack.jurisdictions, pack.detail_lifetime)),
        "goes": detail_kept_until(pack, month),
    }
    return [
        details,
        *(
            {
                "title": rule.title.in_language(desk.language),
                "actions": rule.actions,
                "periods": _periods(console, desk, rule.period),
                "goes": kept_until(pack, rule, month),
            }
            for rule in pack.trail_rules.values()
        ),
    ]


def _classes(console: Console, desk: Desk) -> list[dict[str, Any]]:
    return [
        {
            "title": one.title.in_language(desk.language),
            "periods": _periods(console, desk, one.period),
        }
        for one in console.runtime.pack.retention_classes.values()
    ]


def _periods(
    console: Console, desk: Desk, period: Mapping[JurisdictionCode, Fact]
) -> list[dict[str, Any]]:
    return [
        {
            "jurisdiction": code,
            "text": f"{fact.value} {console.say(desk, 'unit', fact.unit or '')}".strip(),
            "source": fact.source,
            "unverified": fact.unverified,
        }
        for code, fact in period.items()
    ]


def _hold(desk: Desk, said: Mapping[str, Any]) -> dict[str, Any]:
    moments = {
        name: None if said[name] is None else desk.when(from_rfc3339(said[name]))
        for name in ("placed", "released")
    }
    first, behind = (said[name] and from_rfc3339(said[name]) for name in ("from", "until"))
    months = [first and epoch_of(first), behind and epoch_of(behind - 1)]
    is_ours = desk.account.brand in {EVERY_BRAND, said["brand"]}
    return {**said, **moments, "months": months, "is_ours": is_ours}
