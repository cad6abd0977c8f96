"""E-mail addresses (RFC 5321, RFC 6531): syntax and domain rules, never a network look-up.

The address is kept as its owner wrote it, because a mailbox name may be case-sensitive; only
the comparison key is case-folded. An address typed wholly in capitals says nothing about case
and is lowered.
"""

import re
import unicodedata
from functools import cache, lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Final

from members.normalise.result import Formats, Normal, Normalised, Refused
from members.normalise.text import single_line

if TYPE_CHECKING:
    from email_validator import ValidatedEmail

MAX_EMAIL_CHARS: Final = 320

_PLAIN_LOCAL = re.compile(r"(?=[a-z0-9._\-]{1,64}$)[a-z0-9]+(?:[._\-][a-z0-9]+)*")
_PLAIN_CHARS: Final = 200

_COMMON_DOMAINS: Final = frozenset(
    {
        "gmail.com", "hotmail.com", "outlook.com", "yahoo.com", "icloud.com", "live.com",
        "yahoo.com.tw", "yahoo.co.th", "hinet.net", "msn.com",
    }
)  # fmt: skip
_REAL_NEIGHBOURS: Final = frozenset({"ymail.com", "mail.com", "rocketmail.com", "gmx.com"})


def email(raw: str, _formats: Formats) -> Normalised:
    """Bring an address to its deliverable form with a lower-case, Unicode (IDNA 2008) domain.

    Refused as `invalid`: bad syntax, a domain without a dot, reserved domains that nobody can
    receive mail at. A domain one keystroke away from a very common one is accepted with the
    remark `domain_typo`.
    """
    line = single_line(raw).lstrip("'")
    if "@" not in line or len(line) > MAX_EMAIL_CHARS:
        return Refused("invalid")
    if line.isupper():
        line = line.lower()
    local, _, domain = line.rpartition("@")
    if _PLAIN_LOCAL.fullmatch(local) is not None and len(line) <= _PLAIN_CHARS:
        # The mailbox cannot be wrong here, and a file has far fewer domains than addresses.
        normal_domain = _domain(domain)
        if normal_domain is None:
            return Refused("invalid")
        return Normal(f"{local}@{normal_domain}", _remarks(normal_domain))
    checked = _validated(line)
    if checked is None:
        return Refused("invalid")
    return Normal(checked.normalized, _remarks(checked.domain))


def _validated(line: str) -> "ValidatedEmail | None":
    library = _library()
    try:
        checked: ValidatedEmail = library.validate_email(
            line, check_deliverability=False, strict=True
        )
    except (library.EmailNotValidError, UnicodeError):
        return None
    return checked


@lru_cache(maxsize=1_024)
def _domain(domain: str) -> str | None:
    checked = _validated(f"x@{domain}")
    return None if checked is None else checked.domain


def email_key(address: str) -> str:
    """Return the string under which two spellings of one address are the same."""
    local, _, domain = address.rpartition("@")
    return unicodedata.normalize("NFC", local.casefold()) + "@" + domain


@lru_cache(maxsize=1_024)
def _remarks(domain: str) -> tuple[str, ...]:
    if domain in _COMMON_DOMAINS or domain in _REAL_NEIGHBOURS:
        return ()
    near = any(_one_keystroke_apart(domain, common) for common in _COMMON_DOMAINS)
    return ("domain_typo",) if near else ()


def _one_keystroke_apart(one: str, other: str) -> bool:
    """Say whether a swap, a change, a missing or a doubled letter turns `one` into `other`."""
    if abs(len(one) - len(other)) > 1:
        return False
    start = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        start += 1
    one, other = one[start:], other[start:]
    swapped = one[1:2] + one[:1] + one[2:]
    return swapped == other or one[1:] == other[1:] or one[1:] == other or one == other[1:]


@cache
def _library() -> ModuleType:
    import email_validator

    return email_validator
