"""The words of a policy pack as frozen types: purposes, fields, channels, notices, facts.

A pack is law and promise written as data, so nothing here can be changed after loading: a
decision made from a pack can be repeated from the same pack for as long as its digest is known.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, NewType

from kernel import FieldProblem, InvalidRequestError, NotFoundError
from kernel.i18n import Language
from policies.coarse import CoarseIndex

if TYPE_CHECKING:
    from policies.trail import TrailRule

PurposeKey = NewType("PurposeKey", str)
FieldKey = NewType("FieldKey", str)
Channel = NewType("Channel", str)
Category = NewType("Category", str)
JurisdictionCode = NewType("JurisdictionCode", str)
RetentionClassKey = NewType("RetentionClassKey", str)
NoticeKey = NewType("NoticeKey", str)
NoticeRevision = NewType("NoticeRevision", str)

DPV = "https://w3id.org/dpv#"


class FieldKind(StrEnum):
    """What a field holds; it chooses the normaliser and validator."""

    NAME = "name"
    PHONE = "phone"
    EMAIL = "email"
    LINE_UID = "line_uid"
    NATIONAL_ID = "national_id"
    CARD_NO = "card_no"
    DATE = "date"
    GENDER = "gender"
    ADDRESS = "address"
    POSTCODE = "postcode"
    LANGUAGE = "language"
    TEXT = "text"
    INTEGER = "integer"
    KEYWORD = "keyword"
    KEYWORDS = "keywords"


class IndexKind(StrEnum):
    """Identifiers with entropy enough for a blind index; there is no other index."""

    PHONE = "phone"
    EMAIL = "email"
    LINE_UID = "line_uid"
    NATIONAL_ID = "national_id"
    CARD_NO = "card_no"


class ContactKind(StrEnum):
    """Kinds of contact point that can be verified."""

    PHONE = "phone"
    EMAIL = "email"
    LINE = "line"


class Storage(StrEnum):
    """Whether a field is an encrypted cell or a plain pseudonymous column."""

    SEALED = "sealed"
    PLAIN = "plain"


class MaskRule(StrEnum):
    """How a field is shown to those who may see only its outline (`policies.mask`)."""

    PHONE = "phone"
    EMAIL = "email"
    INITIAL = "initial"
    YEAR = "year"
    HEAD = "head"
    TAIL = "tail"
    FULL = "full"
    NONE = "none"


class BasisKind(StrEnum):
    """Lawful bases under their common names; a jurisdiction gives each its section."""

    CONSENT = "consent"
    CONTRACT = "contract"
    LEGAL_OBLIGATION = "legal_obligation"
    VITAL_INTEREST = "vital_interest"
    PUBLIC_TASK = "public_task"
    LEGITIMATE_INTEREST = "legitimate_interest"
    ARCHIVE_RESEARCH_STATISTICS = "archive_research_statistics"
    SELF_PUBLISHED = "self_published"
    PUBLIC_SOURCE = "public_source"
    NO_HARM = "no_harm"


class AgeTier(StrEnum):
    """Who must act for a member of this age: the member, both, the guardian; or not known."""

    ADULT = "adult"
    MINOR_WITH_GUARDIAN = "minor_with_guardian"
    GUARDIAN_ONLY = "guardian_only"
    UNKNOWN = "unknown"


class Status(StrEnum):
    """Standing of a rule: law today, law to come, or our own careful choice."""

    IN_FORCE = "in_force"
    DRAFT = "draft"
    PENDING = "pending"
    GUIDANCE = "guidance"
    CONSERVATIVE_DEFAULT = "conservative_default"


class Evidence(StrEnum):
    """How a rule was read: official text, somebody's summary, or not checked at all."""

    PRIMARY = "primary"
    SECONDARY = "secondary"
    MEMORY = "memory"


class FieldOmission(StrEnum):
    """Why a purpose does not disclose a field; the words of `omitted` in an answer."""

    NOT_IN_PURPOSE = "not_in_purpose"
    NOT_IN_CHANNEL = "not_in_channel"


class Change(StrEnum):
    """How far a new version of a notice goes beyond the one before it.

    Chosen by a person. Nobody need be told of a cosmetic change; an informational one is told;
    after a material one (purpose, data, recipients, how long, where) a consent given on older
    words carries nothing until it is confirmed on the new ones.
    """

    FIRST = "first"
    COSMETIC = "cosmetic"
    INFORMATIONAL = "informational"
    MATERIAL = "material"


@dataclass(frozen=True, slots=True)
class LocalText:
    """One text in every language of the portal."""

    th: str
    en: str
    zh_hant: str

    def in_language(self, language: Language) -> str:
        """Give the text in one language."""
        return self.as_dict()[language.value]

    def as_dict(self) -> dict[str, str]:
        """Give all languages by BCP 47 tag, as `GET /v1/purposes` shows them."""
        return {"th": self.th, "en": self.en, "zh-Hant": self.zh_hant}


