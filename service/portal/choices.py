"""What a member allowed, purpose by purpose, as the home page shows it. Pure.

Silence is shown as the no it is. Where the law wants a guardian's word, a member's own yes is
shown as waiting, because it is not acted on (PDPA s.20, GDPR art. 8).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from consent import NO_CHANNEL, ConsentState, Status, find_reconfirm
from kernel import to_datetime
from kernel.i18n import Language
from policies import (
    AgeTier,
    BasisKind,
    Channel,
    JurisdictionCode,
    PolicyPack,
    Purpose,
    PurposeKey,
    lawful_basis,
)

_SECTION = "s."
_NEEDS_GUARDIAN = frozenset({AgeTier.MINOR_WITH_GUARDIAN, AgeTier.GUARDIAN_ONLY})


class Standing(StrEnum):
    """Where a choice stands; the key of its words in the catalogue."""

    ALLOWED = "allowed"
    GUARDIAN = "guardian"
    WITHDRAWN = "withdrawn"
    REFUSED = "refused"
    EXPIRED = "expired"
    OBJECTED = "objected"
    RECONFIRM = "reconfirm"
    UNASKED = "unasked"


_STANDINGS = {
    Status.GIVEN: Standing.ALLOWED,
    Status.WITHDRAWN: Standing.WITHDRAWN,
    Status.REFUSED: Standing.REFUSED,
    Status.EXPIRED: Standing.EXPIRED,
    Status.OBJECTED: Standing.OBJECTED,
}
_GLYPHS = {Standing.ALLOWED: "on", Standing.GUARDIAN: "half", Standing.RECONFIRM: "half"}
_OPEN = frozenset({Standing.UNASKED, Standing.RECONFIRM})


@dataclass(frozen=True, slots=True)
class Choice:
    """One purpose on one channel: what the member decided, when, and on which words."""

    purpose: PurposeKey
    channel: str
    channel_title: str
    standing: Standing
    since_us: int | None
    revision: str

    @property
    def glyph(self) -> str:
        """The state's sign: full, half or empty."""
        return _GLYPHS.get(self.standing, "")

    @property
    def is_given(self) -> bool:
        """Whether there is a yes to take back."""
        return self.standing in {Standing.ALLOWED, Standing.GUARDIAN}

    @property
    def is_open(self) -> bool:
        """Whether a question waits: never answered, or answered on words that changed since."""
        return self.standing in _OPEN


@dataclass(frozen=True, slots=True)
class PurposeRow:
    """A purpose with its choices; without choices it does not rest on consent.

    `section_kind` is `section` or `article`, as the law of the place counts itself; `law` and
    `section` are empty where the member's jurisdiction is none of the pack's.
    """

    key: PurposeKey
    title: str
    summary: str
    recipients: str
    consequence: str
    basis: str
    law: str
    section: str
    section_kind: str
    revision: str
    is_marketing: bool
    choices: tuple[Choice, ...]

    @property
    def is_given(self) -> bool:
        """Whether any channel has a yes to take back."""
        return any(choice.is_given for choice in self.choices)

    @property
    def is_unasked(self) -> bool:
        """Whether it rests on consent and no channel of it was ever answered."""
        return bool(self.choices) and all(
            choice.standing is Standing.UNASKED for choice in self.choices
        )

    @property
    def can_be_stopped(self) -> bool:
        """Whether it is direct marketing that an objection does not stop everywhere yet."""
        return self.is_marketing and any(
            choice.standing is not Standing.OBJECTED for choice in self.choices
        )


class Choices:
    """Reads a pack for one member's jurisdiction and age, in one language, at one moment."""

    def __init__(
        self,
        pack: PolicyPack,
        jurisdiction: str,
        age_tier: AgeTier,
        language: Language,
        now_us: int,
    ) -> None:
        self._pack = pack
        self._rules = pack.jurisdictions.get(JurisdictionCode(jurisdiction))
        self._language = language
        self._now_us = now_us
        self._now = to_datetime(now_us)
        self._tier = age_tier
        self.needs_guardian = age_tier in _NEEDS_GUARDIAN
        self.needs_age = age_tier is AgeTier.UNKNOWN

    def rows(self, states: Iterable[ConsentState]) -> list[PurposeRow]:
        """Give every purpose of the pack in its order, those that one may decide on first."""
        known = {(state.purpose, state.channel): state for state in states}
        rows = [self.row(purpose, known) for purpose in self._pack.purposes.values()]
        return sorted(rows, key=lambda row: not row.choices)

    def row(self, purpose: Purpose, known: dict[tuple[str, str], ConsentState]) -> PurposeRow:
        """Describe one purpose."""
        language = self._language
        basis = lawful_basis(purpose, self._rules)
        current = self._pack.current_notice(purpose.notice, language, self._now).revision
        channels = purpose.channels or (Channel(NO_CHANNEL),)
        by_consent = basis.kind is BasisKind.CONSENT
        return PurposeRow(
            purpose.key,
            purpose.title.in_language(language),
            purpose.summary.in_language(language),
            purpose.recipients.in_language(language),
            purpose.withdrawal_consequence.in_language(language),
            basis.name.in_language(language),
            "" if self._rules is None else self._rules.law.in_language(language),
            basis.section.removeprefix(_SECTION),
            "section" if basis.section.startswith(_SECTION) else "article",
            current,
            purpose.direct_marketing,
            tuple(
                self._choice(purpose, channel, known.get((purpose.key, channel)), current)
                for channel in (channels if by_consent else ())
            ),
        )

    def _choice(
        self, purpose: Purpose, channel: Channel, state: ConsentState | None, current: str
    ) -> Choice:
        rule = self._pack.channels.get(channel)
        title = "" if rule is None else rule.title.in_language(self._language)
        if state is None:
            return Choice(purpose.key, channel, title, Standing.UNASKED, None, current)
        standing = _STANDINGS[state.status]
        if standing is Standing.ALLOWED:
            if self.needs_guardian and state.guardian_id is None:
                standing = Standing.GUARDIAN
            elif find_reconfirm(self._pack, self._tier, [state], self._now_us):
                standing = Standing.RECONFIRM
        return Choice(
            purpose.key,
            channel,
            title,
            standing,
            state.since_us,
            state.notice_revision or current,
        )
