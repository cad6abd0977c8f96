"""What must hold between the parts of a pack: the linter behind `yinyom policies check`.

Each rule is a promise or an article of law turned into a question about data. A pack that
answers one of them wrongly would disclose too much, ask too little or keep too long.
"""

import re
from collections.abc import Callable, Iterable

from policies.coarse import COARSE_FORMS, MOST_PARTITIONS
from policies.errors import Finding
from policies.grants import (
    FIELD_ACTIONS,
    NO_PURPOSE,
    RESOURCE_ACTIONS,
    WILDCARD,
    inherited,
    parse_rows,
)
from policies.layers import POLICY_FILE
from policies.loyalty import check_loyalty
from policies.model import (
    AgeTier,
    BasisKind,
    CatalogueField,
    Fact,
    FieldKey,
    FieldKind,
    IndexKind,
    Jurisdiction,
    MaskRule,
    PolicyPack,
    Purpose,
    Storage,
)
from vault import PAD_BLOCKS

MAX_PSEUDONYM_DAYS = 90
_TRAIL_UNITS = frozenset({"calendar_days", "months", "years"})

_DPV_TERM = re.compile(r"[A-Z][A-Za-z]+")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NOT_PLAIN_KINDS = frozenset({FieldKind.TEXT, FieldKind.NAME, FieldKind.ADDRESS})
_FEWEST_WORDS = 3
_TIERS_OF_MINORS = (AgeTier.GUARDIAN_ONLY, AgeTier.MINOR_WITH_GUARDIAN)


def cross_check(pack: PolicyPack, into: list[Finding]) -> None:
    """Append a finding for every rule between parts that the pack breaks."""

    def fault(file: str, key: str, problem: str, remedy: str) -> None:
        into.append(Finding(file, key, problem, remedy))

    for field in pack.fields.values():
        _check_field(pack, field, fault)
    for channel in pack.channels.values():
        if channel.contact_field is None:
            continue
        field_of = pack.fields.get(channel.contact_field)
        if field_of is None or field_of.contact is None:
            place = f"channels.{channel.key}.contact_field"
            fault("purposes.toml", place, "is not a contact field", "Name a field with `contact`")
    for purpose in pack.purposes.values():
        _check_purpose(pack, purpose, fault)
    for jurisdiction in pack.jurisdictions.values():
        _check_minors(jurisdiction, fault)
    _check_pseudonym(pack, fault)
    _check_trail(pack, fault)
    check_loyalty(pack, fault)
    _check_access(pack, fault)


Fault = Callable[[str, str, str, str], None]


def _check_field(pack: PolicyPack, field: CatalogueField, fault: Fault) -> None:
    place = f"fields.{field.key}"

    def wrong(key: str, problem: str, remedy: str) -> None:
        fault("fields.toml", f"{place}.{key}" if key else place, problem, remedy)

    if field.category not in pack.categories:
        wrong("category", f'"{field.category}" is not a category', "Name it under [categories]")
    if field.retention_class not in pack.retention_classes:
        wrong("retention_class", "is not a retention class", "Name it in retention.toml")
    _check_index(field, wrong)
    if field.storage is Storage.SEALED and field.mask is MaskRule.NONE:
        wrong("mask", "shows a sealed value", "Use another mask")
    if field.pad and field.pad not in PAD_BLOCKS:
        wrong("pad", f"is {field.pad} bytes", "Pad to 16 or 32, or leave it out")
    if field.storage is Storage.PLAIN:
        if field.pad:
            wrong("pad", "pads a plain field", "Leave it out; only cells are padded")
        if field.sensitive or field.contact or field.index or field.kind in _NOT_PLAIN_KINDS:
            wrong("storage", "leaves personal data in the clear", "Seal it")
    if not any(field.key in purpose.fields for purpose in pack.purposes.values()):
        remedy = "Add it to the purpose that needs it, or do not collect it"
        wrong("", "belongs to no purpose", remedy)


def _check_index(field: CatalogueField, wrong: Callable[[str, str, str], None]) -> None:
    if field.index is not None and field.index.value != field.kind.value:
        problem = (
            f'a {field.kind.value} has too little entropy or another kind than "{field.index}"'
        )
        wrong("index", problem, "Leave it out; only the five identifiers are indexed")
    if field.hardened and field.index is not IndexKind.NATIONAL_ID:
        wrong("hardened", "is for national ids only", "Leave it out; a look-up would take too long")
    _check_coarse(field, wrong)


