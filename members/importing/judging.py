"""The verdict on one row: taken in, or set aside with every reason.

A row is set aside only when it cannot be used at all: its cells do not line up with the header,
or nothing in it identifies a member. Any other row is taken in without its bad values, which are
reported by field and code and kept, so that rows = accepted + quarantined + exact repeats.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, Literal

from members.importing.columns import FIELD_KINDS, IDENTIFIERS
from members.importing.reading import RawRow
from members.normalise import Formats, Normal, normalise

Outcome = Literal["accepted", "quarantined"]

DIGEST_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class JudgedRow:
    """A row with its outcome.

    `fields` are normal forms by field; `issues` are `(field, code)` pairs, row-level ones under
    the field `row`; `kept` are the refused values as written, to be sealed with the row;
    `remarks` are `(field, remark)` pairs about accepted values.
    """

    row_no: int
    outcome: Outcome
    fields: Mapping[str, str] = field(repr=False)
    issues: tuple[tuple[str, str], ...]
    kept: Mapping[str, str] = field(repr=False)
    remarks: tuple[tuple[str, str], ...] = ()


def judge_row(raw_row: RawRow, formats: Formats) -> JudgedRow:
    """Normalise every value of a row and decide whether the row can be used."""
    if raw_row.fault is not None:
        return JudgedRow(raw_row.row_no, "quarantined", {}, (("row", raw_row.fault),), {})
    fields: dict[str, str] = {}
    kept: dict[str, str] = {}
    issues: list[tuple[str, str]] = []
    remarks: list[tuple[str, str]] = []
    for key, raw in raw_row.values.items():
        if not raw:
            continue
        answer = normalise(FIELD_KINDS[key], raw, formats)
        if isinstance(answer, Normal):
            fields[key] = answer.value
            remarks.extend((key, remark) for remark in answer.remarks)
        elif answer.code != "empty":
            issues.append((key, answer.code))
            kept[key] = raw
    outcome: Outcome = "accepted"
    if IDENTIFIERS.isdisjoint(fields):
        outcome = "quarantined"
        issues.append(("row", "no_identifier"))
    return JudgedRow(raw_row.row_no, outcome, fields, tuple(issues), kept, tuple(remarks))


def row_digest(raw: Sequence[str]) -> bytes:
    """Return 16 bytes that are equal for rows with exactly the same cells.

    For finding repeats inside one running import only: it is not keyed, so whoever could read a
    stored digest might find the row by trying.
    """
    digest = blake2b(digest_size=DIGEST_BYTES)
    for cell in raw:
        encoded = cell.encode()
        digest.update(len(encoded).to_bytes(4, "big"))
        digest.update(encoded)
    return digest.digest()
