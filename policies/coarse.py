"""Coarse indexes: tags that many members share, which a catalogue may declare and must answer for.

A tag of a surname or a month of birth gives most of its values away by how often it occurs. So
the five identifiers are indexed and nothing else is, unless somebody writes down that the leak
is accepted, and why; `yinyom vault lint` says how large it is and fails until they do.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class CoarseForm(StrEnum):
    """What of a value a coarse tag is made of."""

    LAST4 = "last4"
    MONTH = "month"
    VALUE = "value"


@dataclass(frozen=True, slots=True)
class CoarseIndex:
    """A coarse index that a field declares.

    Each value has `partitions` tags, by a part of the members each, which flattens how often a
    tag occurs and makes each search that many searches. `accept_leakage` is the reason for
    taking what it leaks; None: nobody has.
    """

    form: CoarseForm
    partitions: int
    accept_leakage: str | None


MOST_PARTITIONS = 256
COARSE_FORMS: Mapping[str, frozenset[CoarseForm]] = {
    "phone": frozenset({CoarseForm.LAST4}),
    "card_no": frozenset({CoarseForm.LAST4}),
    "national_id": frozenset({CoarseForm.LAST4}),
    "date": frozenset({CoarseForm.MONTH}),
    **dict.fromkeys(
        ("name", "gender", "postcode", "language", "keyword"), frozenset({CoarseForm.VALUE})
    ),
}
"""The forms that suit each kind of field; a kind that is not named has none."""
