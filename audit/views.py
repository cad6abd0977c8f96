"""Saved views of the trail: the questions an auditor asks every week, asked in one word.

A view is a filter like any other, and what it finds are events. Two of them need more than the
event: opening hours, and a number of members that nobody reads in a day for good reasons. Both
come from the settings of the house and are no law's numbers.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Any, Literal, get_args

Body = Mapping[str, Any]
Period = tuple[int, int]
Periods = Callable[[int], Iterator[Period]]
"""Gives stretches of time (from, until; µs) before a moment, the latest first, none touching."""

CHANGE_READ = "change.read"
"""The action of telling a client what changed for members it knows."""
SUPPRESSION_READ = "suppression.read"
"""The action of telling a client which members it must not contact."""
FEED_READS = (CHANGE_READ, SUPPRESSION_READ)
BULK_READS = ("audience.export", *FEED_READS)
"""Actions that hand out data of many members at once."""
CLIENT_READS = ("member.view", "audience.export")
"""Actions by which a client is shown data of one member, singly or among many."""
BREAK_GLASS = "member.break_glass"
"""The action of reading one member in full because of an emergency."""
READS = (
    "member.view",
    BREAK_GLASS,
    "member.view_staff",
    "member.lookup",
    "member.match_read",
    "member.merge_read",
    "member.search",
    *BULK_READS,
)
"""Actions that show data of members to somebody else than the member."""
ViewKey = Literal["denied", "bulk", "after-hours", "break-glass", "no-consent", "many-members"]
VIEW_KEYS: tuple[str, ...] = get_args(ViewKey)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_HANDS = frozenset({"console", "cli"})
_CONSENT = "consent"


@dataclass(frozen=True, slots=True)
class SavedView:
    """What one view keeps: by decision and action, by the body, by the time of day, by numbers.

    `over` is for a view of actors: it finds the event with which an actor read data of more than
    so many members in one of `periods`, one event for each actor and period.
    """

    key: str
    decision: str | None = None
    actions: tuple[str, ...] = ()
    keeps: Callable[[Body], bool] | None = None
    periods: Periods | None = None
    over: int | None = None


@dataclass(frozen=True, slots=True)
class OpeningHours:
    """When the house works: from an hour until another, on some days of the week (Monday is 1)."""

    opens: time
    closes: time
    days: frozenset[int]
    zone: tzinfo

    @classmethod
    def parse(cls, hours: str, days: tuple[int, ...], zone: tzinfo) -> "OpeningHours":
        """Read `08:00-20:00`; `ValueError` when the house would close before it opens."""
        opens, closes = (time.fromisoformat(part) for part in hours.split("-"))
        if not opens < closes:
            raise ValueError(hours)
        return cls(opens, closes, frozenset(days), zone)

    def closed_before(self, moment_us: int) -> Iterator[Period]:
        """Give the times when it was closed before a moment, the latest first."""
        until = moment_us
        day = self._local(moment_us)
        while True:
            if day.isoweekday() in self.days:
                opens = _us(datetime.combine(day, self.opens, self.zone))
                closes = _us(datetime.combine(day, self.closes, self.zone))
                if closes < until:
                    yield closes, until
                until = min(until, opens)
            if until <= 0 or not self.days:
                break
            day -= timedelta(days=1)
        yield 0, max(until, 0)

    def days_before(self, moment_us: int) -> Iterator[Period]:
        """Give the days of the calendar before a moment, that of the moment first and whole."""
        day = self._local(moment_us)
        until = _us(datetime.combine(day + timedelta(days=1), time(), self.zone))
        while until > 0:
            begins = _us(datetime.combine(day, time(), self.zone))
            yield begins, until
            until, day = begins, day - timedelta(days=1)

    def _local(self, moment_us: int) -> Any:
        return (_EPOCH + timedelta(microseconds=moment_us)).astimezone(self.zone).date()


def saved_views(hours: OpeningHours, members_a_day: int) -> Mapping[str, SavedView]:
    """Make the views of a house, in the order in which they are shown."""
    views = (
        SavedView("denied", decision="deny"),
        SavedView("bulk", decision="allow", actions=BULK_READS),
        SavedView(
            "after-hours",
            decision="allow",
            actions=READS,
            keeps=_by_hand,
            periods=hours.closed_before,
        ),
        SavedView("break-glass", actions=(BREAK_GLASS,)),
        SavedView("no-consent", decision="allow", actions=READS, keeps=_on_another_basis),
        SavedView(
            "many-members",
            decision="allow",
            actions=READS,
            periods=hours.days_before,
            over=members_a_day,
        ),
    )
    return {view.key: view for view in views}


def _by_hand(body: Body) -> bool:
    """A person did it: apps work through the night, and are meant to."""
    return body["actor"]["via"] in _HANDS


def _on_another_basis(body: Body) -> bool:
    basis = body.get("legal_basis")
    return basis is not None and basis != _CONSENT


def _us(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND
