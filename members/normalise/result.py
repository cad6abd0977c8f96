"""What a normaliser answers, and what it must be told before it may answer.

A value is either brought to its one normal form or refused with a stable code. Region, era and
the issuing country of an identity number are *declared* by whoever collected the data: the same
digits are a valid mobile in two countries and a valid birthday in three calendars, so guessing
would quietly attach one person's data to another.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from types import MappingProxyType
from typing import Final

REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "empty": "there is no value",
        "invalid": "this is not a value of this kind",
        "checksum": "the check digit does not fit the other characters",
        "repeated": "one digit repeated is nobody's number",
        "region": "a national number needs the region it is dialled in",
        "country": "identity numbers of this country are not declared or not known here",
        "era": "the declared calendar or day order does not fit, another one would",
        "excel_number": "a spreadsheet turned it into a number and digits may be lost",
        "several": "there is more than one value in one cell",
        "extension": "a number behind a switchboard extension is not one person's number",
        "letters": "there are letters among the digits",
        "too_long": "it is longer than any value of this kind",
    }
)
"""Every refusal code with its meaning in words; none of them says what the value was."""


@dataclass(frozen=True, slots=True)
class Normal:
    """A value in normal form, and remarks that a person may want to see.

    The value is left out of `repr`: what is printed by mistake ends in a log.
    Remarks in use: `leading_zero` (the national prefix was missing and was put back),
    `domain_typo` (the mail domain is one letter away from a very common one).
    """

    value: str = field(repr=False)
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """A value that has no normal form; `code` is a key of `REASONS`."""

    code: str

    @property
    def message(self) -> str:
        """The reason in words; it never contains the value."""
        return REASONS[self.code]


Normalised = Normal | Refused


@dataclass(frozen=True, slots=True)
class Formats:
    """What the collector of the data declared about it.

    `phone_region` and `id_country` are ISO 3166-1 alpha-2 codes, `date_era` is one of
    `DATE_ERAS`; `None` means undeclared, and then only self-declaring forms are read (E.164,
    ISO 8601). `today` is the last day a birth date may have.
    """

    phone_region: str | None
    date_era: str | None
    id_country: str | None
    today: date