@dataclass(frozen=True, slots=True)
class Fact:
    """One rule of law with its source, standing and evidence.

    `unit` counts an integer `value` (`calendar_days`, `months`, `years`, `hours`,
    `immediate`); `start` names the event that starts the clock; `conditions` keeps what else
    the source says.
    """

    value: int | str | tuple[str, ...]
    unit: str | None
    source: str
    status: Status
    evidence: Evidence
    start: str | None
    since: date | None
    read: str | None
    note: str | None
    conditions: Mapping[str, object]

    @property
    def unverified(self) -> bool:
        """Tell whether the number was never checked and must be shown as such."""
        return self.evidence is Evidence.MEMORY


@dataclass(frozen=True, slots=True)
class LawfulBasis:
    """A lawful basis as one jurisdiction knows it; `section` is empty for the default."""

    kind: BasisKind
    jurisdiction: str
    section: str
    name: LocalText


@dataclass(frozen=True, slots=True)
class MinorTier:
    """Ages up to and including `max_age_inclusive`, and who must act for them."""

    max_age_inclusive: int
    who: AgeTier
    fact: Fact


@dataclass(frozen=True, slots=True)
class Jurisdiction:
    """The rules of one jurisdiction that the registry needs today.

    `holidays` lists days that are no working days, `MM-DD` or `YYYY-MM-DD`; `refusals` gives,
    by reason code, the rights that may be refused for it.
    """

    code: JurisdictionCode
    law: LocalText
    authority: LocalText
    calendar: Fact
    adult_from: Fact
    minor_tiers: tuple[MinorTier, ...]
    withdrawal: Fact
    sensitive: Fact
    dsar: Mapping[str, Fact]
    lawful_bases: Mapping[BasisKind, LawfulBasis]
    retention: Mapping[str, Fact]
    holidays: Fact | None
    refusals: Mapping[str, Fact]

    @property
    def minors_unverified(self) -> bool:
        """Tell whether any age limit of this jurisdiction was never checked."""
        return self.adult_from.unverified or any(t.fact.unverified for t in self.minor_tiers)


@dataclass(frozen=True, slots=True)
class RetentionClass:
    """How long data of a class is kept, and whether it is sealed under a key of its own.

    `period` is empty when the class ends with the purpose; else it gives each jurisdiction's
    period as a fact.
    """

    key: RetentionClassKey
    title: LocalText
    own_key: bool
    period: Mapping[JurisdictionCode, Fact]


@dataclass(frozen=True, slots=True)
class CatalogueField:
    """One entry of the field catalogue.

    `sensitive` means a special category of data (PDPA s.26, GDPR art. 9). `pad` is the
    block in bytes to which a value is filled before it is sealed, so that its length tells
    nothing; 0 leaves it as it is.
    """

    key: FieldKey
    kind: FieldKind
    category: Category
    sensitive: bool
    storage: Storage
    retention_class: RetentionClassKey
    pad: int
    mask: MaskRule
    contact: ContactKind | None
    index: IndexKind | None
    hardened: bool
    coarse: CoarseIndex | None
    title: LocalText


@dataclass(frozen=True, slots=True)
class ChannelRule:
    """A way to reach a member, and the contact field it uses, if it uses one of ours."""

    key: Channel
    contact_field: FieldKey | None
    title: LocalText


@dataclass(frozen=True, slots=True)
class Purpose:
    """Why personal data may be used, on which basis, and what it may see at most.

    `disclosable` is what each channel discloses, or under `None` what a purpose without
    channels does. Who objects to `direct_marketing` is obeyed at once and without weighing
    (PDPA s.32 para 2, GDPR art. 21(3), Taiwan PDPA art. 20 II).
    """

    key: PurposeKey
    dpv_term: str
    basis: Mapping[str, BasisKind]
    default_basis: BasisKind
    fields: frozenset[FieldKey]
    channels: tuple[Channel, ...]
    disclosable: Mapping[Channel | None, frozenset[FieldKey]]
    retention_class: RetentionClassKey
    necessary_for_service: bool
    direct_marketing: bool
    withdrawal_consequence: LocalText
    title: LocalText
    summary: LocalText
    recipients: LocalText
    notice: NoticeKey
    assessment: str | None

    @property
    def dpv_iri(self) -> str:
        """The purpose in the W3C Data Privacy Vocabulary."""
        return DPV + self.dpv_term

    @property
    def channelled(self) -> bool:
        """Tell whether consent and disclosure of this purpose are per channel."""
        return bool(self.channels)

    def fields_for(self, channel: Channel | None) -> frozenset[FieldKey]:
        """Give the fields this purpose may disclose on a channel.

        Raises:
            InvalidRequestError: `channel_required`, `channel_unknown` or
                `channel_not_applicable`, at `/channel`.
        """
        fields = self.disclosable.get(channel)
        if fields is None:
            raise self._bad_channel(channel)
        return fields

    def omission(self, field: FieldKey, channel: Channel | None) -> FieldOmission | None:
        """Say why a field stays out on this channel, or `None` when the purpose includes it."""
        if field not in self.fields:
            return FieldOmission.NOT_IN_PURPOSE
        return None if field in self.fields_for(channel) else FieldOmission.NOT_IN_CHANNEL

    def _bad_channel(self, channel: Channel | None) -> InvalidRequestError:
        if channel is None:
            reason, detail = "channel_required", "this purpose is decided channel by channel"
        elif self.channels:
            reason, detail = "channel_unknown", f"use one of {', '.join(self.channels)}"
        else:
            reason, detail = "channel_not_applicable", "this purpose has no channels"
        problem = FieldProblem("/channel", reason, detail)
        return InvalidRequestError(detail, reason=reason, errors=[problem])


