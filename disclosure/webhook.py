"""The pure part of webhooks: the signature, the body, the targets and the retries.

Standard Webhooks (standardwebhooks.com, version 1): HMAC-SHA-256 over id, moment and body. A
body is thin: a type, a moment, and the receiver's own id of a member. Targets inside the house
are refused, or whoever may register a webhook could make the registry knock on doors that only
it can reach.
"""

import base64
import hmac
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson

from kernel import FieldProblem, InvalidRequestError, rfc3339

SECRET_PREFIX = "whsec_"  # noqa: S105 (what a secret begins with)
_SECRET_BYTES = 32
_LONGEST_URL = 500
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_SECOND_US = 1_000_000

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def new_secret() -> bytes:
    """Make the key of a new webhook."""
    return os.urandom(_SECRET_BYTES)


def secret_text(secret: bytes) -> str:
    """Write a key as receivers configure it: `whsec_` and base64."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def signature(secret: bytes, message_id: str, moment_s: int, body: bytes) -> str:
    """Sign a delivery: `v1,` and the base64 of HMAC-SHA-256 over `id.moment.body`."""
    signed = b".".join((message_id.encode(), str(moment_s).encode(), body))
    return "v1," + base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()


def headers(secret: bytes, message_id: str, now_us: int, body: bytes) -> dict[str, str]:
    """Give the headers of a delivery attempt; a repeated one bears the same `webhook-id`."""
    moment_s = now_us // _SECOND_US
    return {
        "content-type": "application/json",
        "user-agent": "yinyom-webhooks",
        "webhook-id": message_id,
        "webhook-timestamp": str(moment_s),
        "webhook-signature": signature(secret, message_id, moment_s, body),
    }


def payload(
    kind: str, at_us: int, pairwise_id: str, purpose: str | None, channel: str | None
) -> bytes:
    """Write a body: the same bytes for every attempt; ids and codes, and nothing else."""
    data = {"id": pairwise_id, "purpose": purpose, "channel": channel}
    return orjson.dumps({"type": kind, "timestamp": rfc3339(at_us), "data": data})


# --- targets --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TargetRules:
    """Where webhooks may go besides public addresses.

    `hosts` are names that may be in the house; `loopback` allows this machine, for a registry
    that itself listens there only.
    """

    hosts: frozenset[str] = frozenset()
    loopback: bool = False

    def check(self, url: str) -> None:
        """Refuse a target that is never delivered to; names are looked up only when sending."""
        problem = self._problem(url)
        if problem is not None:
            raise InvalidRequestError(
                errors=[FieldProblem("/url", problem, _DETAILS[problem])], reason=problem
            )

    def allows(self, host: str, address: str) -> bool:
        """Say whether a host may be reached at an address that its name led to."""
        found = _unwrapped(ipaddress.ip_address(address.partition("%")[0]))
        if host in self.hosts:
            return True
        if found.is_loopback:
            return self.loopback and host in _LOOPBACK_NAMES
        if isinstance(found, ipaddress.IPv6Address) and found not in _GLOBAL_UNICAST:
            return False  # site-local, translated and unassigned ones count as global elsewhere
        return found.is_global and not found.is_multicast

    def _problem(self, url: str) -> str | None:
        try:
            parts = urlsplit(url)
            port, host = parts.port, parts.hostname
        except ValueError:
            return "url"
        printable = url.isascii() and url.isprintable() and " " not in url and "\\" not in url
        if not host or len(url) > _LONGEST_URL or not printable or port == 0:
            return "url"
        if parts.username is not None or parts.password is not None or "#" in url:
            return "url_credentials"
        own = host in _LOOPBACK_NAMES
        if parts.scheme != "https" and not (parts.scheme == "http" and own):
            return "https_required"
        try:
            address = "127.0.0.1" if host == "localhost" else str(ipaddress.ip_address(host))
        except ValueError:
            return None
        return None if self.allows(host, address) else "target_not_allowed"


_DETAILS = {
    "url": "an absolute URL of at most 500 ASCII characters",
    "url_credentials": "no user name, no password and no fragment",
    "https_required": "https, or http on this machine itself",
    "target_not_allowed": "not a public address, and not a host of webhooks.hosts",
}


def _unwrapped(address: Address) -> Address:
    """Look through IPv6 addresses that only carry an IPv4 address."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and address in _NAT64:
        inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return inner or address


# --- retries --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Retries:
    """How long and how often a delivery is tried: doubling pauses up to a longest one."""

    first_us: int = 5 * _SECOND_US
    longest_us: int = 4 * 3600 * _SECOND_US
    window_us: int = 3 * 86_400 * _SECOND_US

    def next_us(self, attempt: int, since_us: int, now_us: int, chance: float) -> int | None:
        """Give when to try again after the `attempt`th failure, or None to give up.

        `chance` is in [0, 1): the pause lies between half of itself and the whole, so that
        receivers that failed together are not all tried again at one moment.
        """
        if now_us - since_us >= self.window_us:
            return None
        pause = min(self.first_us << min(attempt - 1, 40), self.longest_us)
        return now_us + pause // 2 + int(chance * (pause - pause // 2))


def known_types(types: Sequence[str], known: frozenset[str]) -> tuple[str, ...]:
    """Check the types that a webhook asks for, and give each once, in order."""
    problems = [
        FieldProblem(f"/types/{at}", "unknown_type") for at, t in enumerate(types) if t not in known
    ]
    if problems or not types:
        detail = f"one or more of {', '.join(sorted(known))}"
        raise InvalidRequestError(
            detail, errors=problems or [FieldProblem("/types", "missing")], reason="unknown_type"
        )
    return tuple(sorted(set(types)))
