"""Decisions that members take in the portal: withdraw, allow, refuse, and undo.

Withdrawing needs nothing but the click. A yes needs the words: the page that shows them carries a
seal of what was shown and when, so that the evidence in the consent event is ours and not the
browser's. Undoing a withdrawal is a new yes on the words agreed to before, if they still stand.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from consent import ConsentEvent, ConsentRequest, ConsentService, ConsentState, Status
from kernel import Caller, MemberId, NotFoundError, UnitOfWork, rfc3339, to_datetime
from members import Members
from policies import AgeTier, Notice, PolicyPack, PurposeKey
from service.portal.errors import AgeUnknownError, WordsMovedError
from vault import Vault

SHOWN_FOR_US = 30 * 60 * 1_000_000
_PLACE = "portal"


@dataclass(frozen=True, slots=True)
class Topic:
    """What a decision is about: a purpose, and a channel where the purpose has channels."""

    purpose: str
    channel: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """A decision on record, and whether the page may offer to undo it."""

    event: ConsentEvent
    undoable: bool


class ShownWords:
    """Seals which words a page showed for what, in which session, and when."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def seal(self, csrf: str, topic: Topic, revision: str, shown_us: int) -> str:
        """Give the seal for the form beside the words."""
        return f"{shown_us}.{self._mac(csrf, topic, revision, shown_us)}"

    def shown_us(self, seal: str, csrf: str, topic: Topic, revision: str, now_us: int) -> int:
        """Give the moment at which these words were shown, or `WordsMovedError`."""
        moment, _, mac = seal.partition(".")
        if moment.isdecimal() and len(moment) <= 16:  # noqa: PLR2004 (digits of microseconds until the year 2286)
            shown_us = int(moment)
            genuine = self._mac(csrf, topic, revision, shown_us)
            fresh = shown_us <= now_us <= shown_us + SHOWN_FOR_US
            if fresh and hmac.compare_digest(genuine.encode(), mac.encode()):
                return shown_us
        raise WordsMovedError(reason="not_shown")

    def _mac(self, csrf: str, topic: Topic, revision: str, shown_us: int) -> str:
        parts = (csrf, topic.purpose, topic.channel, revision, str(shown_us))
        return self._vault.keyed_digest("portal-words", *(part.encode() for part in parts)).hex()


