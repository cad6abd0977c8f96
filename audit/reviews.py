"""Emergency reads and the second person who looks at each of them afterwards.

An emergency that waits for an approval is none, so nobody is asked before. What keeps an officer
honest is that every such read stays *to be reviewed* until somebody else has recorded what it was.
Which ones wait is no list that anybody keeps: it is the sealed details, whose rows never go, less
the reviews, of which each names its event in the log. Kept out is the officer who would look at
their own read, and whoever would take a second look for the first.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import orjson

from audit import review_repository as repository
from audit.repository import event_by_id
from audit.search import brand_of, is_seen_by
from audit.service import AuditLog
from audit.views import BREAK_GLASS
from kernel import (
    Caller,
    ConflictError,
    FieldProblem,
    IntegrityError,
    InvalidRequestError,
    NotAllowedError,
    NotFoundError,
    ReadSession,
    UnitOfWork,
    from_rfc3339,
)

REVIEWED = "break_glass.reviewed"
"""The action of the event that says what a second person found; `resource` is the read."""
ReviewOutcome = Literal["justified", "not_justified"]
REVIEW_OUTCOMES: tuple[str, ...] = get_args(ReviewOutcome)
_AT_ONCE = 100


class Eyes(Protocol):
    """Tells persons apart behind the ids that act and approve; the service has it."""

    async def apart(self, session: ReadSession, proposer: str, approver: str) -> bool:
        """Say whether the second is known to be another person than the first."""
        ...


@dataclass(frozen=True, slots=True)
class ToReview:
    """An emergency read that nobody else has looked at, and when (µs) that is overdue.

    `event` is its body as it is in the log; `sealed` says that its justification is still there.
    """

    event: Mapping[str, Any]
    due_us: int
    sealed: bool


@dataclass(frozen=True, slots=True)
class Review:
    """What a second person has found: their event, its body if it is still there."""

    event_id: str
    event: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many reads wait for a second person, and how many of them longer than they should."""

    reads: int
    overdue: int


