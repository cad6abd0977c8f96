"""Rights requests: intake, identity, the law's clocks, decision, export, erasure, certificate."""

from dsar.carrying_out import CarryingOut, ExportPart
from dsar.certificate import CertificateError, verify_certificate
from dsar.deadlines import Clock, Deadlines, NoClockError, Targets, clock_of, deadlines
from dsar.decisions import CARRY_OUT, Forgetting, Moving
from dsar.desk import UPDATED, Desk, RightsRules
from dsar.details import CHECKS, ERASURE_GROUNDS, RESTRICTION_GROUNDS
from dsar.erasure import ErasurePlan, plan_erasure
from dsar.errors import (
    ExportGoneError,
    IdentityNotProvenError,
    RequestInvalidError,
    RequestStateError,
    RequestUnknownError,
    SecondPersonError,
)
from dsar.intake import EXTENSION_REASONS
from dsar.model import (
    NEXT,
    OPEN,
    FieldResult,
    RequestState,
    Right,
    RightsRequest,
    RightsRequestId,
    Via,
)
from dsar.replay import RightsReplay
from dsar.repository import Restriction
from dsar.service import (
    TELL_CONSUMERS,
    BackupHorizon,
    ConsumerLedger,
    Flagged,
    Rights,
)

__all__ = [
    "CARRY_OUT",
    "CHECKS",
    "ERASURE_GROUNDS",
    "EXTENSION_REASONS",
    "NEXT",
    "OPEN",
    "RESTRICTION_GROUNDS",
    "TELL_CONSUMERS",
    "UPDATED",
    "BackupHorizon",
    "CarryingOut",
    "CertificateError",
    "Clock",
    "ConsumerLedger",
    "Deadlines",
    "Desk",
    "ErasurePlan",
    "ExportGoneError",
    "ExportPart",
    "FieldResult",
    "Flagged",
    "Forgetting",
    "IdentityNotProvenError",
    "Moving",
    "NoClockError",
    "RequestInvalidError",
    "RequestState",
    "RequestStateError",
    "RequestUnknownError",
    "Restriction",
    "Right",
    "Rights",
    "RightsReplay",
    "RightsRequest",
    "RightsRequestId",
    "RightsRules",
    "SecondPersonError",
    "Targets",
    "Via",
    "clock_of",
    "deadlines",
    "plan_erasure",
    "verify_certificate",
]
