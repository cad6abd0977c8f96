"""Time as a port: whoever needs the time takes a clock, so that tests can let it jump."""

import re
import time
from datetime import UTC, date, datetime
from typing import Protocol

MICROSECONDS = 1_000_000
_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII
)


class Clock(Protocol):
    """Tells the time in whole microseconds since 1970-01-01T00:00:00Z."""

    def now_us(self) -> int:
        """Give the present moment in microseconds since the epoch, UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_us(self) -> int:
        """Give the present moment in microseconds since the epoch, UTC."""
        return time.time_ns() // 1000


def to_datetime(moment_us: int) -> datetime:
    """Turn microseconds since the epoch into an aware UTC datetime."""
    return datetime.fromtimestamp(moment_us // MICROSECONDS, UTC).replace(
        microsecond=moment_us % MICROSECONDS
    )


def to_date(moment_us: int) -> date:
    """Give the UTC calendar date of a moment."""
    return to_datetime(moment_us).date()


def from_datetime(moment: datetime) -> int:
    """Turn an aware datetime into microseconds since the epoch."""
    if moment.tzinfo is None:
        raise ValueError("a moment needs its offset from UTC")
    seconds = int(moment.replace(microsecond=0).timestamp())
    return seconds * MICROSECONDS + moment.microsecond


def rfc3339(moment_us: int) -> str:
    """Write a moment as RFC 3339 with microseconds and `Z`."""
    return to_datetime(moment_us).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_rfc3339(text: str) -> int:
    """Read an RFC 3339 moment; `ValueError` when it is not one or has no offset."""
    if not _RFC3339.fullmatch(text):
        raise ValueError("not an RFC 3339 moment")
    return from_datetime(datetime.fromisoformat(text.upper()))
