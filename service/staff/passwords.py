"""Passwords of staff: scrypt with its parameters beside the hash, compared in constant time.

Kept out is whoever copied the database: each guess costs 32 MB and a good part of a second. The
parameters are stored, so they can grow without locking anybody out. Names nobody has cost the
same work as names somebody has.
"""

import base64
import hmac
import os
import secrets
import unicodedata
from dataclasses import dataclass

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

LEAST_LETTERS = 12
MOST_LETTERS = 256
_LEAST_DIFFERENT = 6
_SALT_BYTES = 16
_HASH_BYTES = 32
_ONE_TIME_BYTES = 15
_SCHEME = "scrypt"


@dataclass(frozen=True, slots=True)
class Cost:
    """What one guess costs (RFC 7914): `n` rounds of `128 * r` bytes, `p` times over."""

    n: int = 2**15
    r: int = 8
    p: int = 1


COST = Cost()


def hash_password(password: str, cost: Cost = COST) -> str:
    """Give `scrypt$n$r$p$salt$hash`, the form in which a password is stored; takes its time."""
    salt = os.urandom(_SALT_BYTES)
    digest = _derive(password, salt, cost)
    numbers = f"{cost.n}${cost.r}${cost.p}"
    return f"{_SCHEME}${numbers}${_text(salt)}${_text(digest)}"


def fits(password: str, stored: str) -> bool:
    """Say whether this is the password that was stored; takes its time, whatever the answer."""
    scheme, n, r, p, salt, digest = stored.split("$")
    if scheme != _SCHEME:
        raise ValueError("no such way to store a password")
    found = _derive(password, _bytes(salt), Cost(int(n), int(r), int(p)))
    return hmac.compare_digest(found, _bytes(digest))


def one_time_password() -> str:
    """Make a password of 120 random bits, for somebody to type once."""
    return secrets.token_urlsafe(_ONE_TIME_BYTES)


def weakness(password: str, name: str) -> str | None:
    """Say what is wrong with a password that somebody chose: a code, or None when it will do."""
    text = _normal(password)
    if not LEAST_LETTERS <= len(text) <= MOST_LETTERS:
        return "length"
    if len(set(text)) < _LEAST_DIFFERENT:
        return "repeated"
    return "name" if name.casefold() in text.casefold() else None


def _derive(password: str, salt: bytes, cost: Cost) -> bytes:
    kdf = Scrypt(salt=salt, length=_HASH_BYTES, n=cost.n, r=cost.r, p=cost.p)
    return kdf.derive(_normal(password)[:MOST_LETTERS].encode())


def _normal(password: str) -> str:
    """Two keyboards may spell one Thai or accented letter in two ways (RFC 8265)."""
    return unicodedata.normalize("NFC", password)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
