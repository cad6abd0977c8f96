"""Disclosure: decide, put on record, then open. The one door through which plaintext leaves."""

from disclosure.decision import Allowed, Denied, Omission, Refusal, Snapshot, decide
from disclosure.errors import (
    GateMovedError,
    MemberUnknownError,
    PurposeNotAllowedError,
    RestrictedError,
    UnknownFieldError,
    UnknownPurposeError,
)
from disclosure.reading import EpochKeeper, Reader
from disclosure.repository import AUTH_EPOCH, POLICY_EPOCH, epochs
from disclosure.self_access import HeldValue, SelfAccess, SelfView, self_caller
from disclosure.service import DisclosureService, Epochs, Question, StaleEpochError

__all__ = [
    "AUTH_EPOCH",
    "POLICY_EPOCH",
    "Allowed",
    "Denied",
    "DisclosureService",
    "EpochKeeper",
    "Epochs",
    "GateMovedError",
    "HeldValue",
    "MemberUnknownError",
    "Omission",
    "PurposeNotAllowedError",
    "Question",
    "Reader",
    "Refusal",
    "RestrictedError",
    "SelfAccess",
    "SelfView",
    "Snapshot",
    "StaleEpochError",
    "UnknownFieldError",
    "UnknownPurposeError",
    "decide",
    "epochs",
    "self_caller",
]
