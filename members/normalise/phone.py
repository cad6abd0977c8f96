"""Telephone numbers to E.164 (ITU-T), for the region in which they were declared to be dialled.

The digits `0912345678` are a valid mobile in Thailand and in Taiwan, so a national form without a
region is refused. What the parser behind this module would repair silently (a letter O, an
extension, a second number, a spreadsheet's float) is refused here before the parser sees it.
"""

import re
from functools import cache
from types import ModuleType
from typing import Final

from members.normalise.result import Formats, Normal, Normalised, Refused
from members.normalise.text import typed

MAX_PHONE_CHARS: Final = 80

_LABEL = re.compile(
    r"(?:เบอร์\s*)?(?:โทรศัพท์|โทร|มือถือ|เบอร์|tel(?:ephone)?|(?:mobile|cell)(?:\s*phone)?|phone"
    r"|行動電話|电话|電話|手機|手机)(?:\s*no)?[\s.:]*",
    re.IGNORECASE,
)
_EXCEL_NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)?e[+-]?[0-9]+|[0-9]{7,}\.0+", re.IGNORECASE)
_EXTENSION = re.compile(
    r"[0-9)\s](?:ต่อ|ext(?:ension)?|x|\#|分機|分机|轉|转)[\s.:]*[0-9]{1,7}\s*", re.IGNORECASE
)
_SEPARATOR = re.compile(r"[,;|/&、]|\s(?:or|and)\s|หรือ|และ|或", re.IGNORECASE)
_LONG_GROUP = re.compile(r"[0-9]{8,}")
_DIALLABLE = re.compile(r"\(?\+?[0-9()\-. ]+")
_PLAIN_REGIONS: Final = frozenset({"TH", "TW"})
_PLAIN_NATIONAL = re.compile(r"(?:\(0[0-9]{1,2}\)|0[0-9])(?:[ .\-]?[0-9]){6,9}")
_NO_PUNCTUATION = str.maketrans("", "", "() .-")
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—―−", "-"))


def phone(raw: str, formats: Formats) -> Normalised:
    """Bring a telephone number to E.164, such as `+66812345678`.

    Refusals: `region` (national form, no region declared), `several`, `extension`, `letters`,
    `excel_number`, `invalid` (also for numbers no operator could have issued). A number whose
    national prefix was lost is accepted with the remark `leading_zero`.
    """
    line = _unlabelled(typed(raw))
    if len(line) > MAX_PHONE_CHARS:
        return Refused("invalid")
    if _DIALLABLE.fullmatch(line) is None or _EXCEL_NUMBER.fullmatch(line) is not None:
        return Refused(_why_not_diallable(line))
    region = (formats.phone_region or "").upper()
    international = _international(line)
    found = _plain_mobile(line, region) or (international and _e164(international, None))
    if found:
        return Normal(found)
    if region not in _library().SUPPORTED_REGIONS:
        return Refused("invalid" if international else "region")
    found = _e164(line, region)
    if found is None:
        return Refused("several" if len(_LONG_GROUP.findall(line)) > 1 else "invalid")
    return Normal(found, _remarks(line, found, region))


def _unlabelled(line: str) -> str:
    """Drop a leading word such as `โทร.` or `Tel:` and write every dash alike."""
    if line[:1].isdigit():
        return line if line.isascii() else line.translate(_DASHES)
    label = _LABEL.match(line)
    bare = line if label is None else line[label.end() :].lstrip("' ")
    return bare.translate(_DASHES)


def _why_not_diallable(line: str) -> str:
    if _EXCEL_NUMBER.fullmatch(line) is not None:
        return "excel_number"
    digits = sum(char.isdigit() for char in line)
    if digits < 6:  # noqa: PLR2004 - fewer digits are a word or a remark, not a damaged number
        return "invalid"
    if _EXTENSION.search(line) is not None:
        return "extension"
    if _SEPARATOR.search(line) is not None:
        return "several"
    return "letters" if any(char.isalpha() for char in line) else "invalid"


def _plain_mobile(line: str, region: str) -> str | None:
    """Read the form most rows have without the parser, which takes most of an import's time.

    Only for regions where trunk prefix and mobile range leave one reading, and by the library's
    own pattern; a property test holds it equal to the library.
    """
    if region not in _PLAIN_REGIONS or _PLAIN_NATIONAL.fullmatch(line) is None:
        return None
    calling_code, mobile = _mobile_range(region)
    national = line.translate(_NO_PUNCTUATION)[1:]
    return f"+{calling_code}{national}" if mobile.fullmatch(national) is not None else None


def _international(line: str) -> str | None:
    """Return the number with its `+`, reading a leading `00` as one (ITU-T E.123)."""
    bare = line.lstrip("( ")
    if bare.startswith("+"):
        return bare
    return f"+{bare[2:]}" if bare.startswith("00") else None


def _e164(line: str, region: str | None) -> str | None:
    library = _library()
    try:
        number = library.parse(line, region)
    except library.NumberParseException:
        return None
    if not library.is_valid_number(number):
        return None
    return str(library.format_number(number, library.PhoneNumberFormat.E164))


def _remarks(line: str, found: str, region: str) -> tuple[str, ...]:
    """Say so when the national prefix was missing and the region uses one."""
    digits = "".join(char for char in line if char.isdigit())
    prefix = _library().ndd_prefix_for_region(region, strip_non_digits=True)
    if not prefix or digits.startswith(prefix) or f"+{digits}" == found:
        return ()
    return ("leading_zero",) if prefix == "0" and found.endswith(digits) else ()


@cache
def _mobile_range(region: str) -> tuple[int, re.Pattern[str]]:
    library = _library()
    plan = library.PhoneMetadata.metadata_for_region(region)
    return plan.country_code, re.compile(plan.mobile.national_number_pattern)


@cache
def _library() -> ModuleType:
    """Load the numbering plans on first use: they cost more start-up time than all else here."""
    import phonenumbers

    return phonenumbers
