"""What outlives an erasure, and until when: pure answers from the pack's retention classes.

A field whose class has a key of its own is sealed under that key at write, so an erasure can
destroy everything else at once and leave it, closed, for as long as the law says.
"""

from datetime import date

from kernel import from_rfc3339, to_date
from members.repository import MemberRow
from policies import FieldKey, JurisdictionCode, PolicyPack, RetentionClass, period_end
from vault import ORDINARY, PSEUDONYM


def key_kind(pack: PolicyPack, field: str) -> str:
    """Give the kind of key that seals a field: ordinary, or that of its retention class."""
    kept = _retained(pack, field)
    return ORDINARY if kept is None else kept.key


def kept_keys(pack: PolicyPack, row: MemberRow, now_us: int) -> dict[str, int]:
    """Give the kinds of key that outlive an erasure now, with the moment each must die (µs)."""
    today = to_date(now_us)
    keep = {PSEUDONYM: _midnight_us(period_end(pack.pseudonym_key_lifetime, today))}
    for field in row.cells:
        kept = _retained(pack, field)
        period = None if kept is None else kept.period.get(JurisdictionCode(row.jurisdiction))
        if kept is not None and period is not None:
            keep[kept.key] = _midnight_us(period_end(period, today))
    return keep


def _retained(pack: PolicyPack, field: str) -> RetentionClass | None:
    """Further contact points (`phone.2`) are kept like the field they extend."""
    return pack.own_key_class(FieldKey(field.partition(".")[0]))


def _midnight_us(day: date) -> int:
    return from_rfc3339(f"{day.isoformat()}T00:00:00Z")
