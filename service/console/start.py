"""The first page after signing in: what needs attention, for this role."""

from fastapi import APIRouter, Request, Response

from audit import Details, Waiting, brand_of
from dsar import OPEN
from members import PairState
from service.console.desk import Console, Desk
from service.console.places import PLACES, may_open
from service.health import readiness
from service.reviews import reviews_of

_DAYS = 7
_DAY_US = 86_400_000_000
_MOST_COUNTED = 99


def routes(console: Console) -> APIRouter:
    """Make the routes of the first page."""
    start = APIRouter()

    @start.get("/")
    async def home(request: Request) -> Response:
        desk = await console.enter(request)
        ready = await readiness(console.runtime)
        reviews = await _reviews(console, desk)
        return console.show(
            request,
            "home",
            desk,
            tasks=await _tasks(console, desk, reviews),
            overdue_reviews=reviews.overdue,
            emergencies=await _emergencies(console, desk),
            emergency_days=_DAYS,
            is_ready=ready["ready"],
            troubles=[name for name, state in ready["checks"].items() if state != "ok"],
        )

    return start


async def _emergencies(console: Console, desk: Desk) -> str:
    """Count emergency reads of the last days, for whoever may read the trail."""
    if not console.may(desk, "audit", "read"):
        return ""
    runtime = console.runtime
    details = Details(runtime.database, runtime.vault, runtime.audit)
    since_us = max(0, runtime.clock.now_us() - _DAYS * _DAY_US)
    brand = brand_of(desk.account.brand)
    async with runtime.database.read() as session:
        count = await details.count_since(session, since_us, brand=brand, most=_MOST_COUNTED)
    return f"{count}{'+' if count == _MOST_COUNTED else ''}" if count else ""


async def _reviews(console: Console, desk: Desk) -> Waiting:
    """Count emergency reads of others that nobody has looked at, for whoever may review them."""
    if not console.may(desk, "audit", "review"):
        return Waiting(0, 0)
    async with console.runtime.database.read() as session:
        return await reviews_of(console.runtime).count(
            session, desk.account.brand, but_of=desk.account.id, most=_MOST_COUNTED
        )


async def _tasks(console: Console, desk: Desk, reviews: Waiting) -> list[tuple[str, str, int]]:
    """Count what waits in each place that this account may open."""
    runtime = console.runtime
    now_us = runtime.clock.now_us()
    counts: dict[str, int] = {}
    async with runtime.database.read() as session:
        if console.may(desk, "rights_request", "read"):
            open_states = {state.value for state in OPEN}
            counted = await runtime.rights_requests.counts(session, desk.account.brand)
            counts["requests"] = sum(count for _, state, count in counted if state in open_states)
        waiting = await runtime.approvals.open(session, desk.account.brand, now_us=now_us)
        counts["approvals"] = sum(
            one.state == "waiting"
            and one.requested_by != desk.account.id
            and runtime.approvals.may(desk.account.role, desk.account.brand, one)
            for one in waiting
        )
        if console.may(desk, "duplicates", "read"):
            pairs = await runtime.duplicates.counts(session, desk.caller)
            counts["duplicates"] = pairs.get(PairState.OPEN.value, 0)
    counts["reviews"] = reviews.reads
    return [
        (key, PLACES[key].path, count)
        for key, count in counts.items()
        if may_open(runtime.access, desk.account, PLACES[key])
    ]
