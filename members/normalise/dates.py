"""Dates written in the Common Era, the Buddhist Era or the calendar of the Republic of China.

`12/5/2530`, `76/05/12` and `44927` are dates only once somebody has said in which calendar and
order they were written. The declared era decides; when it yields no possible date but another
era would, the answer is `era`, so that a person can tell a wrong declaration from a wrong date.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from enum import Enum, auto
from types import MappingProxyType
from typing import Final

from members.normalise.result import Formats, Normal, Normalised, Refused
from members.normalise.text import typed

MAX_AGE_YEARS: Final = 130
MAX_DATE_CHARS: Final = 40

_BUDDHIST_OFFSET: Final = 543  # B.E. 2484 = 1941 C.E.
_REPUBLIC_OFFSET: Final = 1911  # Minguo 1 = 1912 C.E.
_FIRST_BUDDHIST_LOOKING: Final = 2_400
# Until B.E. 2483 the Thai year began on 1 April, so January to March belonged to the year before.
_LAST_YEAR_FROM_APRIL: Final = 2_483
_FIRST_MONTH_OF_OLD_YEAR: Final = 4
_SPREADSHEET_EPOCH: Final = date(1899, 12, 30)  # serial 1 is 1900-01-01 with the 1900 leap bug


class Calendar(Enum):
    """The calendar in which a year is counted."""

    COMMON = auto()
    BUDDHIST = auto()
    REPUBLIC = auto()


class _Shape(Enum):
    YEAR_FIRST = auto()
    DAY_FIRST = auto()
    MONTH_NAME = auto()
    CJK = auto()
    COMPACT = auto()


@dataclass(frozen=True, slots=True)
class _Written:
    """A date as it stands in the cell; `calendar` is set when the cell itself names it."""

    shape: _Shape
    year: int
    month: int
    day: int
    year_digits: int
    calendar: Calendar | None = None


_MONTHS: Final[Mapping[str, int]] = MappingProxyType(
    {
        word: number
        for number, words in enumerate(
            (
                "มกราคม มกรา มค january jan",
                "กุมภาพันธ์ กุมภา กพ february feb",
                "มีนาคม มีนา มีค march mar",
                "เมษายน เมษา เมย april apr",
                "พฤษภาคม พฤษภา พค may",
                "มิถุนายน มิถุนา มิย june jun",
                "กรกฎาคม กรกฎา กค july jul",
                "สิงหาคม สิงหา สค august aug",
                "กันยายน กันยา กย september sept sep",
                "ตุลาคม ตุลา ตค october oct",
                "พฤศจิกายน พฤศจิกา พย november nov",
                "ธันวาคม ธันวา ธค december dec",
            ),
            start=1,
        )
        for word in words.split()
    }
)

_MIDNIGHT = re.compile(r"[ T]00:00(?::00(?:\.0+)?)?$")
_NUMERIC = re.compile(r"([0-9]{1,4})\s?([-/.])\s?([0-9]{1,2})\s?\2\s?([0-9]{1,4})")
_COMPACT = re.compile(r"([0-9]{2,4})([0-9]{2})([0-9]{2})")
_SERIAL = re.compile(r"[0-9]{5}(?:\.[0-9]+)?")
_CJK = re.compile(
    r"(?P<era>(?:中華)?民國|(?:中华)?民国|西元|公元)?\s?(?P<year>[0-9]{1,4})\s?年"
    r"\s?(?P<month>[0-9]{1,2})\s?月\s?(?P<day>[0-9]{1,2})\s?[日號号]?"
)
_NAMED = re.compile(r"(?:วันที่ ?)?([0-9]{1,2})([^0-9]{2,30}?)([0-9]{1,4})")
_NAMED_AMERICAN = re.compile(r"([a-z]{3,9})\.? ([0-9]{1,2}),? ([0-9]{4})", re.IGNORECASE)
_THAI_ERA = re.compile(r"([พค])\. ?ศ\.?|([พค])ศ")
_MONTH_PUNCTUATION = re.compile(r"[\s.,/\-]")

_ERA_MARKS: Final = MappingProxyType(
    {
        "พ": Calendar.BUDDHIST,
        "ค": Calendar.COMMON,
        "民": Calendar.REPUBLIC,
        "中": Calendar.REPUBLIC,
        "西": Calendar.COMMON,
        "公": Calendar.COMMON,
    }
)


def birth_date(raw: str, formats: Formats) -> Normalised:
    """Bring a birth date to ISO 8601 `YYYY-MM-DD` in the Common Era.

    Refusals: `era` (the declared calendar or day order does not fit but another would, or the
    year is a Thai one from before 1941 whose first months are ambiguous), `excel_number` (a
    serial that was not declared), `invalid` (no such day, after `formats.today`, or more than
    130 years before it).
    """
    return _judge(typed(raw), formats.date_era or "iso", formats.today)


def common_era_date(raw: str, formats: Formats) -> Normalised:
    """Bring a date that is always Common Era, such as the day of joining, to ISO 8601."""
    return _judge(typed(raw), "iso-or-dmy-month-name", formats.today)


def _judge(line: str, era: str, today: date) -> Normalised:
    if len(line) > MAX_DATE_CHARS or era not in DATE_ERAS:
        return Refused("invalid" if era in DATE_ERAS else "era")
    line = _MIDNIGHT.sub("", line) if ":" in line else line
    if _SERIAL.fullmatch(line) is not None:
        return _serial(line, today) if era == "excel-serial" else Refused("excel_number")
    written = _read(line)
    if written is None:
        return Refused("invalid")
    calendar = written.calendar or _CALENDAR_OF[era](written)
    if calendar is not None:
        found = _possible(written.year, written.month, written.day, calendar, today)
        if found is not None:
            if calendar is Calendar.BUDDHIST and _old_thai_year(written):
                return Refused("era")
            return Normal(found.isoformat())
    return Refused("era" if any(_other_readings(written, today)) else "invalid")


def _read(line: str) -> _Written | None:
    """Find day, month and year by shape alone, without deciding on a calendar."""
    if (match := _NUMERIC.fullmatch(line)) is not None:
        first, _, second, third = match.groups()
        if len(first) <= 2 < len(third):  # noqa: PLR2004 - 12/5/2530, but 76/05/12 is year first
            return _Written(_Shape.DAY_FIRST, int(third), int(second), int(first), len(third))
        if len(third) > 2:  # noqa: PLR2004 - two years and no day
            return None
        return _Written(_Shape.YEAR_FIRST, int(first), int(second), int(third), len(first))
    if (match := _COMPACT.fullmatch(line)) is not None:
        year, month, day = match.groups()
        return _Written(_Shape.COMPACT, int(year), int(month), int(day), len(year))
    if (match := _CJK.fullmatch(line)) is not None:
        mark = match["era"]
        return _Written(
            _Shape.CJK,
            int(match["year"]),
            int(match["month"]),
            int(match["day"]),
            len(match["year"]),
            _ERA_MARKS[mark[0]] if mark else None,
        )
    return _read_named(line)


def _read_named(line: str) -> _Written | None:
    if (match := _NAMED_AMERICAN.fullmatch(line)) is not None:
        word, day, year = match.groups()
        calendar = None
    elif (match := _NAMED.fullmatch(line)) is not None:
        day, word, year = match.groups()
        mark = _THAI_ERA.search(word)
        calendar = _ERA_MARKS[mark[1] or mark[2]] if mark is not None else None
        word = _THAI_ERA.sub("", word)
    else:
        return None
    month = _MONTHS.get(_MONTH_PUNCTUATION.sub("", word).casefold())
    if month is None:
        return None
    return _Written(_Shape.MONTH_NAME, int(year), month, int(day), len(year), calendar)


def _iso(written: _Written) -> Calendar | None:
    year_first = written.shape in {_Shape.YEAR_FIRST, _Shape.COMPACT}
    return Calendar.COMMON if year_first and written.year_digits == 4 else None  # noqa: PLR2004


def _named_common(written: _Written) -> Calendar | None:
    named = written.shape is _Shape.MONTH_NAME and written.year_digits == 4  # noqa: PLR2004
    return Calendar.COMMON if named else _iso(written)


def _buddhist_day_first(written: _Written) -> Calendar | None:
    day_first = written.shape in {_Shape.DAY_FIRST, _Shape.MONTH_NAME}
    return Calendar.BUDDHIST if day_first and written.year_digits == 4 else _iso(written)  # noqa: PLR2004


def _buddhist_or_iso(written: _Written) -> Calendar | None:
    calendar = _buddhist_day_first(written)
    if calendar is Calendar.COMMON and written.year >= _FIRST_BUDDHIST_LOOKING:
        return Calendar.BUDDHIST
    return calendar


def _republic_or_iso(written: _Written) -> Calendar | None:
    if written.shape in {_Shape.YEAR_FIRST, _Shape.COMPACT, _Shape.CJK}:
        return Calendar.COMMON if written.year_digits == 4 else Calendar.REPUBLIC  # noqa: PLR2004
    return None


_CALENDAR_OF: Final[Mapping[str, Callable[[_Written], Calendar | None]]] = MappingProxyType(
    {
        "iso": _iso,
        "be-or-iso": _buddhist_or_iso,
        "be-dmy": _buddhist_day_first,
        "roc-or-iso": _republic_or_iso,
        "iso-or-dmy-month-name": _named_common,
        "excel-serial": _iso,
    }
)
DATE_ERAS: Final = frozenset(_CALENDAR_OF)
"""The declarations a collector may make about its dates (docs/formats/import.md)."""


def _possible(year: int, month: int, day: int, calendar: Calendar, today: date) -> date | None:
    """Return the day if it exists, is not in the future and is within a human life."""
    if calendar is Calendar.BUDDHIST:
        year -= _BUDDHIST_OFFSET
    elif calendar is Calendar.REPUBLIC:
        year += _REPUBLIC_OFFSET
    try:
        found = date(year, month, day)
    except ValueError:
        return None
    oldest = (today.year - MAX_AGE_YEARS, today.month, today.day)
    return found if found <= today and (year, month, day) >= oldest else None


def _old_thai_year(written: _Written) -> bool:
    early = written.month < _FIRST_MONTH_OF_OLD_YEAR
    return early and written.year <= _LAST_YEAR_FROM_APRIL


def _other_readings(written: _Written, today: date) -> Iterator[date]:
    """Yield the days that some other calendar or day order would make of it."""
    orders = [(written.month, written.day)]
    if written.shape is _Shape.DAY_FIRST:
        orders.append((written.day, written.month))
    for month, day in orders:
        for calendar in Calendar:
            found = _possible(written.year, month, day, calendar, today)
            if found is not None:
                yield found


def _serial(line: str, today: date) -> Normalised:
    found = _SPREADSHEET_EPOCH + timedelta(days=int(line.partition(".")[0]))
    possible = _possible(found.year, found.month, found.day, Calendar.COMMON, today)
    return Refused("invalid") if possible is None else Normal(possible.isoformat())
