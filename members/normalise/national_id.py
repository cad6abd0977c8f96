"""National identity numbers of the declared country, checked as far as the number itself allows.

The kind of number is a property of the column that somebody declared; trying one country's rule
after another would accept a mistyped number as a foreign one.
"""

import re
from functools import cache
from types import ModuleType
from typing import Final

from members.normalise.result import Formats, Normal, Normalised, Refused
from members.normalise.text import typed

_SEPARATORS = re.compile(r"[ \-\u2010-\u2015\u2212]")
_EXCEL_NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)?E[+-]?[0-9]+|[0-9]{7,}\.0+")
_THAI_ID = re.compile(r"[0-9]{13}")
_TAIWAN_ID = re.compile(r"[A-Z][1289A-D][0-9]{8}")

# Order in which the registration offices were given their codes 10 to 35; not the alphabet.
_TAIWAN_LETTERS: Final = "ABCDEFGHJKLMNPQRSTUVXYWZIO"
_TAIWAN_WEIGHTS: Final = (1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1)


def national_id(raw: str, formats: Formats) -> Normalised:
    """Bring an identity number to bare digits and capitals.

    Thailand: 13 digits (`checksum` when the last does not fit, `repeated` when one digit fills
    the first twelve). Taiwan: household and resident numbers, new and old style. Any other or
    no declared country: `country`.
    """
    line = _SEPARATORS.sub("", typed(raw)).upper()
    if _EXCEL_NUMBER.fullmatch(line) is not None:
        return Refused("excel_number")
    match (formats.id_country or "").upper():
        case "TH":
            return _thai(line)
        case "TW":
            return _taiwanese(line)
        case _:
            return Refused("country")


def _thai(line: str) -> Normalised:
    if _THAI_ID.fullmatch(line) is None:
        return Refused("invalid")
    if len(set(line[:12])) == 1:
        return Refused("repeated")
    pin = _thai_pin()
    try:
        return Normal(str(pin.validate(line)))
    except pin.InvalidChecksum:
        return Refused("checksum")
    except pin.ValidationError:
        return Refused("invalid")


def _taiwanese(line: str) -> Normalised:
    """Check letter, class and check digit; an old-style second letter counts its last digit."""
    if _TAIWAN_ID.fullmatch(line) is None:
        return Refused("invalid")
    office = 10 + _TAIWAN_LETTERS.index(line[0])
    second = line[1] if line[1].isdigit() else str(_TAIWAN_LETTERS.index(line[1]) % 10)
    digits = f"{office}{second}{line[2:]}"
    total = sum(int(d) * w for d, w in zip(digits, _TAIWAN_WEIGHTS, strict=True))
    return Normal(line) if total % 10 == 0 else Refused("checksum")


@cache
def _thai_pin() -> ModuleType:
    from stdnum.th import pin

    return pin
