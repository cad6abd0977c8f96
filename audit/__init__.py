"""Audit: the trail that nothing slips past, and the log in which strangers can check it."""

from audit.anchoring import Anchored, Anchoring, AnchorSink, AnchorVerdict, anchored, anchored_size
from audit.bulk import BulkEvent, Shown, draft_bulk, record_bulk
from audit.cosigning import (
    Asked,
    WitnessPost,
    WitnessUnreachableError,
    WitnessVerdict,
    ask_witness,
    cosigned_checkpoint,
    is_stranger,
)
from audit.cosigning_repository import witnessed
from audit.detail_clock import DETAIL, DetailClock, settle_details
from audit.details import DetailLinks, Details
from audit.errors import (
    AuditError,
    EventPrunedError,
    EvidenceError,
    ExportError,
    NoteError,
    NotRecordedError,
    OriginInUseError,
    ProofError,
    RightsEntryError,
)
from audit.event import AuditEvent, Decision, epoch_of, value_digest
from audit.evidence import EvidenceMade, choose_events, make_evidence
from audit.expiry import PrunedMonth, Pruning
from audit.following import SequencerElsewhere, Sequencing
from audit.handing_over import hand_over
from audit.holds import HOLD_REASONS, Holds, HoldScope
from audit.log_key import KEY_ROTATED, KeyRotation, KnownKeys, LogKey, short_digest, vkey_digest
from audit.log_key_repository import known_keys, own_keys, rotations, signed_by
from audit.note import (
    COSIGNATURE_V1,
    Cosigner,
    Signer,
    Verifier,
    open_note,
    origin_of,
    sign_note,
    split_note,
)
from audit.origins import (
    EndedLog,
    NewOrigin,
    begin_new_origin,
    check_ended,
    ended_logs,
    free_name,
    log_name,
    refusal,
)
from audit.proof import InclusionProof, check_document, proof_document
from audit.pruning import drop_old_checkpoints
from audit.rebuild import Shipped, log_bodies, log_head, rebuild_log
from audit.repository import append_while_held, pending
from audit.retention import RetentionRule
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
from audit.search import (
    EVERY_BRAND,
    EventFilter,
    FoundEvents,
    brand_of,
    fields_shown,
    is_open_to,
    is_seen_by,
)
from audit.sequencer import LEASE_SECONDS, LogDamagedError, Sequencer
from audit.service import AuditLog
from audit.standing import Standing, standing_of
from audit.stored import export_at, export_log, verify_stored_log
from audit.trial import try_trail
from audit.views import (
    BREAK_GLASS,
    CHANGE_READ,
    SUPPRESSION_READ,
    VIEW_KEYS,
    OpeningHours,
    SavedView,
    saved_views,
)
from audit.witness import Witness, WitnessApp

__all__ = [
    "BREAK_GLASS",
    "CHANGE_READ",
    "COSIGNATURE_V1",
    "DETAIL",
    "EVERY_BRAND",
    "GENESIS",
    "HOLD_REASONS",
    "KEY_ROTATED",
    "LEASE_SECONDS",
    "SUPPRESSION_READ",
    "VIEW_KEYS",
    "AnchorSink",
    "AnchorVerdict",
    "Anchored",
    "Anchoring",
    "Announcer",
    "Asked",
    "AuditError",
    "AuditEvent",
    "AuditLog",
    "BulkEvent",
    "Cosigner",
    "Decision",
    "DetailClock",
    "DetailLinks",
    "Details",
    "EndedLog",
    "EventFilter",
    "EventPrunedError",
    "EvidenceError",
    "EvidenceMade",
    "ExportError",
    "FoundEvents",
    "HoldScope",
    "Holds",
    "InclusionProof",
    "KeyRotation",
    "KnownKeys",
    "LogDamagedError",
    "LogKey",
    "NewOrigin",
    "NotRecordedError",
    "NoteError",
    "OpeningHours",
    "OriginInUseError",
    "PlacedEntry",
    "ProofError",
    "PrunedMonth",
    "Pruning",
    "RetentionRule",
    "RightsEntry",
    "RightsEntryError",
    "RightsKind",
    "RightsLedger",
    "SavedView",
    "Sequencer",
    "SequencerElsewhere",
    "Sequencing",
    "Shipped",
    "Shown",
    "Signer",
    "Standing",
    "Verifier",
    "Witness",
    "WitnessApp",
    "WitnessPost",
    "WitnessUnreachableError",
    "WitnessVerdict",
    "anchored",
    "anchored_size",
    "append_while_held",
    "ask_witness",
    "begin_new_origin",
    "brand_of",
    "check_document",
    "check_ended",
    "choose_events",
    "cosigned_checkpoint",
    "draft_bulk",
    "drop_old_checkpoints",
    "ended_logs",
    "epoch_of",
    "export_at",
    "export_log",
    "fields_shown",
    "free_name",
    "hand_over",
    "is_open_to",
    "is_seen_by",
    "is_stranger",
    "known_keys",
    "link_of",
    "log_bodies",
    "log_head",
    "log_name",
    "make_evidence",
    "open_note",
    "origin_of",
    "own_keys",
    "pending",
    "proof_document",
    "read_entry",
    "rebuild_log",
    "record_bulk",
    "refusal",
    "rotations",
    "saved_views",
    "settle_details",
    "short_digest",
    "sign_note",
    "signed_by",
    "split_note",
    "standing_of",
    "try_trail",
    "value_digest",
    "verify_stored_log",
    "vkey_digest",
    "witnessed",
]
