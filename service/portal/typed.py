"""What people type into the portal's forms, read before any room sees it. Pure.

Digits come as their keyboard gives them: Thai, full-width, spaced. A year says by its size which
calendar it is counted in, because the calendars of our readers do not overlap in a lifetime;
where they would, nothing is guessed.
"""

import unicodedata
from dataclasses import dataclass
from datetime import date

from kernel import FieldProblem
from kernel.i18n import Language
from members import Formats
from policies import ContactKind

_LEAST_PHONE_DIGITS = 7
_FIRST_BUDDHIST_YEAR = 2_400
_FULL_YEAR_DIGITS = 4
_DATE_PARTS = ("day", "month", "year")
LONGEST_TYPED = 320


@dataclass(frozen=True, slots=True)
class TypedDate:
    """A date as text, and the era that reads it; empty when nothing was typed."""

    text: str
    era: str


def contact_kind(typed: str) -> ContactKind | None:
    """Tell an e-mail address from a phone number; None when it can be neither."""
    local, at, domain = typed.strip().partition("@")
    if at:
        return ContactKind.EMAIL if local and domain else None
    digits = sum(letter.isdigit() for letter in typed)
    return ContactKind.PHONE if digits >= _LEAST_PHONE_DIGITS else None


def typed_code(typed: str) -> str:
    """Read a code as people type it: with spaces, dashes, full-width or Thai digits."""
    digits = (unicodedata.decimal(letter, None) for letter in typed)
    return "".join(str(digit) for digit in digits if digit is not None)


def typed_date(fields: dict[str, str], language: Language) -> TypedDate:
    """Read day, month and year from their three fields.

    Years from 2400 on are Buddhist; up to three digits are years of the Republic of China on
    Chinese pages; anything else is of the common era. What is no date stays unreadable text, so
    that the members room refuses it.
    """
    day, month, year = (typed_code(fields.get(part, "")) for part in _DATE_PARTS)
    if not any(fields.get(part, "").strip() for part in _DATE_PARTS):
        return TypedDate("", "iso")
    if not (day and month and year) or len(day) > 2 or len(month) > 2:  # noqa: PLR2004 (digits)
        return TypedDate("?", "iso")
    if len(year) < _FULL_YEAR_DIGITS:
        republic = language is Language.ZH_HANT
        return (
            TypedDate(f"{year}/{month}/{day}", "roc-or-iso") if republic else TypedDate("?", "iso")
        )
    if int(year) >= _FIRST_BUDDHIST_YEAR:
        return TypedDate(f"{day}/{month}/{year}", "be-dmy")
    return TypedDate(f"{year}-{month:0>2}-{day:0>2}", "iso")


def declared_formats(region: str | None, era: str, today: date) -> Formats:
    """Declare how a form's values are written."""
    return Formats(region, era, region, today)


def faults(problems: tuple[FieldProblem, ...]) -> dict[str, str]:
    """Give the fault of each field by its name: the last step of the pointer, and the code."""
    return {problem.pointer.rpartition("/")[2]: problem.code for problem in problems}
