"""From what somebody typed to what may be stored: pure checks against the field catalogue."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from kernel import FieldProblem
from members.errors import MemberDataError
from members.normalise import DATE_ERAS, REASONS, Formats, Normal, normalise
from policies import CatalogueField, FieldKey, FieldKind, PolicyPack, Storage

MOST_FIELDS = 60
_NORMALISERS: Mapping[FieldKind, str] = {
    FieldKind.NAME: "name",
    FieldKind.PHONE: "phone",
    FieldKind.EMAIL: "email",
    FieldKind.LINE_UID: "line_uid",
    FieldKind.NATIONAL_ID: "national_id",
    FieldKind.GENDER: "gender",
    FieldKind.DATE: "birth_date",
}
_REGION_LETTERS = 2


@dataclass(frozen=True, slots=True)
class Prepared:
    """Values in normal form by field, ready to be sealed."""

    values: Mapping[str, str] = field(repr=False)

    def birth_date(self) -> date | None:
        """Give the birth date, for the age tier."""
        text = self.values.get("birth_date")
        return None if text is None else date.fromisoformat(text)


def formats(
    phone_region: str | None, date_era: str | None, id_country: str | None, today: date
) -> Formats:
    """Take the declarations of a request, or refuse them with their place."""
    problems = [
        FieldProblem(f"/formats/{name}", "region", "a two-letter code such as TH")
        for name, code in (("phone_region", phone_region), ("id_country", id_country))
        if code is not None
        and not (len(code) == _REGION_LETTERS and code.isascii() and code.isalpha())
    ]
    if date_era is not None and date_era not in DATE_ERAS:
        known = ", ".join(sorted(DATE_ERAS))
        problems.append(FieldProblem("/formats/date_era", "date_era", f"one of {known}"))
    if problems:
        raise MemberDataError(errors=problems)
    region = phone_region.upper() if phone_region else None
    country = id_country.upper() if id_country else region
    return Formats(region, date_era or "iso", country, today)


def prepare(
    pack: PolicyPack, fields: Mapping[str, str], declared: Formats, *, pointer: str = "/fields"
) -> Prepared:
    """Bring every value to its normal form, or name every one that has none."""
    if len(fields) > MOST_FIELDS:
        raise MemberDataError("too many fields in one request", reason="too_many")
    values: dict[str, str] = {}
    problems: list[FieldProblem] = []
    unknown = 0
    for key, raw in fields.items():
        entry = pack.fields.get(FieldKey(key))
        if entry is None or entry.storage is not Storage.SEALED:
            unknown += 1
            continue
        answer = normalise(normaliser_of(entry), raw, declared)
        if isinstance(answer, Normal):
            values[key] = answer.value
        else:
            problems.append(FieldProblem(f"{pointer}/{key}", answer.code, REASONS[answer.code]))
    if unknown:
        # The names are not repeated: a caller who mixed up keys and values typed a person here.
        problems.append(
            FieldProblem(pointer, "unknown_field", f"{unknown} not in the field catalogue")
        )
    if problems:
        raise MemberDataError(errors=problems)
    return Prepared(values)


def normaliser_of(entry: CatalogueField) -> str:
    """Name the normaliser of a field; what has none of its own is free text."""
    return _NORMALISERS.get(entry.kind, "text")


def identifying(pack: PolicyPack, values: Mapping[str, str]) -> bool:
    """Say whether anything here can find the member again."""
    return any(pack.fields[FieldKey(key)].index is not None for key in values)


def contact_fields(pack: PolicyPack, values: Mapping[str, str]) -> list[tuple[str, str]]:
    """Give (field, kind of contact point) of the values by which the member can be reached."""
    entries = [pack.fields[FieldKey(key)] for key in values]
    return [(entry.key, entry.contact.value) for entry in entries if entry.contact is not None]
