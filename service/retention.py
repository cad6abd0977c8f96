"""Says how long the trail keeps what, from the policy pack, and lets it be done every day."""

from datetime import date

from audit import AuditLog, DetailClock, Pruning, RetentionRule, SequencerElsewhere, Sequencing
from kernel import Clock, Database, from_rfc3339
from policies import PolicyPack, TrailRule, detail_kept_until, kept_until
from service.anchors import Anchors
from service.tasks import DAY_US, Worker, system_caller

TRAIL_RETENTION = "trail_retention"


def keep_trail(
    worker: Worker,
    database: Database,
    audit: AuditLog,
    clock: Clock,
    pack: PolicyPack,
    anchors: Anchors,
    sequencer: Sequencing,
) -> Pruning:
    """Make what prunes the trail by the pack's rules, and let it come round once a day."""
    rules = [_rule(pack, rule) for rule in pack.trail_rules.values()]
    anchored = anchors.reach if anchors.sinks else None
    details = DetailClock(
        database, audit, clock, lambda month: _midnight_us(detail_kept_until(pack, month))
    )
    pruning = Pruning(database, audit, clock, rules, anchored, details)
    if isinstance(sequencer, SequencerElsewhere):
        worker.leave(TRAIL_RETENTION)
        return pruning
    worker.on(TRAIL_RETENTION, lambda _: pruning.prune(system_caller("worker")), every_us=DAY_US)
    return pruning


def _rule(pack: PolicyPack, rule: TrailRule) -> RetentionRule:
    def due_us(month: str) -> int | None:
        day = kept_until(pack, rule, month)
        return None if day is None else _midnight_us(day)

    return RetentionRule(rule.key, rule.actions, due_us)


def _midnight_us(day: date) -> int:
    return from_rfc3339(f"{day.isoformat()}T00:00:00Z")
