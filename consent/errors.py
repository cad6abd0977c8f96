"""What can be wrong with a consent."""

from kernel import InvalidRequestError, NotAllowedError, NotFoundError


class ConsentError(InvalidRequestError):
    """A consent decision does not fit the purposes, channels or notices of the pack."""

    slug = "invalid-consent"
    title = "The consent decision cannot be recorded"


class NoLawfulBasisError(NotAllowedError):
    """The purpose has no lawful basis for this member: the system is working."""

    slug = "no-lawful-basis"
    title = "No lawful basis for this purpose"
    remedy = "Do not use the data for this purpose. The member can change this in the portal."


class GuardianRequiredError(NotAllowedError):
    """A minor cannot give this consent alone (PDPA s.20, GDPR art. 8)."""

    slug = "guardian-required"
    title = "A guardian has to agree"
    remedy = "Register the consent of the holder of parental power."


class GuardianUnknownError(NotFoundError):
    """The member has no such guardian."""

    slug = "guardian-unknown"
    title = "No such guardian"


class GuardianCodeError(InvalidRequestError):
    """A guardian's one-time code was wrong, too old, or tried too often."""

    slug = "guardian-code-refused"
    title = "The guardian's code was not accepted"
    remedy = "Name the guardian again for a new code; each is good for ten minutes."
