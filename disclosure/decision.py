"""The decision before every disclosure: pure, total, and taken before any key is unwrapped.

`decide` joins role and scope, purpose, lawful basis, restriction, age tier and jurisdiction into
either the fields that may leave, each other field with its reason, or a refusal. It reads a
snapshot of one member and a compiled policy; it has no clock, no database and no key.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from consent import Basis, BasisRefusal, Decided, GateState, Status, decide_basis
from kernel import Caller
from policies import (
    AccessSnapshot,
    AgeTier,
    Channel,
    FieldKey,
    PolicyPack,
    Purpose,
)


class Refusal(StrEnum):
    """Why nothing leaves; with `BasisRefusal`, the reason codes of a denied read."""

    MEMBER_UNKNOWN = "member_unknown"
    MEMBER_ERASED = "member_erased"
    MEMBER_RESTRICTED = "member_restricted"
    SCOPE_MISSING = "scope_missing"
    ROLE_NOT_ALLOWED = "role_not_allowed"
    OTHER_BRAND = "other_brand"


class Omission(StrEnum):
    """Why one field stays out of an answer (beside the pack's own reasons)."""

    ROLE_NOT_ALLOWED = "role_not_allowed"
    UNVERIFIED = "unverified"
    NOT_HELD = "not_held"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one read found of a member: nothing personal, only states and which fields exist.

    `at_us` is the moment for which it is asked, `guardian_id` the guardian who gave the consent.
    """

    member_id: str
    brand: str
    jurisdiction: str
    gate_version: int
    gate_state: GateState
    age_tier: AgeTier
    status: Status | None
    consent_id: str | None
    notice_revision: str | None
    guardian_id: str | None
    at_us: int
    held: frozenset[str]
    verified: frozenset[str]


@dataclass(frozen=True, slots=True)
class Allowed:
    """The fields that may be opened, in the order asked for, and why the others may not."""

    fields: tuple[str, ...]
    omitted: Mapping[str, str]
    basis: Basis


@dataclass(frozen=True, slots=True)
class Denied:
    """Nothing may be opened, for this reason."""

    reason: Refusal | BasisRefusal


Decision = Allowed | Denied


def decide(
    pack: PolicyPack,
    access: AccessSnapshot,
    caller: Caller,
    purpose: Purpose,
    channel: Channel | None,
    wanted: Iterable[str] | None,
    found: Snapshot,
    *,
    action: str = "view",
) -> Decision:
    """Decide one disclosure.

    `wanted` lists field keys of the catalogue, or None for all that the purpose includes;
    the channel must have been checked with `purpose.fields_for`. Deny comes first: every
    branch that allows has passed all those before it.
    """
    if found.gate_state.is_closed:
        return Denied(Refusal.MEMBER_ERASED)
    if caller.brand != found.brand:
        return Denied(Refusal.OTHER_BRAND)
    if f"purpose:{purpose.key}" not in caller.scopes:
        return Denied(Refusal.SCOPE_MISSING)
    if found.gate_state is GateState.RESTRICTED:
        return Denied(Refusal.MEMBER_RESTRICTED)
    decided = (
        None
        if found.status is None
        else Decided(found.status, found.consent_id or "", found.notice_revision, found.guardian_id)
    )
    basis = decide_basis(pack, purpose, found.jurisdiction, found.age_tier, decided, found.at_us)
    if isinstance(basis, BasisRefusal):
        return Denied(basis)
    return _fields(pack, access, caller, purpose, channel, wanted, found, basis, action)


def _fields(
    pack: PolicyPack,
    access: AccessSnapshot,
    caller: Caller,
    purpose: Purpose,
    channel: Channel | None,
    wanted: Iterable[str] | None,
    found: Snapshot,
    basis: Basis,
    action: str,
) -> Decision:
    disclosable = purpose.fields_for(channel)
    asked = sorted(disclosable) if wanted is None else dict.fromkeys(wanted)
    allowed: list[str] = []
    omitted: dict[str, str] = {}
    role_refused = False
    for key in asked:
        field = FieldKey(key)
        if field not in disclosable:
            omission = purpose.omission(field, channel)
            omitted[key] = "not_in_purpose" if omission is None else omission.value
            continue
        entry = pack.fields[field]
        if not access.allows(caller.role, caller.brand, entry.category, action, purpose.key):
            omitted[key] = Omission.ROLE_NOT_ALLOWED.value
            role_refused = True
        elif key not in found.held:
            omitted[key] = Omission.NOT_HELD.value
        elif entry.contact is not None and key not in found.verified:
            omitted[key] = Omission.UNVERIFIED.value
        else:
            allowed.append(key)
    if role_refused and not allowed:
        return Denied(Refusal.ROLE_NOT_ALLOWED)
    return Allowed(tuple(allowed), omitted, basis)
