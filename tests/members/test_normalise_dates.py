"""Birth dates: the declared calendar decides, and nothing else does."""

from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from members.normalise import DATE_ERAS, Formats, Normal, Refused, normalise

TODAY = date(2026, 11, 23)
THAI_MONTHS = ["ม.ค.", "ก.พ.", "มี.ค.", "เม.ย.", "พ.ค.", "มิ.ย.", "ก.ค.", "ส.ค.", "ก.ย.", "ต.ค.", "พ.ย.", "ธ.ค."]  # fmt: skip
THAI_DIGITS = str.maketrans("0123456789", "๐๑๒๓๔๕๖๗๘๙")


def born(raw, era):
    answer = normalise("birth_date", raw, Formats(None, era, None, TODAY))
    return answer.value if isinstance(answer, Normal) else answer.code


@pytest.mark.parametrize("era", sorted(DATE_ERAS))
@pytest.mark.parametrize(
    "raw",
    [
        "00/00/0000",
        "31/02/2540",
        "13/13/2013",
        "1 ม.ค. 2400",
        "2030-01-01",
        "2026-11-24",
        "1896-11-22",
        "วันนี้",
        "N/A",
        "2000-13-01",
        "1999-02-29",
        "12-05/2530",
        "1990-01",
        "12 Foo 1990",
        "2000/01/2000",
        "1" * 41,
    ],
)
def test_a_day_that_nobody_living_was_born_on_is_invalid_in_every_era(raw, era):
    assert born(raw, era) == "invalid"


@pytest.mark.parametrize(
    ("raw", "era"),
    [
        ("12/5/2530", None),
        ("12/5/2530", "iso"),
        ("12/5/2530", "roc-or-iso"),
        ("12 พ.ค. 2530", "iso-or-dmy-month-name"),
        ("29/02/2543", None),
        ("76/05/12", None),
        ("76/05/12", "be-or-iso"),
        ("0760512", None),
        ("0760512", "be-dmy"),
        ("2530-05-12", "iso"),
        ("2530-05-12", "be-dmy"),
        ("2530-05-12", "iso-or-dmy-month-name"),
        ("12/05/1990", "be-or-iso"),
        ("12/05/1990", "be-dmy"),
        ("05/12/1990", "iso-or-dmy-month-name"),
        ("12/25/1990", "iso"),
        ("24 Jun 1952", "be-dmy"),
        ("24 Jun 1952", "iso"),
        ("1987年5月12日", "iso"),
    ],
)
def test_a_date_that_another_declaration_would_explain_is_refused_as_era(raw, era):
    assert born(raw, era) == "era"


def test_an_unknown_era_explains_nothing():
    assert born("1987-05-12", "lunar") == "era"


@pytest.mark.parametrize("raw", ["1/1/2480", "31 มี.ค. 2483", "15/02/2470"])
def test_the_first_months_of_a_thai_year_before_1941_are_not_guessed(raw):
    assert born(raw, "be-dmy") == "era"


def test_the_later_months_of_a_thai_year_before_1941_are_plain():
    assert born("1/4/2480", "be-dmy") == "1937-04-01"
    assert born("1/1/2484", "be-dmy") == "1941-01-01"


@pytest.mark.parametrize("era", [*sorted(DATE_ERAS - {"excel-serial"}), None])
@pytest.mark.parametrize("raw", ["44927", "31909", "44927.5"])
def test_a_spreadsheet_serial_is_refused_unless_declared(raw, era):
    assert born(raw, era) == "excel_number"


def test_a_declared_spreadsheet_serial_is_read():
    assert born("31909", "excel-serial") == "1987-05-12"
    assert born("1987-05-12", "excel-serial") == "1987-05-12"
    assert born("99999", "excel-serial") == "invalid"