@dataclass(frozen=True, slots=True)
class Notice:
    """The wording of one version in one language; `revision` is the hash of exactly `text`.

    `change` is what this version did to the one before; `outdated_us` the moment (µs) at which
    a later material version takes effect, from when a consent on these words waits to be
    confirmed; None when there is no such version.
    """

    key: NoticeKey
    version: str
    lang: Language
    text: str
    revision: NoticeRevision
    effective_from: datetime
    change: Change
    outdated_us: int | None = None


@dataclass(frozen=True, slots=True)
class EarningRule:
    """Each full `amount_milli` (thousandths of the currency's unit) earns `points`."""

    currency: str
    amount_milli: int
    points: int


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier, and how many points earned within the window lead to it."""

    key: str
    from_points: int
    title: LocalText


@dataclass(frozen=True, slots=True)
class ActivityClass:
    """Who bought within so many days, and no more often than so; `None` sets no bound."""

    key: str
    within_days: int | None
    at_most_purchases: int | None
    title: LocalText


@dataclass(frozen=True, slots=True)
class CouponOffer:
    """A coupon that may be issued, and for how many days it can be used."""

    key: str
    lifetime_days: int
    title: LocalText


@dataclass(frozen=True, slots=True)
class Tag:
    """A declared tag; it may be on a member while its purpose has a lawful basis for them."""

    key: str
    purpose: PurposeKey
    sensitive: bool
    title: LocalText


@dataclass(frozen=True, slots=True)
class LoyaltyRules:
    """The loyalty programme; tiers go upwards from zero, activity classes end with the widest."""

    lifetime_days: int
    window_days: int
    earning: Mapping[str, EarningRule]
    tiers: tuple[Tier, ...]
    activity: tuple[ActivityClass, ...]
    coupons: Mapping[str, CouponOffer]
    tags: Mapping[str, Tag]
    sensitive_words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SpecialWords:
    """The words of one special category of data; `score` says how sure a finding is (0 to 100)."""

    kind: str
    words: tuple[str, ...]
    score: int


@dataclass(frozen=True, slots=True)
class PolicyPack:
    """A whole checked pack; `digest` names it in decisions, approvals and the audit log.

    `notices` is ordered by version; `access_model` and `access_policy` are texts of Casbin.
    """

    name: str
    version: str
    digest: str
    purposes: Mapping[PurposeKey, Purpose]
    channels: Mapping[Channel, ChannelRule]
    fields: Mapping[FieldKey, CatalogueField]
    categories: Mapping[Category, LocalText]
    jurisdictions: Mapping[JurisdictionCode, Jurisdiction]
    retention_classes: Mapping[RetentionClassKey, RetentionClass]
    pseudonym_key_lifetime: Fact
    trail_rules: Mapping[str, "TrailRule"]
    detail_lifetime: Fact
    emergency_reasons: Mapping[str, LocalText]
    emergency_review: Fact
    notices: Mapping[NoticeKey, tuple[Notice, ...]]
    notices_by_revision: Mapping[NoticeRevision, Notice]
    loyalty: LoyaltyRules
    special_words: Mapping[str, SpecialWords]
    exclusive_roles: frozenset[frozenset[str]]
    access_model: str
    access_policy: str

    @property
    def pads(self) -> dict[str, int]:
        """The fields whose length must not show, each with its block in bytes."""
        return {key: entry.pad for key, entry in self.fields.items() if entry.pad}

    def own_key_class(self, field: FieldKey) -> RetentionClass | None:
        """Give the retention class under whose own key a field is sealed, if it has one."""
        kept = self.retention_classes[self.fields[field].retention_class]
        return kept if kept.own_key else None

    def current_notice(self, key: str, lang: Language, at: datetime) -> Notice:
        """Give the newest wording in force at a time.

        Raises:
            NotFoundError: no such notice, or none of its versions is in force yet.
        """
        found = [
            notice
            for notice in self.notices.get(NoticeKey(key), ())
            if notice.lang is lang and notice.effective_from <= at
        ]
        if not found:
            raise NotFoundError("no notice of this key is in force", reason="notice_unknown")
        return found[-1]

    def notice_of(self, revision: str) -> Notice | None:
        """Find the wording that a consent refers to, however old."""
        return self.notices_by_revision.get(NoticeRevision(revision))
