"""What the providers behind a network share: how they fail, and where they may go.

A KMS that answers wrongly is as good as one that does not answer. No text of an answer comes
into an error: it may hold a token, or whatever the other side likes.
"""

import re
from urllib.parse import urlsplit

from kernel import UnavailableError
from vault.errors import KeyRingError

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9]{0,59}")
MISUNDERSTANDINGS = (AttributeError, KeyError, RecursionError, TypeError, ValueError)
"""What a client library raises at an answer that is none: nested too deep, of another shape."""
_THIS_MACHINE = frozenset({"127.0.0.1", "::1", "localhost"})


def require_tls(address: str, setting: str) -> None:
    """Refuse an address that would send keys in the clear; this machine itself may be plain."""
    remedy = f"Give {setting} as https://…, without a name or a password in it."
    try:
        parts = urlsplit(address)
        host, has_user = parts.hostname, parts.username is not None
    except ValueError:
        raise KeyRingError(f"{setting} is not an address", remedy=remedy) from None
    if host is None or has_user or parts.scheme not in {"http", "https"}:
        raise KeyRingError(f"{setting} is not an address", remedy=remedy)
    if parts.scheme == "http" and host not in _THIS_MACHINE:
        raise KeyRingError(f"{setting} would send keys in the clear", remedy=remedy)


def require(value: str, setting: str, remedy: str) -> str:
    """Give a setting that this provider cannot do without."""
    if not value:
        raise KeyRingError(f"{setting} is not set", remedy=remedy)
    return value


def unreachable(kms: str, why: str) -> UnavailableError:
    """Say that a KMS does not answer."""
    return UnavailableError(
        f"{kms} does not answer ({_plain(why)})",
        reason="kms_unavailable",
        remedy="Nothing was changed. Look at the network and at the KMS, then start again.",
    )


def refused(kms: str, why: str, remedy: str, *, reason: str = "kms_refused") -> KeyRingError:
    """Say that a KMS answers and does not let us."""
    return KeyRingError(f"{kms} refused ({_plain(why)})", reason=reason, remedy=remedy)


def not_understood(kms: str) -> UnavailableError:
    """Say that a KMS answered something else."""
    return unreachable(kms, "UnexpectedAnswer")


def _plain(code: str) -> str:
    return code if _CODE.fullmatch(code) else "unknown"