@pytest.mark.parametrize(
    ("raw", "era", "iso"),
    [
        ("1987-05-12", None, "1987-05-12"),
        ("1987/5/12", "iso", "1987-05-12"),
        ("19870512", "iso", "1987-05-12"),
        ("1987-05-12 00:00:00", "iso", "1987-05-12"),
        ("'1987-05-12", "iso", "1987-05-12"),
        ("12/5/2530", "be-or-iso", "1987-05-12"),
        ("12-05-2530", "be-or-iso", "1987-05-12"),
        ("12.5.2530", "be-dmy", "1987-05-12"),
        ("๑๒/๐๕/๒๕๓๐", "be-dmy", "1987-05-12"),
        ("１２／０５／２５３０", "be-dmy", "1987-05-12"),
        ("12 พ.ค. 2530", "be-or-iso", "1987-05-12"),
        ("12 พค 2530", "be-or-iso", "1987-05-12"),
        ("12 พฤษภาคม 2530", "be-or-iso", "1987-05-12"),
        ("วันที่ 12 พฤษภาคม พ.ศ. 2530", "be-or-iso", "1987-05-12"),
        ("12 พฤษภาคม พ.ศ. 2530", None, "1987-05-12"),
        ("12 พฤษภาคม ค.ศ. 1987", "be-dmy", "1987-05-12"),
        ("29/02/2543", "be-or-iso", "2000-02-29"),
        ("2530-05-12", "be-or-iso", "1987-05-12"),
        ("1987-05-12", "be-or-iso", "1987-05-12"),
        ("25300512", "be-or-iso", "1987-05-12"),
        ("民國76年5月12日", "roc-or-iso", "1987-05-12"),
        ("中華民國 76 年 5 月 12 日", None, "1987-05-12"),
        ("西元1987年5月12日", None, "1987-05-12"),
        ("76年5月12日", "roc-or-iso", "1987-05-12"),
        ("1987年5月12日", "roc-or-iso", "1987-05-12"),
        ("0760512", "roc-or-iso", "1987-05-12"),
        ("760512", "roc-or-iso", "1987-05-12"),
        ("76/05/12", "roc-or-iso", "1987-05-12"),
        ("076/05/12", "roc-or-iso", "1987-05-12"),
        ("1987/05/12", "roc-or-iso", "1987-05-12"),
        ("12 May 1987", "iso-or-dmy-month-name", "1987-05-12"),
        ("12-may-1987", "iso-or-dmy-month-name", "1987-05-12"),
        ("12 Sept 1987", "iso-or-dmy-month-name", "1987-09-12"),
        ("May 12, 1987", "iso-or-dmy-month-name", "1987-05-12"),
        ("1896-11-23", "iso", "1896-11-23"),
        ("2026-11-23", "iso", "2026-11-23"),
    ],
)
def test_a_date_in_its_declared_form_becomes_iso(raw, era, iso):
    assert born(raw, era) == iso


@given(day=st.dates(date(1941, 1, 1), TODAY))
@settings(deadline=None)
def test_one_day_is_the_same_day_in_every_calendar(day):
    iso, thai_year, minguo = day.isoformat(), day.year + 543, day.year - 1911
    thai = f"{day.day}/{day.month}/{thai_year}"
    assert born(thai, "be-dmy") == iso
    assert born(thai.translate(THAI_DIGITS), "be-or-iso") == iso
    assert born(f"{thai_year}-{day.month:02}-{day.day:02}", "be-or-iso") == iso
    assert born(f"{day.day} {THAI_MONTHS[day.month - 1]} {thai_year}", "be-or-iso") == iso
    assert born(f"民國{minguo}年{day.month}月{day.day}日", "roc-or-iso") == iso
    assert born(f"{minguo:03}{day.month:02}{day.day:02}", "roc-or-iso") == iso
    assert born(day.strftime("%d %b %Y"), "iso-or-dmy-month-name") == iso
    assert born(str((day - date(1899, 12, 30)).days), "excel-serial") == iso


@given(
    day=st.dates(TODAY - timedelta(days=365 * 129), TODAY), era=st.sampled_from(sorted(DATE_ERAS))
)
@settings(deadline=None)
def test_an_iso_date_stands_under_every_declaration(day, era):
    assert born(day.isoformat(), era) == day.isoformat()


def test_today_is_an_argument_and_not_a_clock():
    earlier = Formats(None, "iso", None, date(1987, 5, 11))
    assert normalise("birth_date", "1987-05-12", earlier) == Refused("invalid")
    leap_day = Formats(None, "iso", None, date(2028, 2, 29))
    assert normalise("birth_date", "1898-02-28", leap_day) == Refused("invalid")
    assert normalise("birth_date", "1898-03-01", leap_day) == Normal("1898-03-01")


def test_a_joining_date_is_common_era_whatever_is_declared():
    formats = Formats(None, "be-or-iso", None, TODAY)
    assert normalise("date", "2018-03-09", formats) == Normal("2018-03-09")
    assert normalise("date", "2561-03-09", formats) == Refused("era")
    assert normalise("date", "9 Mar 2018", formats) == Normal("2018-03-09")
