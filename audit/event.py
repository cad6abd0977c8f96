"""What one audit event says, and the canonical bytes whose hash is its leaf in the log.

An event names people by keyed monthly tokens, fields by name and values by keyed digests:
whoever steals the whole log, or keeps it after a member was erased, finds nothing personal in
it, because there is no place to put it. The bytes are written once, stored and hashed as
stored; nobody ever serialises an event a second time.
"""

import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import orjson

from audit.errors import EventError
from audit.manifest import MOST_ROWS, Manifest
from audit.retention import Pruned

VERSION = 1
MAX_EVENT_BYTES = 8192
NONCE_BYTES = 16
MIN_KEY_BYTES = 16
MAX_COUNT = 2**53 - 1
_DIGEST_BYTES = 16
_MICROSECONDS = 1_000_000
_END_OF_YEAR_9999_US = 253_402_300_800 * _MICROSECONDS

Decision = Literal["allow", "deny"]
Outcome = Literal["ok", "error", "partial"]


class Actor(NamedTuple):
    """Who acted: a pseudonymous id, the role acted in, and the way in (`api`, `console`, …).

    A member who acts on their own account is `self`; another member (a guardian) is the
    subject token of that member. A member's id is not an actor id.
    """

    id: str
    role: str
    via: str


class Subject(NamedTuple):
    """Whom the event is about: an HMAC token, and the month (`YYYY-MM`, UTC) it is good for."""

    token: str
    epoch: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One event, as docs/formats/audit-log.md describes it; what is `None` or empty is left out.

    `ts` is in microseconds since the epoch, UTC. `nonce` is 16 random bytes, which keep the
    leaf hash from being guessed once the event itself has been pruned. `fields` are field
    names; `before` and `after` map field names to `value_digest`s. `policy` and `detail_ref`
    are `sha256:…` digests, of the policy pack decided by and of an encrypted detail. `pruned`
    tells which bodies were deleted because their time had come. `manifest` stands for the rows of
    a disclosure to many: their number and the root over them.
    """

    id: str
    ts: int
    nonce: bytes
    actor: Actor
    action: str
    outcome: Outcome = "ok"
    purpose: str | None = None
    channel: str | None = None
    legal_basis: str | None = None
    resource: str | None = None
    subject: Subject | None = None
    fields: tuple[str, ...] = ()
    decision: Decision | None = None
    reason: str | None = None
    policy: str | None = None
    request_id: str | None = None
    count: int | None = None
    before: Mapping[str, str] | None = None
    after: Mapping[str, str] | None = None
    detail_ref: str | None = None
    brand: str | None = None
    pruned: Pruned | None = None
    manifest: Manifest | None = None


_OPTIONAL_TEXTS = (
    "purpose",
    "channel",
    "legal_basis",
    "resource",
    "decision",
    "reason",
    "policy",
    "request_id",
    "detail_ref",
    "brand",
)


def canonical_bytes(event: AuditEvent) -> bytes:
    """Write the event as the bytes that are stored and hashed: RFC 8785 JSON, at most 8 KiB.

    On the path of every read, so it trusts the strings: there they come from the compiled
    policy and from ids of our own making. Whatever else makes events calls `check` first.
    `EventError` for what would break the format itself.
    """
    if len(event.nonce) != NONCE_BYTES:
        raise EventError(f"nonce: not {NONCE_BYTES} bytes")
    actor = event.actor
    body: dict[str, Any] = {
        "v": VERSION,
        "id": event.id,
        "ts": timestamp(event.ts),
        "nonce": event.nonce.hex(),
        "actor": {"id": actor.id, "role": actor.role, "via": actor.via},
        "action": event.action,
        "outcome": event.outcome,
    }
    for name in _OPTIONAL_TEXTS:
        text = getattr(event, name)
        if text is not None:
            body[name] = text
    if event.subject is not None:
        body["subject"] = {"token": event.subject.token, "epoch": event.subject.epoch}
    if event.fields:
        body["fields"] = sorted(event.fields)
    if event.count is not None:
        if type(event.count) is not int:
            raise EventError("count: not a whole number")
        body["count"] = event.count
    if event.before or event.after or event.pruned:
        body |= _digests(event)
    if event.manifest is not None:
        body["manifest"] = {"rows": event.manifest.rows, "root": event.manifest.root}
    try:
        encoded = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise EventError("a member is not JSON") from error
    if len(encoded) > MAX_EVENT_BYTES:
        raise EventError(f"the event takes {len(encoded)} bytes, and {MAX_EVENT_BYTES} are allowed")
    return encoded


def timestamp(moment_us: int) -> str:
    """Write a moment in microseconds since the epoch as RFC 3339, UTC, with microseconds."""
    seconds, microseconds = divmod(moment_us, _MICROSECONDS)
    return f"{_to_the_second(seconds)}.{microseconds:06d}Z"


def epoch_of(moment_us: int) -> str:
    """Give the month in UTC, `YYYY-MM`, in which a subject's token is valid."""
    return _to_the_second(moment_us // _MICROSECONDS)[:7]


def epochs(first_us: int, last_us: int) -> list[str]:
    """List the months from that of one moment to that of another, both included."""
    first, last = (
        int(e[:4]) * 12 + int(e[5:]) - 1 for e in (epoch_of(first_us), epoch_of(last_us))
    )
    return [f"{month // 12:04}-{month % 12 + 1:02}" for month in range(first, last + 1)]


def subject_token(pseudonym_key: bytes, when_us: int) -> Subject:
    """Name a member in events of the month of `when_us`: HMAC-SHA-256, first 16 bytes, hex.

    Without the member's key nobody can tell whose token it is, nor that two months' tokens
    belong to one member; once the key is destroyed, nobody at all can.
    """
    epoch = epoch_of(when_us)
    return Subject(_token(pseudonym_key, epoch), epoch)


def subject_tokens(pseudonym_key: bytes, months: Iterable[str]) -> list[str]:
    """Give the member's tokens of several months (see `epochs`), to look events up by."""
    return [_token(pseudonym_key, epoch) for epoch in months]


def value_digest(pseudonym_key: bytes, field: str, value: str) -> str:
    """Digest a field's value so that equal values can be told, under the member's key only.

    A plain hash would not do: there are few birthdays and few phone numbers, and a loop over
    them is quick. `value` is the value's canonical text. Gives 16 bytes as hex.
    """
    message = b"value|" + _length_prefixed(field) + _length_prefixed(value)
    return _keyed(pseudonym_key, message)


def check(event: AuditEvent) -> bytes:
    """Give the canonical bytes of an event whose members have the shapes of the format.

    All text must be an id, a digest or a word of a vocabulary: a member's id, an address, a
    number or a sentence does not pass. Called wherever a member of the event may have come
    from outside, and on every event in the tests; the hot read path leaves it out, as its
    strings were matched against the policy a moment before. `EventError` names the member
    and never its content.
    """
    _check_frame(event)
    _check_words(event)
    if event.pruned is not None:
        _check_pruned(event.pruned)
    if event.manifest is not None:
        _check_manifest(event)
    if event.subject is not None:
        _require(_HEX_16.fullmatch(event.subject.token), "subject.token")
        _require(event.subject.epoch == epoch_of(event.ts), "subject.epoch")
    _require(list(event.fields) == sorted(set(event.fields)), "fields")
    for name in event.fields:
        _require(is_word(name), "fields")
    for side in ("before", "after"):
        for name, digest in (getattr(event, side) or {}).items():
            _require(is_word(name), side)
            _require(_HEX_16.fullmatch(digest), side)
    return canonical_bytes(event)


_ID = "_[0-9a-hjkmnp-tv-z]{26}"
_EVENT_ID = re.compile(f"evt{_ID}")
_HEX_16 = re.compile("[0-9a-f]{32}")
_HEX_32 = re.compile("[0-9a-f]{64}")
_SHA256 = re.compile("sha256:[0-9a-f]{64}")
_MONTH = re.compile("[0-9]{4}-(?:0[1-9]|1[0-2])")
_REQUEST_ID = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{7,63}")
_WORD = re.compile(r"(?=.{1,64}$)(?!.*[0-9]{7})[a-z][a-z0-9_]*(?:[.:/-][a-z0-9_]+)*")
_ANY_ID = re.compile(f"[a-z]{{2,5}}{_ID}")
_REFERENCE = re.compile(f"(?P<kind>.+?)(?::{_ANY_ID.pattern})?")
_known_words: set[str] = set()  # what was refused may be anything, and is never kept
_MOST_KNOWN = 4096
_MEMBER_ID = re.compile(f"(?:mem|sub|cp){_ID}")
"""Ids that name one member for good; in a log that cannot forget they would outlive erasure."""


def _check_frame(event: AuditEvent) -> None:
    _require(_EVENT_ID.fullmatch(event.id), "id")
    _require(type(event.ts) is int and 0 <= event.ts < _END_OF_YEAR_9999_US, "ts")
    _require(event.outcome in {"ok", "error", "partial"}, "outcome")
    _require(event.decision in {None, "allow", "deny"}, "decision")
    _require(event.policy is None or _SHA256.fullmatch(event.policy), "policy")
    _require(event.detail_ref is None or _SHA256.fullmatch(event.detail_ref), "detail_ref")
    _require(
        event.count is None or (type(event.count) is int and 0 <= event.count <= MAX_COUNT),
        "count",
    )
    request_id = event.request_id
    _require(
        request_id is None
        or (_REQUEST_ID.fullmatch(request_id) and not _MEMBER_ID.search(request_id)),
        "request_id",
    )


def _digests(event: AuditEvent) -> dict[str, Any]:
    body: dict[str, Any] = {name: getattr(event, name) for name in ("before", "after")}
    body["pruned"] = None if event.pruned is None else _pruned(event.pruned)
    return {name: value for name, value in body.items() if value}


def _pruned(pruned: Pruned) -> dict[str, Any]:
    body: dict[str, Any] = {
        "month": pruned.month,
        "rule": pruned.rule,
        "first": pruned.first,
        "last": pruned.last,
    }
    if pruned.gaps:
        body["except"] = [list(gap) for gap in pruned.gaps]
    return body


def _check_pruned(pruned: Pruned) -> None:
    _require(is_month(pruned.month), "pruned.month")
    _require(is_word(pruned.rule), "pruned.rule")
    numbers = [pruned.first, *(each for gap in pruned.gaps for each in gap), pruned.last]
    _require(all(type(n) is int and 0 <= n <= MAX_COUNT for n in numbers), "pruned")
    _require(all(first <= last for first, last in pruned.runs), "pruned")
    _require(all(first <= last for first, last in pruned.gaps), "pruned.except")


def _check_manifest(event: AuditEvent) -> None:
    rows, root = event.manifest or (0, "")
    _require(type(rows) is int and 0 < rows <= MOST_ROWS, "manifest.rows")
    _require(_HEX_32.fullmatch(root), "manifest.root")
    _require(event.count == rows and event.subject is None, "manifest")


def _check_words(event: AuditEvent) -> None:
    for name in ("action", "purpose", "channel", "legal_basis", "reason", "brand"):
        word = getattr(event, name)
        _require(word is None or is_word(word), name)
    resource = event.resource
    _require(resource is None or _is_reference(resource) or _SHA256.fullmatch(resource), "resource")
    _require(is_word(event.actor.role), "actor.role")
    _require(is_word(event.actor.via), "actor.via")
    actor_id = event.actor.id
    _require(
        _is_reference(actor_id) or _HEX_16.fullmatch(actor_id),
        "actor.id",
    )


def is_month(text: str) -> bool:
    """Say whether this is a month, `YYYY-MM`."""
    return _MONTH.fullmatch(text) is not None


def is_word(text: str) -> bool:
    """Say whether this is a vocabulary word: no id in it and no run of digits fit for a number."""
    if text in _known_words:
        return True
    fits = _WORD.fullmatch(text) is not None and _ANY_ID.search(text) is None
    if fits and len(_known_words) < _MOST_KNOWN:
        _known_words.add(text)
    return fits


def _is_reference(text: str) -> bool:
    """A word, an id that names no member, or both: `member/view`, `con_…`, `consent:con_…`."""
    match = _REFERENCE.fullmatch(text)
    if match is None or _MEMBER_ID.search(text) is not None:
        return False
    return is_word(match["kind"]) or _ANY_ID.fullmatch(text) is not None


def _require(fits: object, member: str) -> None:
    if not fits:
        raise EventError(f"{member}: not of the shape that the format allows")


@lru_cache(maxsize=256)
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _token(pseudonym_key: bytes, epoch: str) -> str:
    return _keyed(pseudonym_key, b"subj|" + epoch.encode())


def _keyed(pseudonym_key: bytes, message: bytes) -> str:
    if len(pseudonym_key) < MIN_KEY_BYTES:
        raise EventError("the pseudonym key is too short to hide anything")
    return hmac.digest(pseudonym_key, message, "sha256")[:_DIGEST_BYTES].hex()


def _length_prefixed(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(4) + encoded
