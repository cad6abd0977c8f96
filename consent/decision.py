"""Is there a lawful basis? A pure answer from the pack, the member's age tier and the consent.

PDPA s.19 and s.24, GDPR art. 6: a purpose rests on consent or on another basis of the member's
jurisdiction. Silence is a no; a minor's own consent does not carry a purpose alone (PDPA s.20,
GDPR art. 8).
"""

from dataclasses import dataclass
from enum import StrEnum

from consent.model import Status
from policies import AgeTier, BasisKind, PolicyPack, Purpose


class BasisRefusal(StrEnum):
    """Why there is no lawful basis; a stable code in answers and in the trail."""

    CONSENT_NOT_GIVEN = "consent_not_given"
    CONSENT_REFUSED = "consent_refused"
    CONSENT_WITHDRAWN = "consent_withdrawn"
    CONSENT_EXPIRED = "consent_expired"
    GUARDIAN_REQUIRED = "guardian_required"
    JURISDICTION_UNKNOWN = "jurisdiction_unknown"


@dataclass(frozen=True, slots=True)
class Basis:
    """The lawful basis of a disclosure; consent carries its event and the words agreed to."""

    kind: BasisKind
    section: str
    consent_id: str | None = None
    notice_revision: str | None = None


_REFUSALS = {
    None: BasisRefusal.CONSENT_NOT_GIVEN,
    Status.REFUSED: BasisRefusal.CONSENT_REFUSED,
    Status.WITHDRAWN: BasisRefusal.CONSENT_WITHDRAWN,
    Status.EXPIRED: BasisRefusal.CONSENT_EXPIRED,
}
_NEEDS_GUARDIAN = frozenset({AgeTier.MINOR_WITH_GUARDIAN, AgeTier.GUARDIAN_ONLY})


def decide_basis(
    pack: PolicyPack,
    purpose: Purpose,
    jurisdiction: str,
    age_tier: AgeTier,
    status: Status | None,
    event_id: str | None,
    notice_revision: str | None,
) -> Basis | BasisRefusal:
    """Give the lawful basis of a purpose for a member, or the reason why there is none.

    `status`, `event_id` and `notice_revision` are the member's latest decision for the purpose
    and channel, or None when there was none.
    """
    rules = pack.jurisdictions.get(jurisdiction)  # type: ignore[call-overload]
    if rules is None:
        return BasisRefusal.JURISDICTION_UNKNOWN
    kind = purpose.basis.get(jurisdiction, purpose.default_basis)
    basis = rules.lawful_bases.get(kind)
    section = "" if basis is None else basis.section
    if kind is not BasisKind.CONSENT:
        return Basis(kind, section)
    if status is not Status.GIVEN:
        return _REFUSALS[status]
    if age_tier in _NEEDS_GUARDIAN:
        return BasisRefusal.GUARDIAN_REQUIRED
    return Basis(kind, section, event_id, notice_revision)