class Reviews:
    """Lists what waits for a second person, and records what that person found.

    `due_us` gives for the moment (µs) of a read the one from which its review is overdue.
    """

    def __init__(self, audit: AuditLog, eyes: Eyes, due_us: Callable[[int], int]) -> None:
        self._audit = audit
        self._eyes = eyes
        self._due_us = due_us

    async def record_search(self, work: UnitOfWork, caller: Caller) -> None:
        """Put on record that somebody lists what waits, as any search of the trail."""
        await self._audit.record(
            work,
            caller,
            "audit.search",
            decision="allow",
            fields=("filter.view",),
            count=1,
            resource="view/to-review",
        )

    async def waiting(
        self, session: ReadSession, brand: str, *, after: str | None = None, most: int
    ) -> list[ToReview]:
        """Give reads that wait, of a brand or of all (`*`), the oldest first, behind an event.

        What an event said goes when its time has come; from then on nobody can review it. It costs
        a look at every emergency there ever was, which an officer has a few of a day.
        """
        found: list[ToReview] = []
        after = after or ""
        while True:
            rows = await repository.unreviewed(session, after=after, most=_AT_ONCE)
            for row in rows:
                body = None if row["body"] is None else orjson.loads(row["body"])
                if body is None or not _is_seen(body, brand):
                    continue
                found.append(self._to_review(body, sealed=bool(row["sealed"])))
                if len(found) == most:
                    return found
            if len(rows) < _AT_ONCE:
                return found
            after = rows[-1]["event_id"]

    async def count(
        self, session: ReadSession, brand: str, *, but_of: str | None = None, most: int
    ) -> Waiting:
        """Count what waits, up to `most`; without the reads of an actor who may not review them."""
        found = await self.waiting(session, brand, most=most)
        now_us = self._audit.now_us()
        theirs = [one for one in found if one.event["actor"]["id"] != but_of]
        return Waiting(len(theirs), sum(one.due_us <= now_us for one in theirs))

    async def read(self, session: ReadSession, event_id: str, brand: str) -> ToReview:
        """Give an emergency read of a brand, reviewed or not.

        Raises:
            NotFoundError: `event_unknown`, for what is no emergency that was allowed as well.
        """
        row = await event_by_id(session, event_id)
        kept = await repository.detail_of(session, event_id)
        if row is not None and kept is not None:
            body = orjson.loads(row["body"])
            if _is_seen(body, brand):
                return self._to_review(body, sealed=bool(kept["sealed"]))
        raise NotFoundError("no such emergency", reason="event_unknown")

    async def review_of(self, session: ReadSession, event_id: str) -> Review | None:
        """Give what a second person has found of a read; None while it waits."""
        row = await repository.review_of(session, event_id)
        if row is None:
            return None
        found = await event_by_id(session, row["reviewed_by"])
        return Review(row["reviewed_by"], None if found is None else orjson.loads(found["body"]))

    async def is_others(self, session: ReadSession, caller: Caller, read: ToReview) -> bool:
        """Say whether a caller is known to be another person than who read."""
        return await self._eyes.apart(session, read.event["actor"]["id"], caller.id)

    async def review(self, work: UnitOfWork, caller: Caller, event_id: str, outcome: str) -> str:
        """Record once what a second person found of a read; gives the id of the event.

        The caller has asked whether this role may (`audit`, `review`). The event names the read
        and no member: with a token of another month it would tie both months together for good.

        Raises:
            InvalidRequestError: the outcome is not one of `REVIEW_OUTCOMES`.
            NotFoundError: `event_unknown`, see `read`.
            NotAllowedError: `own_read`, whoever read it, or is not known to be somebody else.
            ConflictError: `already_reviewed`.
        """
        if outcome not in REVIEW_OUTCOMES:
            detail = f"use one of {', '.join(REVIEW_OUTCOMES)}"
            problem = FieldProblem("/outcome", "outcome", detail)
            raise InvalidRequestError(detail, reason="outcome", errors=[problem])
        read = await self.read(work, event_id, caller.brand)
        if not await self.is_others(work, caller, read):
            raise NotAllowedError("nobody reviews their own read", reason="own_read")
        if await repository.review_of(work, event_id) is not None:
            raise _decided()
        reviewed_by = await self._audit.record(
            work, caller, REVIEWED, resource=event_id, reason=outcome
        )
        try:
            await repository.add_review(work, event_id, reviewed_by=reviewed_by)
        except IntegrityError as error:  # somebody else was quicker by less than a transaction
            raise _decided() from error
        return reviewed_by

    def _to_review(self, body: Mapping[str, Any], *, sealed: bool) -> ToReview:
        return ToReview(body, self._due_us(from_rfc3339(body["ts"])), sealed)


async def settle_reviews(work: UnitOfWork) -> int:
    """After a restore: keep again the reviews that the log tells of and the backup did not know.

    The log is newer than the rows. Gives how many there were.
    """
    settled = 0
    for event_id, reviewed_by in await _told(work):
        if await repository.review_of(work, event_id) is None:
            await repository.add_review(work, event_id, reviewed_by=reviewed_by)
            settled += 1
    return settled


async def _told(session: ReadSession) -> list[tuple[str, str]]:
    """Give every read that an event of the log says was reviewed, with that event's id."""
    return [
        (str(orjson.loads(row["body"]).get("resource")), row["id"])
        for row in await repository.events_of(session, REVIEWED)
    ]


def _is_seen(body: Mapping[str, Any], brand: str) -> bool:
    is_read = (body["action"], body.get("decision")) == (BREAK_GLASS, "allow")
    return is_read and is_seen_by(body, brand_of(brand))


def _decided() -> ConflictError:
    return ConflictError("it was reviewed before", reason="already_reviewed")
