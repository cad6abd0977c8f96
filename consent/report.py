"""Consent in numbers, for who answers for it: how many stand where, and how it moves by day.

Counts and days only: no member, no id. A day is one of UTC.
"""

from dataclasses import dataclass

from consent import repository
from consent.model import Status
from kernel import ReadSession, to_date

DAY_US = 86_400_000_000
_FLOWS = (Status.GIVEN, Status.WITHDRAWN, Status.REFUSED, Status.OBJECTED)


@dataclass(frozen=True, slots=True)
class StatusCount:
    """How many members stand at one status of a purpose and channel."""

    purpose: str
    channel: str
    status: Status
    members: int


@dataclass(frozen=True, slots=True)
class DayCount:
    """How many decisions of each kind one day brought."""

    day: str
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class ConsentReport:
    """The state of all consent, and the days before it, the oldest first."""

    states: tuple[StatusCount, ...]
    days: tuple[DayCount, ...]


async def consent_report(session: ReadSession, *, now_us: int, days: int = 30) -> ConsentReport:
    """Count consent by purpose, channel and status, and decisions by day for so many days."""
    states = [StatusCount(*counted) for counted in await repository.consent_counts(session)]
    today = now_us // DAY_US
    first = today - days + 1
    found = await repository.decisions_by_day(session, since_us=first * DAY_US)
    series = [
        DayCount(
            to_date(day * DAY_US).isoformat(),
            {flow.value: found.get((day, flow.value), 0) for flow in _FLOWS},
        )
        for day in range(first, today + 1)
    ]
    ordered = sorted(states, key=lambda one: (one.purpose, one.channel, one.status))
    return ConsentReport(tuple(ordered), tuple(series))
