"""Is there a lawful basis? A pure answer from the pack, the member's age tier and the consent.

PDPA s.19 and s.24, GDPR art. 6: a purpose rests on consent or on another basis of the member's
jurisdiction. Silence is a no; an objection to marketing is a no whatever the basis; a minor's
own consent does not carry a purpose alone (PDPA s.20, GDPR art. 8), nor does a guardian's once
the minor is of age, nor consent to words that have materially changed since.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from consent.model import ConsentState, Reconfirm, ReconfirmReason, Status
from kernel import to_datetime
from policies import AgeTier, BasisKind, PolicyPack, Purpose, PurposeKey


class BasisRefusal(StrEnum):
    """Why there is no lawful basis; a stable code in answers and in the trail."""

    CONSENT_NOT_GIVEN = "consent_not_given"
    CONSENT_REFUSED = "consent_refused"
    CONSENT_WITHDRAWN = "consent_withdrawn"
    CONSENT_EXPIRED = "consent_expired"
    OBJECTED = "objected"
    NOTICE_OUTDATED = "notice_outdated"
    CAME_OF_AGE = "came_of_age"
    GUARDIAN_REQUIRED = "guardian_required"
    JURISDICTION_UNKNOWN = "jurisdiction_unknown"


@dataclass(frozen=True, slots=True)
class Basis:
    """The lawful basis of a disclosure; consent carries its event and the words agreed to."""

    kind: BasisKind
    section: str
    consent_id: str | None = None
    notice_revision: str | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """A member's latest decision for one purpose and channel, as far as a basis rests on it."""

    status: Status
    event_id: str
    notice_revision: str | None
    guardian_id: str | None


_REFUSALS = {
    Status.REFUSED: BasisRefusal.CONSENT_REFUSED,
    Status.WITHDRAWN: BasisRefusal.CONSENT_WITHDRAWN,
    Status.EXPIRED: BasisRefusal.CONSENT_EXPIRED,
}
_RECONFIRM = {
    ReconfirmReason.NOTICE_OUTDATED: BasisRefusal.NOTICE_OUTDATED,
    ReconfirmReason.CAME_OF_AGE: BasisRefusal.CAME_OF_AGE,
}
NEEDS_GUARDIAN = frozenset({AgeTier.MINOR_WITH_GUARDIAN, AgeTier.GUARDIAN_ONLY})


def decide_basis(
    pack: PolicyPack,
    purpose: Purpose,
    jurisdiction: str,
    age_tier: AgeTier,
    decided: Decided | None,
    now_us: int,
) -> Basis | BasisRefusal:
    """Give the lawful basis of a purpose for a member, or the reason why there is none.

    `decided` is the member's latest decision for the purpose and channel, or None when there
    was none; `now_us` the moment of the disclosure.
    """
    rules = pack.jurisdictions.get(jurisdiction)  # type: ignore[call-overload]
    if rules is None:
        return BasisRefusal.JURISDICTION_UNKNOWN
    if decided is not None and decided.status is Status.OBJECTED:
        return BasisRefusal.OBJECTED
    kind = purpose.basis.get(jurisdiction, purpose.default_basis)
    basis = rules.lawful_bases.get(kind)
    section = "" if basis is None else basis.section
    if kind is not BasisKind.CONSENT:
        return Basis(kind, section)
    if decided is None:
        return BasisRefusal.CONSENT_NOT_GIVEN
    refusal = _refusal(pack, age_tier, decided, now_us)
    return refusal or Basis(kind, section, decided.event_id, decided.notice_revision)


def _refusal(
    pack: PolicyPack, age_tier: AgeTier, decided: Decided, now_us: int
) -> BasisRefusal | None:
    """Say why a consent does not carry the purpose, or None when it does."""
    if decided.status is not Status.GIVEN:
        return _REFUSALS[decided.status]
    if age_tier in NEEDS_GUARDIAN and decided.guardian_id is None:
        return BasisRefusal.GUARDIAN_REQUIRED
    waits = waits_for(pack, age_tier, decided.notice_revision, decided.guardian_id, now_us)
    return None if waits is None else _RECONFIRM[waits]


def waits_for(
    pack: PolicyPack,
    age_tier: AgeTier,
    notice_revision: str | None,
    guardian_id: str | None,
    now_us: int,
) -> ReconfirmReason | None:
    """Say why a given consent waits to be confirmed, or None when it stands.

    Words the pack does not know cannot be held against its newer ones, so they wait too.
    """
    words = pack.notice_of(notice_revision or "")
    if words is None or (words.outdated_us is not None and words.outdated_us <= now_us):
        return ReconfirmReason.NOTICE_OUTDATED
    if guardian_id is not None and age_tier not in NEEDS_GUARDIAN:
        return ReconfirmReason.CAME_OF_AGE
    return None


def find_reconfirm(
    pack: PolicyPack, age_tier: AgeTier, states: Iterable[ConsentState], now_us: int
) -> list[Reconfirm]:
    """Give each consent that waits to be confirmed, in the order of the states. Pure."""
    found: list[Reconfirm] = []
    for state in states:
        purpose = pack.purposes.get(PurposeKey(state.purpose))
        if state.status is not Status.GIVEN or purpose is None:
            continue
        reason = waits_for(pack, age_tier, state.notice_revision, state.guardian_id, now_us)
        if reason is None:
            continue
        agreed = pack.notice_of(state.notice_revision or "")
        versions = [
            notice.version
            for notice in pack.notices.get(purpose.notice, ())
            if notice.effective_from <= to_datetime(now_us)
        ]
        found.append(
            Reconfirm(
                state,
                reason,
                purpose.notice,
                "" if agreed is None else agreed.version,
                versions[-1] if versions else "",
            )
        )
    return found
