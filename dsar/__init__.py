"""Rights requests: intake, identity, the law's clocks, decision, export, erasure, certificate."""

from dsar.deadlines import Clock, Deadlines, NoClockError, Targets, clock_of, deadlines
from dsar.errors import (
    ExportGoneError,
    IdentityNotProvenError,
    RequestInvalidError,
    RequestStateError,
    RequestUnknownError,
    SecondPersonError,
)
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
from dsar.service import Rights, RightsRules

__all__ = [
    "NEXT",
    "OPEN",
    "Clock",
    "Deadlines",
    "ExportGoneError",
    "FieldResult",
    "IdentityNotProvenError",
    "NoClockError",
    "RequestInvalidError",
    "RequestState",
    "RequestStateError",
    "RequestUnknownError",
    "Right",
    "Rights",
    "RightsRequest",
    "RightsRequestId",
    "RightsRules",
    "SecondPersonError",
    "Targets",
    "Via",
    "clock_of",
    "deadlines",
]
