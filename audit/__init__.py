"""Audit: the trail that nothing slips past, and the log in which strangers can check it."""

from audit.cosigning import (
    Asked,
    WitnessPost,
    WitnessUnreachableError,
    WitnessVerdict,
    ask_witness,
    cosigned_checkpoint,
)
from audit.cosigning_repository import witnessed
from audit.errors import AuditError, NoteError, NotRecordedError, ProofError, RightsEntryError
from audit.event import AuditEvent, Decision, value_digest
from audit.note import Cosigner, Signer, Verifier, open_note, sign_note, split_note
from audit.proof import InclusionProof, check_document, proof_document
from audit.rebuild import log_bodies, log_head, rebuild_log
from audit.repository import append_while_held, pending
from audit.rights import (
    GENESIS,
    Announcer,
    PlacedEntry,
    RightsEntry,
    RightsKind,
    RightsLedger,
    link_of,
    read_entry,
)
from audit.search import EVERY_BRAND, EventFilter, FoundEvents, brand_of, is_open_to, is_seen_by
from audit.sequencer import LogDamagedError, Sequencer
from audit.service import AuditLog
from audit.standing import Standing, standing_of
from audit.stored import export_log, verify_stored_log
from audit.views import VIEW_KEYS, OpeningHours, SavedView, saved_views
from audit.witness import Witness, WitnessApp

__all__ = [
    "EVERY_BRAND",
    "GENESIS",
    "VIEW_KEYS",
    "Announcer",
    "Asked",
    "AuditError",
    "AuditEvent",
    "AuditLog",
    "Cosigner",
    "Decision",
    "EventFilter",
    "FoundEvents",
    "InclusionProof",
    "LogDamagedError",
    "NotRecordedError",
    "NoteError",
    "OpeningHours",
    "PlacedEntry",
    "ProofError",
    "RightsEntry",
    "RightsEntryError",
    "RightsKind",
    "RightsLedger",
    "SavedView",
    "Sequencer",
    "Signer",
    "Standing",
    "Verifier",
    "Witness",
    "WitnessApp",
    "WitnessPost",
    "WitnessUnreachableError",
    "WitnessVerdict",
    "append_while_held",
    "ask_witness",
    "brand_of",
    "check_document",
    "cosigned_checkpoint",
    "export_log",
    "is_open_to",
    "is_seen_by",
    "link_of",
    "log_bodies",
    "log_head",
    "open_note",
    "pending",
    "proof_document",
    "read_entry",
    "rebuild_log",
    "saved_views",
    "sign_note",
    "split_note",
    "standing_of",
    "value_digest",
    "verify_stored_log",
    "witnessed",
]
