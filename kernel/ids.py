"""Prefixed identifiers: `mem_01k…`, sortable by creation, unguessable in their tail.

The 128 bits are a UUID version 7 (RFC 9562 section 5.7) in Crockford base 32, lower case, so
an id is 26 letters behind its prefix, safe in a URL and in a file name. Pairwise ids carry no
time on purpose: two clients who compare creation times must not find the same person.
"""

import os
import time
from functools import lru_cache
from typing import NewType

MemberId = NewType("MemberId", str)
PairwiseId = NewType("PairwiseId", str)
ContactPointId = NewType("ContactPointId", str)
ConsentEventId = NewType("ConsentEventId", str)
AuditEventId = NewType("AuditEventId", str)
ClientId = NewType("ClientId", str)

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_LENGTH = 26
_UNDERSCORE = -_LENGTH - 1
_LETTERS = slice(-_LENGTH, None)
_DIGITS = b"0123456789abcdefghijklmnopqrstuv"
# Everything but our letters becomes a character that no number has.
_TO_PYTHON = bytes(
    _DIGITS[_ALPHABET.index(chr(code))] if chr(code) in _ALPHABET else 0x21 for code in range(256)
)
_TEN_BITS = 0x3FF


def uuid7_bytes(now_us: int, random: bytes | None = None) -> bytes:
    """Make the 16 bytes of a UUIDv7 for a moment in microseconds since the epoch."""
    tail = int.from_bytes(random or os.urandom(8)) & 0x3FFF_FFFF_FFFF_FFFF
    milliseconds, microseconds = divmod(now_us, 1000)
    sub_millisecond = microseconds * 4096 // 1000
    value = milliseconds << 80 | 0x7 << 76 | sub_millisecond << 64 | 0b10 << 62 | tail
    return value.to_bytes(16)


def _base32(value: int) -> str:
    return "".join([_PAIRS[value >> shift & _TEN_BITS] for shift in range(120, -1, -10)])


def new_id(prefix: str, now_us: int | None = None) -> str:
    """Make a time-ordered id such as `mem_01k8…`; `now_us` is in microseconds."""
    moment = time.time_ns() // 1000 if now_us is None else now_us
    return f"{prefix}_{_base32(int.from_bytes(uuid7_bytes(moment)))}"


def new_random_id(prefix: str) -> str:
    """Make an id of 128 random bits that says nothing about when it was made."""
    return f"{prefix}_{_base32(int.from_bytes(os.urandom(16)))}"


@lru_cache(maxsize=4096)
def id_bytes(identifier: str) -> bytes:
    """Give the 16 bytes behind a prefixed id; `ValueError` when it is not one of ours."""
    try:
        if identifier[_UNDERSCORE] == "_":
            return int(identifier[_LETTERS].encode().translate(_TO_PYTHON), 32).to_bytes(16)
    except (IndexError, OverflowError, ValueError):
        pass
    raise ValueError("not a prefixed id")


def id_from_bytes(prefix: str, raw: bytes) -> str:
    """Write 16 bytes as an id: the inverse of `id_bytes`."""
    return f"{prefix}_{_base32(int.from_bytes(raw))}"


def id_moment_us(identifier: str) -> int:
    """Give the moment at which a time-ordered id was made, in microseconds to the millisecond."""
    return int.from_bytes(id_bytes(identifier)[:6]) * 1000


def is_id(prefix: str, text: str) -> bool:
    """Say whether `text` is a well-formed id with this prefix."""
    if not text.startswith(prefix + "_") or len(text) != len(prefix) + 1 + _LENGTH:
        return False
    try:
        id_bytes(text)
    except ValueError:
        return False
    return True
