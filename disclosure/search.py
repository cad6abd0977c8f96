"""Finding members by a piece of their name, without any name stored to be searched.

The index is in the memory of another process and only proposes: whoever it names must be within
the purpose's reach, passes `decide` with the gate held, has an event of their own, and is told
only if the name that was opened then still fits. Who may not be told of leaves no gap.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from audit import AuditLog
from disclosure.audience import Audiences
from disclosure.cursors import SealedCursors
from disclosure.errors import PurposeNotAllowedError, TooManySearchesError
from disclosure.name_index import NameHit, NameIndex, Words
from disclosure.names import name_fields, record_form
from disclosure.service import DisclosureService, Epochs, Question
from kernel import (
    Caller,
    Clock,
    Database,
    MemberId,
    UnitOfWork,
    id_from_bytes,
)
from policies import FieldKey, PolicyPack
from vault import Vault

EVENT = "member.search"
_ROUNDS = 5
_CURSOR_BYTES = 17


class Budget(Protocol):
    """How often somebody may search."""

    def take(self, key: bytes, now_us: int) -> bool:
        """Count one search; False when there were too many."""
        ...


@dataclass(frozen=True, slots=True)
class Proposed:
    """Members whose names fit, for staff; `refine` as in `search`."""

    members: tuple[MemberId, ...]
    next_cursor: str | None
    refine: bool
    audit_id: str


class NameSearch:
    """Answers `POST /v1/members:search`, and finds members for staff."""

    def __init__(
        self,
        database: Database,
        disclosure: DisclosureService,
        audiences: Audiences,
        audit: AuditLog,
        vault: Vault,
        pack: PolicyPack,
        index: NameIndex,
        clock: Clock,
        budget: Budget,
    ) -> None:
        self._database = database
        self._disclosure = disclosure
        self._audiences = audiences
        self._audit = audit
        self._index = index
        self._clock = clock
        self._budget = budget
        self._names = name_fields(pack)
        self._cursors = SealedCursors(vault, "search-cursor", _CURSOR_BYTES, pointer="/cursor")

    async def search(
        self,
        caller: Caller,
        question: Question,
        words: Words,
        epochs: Epochs,
        *,
        cursor: str | None,
        most: int,
    ) -> dict[str, Any]:
        """Find members for a client, and disclose each as `view` would.

        `{"results","more_than_ranked","next_cursor","audit_id"}`; a page may be short though
        more follow.

        Raises:
            PurposeNotAllowedError: the purpose shows this client no name.
            SearchUnavailableError: names are not in memory now.
            TooManySearchesError: too many searches within the hour.
        """
        searched = await self._searched(caller, question)
        after = None if cursor is None else self._position(caller, cursor)
        self._take(caller)
        asked = _with_names(question, searched)
        results: list[dict[str, Any]] = []
        cut, more = False, True
        audit_id: str | None = None
        for _ in range(_ROUNDS):
            found = await self._index.find(
                caller.brand, words, self._parts(searched), after=after, most=most - len(results)
            )
            cut, more = cut or found.cut, found.more
            known = await self._audiences.known_among(
                caller, question, [hit.member_id for hit in found.hits]
            )
            async with self._database.unit_of_work() as work:
                audit_id = await self._record(work, caller, question, searched, len(known))
            results += await self._views(caller, asked, words, searched, known, epochs)
            if found.hits:
                after = found.hits[-1]
            if not more or len(results) >= most:
                break
        follows = more and after is not None
        return {
            "purpose": question.purpose.key,
            "channel": question.channel,
            "results": results,
            "refine": cut,
            "next_cursor": self._cursors.seal(caller.id, after.position)
            if follows and after is not None
            else None,
            "audit_id": audit_id,
        }

    async def propose(
        self,
        caller: Caller,
        purpose: str | None,
        searched: Sequence[str],
        words: Words,
        *,
        cursor: str | None,
        most: int,
    ) -> Proposed:
        """Find members of a brand for staff, who are shown each by a decision of its own.

        Raises as `search` does; nothing but ids is given.
        """
        after = None if cursor is None else self._position(caller, cursor)
        self._take(caller)
        found = await self._index.find(
            caller.brand, words, self._parts(searched), after=after, most=most
        )
        async with self._database.unit_of_work() as work:
            audit_id = await self._audit.record(
                work,
                caller,
                EVENT,
                purpose=purpose,
                fields=tuple(sorted(searched)),
                decision="allow",
                count=len(found.hits),
            )
        follows = found.more and found.hits
        return Proposed(
            tuple(hit.member_id for hit in found.hits),
            self._cursors.seal(caller.id, found.hits[-1].position) if follows else None,
            found.cut,
            audit_id,
        )

    async def _views(
        self,
        caller: Caller,
        question: Question,
        words: Words,
        searched: Sequence[str],
        known: dict[MemberId, str],
        epochs: Epochs,
    ) -> list[dict[str, Any]]:
        """Disclose each hit; whoever is denied, or has another name by now, is not told of."""
        if not known:
            return []
        answer = await self._disclosure.view_many(caller, list(known.values()), question, epochs)
        return [
            {name: one[name] for name in ("id", "data", "omitted", "basis", "audit_id")}
            for one in answer["results"]
            if "denied" not in one and words.fit(record_form(self._names_of(searched), one["data"]))
        ]

    def _names_of(self, searched: Sequence[str]) -> list[str]:
        """Give the fields of a record; one that was not looked into stays empty."""
        return [key if key in searched else "" for key in self._names]

    async def _searched(self, caller: Caller, question: Question) -> list[FieldKey]:
        """Give the name fields that the purpose shows this caller; a refusal is an event."""
        shown = self._disclosure.shown(caller, question)
        searched = [key for key in self._names if key in shown]
        if searched:
            return searched
        async with self._database.unit_of_work() as work:
            audit_id = await self._audit.record(
                work,
                caller,
                EVENT,
                purpose=question.purpose.key,
                channel=question.channel,
                decision="deny",
                reason="not_in_purpose",
            )
        raise PurposeNotAllowedError(reason="not_in_purpose", audit_id=audit_id)

    async def _record(
        self,
        work: UnitOfWork,
        caller: Caller,
        question: Question,
        searched: Sequence[str],
        count: int,
    ) -> str:
        return await self._audit.record(
            work,
            caller,
            EVENT,
            purpose=question.purpose.key,
            channel=question.channel,
            fields=tuple(sorted(searched)),
            decision="allow",
            count=count,
        )

    def _parts(self, searched: Sequence[str]) -> int:
        return sum(1 << at for at, key in enumerate(self._names) if key in searched)

    def _take(self, caller: Caller) -> None:
        if not self._budget.take(caller.id.encode(), self._clock.now_us()):
            raise TooManySearchesError(reason="too_many_searches")

    def _position(self, caller: Caller, cursor: str) -> NameHit:
        position = self._cursors.open(caller.id, cursor)
        return NameHit(position[0], MemberId(id_from_bytes("mem", position[1:])))


def _with_names(question: Question, searched: Sequence[str]) -> Question:
    """Ask for the names besides: whoever is found by a name is shown it, and it is compared."""
    if question.fields is None:
        return question
    fields = tuple(dict.fromkeys((*question.fields, *searched)))
    return Question(question.purpose, question.channel, fields, question.action)
