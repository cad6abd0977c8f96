"""What the programme says, as a pure function: boundaries belong where the pack puts them."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalty.rows import amount_text, judge
from loyalty.rules import DAY_US, activity_of, points_for, review_at, tier_of
from policies import load_pack

RULES = load_pack(None).loyalty
NOW = 1_800_000_000_000_000
days = st.integers(0, 4_000)
counts = st.integers(1, 50)


@pytest.mark.parametrize(
    ("earned", "tier"),
    [(0, "member"), (199, "member"), (200, "silver"), (999, "silver"), (1000, "gold"),
     (3999, "gold"), (4000, "platinum"), (10**12, "platinum")],
)  # fmt: skip
def test_a_tier_begins_at_its_points(earned, tier):
    assert tier_of(RULES, earned) == tier


@pytest.mark.parametrize(
    ("purchases", "age_us", "found"),
    [
        (1, 0, "new"),
        (1, 60 * DAY_US, "new"),
        (1, 60 * DAY_US + 1, "active"),
        (2, 0, "active"),
        (2, 90 * DAY_US, "active"),
        (2, 90 * DAY_US + 1, "lapsing"),
        (9, 180 * DAY_US, "lapsing"),
        (9, 180 * DAY_US + 1, "dormant"),
    ],
)
def test_an_activity_class_keeps_its_last_day(purchases, age_us, found):
    assert activity_of(RULES, purchases, NOW - age_us, NOW) == found


def test_who_never_bought_has_no_class_and_no_review():
    assert activity_of(RULES, 0, None, NOW) is None
    assert review_at(RULES, 0, None, None, NOW) is None


@given(counts, days, st.none() | st.integers(0, 364))
def test_nothing_changes_before_the_review_and_the_class_is_another_at_it(purchases, age, earned):
    last_us = NOW - age * DAY_US
    oldest = None if earned is None else NOW - earned * DAY_US
    review_us = review_at(RULES, purchases, last_us, oldest, NOW)
    present = activity_of(RULES, purchases, last_us, NOW)
    if review_us is None:
        assert present == RULES.activity[-1].key
        return
    assert review_us > NOW
    assert activity_of(RULES, purchases, last_us, review_us - 1) == present
    if oldest is None:
        assert activity_of(RULES, purchases, last_us, review_us) != present
    else:
        assert review_us <= oldest + RULES.window_days * DAY_US


@given(counts, days, days)
def test_time_alone_never_makes_a_member_more_active(purchases, age, later):
    order = [entry.key for entry in RULES.activity]
    first = activity_of(RULES, purchases, NOW - age * DAY_US, NOW)
    then = activity_of(RULES, purchases, NOW - age * DAY_US, NOW + later * DAY_US)
    assert order.index(then) >= order.index(first)


@given(st.sampled_from(sorted(RULES.earning)), st.integers(1, 10**12), st.integers(0, 10**9))
def test_whoever_spends_more_earns_no_less_and_never_more_than_the_rule(currency, amount, more):
    rule = RULES.earning[currency]
    points = points_for(RULES, currency, amount)
    assert points <= points_for(RULES, currency, amount + more)
    assert points * rule.amount_milli <= amount * rule.points


def test_a_currency_without_a_rule_earns_nothing():
    assert points_for(RULES, "JPY", 10**9) == 0
    assert points_for(dataclasses.replace(RULES, earning={}), "THB", 10**9) == 0


@given(st.integers(1, 10**11))
def test_an_amount_that_was_written_is_read_as_the_same(amount):
    row = {
        "member": "sub_52d26pfztp1nmz8kye4m2pcahc",
        "at": "2026-11-20T10:15:00+07:00",
        "amount": amount_text(amount),
        "currency": "THB",
        "reference": "r",
    }
    assert judge(row, NOW).amount_milli == amount


@given(
    st.dictionaries(
        st.sampled_from(["member", "at", "amount", "currency", "items", "branch", "reference"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80),
    )
)
def test_whatever_a_row_holds_it_is_judged_and_never_repeated_in_the_reason(row):
    verdict = judge(row, NOW)
    if isinstance(verdict, str):
        place, _, fault = verdict.partition(".")
        assert place in {"member", "at", "amount", "currency", "items", "branch", "reference"}
        assert fault in {"missing", "unknown", "invalid", "future"}
