"""The loyalty programme of a pack: reads `loyalty.toml` and says what does not hold together.

Points are a promise of value, so a rule that could be read two ways stops the load: tiers that
do not begin at nothing, activity classes that leave somebody out, a tag that tells of somebody's
health and calls itself harmless.
"""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType

from kernel.i18n import Language
from policies.model import (
    ActivityClass,
    BasisKind,
    CouponOffer,
    EarningRule,
    LocalText,
    LoyaltyRules,
    PolicyPack,
    PurposeKey,
    Storage,
    Tag,
    Tier,
)
from policies.reading import KEY, PackReader, Table

LOYALTY_FILE = "loyalty.toml"
LOYALTY_FIELDS = frozenset(
    {"tier", "points_balance", "activity_class", "branch", "tags", "coupons"}
)
MILLI = 1000
MAX_DAYS = 36_500

_CURRENCY = re.compile(r"[A-Z]{3}")
_AMOUNT = re.compile(r"\d{1,9}(\.\d{1,3})?")

Fault = Callable[[str, str, str, str], None]


def read_loyalty(reader: PackReader) -> LoyaltyRules:
    """Read the programme; faults go to the reader's findings."""
    file = reader.file(LOYALTY_FILE)
    points, tiers, sensitive = file.table("points"), file.table("tiers"), file.table("sensitive")
    rules = LoyaltyRules(
        lifetime_days=_days(points, "lifetime_days"),
        window_days=_days(tiers, "window_days"),
        earning=_earning(points.table("earning")),
        tiers=_tiers(tiers.table("steps")),
        activity=tuple(_activity(table) for table in file.tables("activity")),
        coupons=MappingProxyType(
            {key: _coupon(key, table) for key, table in file.table("coupons").entries()}
        ),
        tags=MappingProxyType(
            {key: _tag(key, table) for key, table in file.table("tags").entries()}
        ),
        sensitive_words=sensitive.texts("words"),
    )
    for table in (points, tiers, sensitive, file):
        table.close()
    return rules


def check_loyalty(pack: PolicyPack, fault: Fault) -> None:
    """Append a finding for every rule of the programme that does not hold together."""
    rules = pack.loyalty

    def wrong(key: str, problem: str, remedy: str) -> None:
        fault(LOYALTY_FILE, key, problem, remedy)

    starts = [tier.from_points for tier in rules.tiers]
    if not starts or starts[0] != 0:
        wrong("tiers.steps", "has no tier from 0 points", "Say where everybody begins")
    if len(set(starts)) != len(starts):
        wrong("tiers.steps", "has two tiers from the same points", "Give each its own beginning")
    for field in pack.fields.values():
        if field.key in LOYALTY_FIELDS and field.storage is not Storage.PLAIN:
            place = f"fields.{field.key}.storage"
            fault("fields.toml", place, "is not plain", "The programme keeps it beside the cells")
    _check_activity(rules, wrong)
    for tag in rules.tags.values():
        _check_tag(pack, tag, wrong)


def loyalty_words(rules: LoyaltyRules, field: str, text: str, language: Language) -> str:
    """Write the outline of a loyalty field in the words of its titles, for people to read."""
    titles: Mapping[str, LocalText] = {
        "tier": {tier.key: tier.title for tier in rules.tiers},
        "activity_class": {entry.key: entry.title for entry in rules.activity},
        "tags": {key: tag.title for key, tag in rules.tags.items()},
    }.get(field, {})
    if not titles:
        return text
    known = [titles[key].in_language(language) if key in titles else key for key in text.split()]
    return ", ".join(known)


def _check_activity(rules: LoyaltyRules, wrong: Callable[[str, str, str], None]) -> None:
    keys = [entry.key for entry in rules.activity]
    if len(set(keys)) != len(keys):
        wrong("activity", "names a class twice", "Give each class its own key")
    last = rules.activity[-1] if rules.activity else None
    if last is None or last.within_days is not None or last.at_most_purchases is not None:
        wrong("activity", "leaves somebody out", "End with a class without bounds")
    days = [entry.within_days for entry in rules.activity if entry.within_days is not None]
    if days != sorted(days):
        wrong("activity", "goes back in time", "Order the classes by within_days")
    bare = [entry.key for entry in rules.activity[:-1] if entry.within_days is None]
    if bare:
        wrong("activity", f"{', '.join(bare)} has no within_days", "Only the last class has none")


def _check_tag(pack: PolicyPack, tag: Tag, wrong: Callable[[str, str, str], None]) -> None:
    place = f"tags.{tag.key}"
    purpose = pack.purposes.get(tag.purpose)
    if purpose is None:
        wrong(f"{place}.purpose", f'"{tag.purpose}" is not a purpose', "Name one of purposes.toml")
        return
    if purpose.channelled:
        wrong(
            f"{place}.purpose", "is decided channel by channel", "Name a purpose without channels"
        )
    said = " ".join((tag.key, *tag.title.as_dict().values())).casefold()
    found = next((word for word in pack.loyalty.sensitive_words if word.casefold() in said), None)
    if found is not None and not tag.sensitive:
        problem = f'holds "{found}" and calls itself not sensitive (PDPA s.26, GDPR art. 9)'
        wrong(f"{place}.sensitive", problem, "Set it to true, or use another word")
    if tag.sensitive and {purpose.default_basis, *purpose.basis.values()} != {BasisKind.CONSENT}:
        problem = "tells sensitive data without consent (PDPA s.26, GDPR art. 9)"
        wrong(f"{place}.purpose", problem, "Name a purpose that rests on consent everywhere")


def _days(table: Table, key: str) -> int:
    days = table.number(key)
    if table.has(key) and not 0 < days <= MAX_DAYS:
        table.fault(key, "is not a number of days", f"Write 1 to {MAX_DAYS}")
    return days


def _earning(table: Table) -> Mapping[str, EarningRule]:
    rules: dict[str, EarningRule] = {}
    for code in table.keys():  # noqa: SIM118 - Table is no mapping
        if not _CURRENCY.fullmatch(code):
            table.fault(code, "is not a currency code", "Use the three letters of ISO 4217")
        entry = table.table(code)
        text = entry.text("amount")
        milli = int(Decimal(text) * MILLI) if _AMOUNT.fullmatch(text) else 0
        if text and milli <= 0:
            entry.fault("amount", "is not an amount", 'Write it like "25" or "0.50"')
        rules[code] = EarningRule(code, milli, entry.number("points"))
        entry.close()
    return MappingProxyType(rules)


def _tiers(table: Table) -> tuple[Tier, ...]:
    tiers = []
    for key, entry in table.entries():
        tiers.append(Tier(key, entry.number("from_points"), entry.local_text("title")))
        entry.close()
    return tuple(sorted(tiers, key=lambda tier: tier.from_points))


def _activity(table: Table) -> ActivityClass:
    key = table.text("key")
    if key and not KEY.fullmatch(key):
        table.fault("key", "is not a name", "Use a-z, 0-9 and _, starting with a letter")
    found = ActivityClass(
        key,
        _days(table, "within_days") if table.has("within_days") else None,
        table.number("at_most_purchases") if table.has("at_most_purchases") else None,
        table.local_text("title"),
    )
    table.close()
    return found


def _coupon(key: str, table: Table) -> CouponOffer:
    offer = CouponOffer(key, _days(table, "lifetime_days"), table.local_text("title"))
    table.close()
    return offer


def _tag(key: str, table: Table) -> Tag:
    tag = Tag(
        key, PurposeKey(table.text("purpose")), table.flag("sensitive"), table.local_text("title")
    )
    table.close()
    return tag
