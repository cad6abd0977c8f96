"""The one table from kind of value to its normaliser, and the normal form's version.

Every blind index is an HMAC over `index_form` in one version: changing how a kind is written
would make members unfindable, so a new rule is added and the old one stays for as long as an
index or the suppression list is made with it.
"""

from collections.abc import Callable, Mapping, Sequence
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
_INDEX_FORMS: Final[Mapping[str, Sequence[Callable[[str], str]]]] = MappingProxyType(
    {"email": (email_key,), "name": (name_key,)}
)
_AS_IT_IS: Final[Sequence[Callable[[str], str]]] = (str,)

KINDS: Final = frozenset(_NORMALISERS)
"""The kinds of value that can be normalised."""


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


def newest_form(kind: str) -> int:
    """Give the newest version of a kind's normal form."""
    return len(_INDEX_FORMS.get(kind, _AS_IT_IS))


def index_form(kind: str, normal: str, version: int | None = None) -> str:
    """Return the string that is compared or keyed for `normal`, a normal form of its kind.

    E-mail is case-folded, names lose title and case; for every other kind the normal form is
    already the key. `version` is a version of the normal form, the newest one without it: an
    index keeps the version it was made with until it is made anew, so that a rule is changed by
    adding one behind the others and never by changing one.
    """
    forms = _INDEX_FORMS.get(kind, _AS_IT_IS)
    at = newest_form(kind) if version is None else version
    if not 0 < at <= len(forms):
        raise ValueError("no such version of the normal form")
    return forms[at - 1](normal)
