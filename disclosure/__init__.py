"""Disclosure: decide, put on record, then open. The one door through which plaintext leaves."""

from disclosure.audience import Audiences, CountRules
from disclosure.budget import MemberBudget
from disclosure.decision import Allowed, Denied, Omission, Refusal, Snapshot, decide
from disclosure.emergency import (
    LEAST_WORDS,
    MOST_WORDS,
    Emergency,
    EmergencyAccess,
    EmergencyView,
)
from disclosure.errors import (
    BudgetSpentError,
    EmergencyRefusedError,
    GateMovedError,
    MemberUnknownError,
    PurposeNotAllowedError,
    RestrictedError,
    SearchUnavailableError,
    TooManySearchesError,
    UnknownFieldError,
    UnknownPurposeError,
)
from disclosure.feed import Feed
from disclosure.feed_repository import begin_anew
from disclosure.happening import FEED_TYPES, WEBHOOK_TYPES
from disclosure.name_index import NameHit, NameHits, NameIndex, Words, search_words
from disclosure.names import NameRecord, Names
from disclosure.reading import EpochKeeper, Reader
from disclosure.repository import AUTH_EPOCH, POLICY_EPOCH, epochs
from disclosure.search import NameSearch, Proposed
from disclosure.self_access import (
    CopiedValue,
    HeldValue,
    SelfAccess,
    SelfCopy,
    SelfView,
    self_caller,
)
from disclosure.service import DisclosureService, Epochs, Question, StaleEpochError
from disclosure.staff_access import StaffAccess, StaffFound
from disclosure.telling import told_words
from disclosure.webhook import Retries, TargetRules
from disclosure.webhook_repository import forget_webhooks
from disclosure.webhooks import Acknowledgement, Answer, ClientDirectory, Poster, Webhooks

__all__ = [
    "AUTH_EPOCH",
    "FEED_TYPES",
    "LEAST_WORDS",
    "MOST_WORDS",
    "POLICY_EPOCH",
    "WEBHOOK_TYPES",
    "Acknowledgement",
    "Allowed",
    "Answer",
    "Audiences",
    "BudgetSpentError",
    "ClientDirectory",
    "CopiedValue",
    "CountRules",
    "Denied",
    "DisclosureService",
    "Emergency",
    "EmergencyAccess",
    "EmergencyRefusedError",
    "EmergencyView",
    "EpochKeeper",
    "Epochs",
    "Feed",
    "GateMovedError",
    "HeldValue",
    "MemberBudget",
    "MemberUnknownError",
    "NameHit",
    "NameHits",
    "NameIndex",
    "NameRecord",
    "NameSearch",
    "Names",
    "Omission",
    "Poster",
    "Proposed",
    "PurposeNotAllowedError",
    "Question",
    "Reader",
    "Refusal",
    "RestrictedError",
    "Retries",
    "SearchUnavailableError",
    "SelfAccess",
    "SelfCopy",
    "SelfView",
    "Snapshot",
    "StaffAccess",
    "StaffFound",
    "StaleEpochError",
    "TargetRules",
    "TooManySearchesError",
    "UnknownFieldError",
    "UnknownPurposeError",
    "Webhooks",
    "Words",
    "begin_anew",
    "decide",
    "epochs",
    "forget_webhooks",
    "search_words",
    "self_caller",
    "told_words",
]
