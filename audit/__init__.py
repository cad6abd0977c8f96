"""Audit: the trail that nothing slips past, and the log in which strangers can check it."""

from audit.errors import AuditError, NotRecordedError, RightsEntryError
from audit.event import AuditEvent, Decision, value_digest
from audit.note import Signer
from audit.proof import InclusionProof
from audit.repository import append_while_held, pending
from audit.rights import (
    Announcer,
    PlacedEntry,
    RightsEntry,
    RightsKind,
    RightsLedger,
    link_of,
    read_entry,
)
from audit.search import EventFilter, FoundEvents
from audit.sequencer import LogDamagedError, Sequencer
from audit.service import AuditLog
from audit.stored import export_log, verify_stored_log

__all__ = [
    "Announcer",
    "AuditError",
    "AuditEvent",
    "AuditLog",
    "Decision",
    "EventFilter",
    "FoundEvents",
    "InclusionProof",
    "LogDamagedError",
    "NotRecordedError",
    "PlacedEntry",
    "RightsEntry",
    "RightsEntryError",
    "RightsKind",
    "RightsLedger",
    "Sequencer",
    "Signer",
    "append_while_held",
    "export_log",
    "link_of",
    "pending",
    "read_entry",
    "value_digest",
    "verify_stored_log",
]
