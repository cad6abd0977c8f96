"""Wiring of the log: who sequences it, where its heads are kept, and what comes round for it."""

from audit import LEASE_SECONDS, AuditLog, Sequencer, Signer, drop_old_checkpoints
from kernel import Clock, Database
from service.anchors import ANCHORED_ACTIONS, Anchors
from service.settings import Settings
from service.tasks import HOUR_US, Worker
from service.witnesses import MINUTE_US, Witnesses


def wire_log(
    settings: Settings, database: Database, clock: Clock, signer: Signer, audit: AuditLog
) -> tuple[Sequencer, Anchors]:
    """Make the sequencer and the anchors that may stop it, and connect them with the trail."""
    anchors = Anchors(settings, database, signer.verifier, clock)
    sequencer = Sequencer(
        database,
        signer,
        clock,
        batch_size=settings.audit.batch_size,
        poll_seconds=settings.audit.poll_ms / 1000,
        lease_seconds=LEASE_SECONDS if settings.on_postgres else 0,
        guard=anchors.guard,
    )
    anchors.stop_through(sequencer.refuse, sequencer.drain)
    audit.announce(ANCHORED_ACTIONS, anchors.nudge)
    return sequencer, anchors


def keep_log(worker: Worker, witnesses: Witnesses, database: Database, clock: Clock) -> None:
    """Have witnesses asked every minute, and old checkpoints dropped every hour."""
    worker.on(
        "audit_checkpoints", lambda _: drop_old_checkpoints(database, clock), every_us=HOUR_US
    )
    if witnesses:
        worker.on("witnesses", lambda _: witnesses.ask(), every_us=MINUTE_US)
