"""What the portal refuses on its own account; each becomes a calm page, never a bare code."""

from kernel import ConflictError, NotAllowedError


class FormRefusedError(NotAllowedError):
    """A form that our own page did not send in this session: another site's, or an old one."""

    slug = "form-refused"
    title = "The form was not sent from our page"
    remedy = "Open the page again and send the form from there; nothing was changed."


class SessionEndedError(NotAllowedError):
    """The session ran out before the form was sent."""

    slug = "session-ended"
    title = "The session has ended"
    remedy = "Sign in again; nothing was changed."


class WordsMovedError(ConflictError):
    """The words changed, or were shown too long ago, before the decision on them came."""

    slug = "words-moved"
    title = "The words are no longer the ones that were shown"
    remedy = "Read the words again and decide then; nothing was recorded."


class AgeUnknownError(NotAllowedError):
    """A yes from somebody whose age we do not know: a guardian may have to agree first."""

    slug = "age-unknown"
    title = "The age of the member is not known"
    remedy = "Fill in the date of birth, then decide; nothing was recorded."


class FreshProofNeededError(NotAllowedError):
    """No fresh code was answered in this very browser for what it wants to do."""

    slug = "identity-not-proven"
    title = "A fresh code has to be answered in this browser first"
    remedy = "Ask for a code on the page before this one and enter it there; nothing was changed."
