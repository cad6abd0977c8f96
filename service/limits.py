"""How often something may be tried, such as asking for a code or guessing a password.

Keeps a stranger from flooding a member with codes and from trying many numbers quickly. Counts
live in this process only and are forgotten with it; an address is kept as a keyed digest under
a key that nobody wrote down.
"""

import hashlib
import ipaddress
import os
from collections import OrderedDict, deque

HOUR_US = 3_600 * 1_000_000
CODES_PER_POINT = 5
_MOST_KEYS = 50_000
_KEY_BYTES = 16
_IPV6_SITE = 64
_NOBODY = b"unknown"


class SlidingWindow:
    """At most so many times per key in any window of time."""

    def __init__(self, most: int, window_us: int = HOUR_US, *, most_keys: int = _MOST_KEYS) -> None:
        self._most = most
        self._window_us = window_us
        self._most_keys = most_keys
        self._seen: OrderedDict[bytes, deque[int]] = OrderedDict()

    def take(self, key: bytes, now_us: int) -> bool:
        """Count one use of a key; False when it was used too often, which is not counted."""
        times = self._seen.setdefault(key, deque())
        while times and times[0] <= now_us - self._window_us:
            times.popleft()
        if len(times) >= self._most:
            return False
        times.append(now_us)
        self._seen.move_to_end(key)
        while len(self._seen) > self._most_keys:
            self._seen.popitem(last=False)
        return True


class AddressKey:
    """Turns a network address into a key that says nothing outside this process."""

    def __init__(self) -> None:
        self._key = os.urandom(_KEY_BYTES)

    def of(self, address: str | None) -> bytes:
        """Give the key of an address; one IPv6 site (/64) counts as one address."""
        return hashlib.blake2b(
            _site(address), key=self._key, digest_size=_KEY_BYTES, usedforsecurity=True
        ).digest()


def _site(address: str | None) -> bytes:
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return _NOBODY
    if found.version == 4:  # noqa: PLR2004 (an IP version)
        return found.packed
    mapped = found.ipv4_mapped
    if mapped is not None:
        return mapped.packed
    return found.packed[: _IPV6_SITE // 8]


class CodeLimits:
    """How many codes a contact and a network address may still ask for, in this process."""

    def __init__(self, codes_per_address: int) -> None:
        self._key = AddressKey()
        self._by_contact = SlidingWindow(CODES_PER_POINT)
        self._by_address = SlidingWindow(codes_per_address)

    def ask(self, address: str | None, now_us: int) -> bool:
        """Count one code that an address asks for; False when it asked too often."""
        return self._by_address.take(self._key.of(address), now_us)

    def send(self, contact: bytes, now_us: int) -> bool:
        """Count one code that goes to a contact; False when it got too many."""
        return self._by_contact.take(contact, now_us)
