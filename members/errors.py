"""What can be wrong with a member or a contact point. No message repeats a value."""

from kernel import ConflictError, InvalidRequestError, NotFoundError


class MemberDataError(InvalidRequestError):
    """Fields of a member do not fit the catalogue or their kind."""

    slug = "invalid-member"
    title = "The member's data cannot be stored"


class MemberNotFoundError(NotFoundError):
    """No such member for this caller."""

    slug = "member-unknown"
    title = "No such member"


class ContactPointNotFoundError(NotFoundError):
    """The member has no such contact point."""

    slug = "contact-point-unknown"
    title = "No such contact point"


class CodeRefusedError(InvalidRequestError):
    """A one-time code was wrong, too old, or tried too often."""

    slug = "code-refused"
    title = "The code was not accepted"
    remedy = "Ask for a new code; each is good for ten minutes and five attempts."


class MemberChangedError(ConflictError):
    """Somebody else changed the member between reading and writing."""

    slug = "member-changed"
    title = "The member was changed in the meantime"


class MergeError(ConflictError):
    """Two members cannot be merged, or a merge cannot be undone; `reason` says why."""

    slug = "merge-refused"
    title = "This merge cannot be done"
    remedy = "Look at the pair again; nothing was changed."


class MergeUnknownError(NotFoundError):
    """No such pair or merge in this brand."""

    slug = "merge-unknown"
    title = "No such pair or merge"


class ImportUnknownError(NotFoundError):
    """No such import in this brand."""

    slug = "import-unknown"
    title = "No such import"


class QuarantineEndedError(ConflictError):
    """What an import set aside was destroyed on its day, with the import's key."""

    slug = "quarantine-ended"
    title = "What this import set aside is no longer kept"
    remedy = "What was accepted stands. Send rows that are still missing as a file of their own."


class UploadError(InvalidRequestError):
    """A request does not bring one file with its declarations."""

    slug = "upload"
    title = "The file was not taken in"
    remedy = "Send multipart/form-data with one part named file."
