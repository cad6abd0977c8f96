"""What can go wrong with keys and cells. One error for every failed opening, on purpose."""

from kernel import ConfigurationError, YinyomError


class UnreadableError(YinyomError):
    """A cell or key did not open: wrong key, wrong place, changed bytes, or a destroyed key.

    Which of these it was is not told: an attacker who swaps cells learns nothing from it.
    """

    slug = "unreadable"
    status = 500
    title = "A stored value could not be opened"
    remedy = "Run `yinyom vault doctor`; nothing was disclosed."


class KeyRingError(ConfigurationError):
    """The key ring is missing, foreign, or not protected as it must be."""

    slug = "key-ring"
    title = "The key ring cannot be used"
    remedy = "Put the right key ring into the data directory, or run `yinyom init` for a new one."
