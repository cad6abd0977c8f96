"""The one family of errors that Yinyom raises on purpose.

Every error has a stable `type` slug that clients may switch on, an HTTP status, and a text
for people (`diagnostics`). None of them ever carries a personal value: the attacker who reads
an error page, a log line or a support ticket must learn nothing about a member.
"""

from collections.abc import Sequence
from dataclasses import dataclass

TYPE_BASE = "https://yinyom.dev/problems"


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One faulty place in a request: a JSON pointer (RFC 6901) and a reason code."""

    pointer: str
    code: str
    detail: str = ""


class YinyomError(Exception):
    """Root of all errors raised on purpose; a subclass sets `slug`, `status` and `title`.

    `detail` says what was wrong with *this* request in words, `reason` is a stable code a
    program may read, `errors` names the faulty places. `diagnostics()` tells an operator what
    is safe and what to do next.
    """

    slug = "internal"
    status = 500
    title = "Something broke on our side"
    remedy = "Nothing was changed. Try again, and tell the operator the request id if it stays."
    exit_code = 1

    def __init__(
        self,
        detail: str = "",
        *,
        reason: str | None = None,
        errors: Sequence[FieldProblem] = (),
        audit_id: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail
        self.reason = reason
        self.errors = tuple(errors)
        self.audit_id = audit_id
        if remedy is not None:
            self.remedy = remedy

    @property
    def type_uri(self) -> str:
        """The stable `type` member of RFC 9457 problem details."""
        return f"{TYPE_BASE}/{self.slug}"

    @property
    def i18n_key(self) -> str:
        """The catalogue key under which pages find a translation of the title."""
        return f"error.{self.slug}"

    def diagnostics(self) -> str:
        """Tell a person what happened, what is safe and what to do next."""
        first = f"{self.title}: {self.detail}" if self.detail else self.title
        places = [f"  {p.pointer}: {p.detail or p.code}" for p in self.errors]
        return "\n".join([first, *places, f"Next: {self.remedy}"])


class ConfigurationError(YinyomError):
    """The installation is not fit to run: a key, a file, a setting or a schema is wrong."""

    slug = "configuration"
    status = 503
    title = "Yinyom is not configured to answer"
    remedy = "Run `yinyom doctor`; it names what is missing."
    exit_code = 3


class NotAllowedError(YinyomError):
    """The caller is known but may not do this."""

    slug = "not-allowed"
    status = 403
    title = "Not allowed"
    remedy = "Ask an administrator for the scope or role that this needs."
    exit_code = 4


class NotAuthenticatedError(YinyomError):
    """No valid credential came with the request."""

    slug = "not-authenticated"
    status = 401
    title = "Not authenticated"
    remedy = "Fetch a fresh token at /oauth/token."
    exit_code = 4


class NotFoundError(YinyomError):
    """What was asked for does not exist, or does not exist for this caller."""

    slug = "not-found"
    status = 404
    title = "Not found"
    remedy = "Check the id; a client knows members only by its own sub_ ids."


class InvalidRequestError(YinyomError):
    """The request is malformed or does not fit the schema."""

    slug = "invalid-request"
    status = 422
    title = "The request does not fit the schema"
    remedy = "Mend the places named and send it again; nothing was stored."
    exit_code = 2


class ConflictError(YinyomError):
    """The request collides with the present state."""

    slug = "conflict"
    status = 409
    title = "The request collides with the present state"
    remedy = "Read the present state and decide again."


class PreconditionError(YinyomError):
    """An `If-Match` precondition named another version (RFC 9110 section 13.1.1)."""

    slug = "precondition-failed"
    status = 412
    title = "Somebody changed it in the meantime"
    remedy = "Read again, look at the new state, and repeat with its ETag."


class UnavailableError(YinyomError):
    """A part the answer depends on is not working; Yinyom fails closed."""

    slug = "unavailable"
    status = 503
    title = "Not able to answer safely now"
    remedy = "Nothing was disclosed or changed. Look at /readyz for the reason."
