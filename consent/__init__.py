"""Consent: notices, decisions of members, their state, and the gate before every disclosure."""

from consent.decision import Basis, BasisRefusal, Decided, decide_basis
from consent.errors import ConsentError, GuardianRequiredError, NoLawfulBasisError
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
from consent.repository import (
    consent_counts,
    gate_held,
    gate_source,
    history_of,
    state_source,
)
from consent.service import ConsentService

__all__ = [
    "NO_CHANNEL",
    "Basis",
    "BasisRefusal",
    "ConsentError",
    "ConsentEvent",
    "ConsentRequest",
    "ConsentService",
    "ConsentState",
    "Decided",
    "Gate",
    "GateState",
    "GuardianRequiredError",
    "NoLawfulBasisError",
    "NoticeRecord",
    "ReceiptSigner",
    "Reconfirm",
    "ReconfirmReason",
    "Status",
    "consent_counts",
    "decide_basis",
    "gate_held",
    "gate_source",
    "history_of",
    "state_source",
]
