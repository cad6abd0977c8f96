from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import (
    AgeTier,
    BasisKind,
    Evidence,
    Fact,
    Status,
    age_tier,
    completed_years,
    lawful_basis,
    load_pack,
    period_end,
)

PACK = load_pack()
TH, EU, TW = (PACK.jurisdictions[code] for code in ("TH", "EU", "TW"))
BORN = date(2010, 6, 15)
DAYS = st.dates(date(1900, 1, 1), date(2100, 1, 1))


def birthday(years: int) -> date:
    return BORN.replace(year=BORN.year + years)


def test_an_unknown_birth_date_is_no_adult():
    assert age_tier(TH, None, date(2026, 11, 23)) is AgeTier.UNKNOWN


def test_a_birth_date_in_the_future_is_no_adult():
    assert age_tier(TH, date(2026, 11, 24), date(2026, 11, 23)) is AgeTier.UNKNOWN


@pytest.mark.parametrize(
    ("jurisdiction", "years", "before", "on_the_day"),
    [
        (TH, 11, AgeTier.GUARDIAN_ONLY, AgeTier.MINOR_WITH_GUARDIAN),
        (TH, 20, AgeTier.MINOR_WITH_GUARDIAN, AgeTier.ADULT),
        (EU, 16, AgeTier.MINOR_WITH_GUARDIAN, AgeTier.ADULT),
        (TW, 7, AgeTier.GUARDIAN_ONLY, AgeTier.MINOR_WITH_GUARDIAN),
        (TW, 18, AgeTier.MINOR_WITH_GUARDIAN, AgeTier.ADULT),
    ],
)
def test_the_tier_changes_on_the_birthday(jurisdiction, years, before, on_the_day):
    day = birthday(years)

    assert age_tier(jurisdiction, BORN, day - timedelta(days=1)) is before
    assert age_tier(jurisdiction, BORN, day) is on_the_day
    assert age_tier(jurisdiction, BORN, day + timedelta(days=1)) is on_the_day


def test_a_child_of_exactly_ten_is_still_for_the_guardian_in_thailand():
    assert age_tier(TH, BORN, birthday(10)) is AgeTier.GUARDIAN_ONLY
    assert age_tier(TH, BORN, birthday(10) + timedelta(days=364)) is AgeTier.GUARDIAN_ONLY


def test_the_day_of_birth_counts():
    assert age_tier(TH, BORN, BORN) is AgeTier.GUARDIAN_ONLY


def test_a_leap_day_birthday_is_first_of_march_in_common_years():
    born = date(2004, 2, 29)

    assert completed_years(born, date(2023, 2, 28)) == 18
    assert completed_years(born, date(2023, 3, 1)) == 19
    assert age_tier(TH, born, date(2024, 2, 28)) is AgeTier.MINOR_WITH_GUARDIAN
    assert age_tier(TH, born, date(2024, 2, 29)) is AgeTier.ADULT
    born = date(2007, 2, 28)
    assert age_tier(TH, born, date(2027, 2, 28)) is AgeTier.ADULT


@given(DAYS, DAYS)
def test_years_are_what_a_calendar_says(born, today):
    years = completed_years(born, today)
    if born.year + years < 10000 and (born.month, born.day) != (2, 29):
        assert born.replace(year=born.year + years) <= today
        assert born.replace(year=born.year + years + 1) > today


@given(DAYS, DAYS, st.integers(0, 4000))
def test_nobody_grows_younger(born, today, days):
    order = [AgeTier.UNKNOWN, AgeTier.GUARDIAN_ONLY, AgeTier.MINOR_WITH_GUARDIAN, AgeTier.ADULT]
    for place in (TH, EU, TW):
        now = age_tier(place, born, today)
        later = age_tier(place, born, today + timedelta(days=days))
        assert order.index(later) >= order.index(now)


def test_limits_never_checked_are_flagged(overlay):
    unsure = load_pack(overlay({"jurisdictions/TH.toml": '[minors.adult_from]\nev = "memory"\n'}))

    assert unsure.jurisdictions["TH"].minors_unverified
    assert unsure.jurisdictions["TH"].adult_from.unverified


def test_the_basis_comes_with_its_section_and_names():
    basis = lawful_basis(PACK.purposes["marketing"], TH)

    assert (basis.kind, basis.section, basis.jurisdiction) == (BasisKind.CONSENT, "s.19", "TH")
    assert lawful_basis(PACK.purposes["membership"], EU).section == "6(1)(b)"
    assert lawful_basis(PACK.purposes["membership"], TW).section == "19-1-2"
    assert basis.name.zh_hant == "同意"


@pytest.mark.parametrize("purpose", PACK.purposes.values(), ids=PACK.purposes)
def test_without_a_jurisdiction_the_default_basis_holds_and_names_no_section(purpose):
    basis = lawful_basis(purpose, None)

    assert basis.kind is purpose.default_basis
    assert basis.section == ""
    assert all(basis.name.as_dict().values())


def test_every_kind_of_basis_has_a_plain_name(overlay):
    for kind in BasisKind:
        default = (
            f'[purposes.analytics]\nassessment = "sha256:{"0" * 64}"\n'
            f'[purposes.analytics.lawful_basis]\ndefault = "{kind.value}"\n'
        )
        purpose = load_pack(overlay({"purposes.toml": default})).purposes["analytics"]
        assert lawful_basis(purpose, None).name.en


# --- periods --------------------------------------------------------------------------


def period(value, unit):
    return Fact(value, unit, "a law", Status.IN_FORCE, Evidence.PRIMARY, None, None, None, None, {})


@pytest.mark.parametrize(
    ("value", "unit", "begins", "ends"),
    [
        (5, "years", date(2026, 11, 23), date(2031, 11, 23)),
        (1, "years", date(2024, 2, 29), date(2025, 2, 28)),
        (1, "months", date(2026, 1, 31), date(2026, 2, 28)),
        (14, "months", date(2026, 11, 30), date(2028, 1, 30)),
        (60, "calendar_days", date(2026, 11, 23), date(2027, 1, 22)),
        (0, "calendar_days", date(2026, 11, 23), date(2026, 11, 23)),
    ],
)
def test_a_period_ends_on_its_day(value, unit, begins, ends):
    assert period_end(period(value, unit), begins) == ends


@pytest.mark.parametrize(
    ("value", "unit"), [("immediate", None), (72, "hours"), (5, None), (("a",), "years")]
)
def test_what_is_no_period_of_days_has_no_end(value, unit):
    with pytest.raises(ValueError, match="not a period"):
        period_end(period(value, unit), date(2026, 11, 23))
