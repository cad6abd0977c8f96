"""Finding members by a piece of their name, without any name stored to be searched.

The index is in the memory of another process and only proposes: whoever it names must be within
the purpose's reach, passes `decide` with the gate held, has an event of their own, and is told
only if the name that was opened then still fits. Who may not be told of leaves no gap.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from audit import AuditLog
from disclosure.audience import Audiences
from disclosure.cursors import SealedCursors
from disclosure.errors import PurposeNotAllowedError, TooManySearchesError
from disclosure.names import PART, name_fields, record_form
from disclosure.service import DisclosureService, Epochs, Question
from kernel import (
    Caller,
    Clock,
    Database,
    FieldProblem,
    InvalidRequestError,
    MemberId,
    UnitOfWork,
    id_bytes,
    id_from_bytes,
)
from members import search_form
from policies import FieldKey, PolicyPack
from vault import Vault

EVENT = "member.search"
_SHORTEST = 2
_MOST_WORDS = 5
_ROUNDS = 5
_CURSOR_BYTES = 17
# One character of these is a name or half of one.
_HAN = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")


@dataclass(frozen=True, slots=True)
class Words:
    """What is looked for: alternatives, each of words that must all be there; never printed."""

    alternatives: tuple[tuple[str, ...], ...] = field(repr=False)

    def fit(self, form: str) -> bool:
        """Say whether a record holds every word of an alternative."""
        return any(all(word in form for word in words) for words in self.alternatives)


@dataclass(frozen=True, slots=True)
class NameHit:
    """Somebody the index proposes, and how well the name fits (0 is best)."""

    rank: int
    member_id: MemberId

    @property
    def position(self) -> bytes:
        """Its place in the order of hits."""
        return bytes([self.rank]) + id_bytes(self.member_id)


@dataclass(frozen=True, slots=True)
class NameHits:
    """Hits in their order; whether more follow, and whether too many fit to be ranked."""

    hits: tuple[NameHit, ...]
    more: bool
    cut: bool


class NameIndex(Protocol):
    """Holds names and birth months in memory; the service has it.

    Both raise `SearchUnavailableError` while it holds nothing or not all.
    """

    async def find(
        self, brand: str, words: Words, parts: int, *, after: NameHit | None, most: int
    ) -> NameHits:
        """Find members of a brand; `parts` is a bit for each name field that may be looked into."""
        ...

    async def born_in(self, brand: str, month: int) -> Sequence[MemberId]:
        """Give the members of a brand who have their birthday in a month."""
        ...


class Budget(Protocol):
    """How often somebody may search."""

    def take(self, key: bytes, now_us: int) -> bool:
        """Count one search; False when there were too many."""
        ...


def search_words(text: str, *, pointer: str = "/name_contains") -> Words:
    """Read what somebody typed; `InvalidRequestError` when it says too little to search for.

    Words are looked for each on its own, in any order. A Chinese name is written in one piece:
    its first characters may be the family's name and the rest the given one.
    """
    words = sorted((w for w in map(search_form, text.split()) if w), key=len, reverse=True)
    if not words or (len(words[0]) < _SHORTEST and not _HAN.search(words[0])):
        raise InvalidRequestError(
            "type at least two letters, or one Chinese character",
            reason="too_short",
            errors=[FieldProblem(pointer, "too_short")],
        )
    if len(words) > _MOST_WORDS:
        raise InvalidRequestError(
            "type at most five words",
            reason="too_many_words",
            errors=[FieldProblem(pointer, "too_many_words")],
        )
    alternatives = [tuple(dict.fromkeys(words))]
    if len(words) == 1 and all(_HAN.match(one) for one in words[0]):
        name = words[0]
        cuts = range(1, min(len(name), 3))
        alternatives += [(name[:at] + PART + name[at:],) for at in cuts]
    return Words(tuple(alternatives))


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
