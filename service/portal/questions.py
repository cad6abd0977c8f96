"""Questions: every use that needs a consent and has no answer yet, on one page, words first.

Nothing is chosen beforehand and no answer is a no. The page is the last step of joining, and the
place where members find what they were never asked, or were asked in words that have changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from consent import ConsentService
from kernel import Clock, Database, UnitOfWork, to_datetime
from kernel.i18n import Language
from members import Members
from policies import AgeTier, Channel, PolicyPack, PurposeKey
from service.portal.account import Member
from service.portal.choices import Choice, Choices, PurposeRow
from service.portal.decisions import Decisions, ShownWords, Topic
from service.portal.errors import WordsMovedError
from service.portal.words import Words, blocks

ANSWERS = {"given": True, "refused": False}
_WHOLE = "*"


@dataclass(frozen=True, slots=True)
class Question:
    """One purpose to decide on: its words, the seal over them, the channels still open."""

    row: PurposeRow
    words: Words
    seal: str
    choices: tuple[Choice, ...]


@dataclass(frozen=True, slots=True)
class Questions:
    """Asks, and records what was answered."""

    database: Database
    pack: PolicyPack
    consent: ConsentService
    members: Members
    decisions: Decisions
    shown: ShownWords
    clock: Clock

    async def open(self, member: Member, language: Language, csrf: str) -> dict[str, Any]:
        """Give the questions that a member has not answered."""
        tier = AgeTier(member.gate.age_tier)
        now_us = self.clock.now_us()
        choices = Choices(self.pack, member.jurisdiction, tier, language, now_us)
        async with self.database.read() as session:
            states = await self.consent.states(session, member.id)
            held = frozenset((await self.members.read(session, member.id)).cells)
        questions = []
        for row in choices.rows(states):
            unasked = tuple(one for one in row.choices if self._is_open(one, held))
            if unasked:
                questions.append(self._question(row, unasked, language, csrf, now_us))
        return {
            "questions": questions,
            "needs_guardian": choices.needs_guardian,
            "needs_age": choices.needs_age,
        }

    async def answer(
        self,
        work: UnitOfWork,
        member: Member,
        language: Language,
        csrf: str,
        fields: Mapping[str, str],
    ) -> int:
        """Record the answers of a form, all on the words it showed; gives how many there were."""
        now_us = self.clock.now_us()
        recorded = 0
        for purpose in self.pack.purposes.values():
            notice = self.pack.current_notice(purpose.notice, language, to_datetime(now_us))
            for channel in purpose.channels or (Channel(""),):
                topic = Topic(purpose.key, channel)
                said = fields.get(answer_name(topic))
                if said is None:
                    continue
                if said not in ANSWERS:
                    raise WordsMovedError(reason="words_unknown")
                shown_us = self.shown.shown_us(
                    fields.get(f"seal.{purpose.key}", ""),
                    csrf,
                    Topic(purpose.key, _WHOLE),
                    notice.revision,
                    now_us,
                )
                done = await self.decisions.decide(
                    work,
                    member.caller,
                    member.id,
                    topic,
                    notice,
                    allow=ANSWERS[said],
                    shown_us=shown_us,
                    now_us=now_us,
                )
                recorded += done is not None
        return recorded

    def _is_open(self, choice: Choice, held: frozenset[str]) -> bool:
        """Ask what waits for an answer, on channels by which the member can be reached."""
        rule = self.pack.channels.get(Channel(choice.channel))
        contact = None if rule is None else rule.contact_field
        return choice.is_open and (contact is None or contact in held)

    def _question(
        self,
        row: PurposeRow,
        choices: tuple[Choice, ...],
        language: Language,
        csrf: str,
        now_us: int,
    ) -> Question:
        purpose = self.pack.purposes[PurposeKey(row.key)]
        notice = self.pack.current_notice(purpose.notice, language, to_datetime(now_us))
        seal = self.shown.seal(csrf, Topic(row.key, _WHOLE), notice.revision, now_us)
        words = Words(notice.revision, notice.version, notice.lang.value, blocks(notice.text))
        return Question(row, words, seal, choices)


def answer_name(topic: Topic) -> str:
    """Name the form field of a topic's answer."""
    return f"answer.{topic.purpose}.{topic.channel}"
