"""Loads a policy pack, or refuses it whole and says every place that is wrong.

The registry decides about people by what is read here, so nothing is guessed: an unknown key,
a reference into nowhere or a notice whose words changed after publication stops the load and
the pack in force stays in force.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from policies.checks import cross_check
from policies.coarse import CoarseForm, CoarseIndex
from policies.emergency import read_emergency
from policies.errors import Finding, PackError
from policies.layers import MODEL_FILE, POLICY_FILE, read_layers
from policies.loyalty import read_loyalty
from policies.model import (
    AgeTier,
    BasisKind,
    CatalogueField,
    Category,
    Channel,
    ChannelRule,
    ContactKind,
    Fact,
    FieldKey,
    FieldKind,
    IndexKind,
    Jurisdiction,
    JurisdictionCode,
    LawfulBasis,
    LocalText,
    MaskRule,
    MinorTier,
    NoticeKey,
    PolicyPack,
    Purpose,
    PurposeKey,
    RetentionClass,
    RetentionClassKey,
    Storage,
)
from policies.notices import read_notices
from policies.pii import read_special_words
from policies.reading import PackReader, Table
from policies.trail import TrailRule

DEFAULT_BASIS = "default"
TRAIL_ACTION = re.compile(r"(?!retention\.)[a-z][a-z0-9_]*(?:\.[a-z0-9_]+)*(?:\.\*)?")
"""What a rule of the trail may name; what says that something was deleted is never deleted."""

K = TypeVar("K")
V = TypeVar("V")


def pack_texts(overlay: Path | None = None) -> tuple[str, dict[str, str]]:
    """Give the digest of a pack and every text that it hashes, by layer and path.

    The paths begin with `pack/` and `overlay/`, as they do in what the digest hashes.
    """
    layers = read_layers(overlay, [])
    texts = {f"pack/{path}": text for path, text in layers.packaged.items()}
    texts |= {f"overlay/{path}": text for path, text in layers.overlay.items()}
    return layers.digest(), texts


def load_pack(overlay: Path | None = None) -> PolicyPack:
    """Load the packaged pack with the customer's folder laid over it.

    Args:
        overlay: A folder of the same shape; its tables are merged key by key, its rows of
            `roles/policy.csv` are added, its notice versions are added. `None` for the
            packaged pack alone.

    Raises:
        PackError: the pack has faults; `findings` names each one.
    """
    pack, findings = _load(overlay)
    if findings:
        raise PackError(findings)
    return pack


def check(overlay: Path | None = None) -> list[Finding]:
    """Find every fault that would keep a pack from loading; an empty list means it loads."""
    return _load(overlay)[1]


def _load(overlay: Path | None) -> tuple[PolicyPack, list[Finding]]:
    findings: list[Finding] = []
    reader = PackReader(read_layers(overlay, findings), findings)
    jurisdictions = _jurisdictions(reader)
    retention, pseudonym, trail_rules, detail = _retention(reader, jurisdictions)
    categories, fields = _fields(reader)
    channels, purposes = _purposes(reader)
    notices = read_notices(reader)
    loyalty = read_loyalty(reader)
    special_words = read_special_words(reader)
    reasons, review = read_emergency(reader)
    name, version, exclusive = _about(reader)
    pack = PolicyPack(
        name=name,
        version=version,
        digest=reader.layers.digest(),
        purposes=_frozen(purposes),
        channels=_frozen(channels),
        fields=_frozen(fields),
        categories=_frozen(categories),
        jurisdictions=_frozen(jurisdictions),
        retention_classes=_frozen(retention),
        pseudonym_key_lifetime=pseudonym,
        trail_rules=_frozen(trail_rules),
        detail_lifetime=detail,
        emergency_reasons=reasons,
        emergency_review=review,
        notices=_frozen(notices),
        notices_by_revision=_frozen({n.revision: n for group in notices.values() for n in group}),
        loyalty=loyalty,
        special_words=special_words,
        exclusive_roles=exclusive,
        access_model=_access_model(reader),
        access_policy=_access_policy(reader),
    )
    cross_check(pack, findings)
    return pack, findings


def _about(reader: PackReader) -> tuple[str, str, frozenset[frozenset[str]]]:
    table = reader.file("pack.toml")
    name, version = table.text("name"), table.text("version")
    separation = table.table("separation")
    pairs = frozenset(_role_pair(pair) for pair in separation.tables("exclusive"))
    separation.close()
    table.close()
    return name, version, pairs


def _role_pair(table: Table) -> frozenset[str]:
    roles = table.texts("roles")
    if len(roles) != 2:  # noqa: PLR2004 - a pair
        table.fault("roles", "is not a pair", "Name the two roles that one person may not hold")
    table.close()
    return frozenset(roles)


def _fields(
    reader: PackReader,
) -> tuple[dict[Category, LocalText], dict[FieldKey, CatalogueField]]:
    file = reader.file("fields.toml")
    named = file.table("categories")
    categories = {Category(key): named.local_text(key) for key in named.keys()}  # noqa: SIM118 - Table is no mapping
    named.close()
    fields = {FieldKey(key): _field(key, table) for key, table in file.table("fields").entries()}
    file.close()
    return categories, fields


def _field(key: str, table: Table) -> CatalogueField:
    entry = CatalogueField(
        key=FieldKey(key),
        kind=table.choice("kind", FieldKind),
        category=Category(table.text("category")),
        sensitive=table.flag("sensitive"),
        storage=table.choice("storage", Storage),
        retention_class=RetentionClassKey(table.text("retention_class")),
        pad=table.number("pad") if table.has("pad") else 0,
        mask=table.choice("mask", MaskRule),
        contact=table.optional_choice("contact", ContactKind),
        index=table.optional_choice("index", IndexKind),
        hardened=table.flag("hardened") if table.has("hardened") else False,
        coarse=_coarse(table),
        title=table.local_text("title"),
    )
    table.close()
    return entry


def _coarse(table: Table) -> CoarseIndex | None:
    form = table.optional_choice("coarse_index", CoarseForm)
    partitions = table.number("partitions") if table.has("partitions") else 1
    reason = table.optional_text("accept_leakage")
    if form is None:
        for key in ("partitions", "accept_leakage"):
            if table.has(key):
                table.fault(key, "belongs to a coarse index", "Declare `coarse_index`, or drop it")
        return None
    return CoarseIndex(form, partitions, reason)


def _purposes(
    reader: PackReader,
) -> tuple[dict[Channel, ChannelRule], dict[PurposeKey, Purpose]]:
    file = reader.file("purposes.toml")
    channels = {Channel(key): _channel(key, t) for key, t in file.table("channels").entries()}
    purposes = {PurposeKey(key): _purpose(key, t) for key, t in file.table("purposes").entries()}
    file.close()
    return channels, purposes


def _channel(key: str, table: Table) -> ChannelRule:
    contact = table.optional_text("contact_field")
    rule = ChannelRule(
        Channel(key), FieldKey(contact) if contact else None, table.local_text("title")
    )
    table.close()
    return rule


def _purpose(key: str, table: Table) -> Purpose:
    fields = frozenset(FieldKey(name) for name in table.texts("fields"))
    channels = tuple(Channel(name) for name in table.texts("channels"))
    basis = _basis(table.table("lawful_basis"))
    purpose = Purpose(
        key=PurposeKey(key),
        dpv_term=table.text("dpv"),
        basis=_frozen({code: kind for code, kind in basis.items() if code != DEFAULT_BASIS}),
        default_basis=basis.get(DEFAULT_BASIS, BasisKind.CONSENT),
        fields=fields,
        channels=channels,
        disclosable=_disclosable(fields, channels, table.optional_table("channel_fields")),
        retention_class=RetentionClassKey(table.text("retention_class")),
        necessary_for_service=table.flag("necessary_for_service"),
        direct_marketing=table.has("direct_marketing") and table.flag("direct_marketing"),
        withdrawal_consequence=table.local_text("withdrawal_consequence"),
        title=table.local_text("title"),
        summary=table.local_text("summary"),
        recipients=table.local_text("recipients"),
        notice=NoticeKey(table.text("notice")),
        assessment=table.optional_text("assessment"),
    )
    table.close()
    return purpose


def _basis(table: Table) -> dict[str, BasisKind]:
    codes = table.keys()
    if DEFAULT_BASIS not in codes:
        table.fault(DEFAULT_BASIS, "is missing", "Name the basis where no jurisdiction is known")
    basis = {code: table.choice(code, BasisKind) for code in codes}
    table.close()
    return basis


def _disclosable(
    fields: frozenset[FieldKey], channels: tuple[Channel, ...], table: Table
) -> Mapping[Channel | None, frozenset[FieldKey]]:
    own: dict[Channel | None, frozenset[FieldKey]] = {}
    for channel in channels:
        if not table.has(channel):
            table.fault(channel, "is missing", "List the fields only this channel needs, or []")
            continue
        own[channel] = frozenset(FieldKey(name) for name in table.texts(channel))
        stray = sorted(own[channel] - fields)
        if stray:
            table.fault(channel, f"names {', '.join(stray)}, not in fields", "Add it to fields")
    table.close()
    if not channels:
        return _frozen({None: fields})
    shared = fields - frozenset[FieldKey]().union(*own.values())
    return _frozen({channel: shared | only for channel, only in own.items()})


def _jurisdictions(reader: PackReader) -> dict[JurisdictionCode, Jurisdiction]:
    found: dict[JurisdictionCode, Jurisdiction] = {}
    for path in reader.layers.paths:
        if path.startswith("jurisdictions/"):
            code = JurisdictionCode(path.removeprefix("jurisdictions/").removesuffix(".toml"))
            found[code] = _jurisdiction(code, reader.file(path))
    return found


def _jurisdiction(code: JurisdictionCode, file: Table) -> Jurisdiction:
    if file.text("code") != code:
        file.fault("code", "is not the name of the file", f'Write code = "{code}"')
    minors = file.table("minors")
    found = Jurisdiction(
        code=code,
        law=file.local_text("law"),
        authority=file.local_text("authority"),
        calendar=file.fact("calendar"),
        adult_from=minors.fact("adult_from"),
        minor_tiers=tuple(_minor_tier(tier) for tier in minors.tables("tiers")),
        withdrawal=file.fact("withdrawal"),
        sensitive=file.fact("sensitive"),
        dsar=_facts(file.table("dsar")),
        lawful_bases=_frozen(dict(_law(code, t) for t in file.tables("lawful_bases"))),
        retention=_facts(file.table("retention")),
        holidays=file.fact("holidays") if file.has("holidays") else None,
        refusals=_facts(file.optional_table("refusals")),
    )
    minors.close()
    file.close()
    return found


def _minor_tier(table: Table) -> MinorTier:
    fact, who = table.fact_here(), table.choice("who", AgeTier)
    table.close()
    return MinorTier(fact.value if isinstance(fact.value, int) else 0, who, fact)


def _law(code: JurisdictionCode, table: Table) -> tuple[BasisKind, LawfulBasis]:
    kind = table.choice("id", BasisKind)
    basis = LawfulBasis(kind, code, table.text("section"), table.local_text("name"))
    table.close()
    return kind, basis


def _facts(table: Table) -> Mapping[str, Fact]:
    return _frozen({key: table.fact(key) for key in table.keys()})  # noqa: SIM118 - Table is no mapping


def _retention(
    reader: PackReader, jurisdictions: Mapping[JurisdictionCode, Jurisdiction]
) -> tuple[dict[RetentionClassKey, RetentionClass], Fact, dict[str, TrailRule], Fact]:
    file = reader.file("retention.toml")
    classes = {
        RetentionClassKey(key): _retention_class(key, table, jurisdictions)
        for key, table in file.table("classes").entries()
    }
    pseudonym, detail = file.fact("pseudonym_key"), file.fact("detail")
    trail = {
        key: _trail_rule(key, table, jurisdictions)
        for key, table in file.optional_table("trail").entries()
    }
    file.close()
    return classes, pseudonym, trail, detail


def _retention_class(
    key: str, table: Table, jurisdictions: Mapping[JurisdictionCode, Jurisdiction]
) -> RetentionClass:
    ends_with_purpose = table.flag("ends_with_purpose")
    period = _periods(table.optional_table("period"), {} if ends_with_purpose else jurisdictions)
    found = RetentionClass(
        RetentionClassKey(key), table.local_text("title"), table.flag("own_key"), _frozen(period)
    )
    table.close()
    return found


def _trail_rule(
    key: str, table: Table, jurisdictions: Mapping[JurisdictionCode, Jurisdiction]
) -> TrailRule:
    title, actions = table.local_text("title"), table.texts("actions")
    for action in actions:
        if not TRAIL_ACTION.fullmatch(action):
            remedy = "Write the name of an action, or its beginning and .*; retention.* is kept"
            table.fault("actions", f'"{action}" is not an action that a rule may name', remedy)
    references = table.table("period")
    known = {code: rules for code, rules in jurisdictions.items() if references.has(code)}
    rule = TrailRule(key, title, actions, _frozen(_periods(references, known)))
    table.close()
    return rule


def _periods(
    references: Table, jurisdictions: Mapping[JurisdictionCode, Jurisdiction]
) -> dict[JurisdictionCode, Fact]:
    """Read by which name each jurisdiction has a period, and give the periods."""
    period: dict[JurisdictionCode, Fact] = {}
    for code, jurisdiction in jurisdictions.items():
        name = references.text(code)
        if name in jurisdiction.retention:
            period[code] = jurisdiction.retention[name]
        elif name:
            remedy = f"Use a key of [retention] in jurisdictions/{code}.toml"
            references.fault(code, f'"{name}" is not a period of {code}', remedy)
    references.close()
    return period


def _access_model(reader: PackReader) -> str:
    packaged = reader.layers.packaged[MODEL_FILE]
    if reader.layers.overlay.get(MODEL_FILE, packaged) != packaged:
        remedy = "Take it out: say it in roles/policy.csv, the model is part of the program"
        reader.findings.append(Finding(MODEL_FILE, "", "replaces the packaged model", remedy))
    return packaged


def _access_policy(reader: PackReader) -> str:
    return reader.layers.packaged[POLICY_FILE] + reader.layers.overlay.get(POLICY_FILE, "")


def _frozen(mapping: dict[K, V]) -> Mapping[K, V]:
    return MappingProxyType(mapping)
