"""Judging one row of a batch of purchases: is it a purchase, and if not, why.

Pure. A row that cannot be read is named by the place and kind of its fault, never by its value,
and keeps none of the others from being stored.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kernel import from_rfc3339, is_id

MILLI = 1000
MOST_ITEMS = 1_000_000
AHEAD_US = 3_600_000_000
"""How far ahead of ours a till's clock may be: an hour."""

_AMOUNT = re.compile(r"(\d{1,9})(?:\.(\d{1,3}))?", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
_BRANCH = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}", re.ASCII)
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}", re.ASCII)
_NEEDED = ("member", "at", "amount", "currency", "reference")


@dataclass(frozen=True, slots=True)
class PurchaseRow:
    """A row that is a purchase; the amount in thousandths of the currency's unit."""

    pairwise: str
    at_us: int
    amount_milli: int
    currency: str
    items: int | None
    branch: str | None
    reference: str


def judge(row: Mapping[str, Any], now_us: int) -> PurchaseRow | str:
    """Read a row, or give the reason why it is none: `<place>.<fault>`."""
    missing = next((place for place in _NEEDED if row.get(place) is None), None)
    if missing is not None:
        return f"{missing}.missing"
    at_us, amount_milli = _moment(row["at"]), _amount(row["amount"])
    faults = {
        "member.unknown": not (isinstance(row["member"], str) and is_id("sub", row["member"])),
        "at.invalid": at_us is None,
        "at.future": at_us is not None and at_us > now_us + AHEAD_US,
        "amount.invalid": amount_milli is None,
        "currency.invalid": not _fits(_CURRENCY, row["currency"]),
        "items.invalid": not _is_count(row.get("items")),
        "branch.invalid": not (row.get("branch") is None or _fits(_BRANCH, row["branch"])),
        "reference.invalid": not _fits(_REFERENCE, row["reference"]),
    }
    fault = next((name for name, faulty in faults.items() if faulty), None)
    if fault is not None or at_us is None or amount_milli is None:
        return fault or "at.invalid"
    return PurchaseRow(
        row["member"],
        at_us,
        amount_milli,
        row["currency"],
        row.get("items"),
        row.get("branch"),
        row["reference"],
    )


def amount_text(amount_milli: int) -> str:
    """Write an amount as a decimal, with two places at least."""
    whole, rest = divmod(amount_milli, MILLI)
    places = f"{rest:03d}"
    return f"{whole}.{places[:2]}" if places.endswith("0") else f"{whole}.{places}"


def _amount(value: Any) -> int | None:
    """Read a decimal text; a number of JSON is none, as it may have lost its last digit."""
    found = _AMOUNT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    milli = int(found[1]) * MILLI + int((found[2] or "").ljust(3, "0"))
    return milli or None


def _moment(value: Any) -> int | None:
    try:
        moment_us = from_rfc3339(value) if isinstance(value, str) else -1
    except (ValueError, OverflowError):
        return None
    return moment_us if moment_us >= 0 else None


def _is_count(value: Any) -> bool:
    return value is None or (type(value) is int and 0 < value <= MOST_ITEMS)


def _fits(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None
