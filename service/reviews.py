"""Wires reviews of emergency reads to the pack, which says when one is overdue, and to the staff.

The command line shows what waits and reviews nothing: it is nobody, and a review is somebody's.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

from audit import EVERY_BRAND, Reviews, ToReview
from kernel import rfc3339, to_datetime
from policies import PolicyPack, review_overdue_from
from service.runtime import Runtime
from service.staff import TwoPersons
from service.tasks import system_caller

Progress = Callable[[int, int], None]
_MOST = 500
_EPOCH_DAY = to_datetime(0).date()
_DAY_US = timedelta(days=1) // timedelta(microseconds=1)


def reviews_of(runtime: Runtime) -> Reviews:
    """Make the reviews of a registry."""
    return Reviews(runtime.audit, TwoPersons(), _due_us(runtime.pack))


def _due_us(pack: PolicyPack) -> Callable[[int], int]:
    def due_us(read_us: int) -> int:
        day = review_overdue_from(pack, to_datetime(read_us).date())
        return (day - _EPOCH_DAY).days * _DAY_US

    return due_us


async def audit_reviews(
    runtime: Runtime, _progress: Progress, *, after: str | None
) -> dict[str, Any]:
    """List emergency reads that no second person has looked at, and put that on record."""
    reviews, caller = reviews_of(runtime), system_caller("cli")
    async with runtime.database.unit_of_work() as work:
        await reviews.record_search(work, caller)
    async with runtime.database.read() as session:
        found = await reviews.waiting(session, EVERY_BRAND, after=after, most=_MOST + 1)
    now_us = runtime.clock.now_us()
    fact = runtime.pack.emergency_review
    return {
        "reviews": [_said(one, now_us) for one in found[:_MOST]],
        "overdue": sum(one.due_us <= now_us for one in found[:_MOST]),
        "next": found[_MOST - 1].event["id"] if len(found) > _MOST else None,
        "within": {
            "value": fact.value,
            "unit": fact.unit,
            "source": fact.source,
            "status": fact.status.value,
            "unverified": fact.unverified,
        },
    }


def _said(one: ToReview, now_us: int) -> dict[str, Any]:
    body = one.event
    return {
        "event": body["id"],
        "at": body["ts"],
        "actor": body["actor"]["id"],
        "role": body["actor"]["role"],
        "brand": body.get("brand"),
        "reason": body.get("reason"),
        "fields": list(body.get("fields", ())),
        "justification_kept": one.sealed,
        "overdue_from": rfc3339(one.due_us),
        "overdue": one.due_us <= now_us,
    }


REVIEW_COMMANDS: Mapping[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "audit.reviews": audit_reviews
}
