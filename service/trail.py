"""Wiring of the log: who sequences it, where its heads are kept, and what comes round for it."""

from audit import (
    LEASE_SECONDS,
    AuditLog,
    LogKey,
    Sequencer,
    SequencerElsewhere,
    Sequencing,
    drop_old_checkpoints,
)
from kernel import Clock, ConfigurationError, Database
from service.anchors import ANCHORED_ACTIONS, Anchors
from service.settings import Settings
from service.tasks import HOUR_US, Worker
from service.witnesses import MINUTE_US, Witnesses

_CONNECTIONS = 4


CHECKPOINTS = "audit_checkpoints"
WITNESSES = "witnesses"


def _open_log(settings: Settings, database: Database) -> Database:
    """Give the database as the role that writes the log sees it, where there is one of its own."""
    if not settings.database.sequencer_url or settings.audit.sequencer == "elsewhere":
        return database
    from kernel.postgres import PostgresDatabase

    return PostgresDatabase(settings.database.sequencer_url, pool_size=_CONNECTIONS)


def wire_log(
    settings: Settings, database: Database, clock: Clock, key: LogKey, audit: AuditLog
) -> tuple[Database, Sequencing, Anchors]:
    """Make the sequencer and the anchors that may stop it, and connect them with the trail.

    The database is the one that what writes the log goes through.
    """
    database = _open_log(settings, database)
    anchors = Anchors(settings, database, key, clock)
    if settings.audit.sequencer == "elsewhere":
        return database, SequencerElsewhere(database, key), anchors
    sequencer = Sequencer(
        database,
        key,
        clock,
        batch_size=settings.audit.batch_size,
        poll_seconds=settings.audit.poll_ms / 1000,
        lease_seconds=LEASE_SECONDS if settings.on_postgres else 0,
        guard=anchors.guard,
    )
    anchors.stop_through(sequencer.refuse, sequencer.drain)
    audit.announce(ANCHORED_ACTIONS, anchors.nudge)
    return database, sequencer, anchors


def keep_log(
    worker: Worker, sequencer: Sequencing, witnesses: Witnesses, database: Database, clock: Clock
) -> None:
    """Have witnesses asked every minute, and old checkpoints dropped every hour."""
    if isinstance(sequencer, SequencerElsewhere):
        worker.leave(CHECKPOINTS, WITNESSES)
        return
    worker.on(CHECKPOINTS, lambda _: drop_old_checkpoints(database, clock), every_us=HOUR_US)
    if witnesses:
        worker.on(WITNESSES, lambda _: witnesses.ask(), every_us=MINUTE_US)


def sequencer_here(sequencer: Sequencing) -> Sequencer:
    """Give the sequencer of this process, or say where it is.

    Raises:
        ConfigurationError: another process sequences, and this one has no right to.
    """
    if isinstance(sequencer, SequencerElsewhere):
        raise ConfigurationError(
            "another process sequences the log",
            reason="sequenced_elsewhere",
            remedy='Run it where audit.sequencer is "here".',
        )
    return sequencer
