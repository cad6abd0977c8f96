"""What somebody looks for in the trail: a filter, a page of what it finds, where to go on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

import orjson

from audit import search_repository
from audit.errors import ManifestError
from audit.manifest import read_row
from audit.repository import AFTER_EVERY_ID
from audit.views import Period, SavedView
from audit.walk_repository import is_walked, walk
from kernel import ReadSession, id_bytes, id_from_bytes, id_moment_us, new_id

EVERY_BRAND = "*"
WORD = r"^[a-z][a-z0-9_.:/-]{0,63}$"
ACTOR = r"^(self|visitor|system|sys_registry|(cli|stf)_[0-9a-z]{26}|[0-9a-f]{32})$"
REQUEST_ID = r"^[A-Za-z0-9][A-Za-z0-9_-]{7,63}$"
DIGEST = r"^sha256:[0-9a-f]{64}$"
_CHUNK = 500
_MOST_LOOKED_AT = 5_000
_MOST_WALKED = 20_000
_FIRST_PORTION = 1_000
_LONGER = 4
_MOST_PERIODS = 100
_SLACK_US = 1_000  # an id orders by its moment to the part of a millisecond
_END_OF_TIME_US = 253_402_300_799 * 1_000_000


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are wanted; what is `None` or empty does not matter.

    `subjects` are the monthly tokens of one member (see `AuditLog.tokens`), `field` a field
    name, `policy` a pack's digest, the period in µs from its first moment up to but not including
    its last. `brand` is not asked for but stands for whoever asks: it leaves out what is not
    theirs to see (`is_seen_by`).
    """

    actor: str | None = None
    action: str | None = None
    purpose: str | None = None
    decision: str | None = None
    field: str | None = None
    request_id: str | None = None
    policy: str | None = None
    subjects: tuple[str, ...] = ()
    from_us: int | None = None
    until_us: int | None = None
    view: SavedView | None = None
    brand: str | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """What is asked for, by name and without a value, as the event of the search tells it."""
        asked = (name for name in _WORDS if getattr(self, name) not in {None, ()})
        return tuple(sorted(f"filter.{_WORDS[name]}" for name in asked))

    def keeps(self, body: Mapping[str, Any]) -> bool:
        """Say whether an event fits in what no search column says."""
        if self.field is not None and self.field not in fields_shown(body):
            return False
        if self.policy is not None and body.get("policy") != self.policy:
            return False
        if self.view is not None and self.view.keeps is not None and not self.view.keeps(body):
            return False
        return is_seen_by(body, self.brand)

    @property
    def reads_bodies(self) -> bool:
        """Whether search columns are not enough to find what is wanted."""
        by_view = self.view is not None and self.view.keeps is not None
        return by_view or any(one is not None for one in (self.field, self.policy, self.brand))


_OTHER_WORDS = {"subjects": "member", "from_us": "from", "until_us": "to"}
_WORDS = {
    each.name: _OTHER_WORDS.get(each.name, each.name)
    for each in fields(EventFilter)
    if each.name != "brand"
}


@dataclass(frozen=True, slots=True)
class FoundEvents:
    """Events, the newest first; `next_before` is where the next page begins, if there is one.

    A search that must read bodies stops after some thousand, and one that no index serves after
    some ten thousand events: a page may then be short, or empty, and there may still be more
    behind it.
    """

    events: tuple[Mapping[str, Any], ...]
    next_before: str | None

    @property
    def searched_to_us(self) -> int | None:
        """Since when (µs) everything was looked through; None where nothing is left to look at."""
        return None if self.next_before is None else id_moment_us(self.next_before) + _SLACK_US


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
    return all(name not in body for name in ("brand", "subject", "manifest"))


def is_open_to(body: Mapping[str, Any], brand: str | None) -> bool:
    """Say whether somebody of a brand may open an event whose id they have.

    Ids cannot be guessed: whoever has one of an event without a brand was shown it, by a request
    or a member of theirs.
    """
    return brand is None or body.get("brand") in {None, brand}


