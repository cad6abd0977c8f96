"""What a member says with a request: codes out of fixed lists, and corrected fields.

There is no free text. A sentence somebody types about themselves would be personal data that no
purpose needs and no field of the catalogue describes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from dsar.errors import RequestInvalidError
from dsar.model import Right
from kernel import FieldProblem, is_id
from kernel.i18n import Language
from members import Formats, Prepared, formats, prepare
from policies import PolicyPack, PurposeKey

RESTRICTION_GROUNDS = frozenset(
    {"accuracy_contested", "unlawful", "needed_for_claims", "objection_pending"}
)
ERASURE_GROUNDS = frozenset({"no_longer_needed", "consent_withdrawn", "objected", "unlawful"})
CHECKS = frozenset({"id_document_seen", "known_in_person", "signature_compared", "called_back"})
GUARDIAN = "guardian"
_FIELDS = "fields"
_FORMATS = "formats"
_OUR_TIME = range(2000, 3000)
_ALLOWED: Mapping[Right, frozenset[str]] = {
    Right.ACCESS: frozenset({"lang"}),
    Right.PORTABILITY: frozenset({"lang"}),
    Right.RECTIFICATION: frozenset({_FIELDS, _FORMATS}),
    Right.ERASURE: frozenset({"ground"}),
    Right.RESTRICTION: frozenset({"ground", "until"}),
    Right.OBJECTION: frozenset({"purpose"}),
}


@dataclass(frozen=True, slots=True)
class Said:
    """Checked details: codes to be stored plain, corrected values to be sealed."""

    codes: Mapping[str, str]
    corrected: Prepared


def check_details(
    pack: PolicyPack, right: Right, details: Mapping[str, Any] | None, today: date
) -> Said:
    """Check what came with a request, or name every place that does not fit; never its value."""
    given = dict(details or {})
    checked = given.pop("checked", None)
    guardian = given.pop(GUARDIAN, None)
    problems = [
        FieldProblem("/details", "unknown_detail", "not a detail of this right")
        for key in given
        if key not in _ALLOWED[right]
    ]
    codes = {key: value for key, value in given.items() if key not in {_FIELDS, _FORMATS}}
    problems += [
        problem for key, value in codes.items() for problem in _code(pack, right, key, value)
    ]
    if checked is not None and checked not in CHECKS:
        problems.append(FieldProblem("/details/checked", "unknown_code", _one_of(CHECKS)))
    corrected = Prepared({})
    if right is Right.RECTIFICATION:
        fields = given.get(_FIELDS)
        if isinstance(fields, dict) and fields and all(isinstance(v, str) for v in fields.values()):
            corrected = prepare(
                pack, fields, _declared(given.get(_FORMATS), today), pointer="/details/fields"
            )
        else:
            detail = "give the corrected fields by their keys"
            problems.append(FieldProblem("/details/fields", "missing", detail))
    if right is Right.RESTRICTION and "ground" not in codes:
        detail = _one_of(RESTRICTION_GROUNDS)
        problems.append(FieldProblem("/details/ground", "missing", detail))
    if guardian is not None:
        if isinstance(guardian, str) and is_id("grd", guardian):
            codes[GUARDIAN] = guardian
        else:
            problems.append(FieldProblem(f"/details/{GUARDIAN}", "unknown_code", "an id grd_…"))
    if problems:
        raise RequestInvalidError(errors=list(dict.fromkeys(problems)))
    return Said(codes, corrected)


def _code(pack: PolicyPack, right: Right, key: str, value: Any) -> list[FieldProblem]:
    place = f"/details/{key}"
    if key == "lang":
        known = frozenset(lang.value for lang in Language)
    elif key == "purpose":
        known = frozenset[str](pack.purposes)
        if isinstance(value, str) and PurposeKey(value) in pack.purposes:
            return []
    elif key == "ground":
        known = RESTRICTION_GROUNDS if right is Right.RESTRICTION else ERASURE_GROUNDS
    elif key == "until":
        return [] if is_day(value) else [FieldProblem(place, "date", "a day as YYYY-MM-DD")]
    else:
        return []
    if isinstance(value, str) and value in known:
        return []
    return [FieldProblem(place, "unknown_code", _one_of(known))]


def _declared(given: Any, today: date) -> Formats:
    said = given if isinstance(given, dict) else {}
    known = {key: said.get(key) for key in ("phone_region", "date_era", "id_country")}
    wrong = [
        FieldProblem(f"/details/formats/{key}", "type")
        for key, value in known.items()
        if value is not None and not isinstance(value, str)
    ]
    if wrong or not known.keys() >= said.keys():
        raise RequestInvalidError(
            errors=wrong or [FieldProblem("/details/formats", "unknown_detail")]
        )
    return formats(known["phone_region"], known["date_era"], known["id_country"], today)


def is_day(value: Any) -> bool:
    """Say whether this is a day of our time, written `YYYY-MM-DD`."""
    try:
        day = date.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return False
    return day is not None and day.isoformat() == value and day.year in _OUR_TIME


def _one_of(known: frozenset[str]) -> str:
    return f"one of {', '.join(sorted(known))}"
