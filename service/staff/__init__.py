"""Staff: accounts with one role each, their sessions at the console, and four-eyes approvals.

Kept out: whoever guesses passwords, holds an old session, or would approve their own request.
"""

from service.staff.accounts import ROLES, SignedIn, Staff, staff_caller
from service.staff.approvals import ApprovalKind, Approvals, ApprovalState
from service.staff.errors import (
    ApprovalNeededError,
    ApprovalRefusedError,
    DutiesNotSeparateError,
    StaffNotFoundError,
)
from service.staff.eyes import TwoPersons
from service.staff.replay import replay_staff
from service.staff.repository import Account, Approval, StaffSession
from service.staff.sample import make_staff
from service.staff.sessions import StaffSessions, StaffVisit, put_cookie

__all__ = [
    "ROLES",
    "Account",
    "Approval",
    "ApprovalKind",
    "ApprovalNeededError",
    "ApprovalRefusedError",
    "ApprovalState",
    "Approvals",
    "DutiesNotSeparateError",
    "SignedIn",
    "Staff",
    "StaffNotFoundError",
    "StaffSession",
    "StaffSessions",
    "StaffVisit",
    "TwoPersons",
    "make_staff",
    "put_cookie",
    "replay_staff",
    "staff_caller",
]
