"""Audiences: how many members a purpose may reach now, and their allowed data as a stream.

A count is made inside the registry and told only from a minimum size on, rounded down. An
export is many disclosures: each member passes `decide` with the gate held, each is a row of an
event, and a line leaves only after its event has committed. Who withdraws while it runs is in no
later chunk.
"""

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field
from typing import Any

import orjson

from audit import AuditLog
from disclosure import audience_repository, repository
from disclosure.audience_repository import Shape, Whom
from disclosure.errors import PurposeNotAllowedError
from disclosure.name_index import NameIndex
from disclosure.names import BIRTH_DATE
from disclosure.service import DisclosureService, Epochs, Question
from kernel import (
    Caller,
    Clock,
    Database,
    FieldProblem,
    InvalidRequestError,
    MemberId,
    UnitOfWork,
    YinyomError,
    new_id,
)
from members import Members
from policies import BasisKind, FieldKey, PolicyPack

_INTRODUCED_AT_A_TIME = 500
_MEMBERS_IN_CHUNK = repository.MOST_IN_CHUNK
_BIRTHDAY_MONTH = "birthday_month"
_EVENT_COUNT = "audience.count"
_EVENT_EXPORT = "audience.export"

UnderEpochs = Callable[[Callable[[Caller, Epochs], Awaitable[Any]]], Awaitable[Any]]
"""Acts as the caller of a request, authenticated anew (see `Reader.under_present_epochs`)."""


@dataclass(frozen=True, slots=True)
class CountRules:
    """From which size on a count is told, and to which multiple it is rounded down."""

    minimum: int
    step: int

    def told(self, exact: int) -> int | None:
        """Give what may be told of a count; None when too few members are behind it."""
        return None if exact < self.minimum else exact - exact % self.step


@dataclass(frozen=True, slots=True)
class Selection:
    """A checked audience: purpose, channel, and what narrows it down."""

    question: Question
    brand: str | None = None
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    birthday_month: int | None = None

    @property
    def criteria(self) -> tuple[str, ...]:
        """What narrows it down, by name, as the trail tells of it."""
        month = () if self.birthday_month is None else (_BIRTHDAY_MONTH,)
        return tuple(sorted((*self.words, *month)))


