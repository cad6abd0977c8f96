"""The words of loyalty: accounts, ledger entries, lots, purchases, coupons and their outcomes."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from kernel import MemberId


class EntryKind(StrEnum):
    """Why the balance moved."""

    EARN = "earn"
    REDEEM = "redeem"
    EXPIRE = "expire"
    TRANSFER = "transfer"


class CouponState(StrEnum):
    """Where a coupon stands."""

    HELD = "held"
    USED = "used"
    EXPIRED = "expired"


class Outcome(StrEnum):
    """What became of one row of a batch of purchases."""

    ACCEPTED = "accepted"
    REPEATED = "repeated"
    REJECTED = "rejected"


class TagOutcome(StrEnum):
    """What became of one member of a batch of tagging."""

    SET = "set"
    CLEARED = "cleared"
    UNCHANGED = "unchanged"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Account:
    """What the programme knows of one member now; moments in µs."""

    member_id: MemberId
    tier: str
    points_balance: int
    activity_class: str | None
    branch: str | None
    tags: tuple[str, ...]
    coupons: int
    purchases: int
    last_purchase_us: int | None
    review_us: int | None
    updated_us: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the points ledger; `points` is negative where the balance went down."""

    id: str
    member_id: MemberId | None
    kind: EntryKind
    points: int
    at_us: int
    expires_us: int | None
    client_id: str
    reference: str | None


@dataclass(frozen=True, slots=True)
class Lot:
    """What is left of the points that one entry earned, and when they end."""

    entry_id: str
    remaining: int
    expires_us: int


@dataclass(frozen=True, slots=True)
class Purchase:
    """One purchase; the amount in thousandths of the currency's unit."""

    id: str
    member_id: MemberId | None
    client_id: str
    reference: str | None
    at_us: int
    amount_milli: int
    currency: str
    items: int | None
    branch: str | None
    points: int
    recorded_us: int


@dataclass(frozen=True, slots=True)
class Coupon:
    """One coupon of one member."""

    id: str
    member_id: MemberId
    offer: str
    state: CouponState
    issued_us: int
    expires_us: int
    used_us: int | None


@dataclass(frozen=True, slots=True)
class RowResult:
    """One row of a batch, accounted for."""

    row: int
    outcome: str
    reason: str | None = None
    points: int | None = None

    def as_dict(self) -> Mapping[str, object]:
        """Give what there is of it, for an answer."""
        found = {
            "row": self.row,
            "outcome": self.outcome,
            "reason": self.reason,
            "points": self.points,
        }
        return {name: value for name, value in found.items() if value is not None}
