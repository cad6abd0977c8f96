"""Values made of digits and letters with one shape: LINE user ids and whole numbers."""

import re

from members.normalise.result import Formats, Normal, Normalised, Refused
from members.normalise.text import says_nothing, typed

_LINE_UID = re.compile(r"U[0-9A-F]{32}", re.IGNORECASE)
_WHOLE = re.compile(r"[+-]?(?:[0-9]{1,15}|[0-9]{1,3}(?:,[0-9]{3}){1,4})(?:\.0+)?")
_EXCEL_NUMBER = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+)?E[+-]?[0-9]+", re.IGNORECASE)


def line_uid(raw: str, _formats: Formats) -> Normalised:
    """Read a LINE user id: `U` and 32 hexadecimal digits, lower case (LINE Messaging API)."""
    line = typed(raw)
    if _LINE_UID.fullmatch(line) is None:
        return Refused("invalid")
    return Normal("U" + line[1:].lower())


def integer(raw: str, _formats: Formats) -> Normalised:
    """Read a whole number of at most 15 digits, thousands separated by commas or not."""
    line = typed(raw)
    if _EXCEL_NUMBER.fullmatch(line) is not None:
        return Refused("excel_number")
    if _WHOLE.fullmatch(line) is None:
        return Refused("empty" if says_nothing(line) else "invalid")
    return Normal(str(int(line.partition(".")[0].replace(",", ""))))
