"""What somebody looks for in the trail: a filter, a page of what it finds, where to go on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from audit import search_repository
from audit.repository import AFTER_EVERY_ID
from kernel import ReadSession, new_id

EVERY_BRAND = "*"
_CHUNK = 500
_MOST_LOOKED_AT = 5_000
_SLACK_US = 1_000  # an id orders by its moment to the part of a millisecond


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are wanted; what is `None` or empty does not matter.

    `subjects` are the monthly tokens of one member (see `AuditLog.tokens`), `field` a field
    name, the period in µs from its first moment up to but not including its last. `brand` is not
    asked for but stands for whoever asks: it leaves out what is not theirs to see (`is_seen_by`).
    """

    actor: str | None = None
    action: str | None = None
    purpose: str | None = None
    decision: str | None = None
    field: str | None = None
    subjects: tuple[str, ...] = ()
    from_us: int | None = None
    until_us: int | None = None
    brand: str | None = None

    @property
    def count(self) -> int:
        """How many things are asked for, for the event of the search."""
        asked = (name for name in self.__slots__ if name != "brand")
        return sum(getattr(self, name) not in {None, ()} for name in asked)


@dataclass(frozen=True, slots=True)
class FoundEvents:
    """Events, the newest first; `next_before` is where the next page begins, if there is one.

    A search by field reads bodies and stops after some thousand: a page may then be short, or
    empty, and there may still be more behind it.
    """

    events: tuple[Mapping[str, Any], ...]
    next_before: str | None


def brand_of(brand: str) -> str | None:
    """Give whose events somebody of a brand sees; None for whoever stands for every brand."""
    return None if brand == EVERY_BRAND else brand


def is_seen_by(body: Mapping[str, Any], brand: str | None) -> bool:
    """Say whether somebody of a brand may see an event in an overview; None sees every one.

    Theirs is what was done in their brand, and what concerns the whole installation and no
    member. What the registry itself did to a member is found through that member.
    """
    if brand is None or body.get("brand") == brand:
        return True
    return "brand" not in body and "subject" not in body


def is_open_to(body: Mapping[str, Any], brand: str | None) -> bool:
    """Say whether somebody of a brand may open an event whose id they have.

    Ids cannot be guessed: whoever has one of an event without a brand was shown it, by a request
    or a member of theirs.
    """
    return brand is None or body.get("brand") in {None, brand}


async def search_events(
    session: ReadSession, wanted: EventFilter, *, before: str | None, most: int
) -> FoundEvents:
    """Give a page of events that fit, the newest first."""
    bound = before or AFTER_EVERY_ID
    if wanted.until_us is not None:
        bound = min(bound, new_id("evt", wanted.until_us + _SLACK_US))
    oldest = "" if wanted.from_us is None else new_id("evt", max(0, wanted.from_us - _SLACK_US))
    values = {
        "actor": wanted.actor,
        "action": wanted.action,
        "purpose": wanted.purpose,
        "decision": wanted.decision,
        "from_us": wanted.from_us,
        "until_us": wanted.until_us,
    }
    used = {name: value for name, value in values.items() if value is not None}
    found: list[Mapping[str, Any]] = []
    looked_at = 0
    by_body = wanted.field is not None or wanted.brand is not None
    chunk = _CHUNK if by_body else most + 1
    while looked_at < _MOST_LOOKED_AT:
        rows = await search_repository.events_that_fit(
            session, used, wanted.subjects, before=bound, oldest=oldest, most=chunk
        )
        looked_at += len(rows)
        for row in rows:
            body = orjson.loads(row["body"])
            has_field = wanted.field is None or wanted.field in body.get("fields", ())
            if has_field and is_seen_by(body, wanted.brand):
                if len(found) == most:
                    return FoundEvents(tuple(found), found[-1]["id"])
                found.append(body)
        if len(rows) < chunk:
            return FoundEvents(tuple(found), None)
        bound = rows[-1]["id"]
    return FoundEvents(tuple(found), bound)