def _check_coarse(field: CatalogueField, wrong: Callable[[str, str, str], None]) -> None:
    """A coarse index must suit its field; whether its leak is accepted, `vault lint` asks."""
    coarse = field.coarse
    if coarse is None:
        return
    suited = COARSE_FORMS.get(field.kind.value, frozenset())
    if coarse.form not in suited:
        fit = " or ".join(sorted(suited)) or "no coarse index"
        problem = f'"{coarse.form}" does not suit a {field.kind.value}'
        wrong("coarse_index", problem, f"A {field.kind.value} takes {fit}")
    if field.storage is not Storage.SEALED:
        wrong("coarse_index", "indexes a plain field", "Leave it out; plain fields are columns")
    if not 1 <= coarse.partitions <= MOST_PARTITIONS:
        wrong("partitions", "is out of range", f"Use 1 to {MOST_PARTITIONS}")
    if coarse.accept_leakage is not None and len(coarse.accept_leakage.split()) < _FEWEST_WORDS:
        wrong("accept_leakage", "gives no reason", "Say in a sentence why the leak is accepted")


def _check_purpose(pack: PolicyPack, purpose: Purpose, fault: Fault) -> None:
    def wrong(key: str, problem: str, remedy: str) -> None:
        fault("purposes.toml", f"purposes.{purpose.key}.{key}", problem, remedy)

    if not _DPV_TERM.fullmatch(purpose.dpv_term):
        wrong("dpv", "is not a term of the Data Privacy Vocabulary", "Name a dpv:Purpose")
    for key, unknown in (
        ("fields", sorted(purpose.fields - pack.fields.keys())),
        ("channels", sorted(set(purpose.channels) - pack.channels.keys())),
    ):
        if unknown:
            wrong(key, f"names {', '.join(unknown)}, which nobody declared", "Declare or remove it")
    if not purpose.fields:
        wrong("fields", "is empty", "A purpose without data needs no entry")
    if purpose.retention_class not in pack.retention_classes:
        wrong("retention_class", "is not a retention class", "Name it in retention.toml")
    if not pack.notices.get(purpose.notice):
        wrong("notice", f'"{purpose.notice}" has no published wording', "Write notices/<key>/")
    _check_channel_fields(pack, purpose, wrong)
    _check_basis(pack, purpose, wrong)


def _check_channel_fields(
    pack: PolicyPack, purpose: Purpose, wrong: Callable[[str, str, str], None]
) -> None:
    contacts = {key for key, field in pack.fields.items() if field.contact is not None}
    for channel, fields in purpose.disclosable.items():
        rule = pack.channels.get(channel) if channel is not None else None
        if rule is None:
            continue
        needed = frozenset[FieldKey]() if rule.contact_field is None else {rule.contact_field}
        if not needed <= fields:
            problem = f"leaves out {rule.contact_field}, by which the channel reaches the member"
            wrong(f"channel_fields.{channel}", problem, "Add it")
        stray = sorted(fields & contacts - needed)
        if stray:
            problem = f"discloses {', '.join(stray)} on a channel that does not use it"
            wrong(f"channel_fields.{channel}", problem, "List it under its own channel only")


def _check_basis(
    pack: PolicyPack, purpose: Purpose, wrong: Callable[[str, str, str], None]
) -> None:
    for code, jurisdiction in pack.jurisdictions.items():
        if code not in purpose.basis:
            wrong(f"lawful_basis.{code}", "is missing", "Name the basis in this jurisdiction")
        elif purpose.basis[code] not in jurisdiction.lawful_bases:
            problem = f'"{purpose.basis[code]}" is not a lawful basis of {code}'
            wrong(f"lawful_basis.{code}", problem, f"See jurisdictions/{code}.toml")
    for stray in sorted(purpose.basis.keys() - pack.jurisdictions.keys()):
        wrong(f"lawful_basis.{stray}", "is not a jurisdiction of this pack", "Remove it")
    bases = {purpose.default_basis, *purpose.basis.values()}
    if BasisKind.CONSENT in bases and purpose.necessary_for_service:
        problem = "makes the service depend on consent (PDPA s.19, GDPR art. 7(4))"
        wrong("necessary_for_service", problem, "Set it to false, or use the contract basis")
    if BasisKind.LEGITIMATE_INTEREST in bases and not _DIGEST.fullmatch(purpose.assessment or ""):
        remedy = 'Write the balancing test and record assessment = "sha256:<its hash>"'
        wrong("assessment", "is missing for a legitimate interest", remedy)
    sensitive = sorted(key for key in purpose.fields if _is_sensitive(pack, key))
    if sensitive and bases != {BasisKind.CONSENT}:
        problem = f"uses sensitive {', '.join(sensitive)} without consent (PDPA s.26, GDPR art. 9)"
        wrong("lawful_basis", problem, "Use consent everywhere, or take the field out")