def told_of(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Give an event that was found for a member; `row` in it is the member's own, if it has many.

    `{"place","token","fields"}` of the manifest, read from the bytes that are hashed. None where
    the index over tokens says something else than they: it misleads, and a check of the database
    tells of it.
    """
    body: dict[str, Any] = orjson.loads(row["body"])
    if row["token"] is None:
        return body
    try:
        raw = bytes(row["row"] or b"").removesuffix(b"\n")
        read = read_row(raw, row["place"], body.get("fields", ()))
    except ManifestError:
        return None
    if read.token != row["token"]:
        return None
    return body | {"row": read.document()}


def fields_shown(body: Mapping[str, Any]) -> Sequence[str]:
    """Give the fields that an event tells of: of the member it was found for, if of one."""
    row = body.get("row")
    found: Sequence[str] = body.get("fields", ()) if row is None else row["fields"]
    return found


async def search_events(
    session: ReadSession, wanted: EventFilter, *, before: str | None, most: int, now_us: int
) -> FoundEvents:
    """Give a page of events that fit, the newest first; `now_us` is where a view begins to look."""
    bound = before or AFTER_EVERY_ID
    # A cursor is what a client sends: its moment may be one that no calendar has.
    latest_us = now_us if before is None else min(now_us, id_moment_us(before))
    oldest = await search_repository.oldest_event(session)
    if oldest is None:
        return FoundEvents((), None)
    periods = _periods(wanted, latest_us + _SLACK_US, id_moment_us(oldest))
    found: list[Mapping[str, Any]] = []
    allowance = _Allowance(_MOST_LOOKED_AT, _MOST_WALKED)
    edge_us = 0
    for period in islice(periods, _MOST_PERIODS):
        edge_us = period[0]
        room = most - len(found)
        if wanted.view is not None and wanted.view.over is not None:
            page = await _crossings(session, wanted, wanted.view, period, bound)
        else:
            page = await _in_period(session, wanted, period, bound, room, allowance)
        found += page.events[:room]
        if len(page.events) > room:
            return FoundEvents(tuple(found), found[-1]["id"])
        if page.next_before is not None:
            return FoundEvents(tuple(found), page.next_before)
        if allowance.is_spent or len(found) == most:
            break
    more = next(periods, None) is not None
    return FoundEvents(tuple(found), _least_id(edge_us) if more else None)


@dataclass(frozen=True, slots=True)
class _Page:
    events: tuple[Mapping[str, Any], ...]
    next_before: str | None


@dataclass(slots=True)
class _Allowance:
    """How much one page may still cost: bodies to be read, and events to be walked in vain."""

    bodies: int
    walked: int

    @property
    def is_spent(self) -> bool:
        return self.bodies <= 0 or self.walked <= 0


def _periods(wanted: EventFilter, latest_us: int, oldest_us: int) -> Iterator[Period]:
    """Give the stretches of time to look through, the latest first."""
    first = 0 if wanted.from_us is None else wanted.from_us
    until = _END_OF_TIME_US if wanted.until_us is None else wanted.until_us
    if wanted.view is None or wanted.view.periods is None:
        yield first, until
        return
    for begins, ends in wanted.view.periods(min(until, latest_us)):
        if ends <= max(first, oldest_us):
            return
        if wanted.view.over is None:
            yield max(begins, first), ends
        else:  # a day counts whole, whatever part of it was asked for
            yield begins, ends


async def _in_period(
    session: ReadSession,
    wanted: EventFilter,
    period: Period,
    bound: str,
    most: int,
    allowance: _Allowance,
) -> _Page:
    """Look through one stretch of time."""
    view = wanted.view
    values = {
        "actor": wanted.actor,
        "action": wanted.action,
        "purpose": wanted.purpose,
        "decision": wanted.decision,
        "request_id": wanted.request_id,
        "view_decision": None if view is None else view.decision,
        "from_us": period[0] or None,
        "until_us": None if period[1] == _END_OF_TIME_US else period[1],
    }
    used = {name: value for name, value in values.items() if value is not None}
    actions = () if view is None else view.actions
    oldest, bound = _id_before(period[0]), min(bound, _id_after(period[1]))
    found: list[Mapping[str, Any]] = []
    search = _walk if is_walked(used, wanted.subjects, actions) else _look
    below = await search(session, wanted, used, oldest, bound, found, most, allowance)
    return _Page(tuple(found), below)


async def _walk(
    session: ReadSession,
    wanted: EventFilter,
    used: Mapping[str, str | int],
    oldest: str,
    bound: str,
    found: list[Mapping[str, Any]],
    most: int,
    allowance: _Allowance,
) -> str | None:
    """Add what fits between two ids to `found`, where no index has it; see `_look`.

    In portions that grow while little fits, so that what is common costs little.
    """
    actions = () if wanted.view is None else wanted.view.actions
    chunk = _CHUNK if wanted.reads_bodies else most + 1
    portion = _FIRST_PORTION
    while not allowance.is_spent:
        portion = min(portion, allowance.walked)
        walked = await walk(
            session, used, actions, before=bound, oldest=oldest, portion=portion, most=chunk
        )
        allowance.walked -= walked.events
        allowance.bodies -= len(walked.fitting)
        for row in walked.fitting:
            body = orjson.loads(row["body"])
            if wanted.keeps(body):
                if len(found) == most:
                    return str(found[-1]["id"])
                found.append(body)
        if len(walked.fitting) == chunk:  # and perhaps more of this portion
            bound = walked.fitting[-1]["id"]
        elif walked.events < portion or walked.lowest <= oldest:
            return None
        else:
            bound, portion = walked.lowest, portion * _LONGER
    return bound


async def _look(
    session: ReadSession,
    wanted: EventFilter,
    used: Mapping[str, str | int],
    oldest: str,
    bound: str,
    found: list[Mapping[str, Any]],
    most: int,
    allowance: _Allowance,
) -> str | None:
    """Add what fits between two ids to `found`; gives where to go on if it is not all."""
    actions = () if wanted.view is None else wanted.view.actions
    chunk = _CHUNK if wanted.reads_bodies else most + 1
    while allowance.bodies > 0:
        rows = await search_repository.events_that_fit(
            session, used, wanted.subjects, actions, before=bound, oldest=oldest, most=chunk
        )
        allowance.bodies -= len(rows)
        for row in rows:
            body = told_of(row) if wanted.subjects else orjson.loads(row["body"])
            if body is None or not wanted.keeps(body):
                continue
            if len(found) == most:
                return str(found[-1]["id"])
            found.append(body)
        if len(rows) < chunk:
            return None
        bound = rows[-1]["id"]
    return bound


async def _crossings(
    session: ReadSession, wanted: EventFilter, view: SavedView, period: Period, bound: str
) -> _Page:
    """Find the events with which actors went over the number of members in one period."""
    rows = await search_repository.events_over(
        session,
        view.actions,
        view.over or 0,
        from_us=period[0],
        until_us=period[1],
        oldest=_id_before(period[0]),
        newest=_id_after(period[1]),
    )
    bodies = [(row, orjson.loads(row["body"])) for row in rows if row["id"] < bound]
    fitting = tuple(body for row, body in bodies if _fits(row, wanted) and wanted.keeps(body))
    return _Page(fitting, None)


def _fits(row: Mapping[str, Any], wanted: EventFilter) -> bool:
    columns = ("actor", "action", "purpose", "decision", "request_id")
    if any(getattr(wanted, name) not in {None, row[name]} for name in columns):
        return False
    if wanted.from_us is not None and row["recorded_us"] < wanted.from_us:
        return False
    if wanted.until_us is not None and row["recorded_us"] >= wanted.until_us:
        return False
    return not wanted.subjects or row["subject"] in wanted.subjects


def _least_id(moment_us: int) -> str:
    """Give the least id of a moment: whatever was made before has a smaller one."""
    return id_from_bytes("evt", id_bytes(new_id("evt", moment_us))[:8] + b"\x80" + bytes(7))


def _id_before(moment_us: int) -> str:
    return new_id("evt", moment_us - _SLACK_US) if moment_us > _SLACK_US else ""


def _id_after(moment_us: int) -> str:
    return AFTER_EVERY_ID if moment_us >= _END_OF_TIME_US else new_id("evt", moment_us + _SLACK_US)
