"""What can stand in the way of a rights request."""

from kernel import ConflictError, InvalidRequestError, NotAllowedError, NotFoundError


class RequestUnknownError(NotFoundError):
    """No such request, or none that this caller may see."""

    slug = "rights-request-not-found"
    title = "No such rights request"
    remedy = "Check the id; requests of other brands are not told of."


class RequestStateError(ConflictError):
    """The request does not stand where this step begins; an ended request never moves."""

    slug = "rights-request-state"
    title = "The request does not stand where this step begins"
    remedy = "Read the request and take a step that its state allows."


class RequestInvalidError(InvalidRequestError):
    """What is asked for does not fit the right or the policy pack."""

    slug = "invalid-rights-request"
    title = "The rights request cannot be taken like this"


class IdentityNotProvenError(NotAllowedError):
    """Nobody has proven to be the member, or not lately enough for this step."""

    slug = "identity-not-proven"
    title = "Identity has to be proven first"
    remedy = "Ask for a code with :verify and send it back; then take the step again."


class SecondPersonError(NotAllowedError):
    """A refusal needs a second person, who is not the one that proposed it."""

    slug = "second-person-needed"
    title = "A second person has to approve this"
    remedy = "Let a colleague repeat it with the same reason; a one-person shop waits a day."


class ExportGoneError(NotFoundError):
    """The export was fetched already, has run out, or is not made yet."""

    slug = "export-not-there"
    title = "There is no export to fetch"
    remedy = "An export is fetched once, before it runs out. Open a new request for a fresh one."
