"""When a rights request has to be answered: pure dates from the numbers of the policy pack.

Two days come out. `safe_due` is the last day without any relief: no rolling over weekends and
holidays, which differ from place to place. Alarms go by it. `legal_due` is the day the law
itself names, rolled to the next working day where it says so, for information.

A number that was never checked against its source makes the whole answer `unverified`; a
jurisdiction without holiday data says `weekends_only`. Sources: PDPA s.30 and the PDPC
Notifications, GDPR art. 12(3) with Regulation 1182/71, TW art. 13 with the Civil Code 120-122.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from dsar.model import Right
from kernel import to_datetime
from policies import Fact, Jurisdiction, period_end

# Which numbers of [dsar.*] speak of a right, the most special first.
_CLOCKS: Mapping[Right, tuple[str, ...]] = {
    Right.ACCESS: ("access", "all_rights"),
    Right.PORTABILITY: ("portability", "all_rights", "access"),
    Right.RECTIFICATION: ("rectification", "correction", "rectify_stop_erase", "all_rights"),
    Right.ERASURE: ("erasure", "rectify_stop_erase", "all_rights"),
    Right.RESTRICTION: ("restriction", "rectify_stop_erase", "all_rights"),
    Right.OBJECTION: (
        "objection",
        "objection_marketing",
        "marketing_refusal",
        "rectify_stop_erase",
        "all_rights",
    ),
}
_EXTENSIONS = {"all_rights": "ext"}
_IMMEDIATE = "immediate"
_LATEST_OF_ALL = "latest_of_request_id_fee"
_SATURDAY = 5
_SUNDAY = 6
_DAY = timedelta(days=1)


class NoClockError(ValueError):
    """The pack has no number for this right, or none for extending it."""


@dataclass(frozen=True, slots=True)
class Targets:
    """How soon the house itself wants to answer, in days: its own choice, never a law's."""

    access_days: int
    other_days: int

    def of(self, right: Right) -> int:
        """Give the days for one right."""
        return self.access_days if right in {Right.ACCESS, Right.PORTABILITY} else self.other_days


@dataclass(frozen=True, slots=True)
class Clock:
    """The law's numbers for one right in one jurisdiction."""

    right: Right
    jurisdiction: str
    period: Fact
    extension: Fact | None
    acknowledgement: Fact | None
    pause: Fact | None
    calendar: Fact
    holidays: Fact | None

    @property
    def unverified(self) -> bool:
        """Tell whether any number used here was never checked against its source."""
        facts = (self.period, self.extension, self.calendar, self.holidays)
        return any(fact.unverified for fact in facts if fact is not None)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """The days of one request, in the jurisdiction's calendar."""

    begins: date
    safe_due: date
    legal_due: date
    target: date
    acknowledge_due: date | None
    weekends_only: bool
    unverified: bool
    law: str


def clock_of(rules: Jurisdiction, right: Right) -> Clock:
    """Find the numbers for a right.

    Raises:
        NoClockError: the jurisdiction's file has no period for it.
    """
    for key in _CLOCKS[right]:
        period = rules.dsar.get(key)
        if period is not None and isinstance(period.value, int):
            return Clock(
                right,
                rules.code,
                period,
                rules.dsar.get(_EXTENSIONS.get(key, f"{key}_ext")),
                rules.dsar.get("acknowledge"),
                rules.dsar.get("pause"),
                rules.calendar,
                rules.holidays,
            )
    raise NoClockError(f"the pack has no period for {right.value} in {rules.code}")


