import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import MaskRule, mask
from policies.masking import HIDDEN

HIDING = [rule for rule in MaskRule if rule is not MaskRule.NONE]
VALUES = st.text(st.characters(exclude_characters="•…", exclude_categories=["Cs"]), max_size=60)
KEPT = {
    MaskRule.PHONE: 7,
    MaskRule.EMAIL: 1,
    MaskRule.INITIAL: 1,
    MaskRule.YEAR: 4,
    MaskRule.HEAD: 2,
    MaskRule.TAIL: 4,
    MaskRule.FULL: 0,
}


@pytest.mark.parametrize("rule", HIDING)
@given(value=VALUES)
def test_a_mask_never_gives_the_value_back(rule, value):
    assume_longer = len(value) > KEPT[rule]
    if assume_longer:
        assert value not in mask(rule, value)


@pytest.mark.parametrize("rule", HIDING)
@given(value=VALUES)
def test_a_mask_shows_at_most_what_its_rule_keeps(rule, value):
    shown = mask(rule, value).replace("xxx", "")
    kept = sum(1 for character in shown if character not in "•…@-")
    assert kept <= KEPT[rule]


@given(digits=st.text("0123456789", min_size=10, max_size=15))
def test_a_masked_phone_hides_how_long_it_is(digits):
    assert len(mask(MaskRule.PHONE, "+" + digits)) == len("081-xxx-5678")


@given(st.text(max_size=10))
def test_only_the_rule_for_plain_fields_shows_all(value):
    assert mask(MaskRule.NONE, value) == value


@pytest.mark.parametrize(
    ("rule", "value", "shown"),
    [
        (MaskRule.PHONE, "+66812345678", "081-xxx-5678"),
        (MaskRule.PHONE, "+886912345678", "091-xxx-5678"),
        (MaskRule.PHONE, "081-234-5678", "081-xxx-5678"),
        (MaskRule.PHONE, "+12025550123", "120-xxx-0123"),
        (MaskRule.PHONE, "12345678", HIDDEN),
        (MaskRule.PHONE, "", HIDDEN),
        (MaskRule.EMAIL, "somying@example.com", "s•••@…"),
        (MaskRule.EMAIL, "s@example.com", "•••@…"),
        (MaskRule.EMAIL, "not an address", HIDDEN),
        (MaskRule.INITIAL, "สมหญิง", "ส•••"),
        (MaskRule.INITIAL, "淑芬", "淑•••"),
        (MaskRule.INITIAL, "明", HIDDEN),
        (MaskRule.INITIAL, "", HIDDEN),
        (MaskRule.YEAR, "1992-03-12", "1992"),
        (MaskRule.YEAR, "12/03/2535", HIDDEN),
        (MaskRule.HEAD, "10200", "10•••"),
        (MaskRule.HEAD, "102", HIDDEN),
        (MaskRule.TAIL, "880012345678", "•••5678"),
        (MaskRule.TAIL, "5678", HIDDEN),
        (MaskRule.FULL, "1101700203450", HIDDEN),
    ],
)
def test_masks_show_the_outline(rule, value, shown):
    assert mask(rule, value) == shown
