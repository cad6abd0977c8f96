"""Consent: notices, decisions of members, their state, and the gate before every disclosure."""

from consent.decision import Basis, BasisRefusal, Decided, decide_basis, find_reconfirm
from consent.errors import ConsentError, GuardianRequiredError, NoLawfulBasisError
from consent.guardian_rows import GuardianRow
from consent.guardians import (
    GUARDIAN_CODE_WANTED,
    ContactForm,
    GuardianContacts,
    GuardianPoint,
    Guardians,
    Relation,
    proven_guardians,
)
from consent.model import (
    NO_CHANNEL,
    ConsentEvent,
    ConsentRequest,
    ConsentState,
    Gate,
    GateState,
    NoticeRecord,
    Reconfirm,
    ReconfirmReason,
    Status,
)
from consent.receipt import ReceiptSigner
from consent.receipts import ReceiptFormat, Receipts, Written
from consent.replay import replay_right, replay_suppression
from consent.report import ConsentReport, DayCount, StatusCount, consent_report
from consent.repository import (
    answers_source,
    consent_counts,
    gate_held,
    gate_source,
    history_of,
    state_source,
)
from consent.service import ConsentService

__all__ = [
    "GUARDIAN_CODE_WANTED",
    "NO_CHANNEL",
    "Basis",
    "BasisRefusal",
    "ConsentError",
    "ConsentEvent",
    "ConsentReport",
    "ConsentRequest",
    "ConsentService",
    "ConsentState",
    "ContactForm",
    "DayCount",
    "Decided",
    "Gate",
    "GateState",
    "GuardianContacts",
    "GuardianPoint",
    "GuardianRequiredError",
    "GuardianRow",
    "Guardians",
    "NoLawfulBasisError",
    "NoticeRecord",
    "ReceiptFormat",
    "ReceiptSigner",
    "Receipts",
    "Reconfirm",
    "ReconfirmReason",
    "Relation",
    "Status",
    "StatusCount",
    "Written",
    "answers_source",
    "consent_counts",
    "consent_report",
    "decide_basis",
    "find_reconfirm",
    "gate_held",
    "gate_source",
    "history_of",
    "proven_guardians",
    "replay_right",
    "replay_suppression",
    "state_source",
]
