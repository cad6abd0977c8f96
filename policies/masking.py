"""How a value looks to somebody who may see only its outline.

A clerk at the till must be able to tell two members apart without learning a number worth
copying. Every rule also hides the length of what it hides, and a value too
short for its rule is hidden whole (masking is a duty in Taiwan's retail rule, art. 10).
"""

import re
from collections.abc import Callable, Mapping

from policies.model import MaskRule

HIDDEN = "•••"

_ISO_DATE = re.compile(r"(\d{4})-\d{2}-\d{2}")
_TRUNKS = (("+66", "0"), ("+886", "0"), ("+44", "0"))
_PHONE_HEAD, _PHONE_TAIL, _PHONE_LEAST = 3, 4, 9
_HEAD, _TAIL = 2, 4


def mask(rule: MaskRule, value: str) -> str:
    """Show the outline of a normalised value.

    Phones as `081-xxx-5678`, e-mails as `s•••@…`, names by their first letter, dates by their
    year, postcodes by two leading characters, card numbers by four trailing ones. Only
    `MaskRule.NONE`, which the catalogue allows for plain fields alone, gives the value itself.
    """
    return _RULES[rule](value)


def _phone(value: str) -> str:
    for prefix, trunk in _TRUNKS:
        if value.startswith(prefix):
            value = trunk + value.removeprefix(prefix)
            break
    digits = "".join(character for character in value if character.isdecimal())
    if len(digits) < _PHONE_LEAST:
        return HIDDEN
    return f"{digits[:_PHONE_HEAD]}-xxx-{digits[-_PHONE_TAIL:]}"


def _email(value: str) -> str:
    local, at, _ = value.partition("@")
    if not at:
        return HIDDEN
    return f"{local[0]}{HIDDEN}@…" if len(local) > 1 else f"{HIDDEN}@…"


def _initial(value: str) -> str:
    return value[0] + HIDDEN if len(value) > 1 else HIDDEN


def _year(value: str) -> str:
    found = _ISO_DATE.fullmatch(value)
    return found[1] if found else HIDDEN


def _head(value: str) -> str:
    return value[:_HEAD] + HIDDEN if len(value) >= 2 * _HEAD else HIDDEN


def _tail(value: str) -> str:
    return HIDDEN + value[-_TAIL:] if len(value) >= 2 * _TAIL else HIDDEN


_RULES: Mapping[MaskRule, Callable[[str], str]] = {
    MaskRule.PHONE: _phone,
    MaskRule.EMAIL: _email,
    MaskRule.INITIAL: _initial,
    MaskRule.YEAR: _year,
    MaskRule.HEAD: _head,
    MaskRule.TAIL: _tail,
    MaskRule.FULL: lambda _: HIDDEN,
    MaskRule.NONE: lambda value: value,
}