def deadlines(
    clock: Clock,
    received: date,
    targets: Targets,
    *,
    identified: date | None = None,
    extended: bool = False,
    paused_days: int = 0,
) -> Deadlines:
    """Give the days of a request.

    Args:
        clock: The law's numbers.
        received: The day it came in, in the jurisdiction's calendar.
        targets: The house's own pace.
        identified: The day identity was proven; it moves the beginning only where the law
            counts from it (UK art. 12A).
        extended: Whether the period was extended.
        paused_days: Days for which the clock stood still (see `counted_pause`).

    Raises:
        NoClockError: extended, and the law knows no extension.
    """
    begins = received
    if clock.period.start == _LATEST_OF_ALL and identified is not None:
        begins = max(received, identified)
    safe = _last_day(clock, begins, extended=extended)
    if clock.period.unit != _IMMEDIATE:
        safe += timedelta(days=paused_days)
    target = min(safe, received + timedelta(days=targets.of(clock.right) + paused_days))
    return Deadlines(
        begins=begins,
        safe_due=safe,
        legal_due=_rolled(clock, safe),
        target=max(target, received),
        acknowledge_due=None
        if clock.acknowledgement is None
        else period_end(clock.acknowledgement, received),
        weekends_only=clock.holidays is None,
        unverified=clock.unverified,
        law=clock.period.source,
    )


def counted_pause(clock: Clock, paused: date, resumed: date) -> int:
    """Give the days that a pause adds: none where the law does not let the clock stop."""
    if clock.pause is None:
        return 0
    return max(0, (resumed - paused).days)


def local_day(clock: Clock, moment_us: int) -> date:
    """Give the day of a moment in the jurisdiction's own calendar."""
    return to_datetime(moment_us).astimezone(_zone(clock)).date()


def end_of_day_us(clock: Clock, day: date) -> int:
    """Give the moment (µs) at which a day has ended in the jurisdiction."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=_zone(clock)) + _DAY
    return int(midnight.timestamp()) * 1_000_000


def is_working_day(clock: Clock, day: date) -> bool:
    """Say whether a day is neither on a weekend nor among the holidays the pack knows."""
    return day.weekday() not in {_SATURDAY, _SUNDAY} and not _is_holiday(clock.holidays, day)


def _last_day(clock: Clock, begins: date, *, extended: bool) -> date:
    period = clock.period
    if not extended:
        return _after(clock, period, begins)
    extension = clock.extension
    if extension is None or not isinstance(extension.value, int):
        raise NoClockError("the law knows no extension of this period")
    if isinstance(period.value, int) and period.unit == extension.unit:
        # One month and two more are three months from the beginning: the month's end is
        # looked for once (Regulation 1182/71 art. 3(2)(c)).
        both = Fact(
            period.value + extension.value,
            period.unit,
            extension.source,
            extension.status,
            extension.evidence,
            period.start,
            None,
            None,
            None,
            {},
        )
        return _after(clock, both, begins)
    return _after(clock, extension, _after(clock, period, begins))


def _after(clock: Clock, period: Fact, begins: date) -> date:
    if period.unit == _IMMEDIATE:
        return begins
    if period.unit == "business_days" and isinstance(period.value, int):
        return _working_days_after(clock, begins, period.value)
    day = period_end(period, begins)
    return day - _DAY if clock.calendar.conditions.get("first_day_counts") is True else day


def _working_days_after(clock: Clock, begins: date, count: int) -> date:
    day = begins
    for day in _working_days(clock, begins):  # noqa: B007 (the last one is the answer)
        count -= 1
        if count <= 0:
            break
    return day


def _working_days(clock: Clock, after: date) -> Iterator[date]:
    day = after
    while True:
        day += _DAY
        if is_working_day(clock, day):
            yield day


def _rolled(clock: Clock, day: date) -> date:
    if clock.calendar.value != "next_working_day" or clock.period.unit == _IMMEDIATE:
        return day
    return day if is_working_day(clock, day) else next(_working_days(clock, day))


def _is_holiday(holidays: Fact | None, day: date) -> bool:
    """Holidays are listed as `MM-DD`, every year, or as one day `YYYY-MM-DD`."""
    listed = () if holidays is None else holidays.value
    return isinstance(listed, tuple) and (
        day.isoformat() in listed or day.isoformat()[5:] in listed
    )


def _zone(clock: Clock) -> ZoneInfo:
    """Give the jurisdiction's time zone; without one UTC, whose day never begins earlier there.

    That the pack's zones are known is checked by the tests of this room.
    """
    zone = clock.calendar.conditions.get("tz")
    return ZoneInfo(zone if isinstance(zone, str) else "UTC")
