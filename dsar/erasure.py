"""What an erasure will do, field by field, before it does it: pure, from the pack alone.

The member and the officer see the same list beforehand that the certificate repeats afterwards:
what goes now, what stays, until when, by which law, and how that law was read.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from dsar.model import FieldResult
from policies import Fact, FieldKey, Jurisdiction, PolicyPack, RetentionClassKey, period_end

ERASED = "erased"
RETAINED = "retained"
EVIDENCE = RetentionClassKey("evidence")


@dataclass(frozen=True, slots=True)
class ErasurePlan:
    """What becomes of each field, and of what lies beside the fields."""

    fields: tuple[FieldResult, ...]
    beside: tuple[FieldResult, ...]

    @property
    def whole(self) -> bool:
        """Tell whether no field is kept by any law."""
        return all(one.result == ERASED for one in self.fields)


def plan_erasure(
    pack: PolicyPack, rules: Jurisdiction, slots: Iterable[str], today: date
) -> ErasurePlan:
    """Plan the erasure of a member who holds these slots (`phone`, `phone.2`) today."""
    fields = tuple(_fate(pack, rules, slot, today) for slot in sorted(slots))
    evidence = pack.retention_classes.get(EVIDENCE)
    proof = None if evidence is None else evidence.period.get(rules.code)
    beside = [FieldResult(what, ERASED) for what in ("contact_points", "search_tags", "imports")]
    beside += [] if proof is None else [_kept("consent_events", proof, today)]
    beside.append(_kept("pseudonym_key", pack.pseudonym_key_lifetime, today))
    beside.append(FieldResult("request_record", "kept_without_identity"))
    return ErasurePlan(fields, tuple(beside))


def _fate(pack: PolicyPack, rules: Jurisdiction, slot: str, today: date) -> FieldResult:
    kept = pack.own_key_class(FieldKey(slot.partition(".")[0]))
    period = None if kept is None else kept.period.get(rules.code)
    return FieldResult(slot, ERASED) if period is None else _kept(slot, period, today)


def _kept(what: str, period: Fact, today: date) -> FieldResult:
    return FieldResult(
        what,
        RETAINED,
        period_end(period, today).isoformat(),
        period.source,
        period.evidence.value,
    )
