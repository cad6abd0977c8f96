"""What staff accounts and approvals refuse; no text repeats a name or a password."""

from kernel import ConflictError, NotAllowedError, NotFoundError


class StaffNotFoundError(NotFoundError):
    """No account of this id or name."""

    slug = "staff-unknown"
    title = "There is no such staff account"
    remedy = "See `yinyom staff list`."


class DutiesNotSeparateError(ConflictError):
    """One person would check their own work."""

    slug = "duties-not-separate"
    title = "One person may not hold both of these roles"
    remedy = "An auditor may not be dpo or admin: give one of the accounts to another person."


class ApprovalNeededError(NotAllowedError):
    """Another person has to agree before this happens."""

    slug = "approval-needed"
    title = "A second person has to agree first"
    remedy = "It is in the four-eyes inbox; do it again when somebody else has approved it."


class ApprovalRefusedError(ConflictError):
    """This approval cannot be given: by whom, for what or when."""

    slug = "approval-refused"
    title = "This cannot be approved like this"
    remedy = "Nobody approves their own request, an old one, or one that has changed since."
