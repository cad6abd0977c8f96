"""Moments as members read them: by the clock and calendar of where they live.

Thailand and Taiwan keep one offset the whole year. Elsewhere a jurisdiction is not one place, so
its members read UTC, and the page says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, timedelta, timezone, tzinfo

from kernel import rfc3339, to_datetime
from kernel.i18n import Language, format_date

_BUDDHIST_OFFSET = 543
_ROC_OFFSET = 1911
_OFFSET_HOURS: Mapping[str, int] = {"TH": 7, "TW": 8}


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment for a page: machine-readable in UTC, day and time of day for people."""

    iso: str
    day: str
    time: str


def zone_of(jurisdiction: str) -> tzinfo:
    """Give the clock that members of a jurisdiction live by."""
    hours = _OFFSET_HOURS.get(jurisdiction)
    return UTC if hours is None else timezone(timedelta(hours=hours))


def zone_name(jurisdiction: str) -> str:
    """Name the clock, such as `UTC+7`."""
    hours = _OFFSET_HOURS.get(jurisdiction)
    return "UTC" if hours is None else f"UTC+{hours}"


def moment(at_us: int, zone: tzinfo, language: Language) -> Moment:
    """Write a moment in microseconds since the epoch for readers of a language."""
    local = to_datetime(at_us).astimezone(zone)
    return Moment(rfc3339(at_us), format_date(local.date(), language), f"{local:%H:%M}")


def year_text(year: int, language: Language) -> str:
    """Write a year of the common era as readers of a language count it."""
    if language is Language.ZH_HANT:
        return f"民國{year - _ROC_OFFSET}年" if year > _ROC_OFFSET else f"西元{year}年"
    return str(year + _BUDDHIST_OFFSET) if language is Language.TH else str(year)