class Decisions:
    """Records what a signed-in member decides."""

    def __init__(self, pack: PolicyPack, consent: ConsentService, members: Members) -> None:
        self._pack = pack
        self._consent = consent
        self._members = members

    async def withdraw(
        self, work: UnitOfWork, caller: Caller, member_id: MemberId, topic: Topic, *, now_us: int
    ) -> Recorded | None:
        """Take back consent; None when it was taken back already."""
        state = await self._state(work, member_id, topic)
        if state is not None and state.status is Status.WITHDRAWN:
            return None
        gate = await self._consent.gate(work, member_id)
        events = await self._consent.withdraw(
            work,
            caller,
            member_id,
            await self._members.pseudonym(work, member_id),
            topic.purpose,
            topic.channel or None,
            now_us=now_us,
            evidence=_evidence("withdraw", now_us),
        )
        was_given = state is not None and state.status is Status.GIVEN
        alone = not _needs_guardian(gate.age_tier)
        return Recorded(events[0], undoable=was_given and alone and len(events) == 1)

    async def decide(
        self,
        work: UnitOfWork,
        caller: Caller,
        member_id: MemberId,
        topic: Topic,
        notice: Notice,
        *,
        allow: bool,
        shown_us: int,
        now_us: int,
    ) -> Recorded | None:
        """Record a yes or a no on words that were shown; None when it stands already.

        A no to what was allowed before is a withdrawal.
        """
        state = await self._state(work, member_id, topic)
        if (
            allow
            and AgeTier((await self._consent.gate(work, member_id)).age_tier) is AgeTier.UNKNOWN
        ):
            raise AgeUnknownError(reason="age_unknown")
        standing = None if state is None else state.status
        if not allow and standing in {Status.REFUSED, Status.OBJECTED}:
            return None
        if allow and state is not None and _stands(state, notice):
            return None
        if not allow and standing is Status.GIVEN:
            return await self.withdraw(work, caller, member_id, topic, now_us=now_us)
        evidence = _evidence("allow" if allow else "refuse", now_us, shown_us)
        request = ConsentRequest(
            topic.purpose,
            topic.channel,
            Status.GIVEN if allow else Status.REFUSED,
            notice.revision,
            notice.lang.value,
            evidence,
        )
        return Recorded(
            await self._record(work, caller, member_id, request, now_us), undoable=allow
        )

    async def stop_marketing(
        self, work: UnitOfWork, caller: Caller, member_id: MemberId, *, now_us: int
    ) -> list[ConsentEvent]:
        """Object to direct marketing; gives the yeses that it ended, to undo it by.

        It takes one click, is never weighed, and outlasts a new registration of the same address
        (PDPA s.32 para 2, GDPR art. 21(2)-(3)).
        """
        ended = [
            await self._consent.event(work, state.event_id)
            for state in await self._consent.states(work, member_id)
            if state.status is Status.GIVEN and self._is_marketing(state.purpose)
        ]
        key = next(p.key for p in self._pack.purposes.values() if p.direct_marketing)
        await self._consent.object(
            work,
            caller,
            member_id,
            await self._members.pseudonym(work, member_id),
            key,
            now_us=now_us,
            evidence=_evidence("object", now_us),
        )
        return ended

    async def allow_again(
        self,
        work: UnitOfWork,
        caller: Caller,
        member_id: MemberId,
        event_ids: Sequence[str],
        *,
        now_us: int,
    ) -> int:
        """Undo an objection: say yes again to what it ended, where the words still stand."""
        allowed = 0
        for event_id in event_ids:
            event = await self._consent.event(work, event_id)
            if event.member_id != member_id:
                raise NotFoundError(reason="consent_unknown")
            agreed = self._pack.notice_of(event.notice_revision or "")
            state = await self._state(work, member_id, Topic(event.purpose, event.channel))
            objected = state is not None and state.status is Status.OBJECTED
            if objected and agreed is not None and self._in_force(agreed, now_us):
                request = ConsentRequest(
                    event.purpose,
                    event.channel,
                    Status.GIVEN,
                    agreed.revision,
                    agreed.lang.value,
                    _evidence("undo", now_us),
                )
                await self._record(work, caller, member_id, request, now_us)
                allowed += 1
        return allowed

    def _is_marketing(self, purpose: str) -> bool:
        found = self._pack.purposes.get(PurposeKey(purpose))
        return found is not None and found.direct_marketing

    async def undo(
        self, work: UnitOfWork, caller: Caller, member_id: MemberId, event_id: str, *, now_us: int
    ) -> Recorded | Topic | None:
        """Undo the member's last decision with a new one; None when it is the last no more.

        Gives the topic alone when the words agreed to before are not in force any more: a yes
        then needs the new ones to be read.
        """
        event = await self._consent.event(work, event_id)
        if event.member_id != member_id:
            raise NotFoundError(reason="consent_unknown")
        topic = Topic(event.purpose, event.channel)
        state = await self._state(work, member_id, topic)
        if state is None or state.event_id != event.id:
            return None
        if event.status is Status.GIVEN:
            undone = await self.withdraw(work, caller, member_id, topic, now_us=now_us)
            return None if undone is None else Recorded(undone.event, undoable=False)
        agreed = self._pack.notice_of(event.notice_revision or "")
        if agreed is None or not self._in_force(agreed, now_us):
            return topic
        request = ConsentRequest(
            topic.purpose,
            topic.channel,
            Status.GIVEN,
            agreed.revision,
            agreed.lang.value,
            _evidence("undo", now_us),
        )
        return Recorded(
            await self._record(work, caller, member_id, request, now_us), undoable=False
        )

    def notice_in_force(self, topic: Topic, revision: str, now_us: int) -> Notice:
        """Give the words of a revision if they are those to decide on now, or `WordsMovedError`."""
        notice = self._pack.notice_of(revision)
        purpose = self._pack.purposes.get(PurposeKey(topic.purpose))
        if notice is None or purpose is None or notice.key != purpose.notice:
            raise WordsMovedError(reason="words_unknown")
        if not self._in_force(notice, now_us):
            raise WordsMovedError(reason="words_changed")
        return notice

    def _in_force(self, notice: Notice, now_us: int) -> bool:
        current = self._pack.current_notice(notice.key, notice.lang, to_datetime(now_us))
        return current.revision == notice.revision

    async def _record(
        self,
        work: UnitOfWork,
        caller: Caller,
        member_id: MemberId,
        request: ConsentRequest,
        now_us: int,
    ) -> ConsentEvent:
        gate = await self._consent.gate(work, member_id)
        self._consent.check([request], AgeTier(gate.age_tier), pointer="/consents")
        pseudonym = await self._members.pseudonym(work, member_id)
        events: Sequence[ConsentEvent] = await self._consent.record(
            work, caller, member_id, pseudonym, [request], now_us=now_us
        )
        return events[0]

    async def _state(
        self, work: UnitOfWork, member_id: MemberId, topic: Topic
    ) -> ConsentState | None:
        for state in await self._consent.states(work, member_id):
            if (state.purpose, state.channel) == (topic.purpose, topic.channel):
                return state
        return None


def _stands(state: ConsentState, notice: Notice) -> bool:
    """Say whether a yes on these words would say nothing new."""
    is_same = state.notice_revision == notice.revision and state.guardian_id is None
    return state.status is Status.GIVEN and is_same


def _needs_guardian(age_tier: str) -> bool:
    return AgeTier(age_tier) in {AgeTier.MINOR_WITH_GUARDIAN, AgeTier.GUARDIAN_ONLY}


def _evidence(action: str, now_us: int, shown_us: int | None = None) -> dict[str, Any]:
    shown = {} if shown_us is None else {"shown_at": rfc3339(shown_us)}
    return {"ui_action": action, "place": _PLACE, "decided_at": rfc3339(now_us), **shown}
