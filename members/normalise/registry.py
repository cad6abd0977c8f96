"""The one table from kind of value to its normaliser, and the normal form's version.

Every blind index is an HMAC over `index_form` under a version: changing how a kind is written
without raising its version would make members unfindable, so the number stands beside the rule.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from members.normalise.codes import integer, line_uid
from members.normalise.dates import birth_date, common_era_date
from members.normalise.email import email, email_key
from members.normalise.names import name, name_key
from members.normalise.national_id import national_id
from members.normalise.phone import phone
from members.normalise.result import Formats, Normalised, Refused
from members.normalise.text import is_blank, is_well_formed, text
from members.normalise.words import gender, jurisdiction, yes_no

MAX_VALUE_CHARS: Final = 16_000

_NORMALISERS: Final[Mapping[str, Callable[[str, Formats], Normalised]]] = MappingProxyType(
    {
        "phone": phone,
        "email": email,
        "line_uid": line_uid,
        "national_id": national_id,
        "birth_date": birth_date,
        "name": name,
        "gender": gender,
        "text": text,
        "date": common_era_date,
        "integer": integer,
        "yes_no": yes_no,
        "jurisdiction": jurisdiction,
    }
)
_INDEX_FORMS: Final[Mapping[str, Callable[[str], str]]] = MappingProxyType(
    {"email": email_key, "name": name_key}
)

KINDS: Final = frozenset(_NORMALISERS)
"""The kinds of value that can be normalised."""

NORMAL_FORM_VERSION: Final[Mapping[str, int]] = MappingProxyType(dict.fromkeys(_NORMALISERS, 1))
"""Version of the normal form per kind; it is part of what a blind index is computed over."""


def normalise(kind: str, raw: str, context: Formats) -> Normalised:
    """Bring `raw` to the normal form of its kind, or refuse it with a code.

    Never raises for any text; a `KeyError` means the kind itself does not exist. Blank cells are
    refused as `empty`, and so are words for "none" where a wrong entry would do no harm.
    """
    normaliser = _NORMALISERS[kind]
    if is_blank(raw):
        return Refused("empty")
    if len(raw) > MAX_VALUE_CHARS:
        return Refused("too_long")
    if not is_well_formed(raw):
        return Refused("invalid")
    return normaliser(raw, context)


def index_form(kind: str, normal: str) -> str:
    """Return the string that is compared or keyed for `normal`, a normal form of its kind.

    E-mail is case-folded, names lose title and case; for every other kind the normal form is
    already the key.
    """
    to_key = _INDEX_FORMS.get(kind)
    return normal if to_key is None else to_key(normal)