def _is_sensitive(pack: PolicyPack, key: FieldKey) -> bool:
    field = pack.fields.get(key)
    return field is not None and field.sensitive


def _check_minors(jurisdiction: Jurisdiction, fault: Fault) -> None:
    file = f"jurisdictions/{jurisdiction.code}.toml"
    ages = [tier.max_age_inclusive for tier in jurisdiction.minor_tiers]
    if not ages or ages != sorted(set(ages)) or ages[-1] + 1 != jurisdiction.adult_from.value:
        problem = "does not lead upwards to the year before adult_from"
        fault(file, "minors.tiers", problem, "Order the tiers and end with adult_from - 1")
    for place, tier in enumerate(jurisdiction.minor_tiers):
        if tier.who not in _TIERS_OF_MINORS:
            remedy = f"Use one of {', '.join(_TIERS_OF_MINORS)}"
            fault(file, f"minors.tiers[{place}].who", "is not a tier of minors", remedy)
    if not jurisdiction.lawful_bases:
        fault(file, "lawful_bases", "is empty", "List the lawful bases with their sections")


def _check_pseudonym(pack: PolicyPack, fault: Fault) -> None:
    fact = pack.pseudonym_key_lifetime
    days = fact.value if fact.unit == "calendar_days" else None
    if not isinstance(days, int) or not 0 < days <= MAX_PSEUDONYM_DAYS:
        remedy = f"Write 1 to {MAX_PSEUDONYM_DAYS} calendar_days"
        fault("retention.toml", "pseudonym_key.v", "outlives the erasure promise", remedy)


def _check_trail(pack: PolicyPack, fault: Fault) -> None:
    """Let no action be named by two rules, and no period be one that cannot be counted."""
    if not _is_countable(pack.detail_lifetime):
        remedy = "Use a period in calendar_days, months or years"
        fault("retention.toml", "detail", "is no period that can be counted", remedy)
    if not _is_countable(pack.emergency_review):
        remedy = "Use a period in calendar_days, months or years"
        fault("emergency.toml", "review", "is no period that can be counted", remedy)
    named: set[str] = set()
    for key, rule in pack.trail_rules.items():
        for action in rule.actions:
            if action in named:
                problem = f"names {action}, which another rule names"
                fault("retention.toml", f"trail.{key}.actions", problem, "Name it in one rule")
            named.add(action)
        for code, fact in rule.period.items():
            if not _is_countable(fact):
                remedy = "Use a period in calendar_days, months or years"
                problem = "is no period that can be counted"
                fault("retention.toml", f"trail.{key}.period.{code}", problem, remedy)


def _is_countable(fact: Fact) -> bool:
    return isinstance(fact.value, int) and fact.value > 0 and fact.unit in _TRAIL_UNITS


def _check_access(pack: PolicyPack, fault: Fault) -> None:
    rules, links, broken = parse_rows(pack.access_policy)
    for line in broken:
        remedy = (
            "Write p, role, brand, resource, action, purpose, allow|deny or g, role, role, brand"
        )
        fault(POLICY_FILE, line, "is not a rule", remedy)
    clashes = sorted(pack.categories.keys() & RESOURCE_ACTIONS.keys())
    for name in clashes:
        fault("fields.toml", f"categories.{name}", "is also a resource", "Give it another name")
    for rule in rules:
        for key, known, value in (
            ("resource", {*pack.categories, *RESOURCE_ACTIONS}, rule.resource),
            ("action", _actions_of(pack, rule.resource), rule.action),
            ("purpose", {*pack.purposes, NO_PURPOSE}, rule.purpose),
        ):
            if value != WILDCARD and value not in known:
                problem = f'{key} "{value}" is not known'
                fault(POLICY_FILE, rule.row, problem, _choose(known))
    for pair in pack.exclusive_roles:
        for subject in sorted({link.role for link in links} | pair):
            if pair <= inherited(subject, links):
                problem = f"lets {subject} be {' and '.join(sorted(pair))} at once"
                fault(POLICY_FILE, subject, problem, "Remove one of the g rows")


def _actions_of(pack: PolicyPack, resource: str) -> Iterable[str]:
    if resource in pack.categories:
        return FIELD_ACTIONS
    if resource in RESOURCE_ACTIONS:
        return RESOURCE_ACTIONS[resource]
    return {*FIELD_ACTIONS, *(a for actions in RESOURCE_ACTIONS.values() for a in actions)}


def _choose(known: Iterable[str]) -> str:
    return f"Use * or one of {', '.join(sorted(known))}"
