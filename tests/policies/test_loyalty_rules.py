"""A loyalty programme that could be read two ways, or tells too much, does not load."""

import pytest

from policies import PackError, load_pack

TITLE = 'title = { th = "ก", en = "a", zh-Hant = "甲" }'

BROKEN = {
    "no tier from nothing": ("[tiers.steps.member]\nfrom_points = 1", "tiers.steps"),
    "two tiers from the same": ("[tiers.steps.silver]\nfrom_points = 0", "tiers.steps"),
    "no window": ("[tiers]\nwindow_days = 0", "tiers.window_days"),
    "points that never lived": ("[points]\nlifetime_days = 0", "points.lifetime_days"),
    "a currency that is none": ('[points.earning.baht]\namount = "1"\npoints = 1', "points.earning.baht"),
    "an amount of nothing": ('[points.earning.THB]\namount = "0"', "points.earning.THB.amount"),
    "an amount that is none": ('[points.earning.THB]\namount = "25 THB"', "points.earning.THB.amount"),
    "a number for an amount": ("[points.earning.THB]\namount = 25", "points.earning.THB.amount"),
    "activity that leaves somebody out": (
        f'[[activity]]\nkey = "active"\nwithin_days = 9\n{TITLE}',
        "activity",
    ),
    "activity that goes back": (
        (f'[[activity]]\nkey = "a"\nwithin_days = 9\n{TITLE}\n[[activity]]\nkey = "b"\nwithin_days = 8\n'
        f'{TITLE}\n[[activity]]\nkey = "c"\n{TITLE}'),
        "activity",
    ),
    "activity named twice": (
        f'[[activity]]\nkey = "a"\nwithin_days = 9\n{TITLE}\n[[activity]]\nkey = "a"\n{TITLE}',
        "activity",
    ),
    "activity hidden behind everybody": (
        f'[[activity]]\nkey = "a"\n{TITLE}\n[[activity]]\nkey = "b"\n{TITLE}',
        "activity",
    ),
    "a coupon that is over at once": ("[coupons.welcome]\nlifetime_days = 0", "coupons.welcome.lifetime_days"),
    "a tag without a purpose": ('[tags.gift_buyer]\npurpose = "fun"', "tags.gift_buyer.purpose"),
    "a tag by channel": ('[tags.gift_buyer]\npurpose = "marketing"', "tags.gift_buyer.purpose"),
    "a sensitive tag on a contract": ("[tags.event_guest]\nsensitive = true", "tags.event_guest.purpose"),
    "a title in one language": ('[tags.gift_buyer.title]\nth = ""', "tags.gift_buyer.title.th"),
    "an unknown key": ("[points]\nlifetime = 3", "points.lifetime"),
    "a sealed loyalty field": (None, "fields.tier.storage"),
}  # fmt: skip


def tag(key, purpose, sensitive, title=TITLE):
    return f'[tags.{key}]\npurpose = "{purpose}"\nsensitive = {sensitive}\n{title}\n'


@pytest.mark.parametrize("name", BROKEN)
def test_a_programme_that_does_not_hold_together_is_refused(overlay, name):
    text, place = BROKEN[name]
    files = (
        {"loyalty.toml": text}
        if text
        else {"fields.toml": '[fields.tier]\nstorage = "sealed"\nmask = "full"\n'}
    )
    with pytest.raises(PackError) as refused:
        load_pack(overlay(files))
    assert place in {finding.key for finding in refused.value.findings}


SENSITIVE = {
    "pregnant": TITLE,
    "buys_halal": TITLE,
    "regular": 'title = { th = "ผู้ป่วยเบาหวาน", en = "Regular", zh-Hant = "常客" }',
    "family": 'title = { th = "ครอบครัว", en = "Family", zh-Hant = "孕婦" }',
    "club": 'title = { th = "ชมรม", en = "LGBT club", zh-Hant = "社團" }',
}


@pytest.mark.parametrize("key", SENSITIVE)
def test_a_tag_that_tells_sensitive_things_may_not_call_itself_harmless(overlay, key):
    with pytest.raises(PackError) as refused:
        load_pack(overlay({"loyalty.toml": tag(key, "profiling", "false", SENSITIVE[key])}))
    assert [finding.key for finding in refused.value.findings] == [f"tags.{key}.sensitive"]


@pytest.mark.parametrize("key", SENSITIVE)
def test_a_sensitive_tag_needs_a_purpose_that_rests_on_consent(overlay, key):
    with pytest.raises(PackError) as refused:
        load_pack(overlay({"loyalty.toml": tag(key, "membership", "true", SENSITIVE[key])}))
    assert [finding.key for finding in refused.value.findings] == [f"tags.{key}.purpose"]
    assert load_pack(overlay({"loyalty.toml": tag(key, "profiling", "true", SENSITIVE[key])}))


def test_a_shop_changes_a_rule_and_keeps_the_others(overlay):
    mine = load_pack(overlay({"loyalty.toml": "[tiers.steps.silver]\nfrom_points = 300\n"})).loyalty
    steps = {step.key: step.from_points for step in mine.tiers}
    assert steps == {"member": 0, "silver": 300, "gold": 1000, "platinum": 4000}
