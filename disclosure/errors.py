"""How a disclosure can be refused; each refusal is an event and names it."""

from kernel import (
    InvalidRequestError,
    NotAllowedError,
    NotFoundError,
    UnavailableError,
    YinyomError,
)


class RestrictedError(YinyomError):
    """The member's data may only be stored (PDPA s.34, GDPR art. 18)."""

    slug = "member-restricted"
    status = 423
    title = "This member's data is restricted to storage"
    remedy = "Do not use the data. Ask again after the restriction has ended."
    exit_code = 4


class MemberUnknownError(NotFoundError):
    """No such member for this caller; erased members look the same."""

    slug = "member-unknown"
    title = "No such member"


class UnknownPurposeError(InvalidRequestError):
    """The purpose is not in the policy pack."""

    slug = "unknown-purpose"
    title = "No such purpose"
    remedy = "GET /v1/purposes lists the purposes."


class UnknownFieldError(InvalidRequestError):
    """A field is not in the catalogue."""

    slug = "unknown-field"
    title = "No such field"
    remedy = "Ask for fields that GET /v1/purposes names."


class PurposeNotAllowedError(NotAllowedError):
    """The caller's role or scopes do not cover this purpose."""

    slug = "purpose-not-allowed"
    title = "This caller may not read for this purpose"


class SearchUnavailableError(UnavailableError):
    """Names cannot be searched now: `search_cold`, `search_full` or `search_off`."""

    slug = "search-unavailable"
    title = "Names cannot be searched now"
    remedy = "Try again in a moment; `yinyom doctor` says how far the search is."


class TooManySearchesError(YinyomError):
    """This client or person has searched too often within the hour."""

    slug = "too-many-searches"
    status = 429
    title = "Too many searches within the hour"
    remedy = "Search again later, or look members up by an identifier."


class BudgetSpentError(YinyomError):
    """This client has read as many distinct members today as it may."""

    slug = "member-budget-spent"
    status = 429
    title = "The daily budget of distinct members is spent"
    remedy = "Members that were read today can be read again; others tomorrow (UTC)."

    def __init__(self, limit: int, seconds: int, audit_id: str) -> None:
        super().__init__(reason="budget_spent", audit_id=audit_id)
        self.headers = {
            "Retry-After": str(seconds),
            "RateLimit-Policy": f'"members";q={limit};w=86400',
            "RateLimit": f'"members";r=0;t={seconds}',
        }


class EmergencyRefusedError(NotAllowedError):
    """No emergency read: no such lawful basis in that law, or too many in a day."""

    slug = "emergency-refused"
    title = "This emergency read was refused"
    remedy = "Ask another officer; the reason says why, and the try is on record."


class GateMovedError(YinyomError):
    """The member changed again and again while a read was being decided."""

    slug = "member-busy"
    status = 503
    title = "The member's record is changing; nothing was disclosed"
    remedy = "Try again in a moment."


class CursorExpiredError(YinyomError):
    """Changes behind this cursor are no longer kept; a client that went on would miss some."""

    slug = "cursor-expired"
    status = 410
    title = "Changes behind this cursor are no longer kept"
    remedy = "Read /v1/suppressions for each purpose, then start the feed without a cursor."