class Audiences:
    """Counts and exports members by purpose and channel, for one compiled policy."""

    def __init__(
        self,
        database: Database,
        disclosure: DisclosureService,
        members: Members,
        audit: AuditLog,
        pack: PolicyPack,
        clock: Clock,
        rules: CountRules,
        index: NameIndex,
    ) -> None:
        self._database = database
        self._disclosure = disclosure
        self._members = members
        self._audit = audit
        self._pack = pack
        self._clock = clock
        self._rules = rules
        self._index = index

    def selection(
        self, purpose: str, channel: str | None, where: Mapping[str, Any] | None = None
    ) -> Selection:
        """Check a selection against the pack before anything is read.

        `where` is what `AudienceWhere` holds. A tag that tells sensitive data (PDPA s.26, GDPR
        art. 9) selects for its own purpose only, and a month of birth for one that shows birthdays.
        """
        question = self._disclosure.question(purpose, channel, None)
        where = where or {}
        tags = where.get("tags") or {}
        given = {name: where.get(name) for name in ("tier", "branch", "activity_class")}
        given |= {f"tags_{how}": tags.get(how) for how in ("any", "all", "none")}
        words = {name: tuple(found) for name, found in given.items() if found}
        problems = [
            FieldProblem(f"/where/{name.replace('_', '/', 1)}/{at}", code)
            if name.startswith("tags_")
            else FieldProblem(f"/where/{name}/{at}", code)
            for name, found in words.items()
            for at, word in enumerate(found)
            if (code := self._fault(name, word, question)) is not None
        ]
        month = where.get(_BIRTHDAY_MONTH)
        if month is not None and BIRTH_DATE not in question.purpose.fields_for(question.channel):
            problems.append(FieldProblem(f"/where/{_BIRTHDAY_MONTH}", "not_in_purpose"))
        if problems:
            raise InvalidRequestError(errors=problems, reason="where")
        return Selection(question, where.get("brand"), words, month)

    def _fault(self, name: str, word: str, question: Question) -> str | None:
        rules = self._pack.loyalty
        if name == "branch":
            return None
        if name == "tier":
            return None if any(word == tier.key for tier in rules.tiers) else "unknown_tier"
        if name == "activity_class":
            known = any(word == one.key for one in rules.activity)
            return None if known else "unknown_activity_class"
        tag = rules.tags.get(word)
        if tag is None:
            return "unknown_tag"
        own = tag.purpose == question.purpose.key
        return "tag_of_another_purpose" if tag.sensitive and not own else None

    async def count(self, caller: Caller, selection: Selection) -> dict[str, Any]:
        """Count who may be reached now; one event, which holds what was told and nobody's token.

        `{"count","rounded_to","audit_id"}`, or, below the minimum, `{"count":null,
        "suppressed":true,"minimum","audit_id"}`.
        """
        question = selection.question
        hidden = self._hidden(caller, selection)
        if hidden and len(selection.criteria) > 1:
            # Who may put members into a tag or a branch could place one among nine others whose
            # tier they know, and read off the count which tier this one has.
            raise InvalidRequestError(
                "what the purpose does not disclose narrows a count alone or not at all",
                reason="where_not_disclosed",
                errors=[FieldProblem(_place(name), "not_combinable") for name in hidden],
            )
        shape, whom = self._shape(selection), self._whom(caller, selection)
        born = await self._born(caller, selection)
        async with self._database.unit_of_work() as work:
            if born is None:
                exact = await audience_repository.count(work, shape, whom)
            else:
                exact = 0
                for some in _slices(born):
                    exact += len(await audience_repository.among(work, shape, whom, some))
            told = self._rules.told(exact)
            audit_id = await self._audit.record(
                work,
                caller,
                _EVENT_COUNT,
                purpose=question.purpose.key,
                channel=question.channel,
                decision="allow",
                fields=selection.criteria,
                count=told,
                reason="below_minimum" if told is None else None,
            )
        answer = {"purpose": question.purpose.key, "channel": question.channel}
        if told is None:
            suppressed = {"count": None, "suppressed": True, "minimum": self._rules.minimum}
            return {**answer, **suppressed, "audit_id": audit_id}
        return {
            **answer,
            "count": told,
            "suppressed": False,
            "rounded_to": self._rules.step,
            "audit_id": audit_id,
        }

    async def export(
        self, caller: Caller, selection: Selection, under_epochs: UnderEpochs, *, after: str
    ) -> "Export":
        """Begin an export: on record, and with an id of the client's own for every member.

        Each line says of its member whatever the export was narrowed by, so that only what the
        purpose discloses to the caller may narrow it.

        The ids are drawn before the first page, so that the order of the lines is the order of
        random ids: two clients cannot find out by position who is the same person.
        """
        hidden = self._hidden(caller, selection)
        if hidden:
            raise InvalidRequestError(
                "an export is narrowed only by what its purpose discloses",
                reason="where_not_disclosed",
                errors=[FieldProblem(_place(name), "not_in_purpose") for name in hidden],
            )
        whom, shape = self._whom(caller, selection), self._shape(selection)
        born = await self._born(caller, selection)
        chosen = None if born is None else frozenset(born)
        export = Export(self, caller, selection, under_epochs, after, chosen)
        async with self._database.unit_of_work() as work:
            await self._audit.record(
                work,
                caller,
                _EVENT_EXPORT,
                purpose=selection.question.purpose.key,
                channel=selection.question.channel,
                resource=export.resource,
                fields=selection.criteria,
                decision="allow",
            )
        last = ""
        while True:
            async with self._database.unit_of_work() as work:
                strangers = await audience_repository.unknown_members(
                    work, shape, whom, after=last, most=_INTRODUCED_AT_A_TIME
                )
                met = [one for one in strangers if chosen is None or one in chosen]
                for member_id in met:
                    await self._members.pairwise_for(
                        work, caller.id, MemberId(member_id), now_us=self._clock.now_us()
                    )
                await self._introduced(work, caller, selection, len(met))
            if len(strangers) < _INTRODUCED_AT_A_TIME:
                return export
            last = strangers[-1]

    async def known_among(
        self, caller: Caller, question: Question, members: Sequence[MemberId]
    ) -> dict[MemberId, str]:
        """Give the client's own ids of those of some members whom the purpose may reach now.

        In the order given. Nobody else gets an id: a client that had one would hear of them.
        """
        selection = Selection(question)
        shape, whom = self._shape(selection), self._whom(caller, selection)
        known: dict[MemberId, str] = {}
        for some in _slices(members):
            async with self._database.unit_of_work() as work:
                reached = await audience_repository.among(work, shape, whom, some)
                strangers = [one for one in some if one in reached and not reached[one]]
                for member_id in some:
                    if member_id in reached:
                        known[member_id] = reached[member_id] or await self._members.pairwise_for(
                            work, caller.id, member_id, now_us=self._clock.now_us()
                        )
                await self._introduced(work, caller, selection, len(strangers))
        return known

    async def _introduced(
        self, work: UnitOfWork, caller: Caller, selection: Selection, many: int
    ) -> None:
        """Put on record that the client got ids of its own for members it had not met."""
        if many:
            await self._audit.record(
                work,
                caller,
                "audience.introduce",
                purpose=selection.question.purpose.key,
                channel=selection.question.channel,
                count=many,
            )

    async def chunk(
        self,
        caller: Caller,
        selection: Selection,
        epochs: Epochs,
        after: str,
        chosen: frozenset[str] | None,
        resource: str,
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Disclose the next members of an audience, and say behind whom to go on, if anywhere.

        Selected without a lock, then decided with each gate held, one by one, as in every batch
        of reads: what the selection saw does not matter any more.
        """
        async with self._database.read() as session:
            named = await audience_repository.page(
                session,
                self._shape(selection),
                self._whom(caller, selection),
                after=after,
                most=_MEMBERS_IN_CHUNK,
            )
        if not named:
            return [], None
        last = named[-1][0]
        wanted = [known for known, member in named if chosen is None or member in chosen]
        if not wanted:
            return [], last
        lines = await self._disclosure.disclose_many(
            caller, wanted, selection.question, epochs, action=_EVENT_EXPORT, resource=resource
        )
        return lines, last

    async def finish(
        self, caller: Caller, selection: Selection, resource: str, *, count: int, cut: str | None
    ) -> str:
        """Put on record how many members an export disclosed, and why it was cut if it was."""
        async with self._database.unit_of_work() as work:
            return await self._audit.record(
                work,
                caller,
                f"{_EVENT_EXPORT}.end",
                purpose=selection.question.purpose.key,
                channel=selection.question.channel,
                resource=resource,
                decision="allow",
                outcome="ok" if cut is None else "partial",
                reason=cut,
                count=count,
            )

    async def _born(self, caller: Caller, selection: Selection) -> Sequence[MemberId] | None:
        """Give who was born in the month asked for; None when none is.

        Whoever is shown no birthday for the purpose may not choose by one either: the choice
        would tell the month of everybody in it.
        """
        month = selection.birthday_month
        if month is None:
            return None
        question = selection.question
        if BIRTH_DATE in self._disclosure.shown(caller, question):
            return await self._index.born_in(caller.brand, month)
        async with self._database.unit_of_work() as work:
            audit_id = await self._audit.record(
                work,
                caller,
                _EVENT_COUNT,
                purpose=question.purpose.key,
                channel=question.channel,
                fields=selection.criteria,
                decision="deny",
                reason="role_not_allowed",
            )
        raise PurposeNotAllowedError(reason="role_not_allowed", audit_id=audit_id)

    # --- helpers ----------------------------------------------------------------------

    def _hidden(self, caller: Caller, selection: Selection) -> list[str]:
        """Give what narrows a selection and is not shown to the caller for the purpose."""
        shown = self._disclosure.shown(caller, selection.question)
        return [name for name in selection.words if _field(name) not in shown]

    def _whom(self, caller: Caller, selection: Selection) -> Whom:
        if selection.brand is not None and selection.brand != caller.brand:
            raise InvalidRequestError(
                "a client reaches members of its own brand only",
                reason="other_brand",
                errors=[FieldProblem("/where/brand", "other_brand")],
            )
        question = selection.question
        return Whom(
            caller.id,
            caller.brand,
            question.purpose.key,
            question.channel or "",
            selection.words,
        )

    def _shape(self, selection: Selection) -> Shape:
        purpose = selection.question.purpose
        by_consent: list[str] = []
        otherwise: list[str] = []
        for code in sorted(self._pack.jurisdictions):
            kind = purpose.basis.get(code, purpose.default_basis)
            (by_consent if kind is BasisKind.CONSENT else otherwise).append(code)
        now_us = self._clock.now_us()
        words = tuple(
            notice.revision
            for notice in self._pack.notices.get(purpose.notice, ())
            if notice.outdated_us is None or notice.outdated_us > now_us
        )
        return Shape(tuple(by_consent), tuple(otherwise), words, frozenset(selection.words))


def _field(name: str) -> FieldKey:
    """Name the field behind a word group: tags narrow in three ways."""
    return FieldKey("tags" if name.startswith("tags_") else name)


def _place(name: str) -> str:
    """Point at what narrows a selection: `/where/tier`, `/where/tags/none`."""
    return f"/where/{name.replace('_', '/', 1)}" if name.startswith("tags_") else f"/where/{name}"


def _slices(members: Sequence[MemberId]) -> Iterator[Sequence[MemberId]]:
    for at in range(0, len(members), audience_repository.MOST_NAMED):
        yield members[at : at + audience_repository.MOST_NAMED]


class Export:
    """One export on its way: lines of JSON, the last of which says that nothing is missing."""

    def __init__(
        self,
        audiences: Audiences,
        caller: Caller,
        selection: Selection,
        under_epochs: UnderEpochs,
        after: str,
        chosen: frozenset[str] | None,
    ) -> None:
        self.resource = f"export:{new_id('exp')}"
        self._audiences = audiences
        self._caller = caller
        self._selection = selection
        self._under_epochs = under_epochs
        self._after = after
        self._chosen = chosen
        self._count = 0
        self._ended = False

    async def lines(self) -> AsyncIterator[bytes]:
        """Give the lines chunk by chunk; each chunk's events are durable before it is given.

        A client that was revoked meanwhile, or a trail that takes no more events, ends the
        stream without its last line.
        """
        after: str | None = self._after
        while after is not None:
            chunk = await self._chunk(after)
            if chunk is None:
                return
            lines, after = chunk
            self._count += len(lines)
            if lines:
                yield b"".join(orjson.dumps(line) + b"\n" for line in lines)
        audit_id = await self._end(None)
        last = {"end": True, "count": self._count, "audit_id": audit_id}
        yield orjson.dumps(last) + b"\n"

    async def close(self, reason: str = "client_gone") -> None:
        """Put on record that the stream was cut, unless it came to its end."""
        if not self._ended:
            await self._end(reason)

    async def _chunk(self, after: str) -> tuple[list[dict[str, Any]], str | None] | None:
        """Give the next lines; None, with the reason on record, when there may be no more."""

        async def act(caller: Caller, epochs: Epochs) -> Any:
            return await self._audiences.chunk(
                caller, self._selection, epochs, after, self._chosen, self.resource
            )

        try:
            lines, last = await self._under_epochs(act)
        except YinyomError as error:
            await self._end(error.reason or error.slug)
            return None
        return lines, last

    async def _end(self, cut: str | None) -> str:
        self._ended = True
        return await self._audiences.finish(
            self._caller, self._selection, self.resource, count=self._count, cut=cut
        )
