"""Telephone numbers: what is refused, what is mended, and that the short cut equals the parser."""

from datetime import date

import phonenumbers
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from members.normalise import Formats, Normal, Refused, normalise

TODAY = date(2026, 11, 23)


def phone(raw, region="TH"):
    return normalise("phone", raw, Formats(region, None, None, TODAY))


@pytest.mark.parametrize("raw", ["0912345678", "812345678", "66812345678", "02-123-4567"])
def test_a_national_number_without_a_region_is_refused(raw):
    assert phone(raw, region=None) == Refused("region")


def test_a_region_that_does_not_exist_is_no_region():
    assert phone("0812345678", region="XX") == Refused("region")


def test_the_same_digits_are_another_number_in_another_region():
    assert phone("0912345678", "TH") == Normal("+66912345678")
    assert phone("0912345678", "TW") == Normal("+886912345678")


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("O812345678", "letters"),
        ("o8l2345678", "letters"),
        ("081234567B", "letters"),
        ("8.12345678E+08", "excel_number"),
        ("8,12345678e+08", "excel_number"),
        ("812345678.0", "excel_number"),
        ("021234567 ต่อ 12", "extension"),
        ("02-123-4567 ext. 12", "extension"),
        ("02-123-4567 x12", "extension"),
        ("02-123-4567#12", "extension"),
        ("(02)2345-6789 分機 12", "extension"),
        ("0812345678, 0898765432", "several"),
        ("0812345678/0898765432", "several"),
        ("0812345678 หรือ 0898765432", "several"),
        ("0812345678 or 0898765432", "several"),
        ("0812345678\n0898765432", "several"),
        ("081-234-5678/9", "several"),
        ("081", "invalid"),
        ("081-234-567", "invalid"),
        ("0000000000", "invalid"),
        ("123456789012345678", "invalid"),
        ("N/A", "invalid"),
        ("ไม่มี", "invalid"),
        ("+66999", "invalid"),
        ("0" * 81, "invalid"),
        ("*123*0812345678", "invalid"),
        ("+", "invalid"),
        ("()", "invalid"),
    ],
)
def test_what_is_not_one_dialable_number_is_refused_with_its_reason(raw, code):
    assert phone(raw) == Refused(code)


@pytest.mark.parametrize("raw", ["", " ", "-", "--", "\u200b", "—", "..."])
def test_a_cell_with_nothing_in_it_is_empty(raw):
    assert phone(raw) == Refused("empty")


@pytest.mark.parametrize(
    "raw",
    [
        "0812345678",
        "081-234-5678",
        "081 234 5678",
        "081.234.5678",
        "(081)2345678",
        "081–234–5678",
        "๐๘๑๒๓๔๕๖๗๘",
        "０８１２３４５６７８",
        "\u200b0812345678",
        "081\u200d2345678\ufeff",
        "'0812345678",
        " 0812345678 ",
        "โทร. 0812345678",
        "เบอร์ โทรศัพท์: 0812345678",
        "Tel: 081-234-5678",
        "+66812345678",
        "+66 (0)81-234-5678",
        "(+66) 81 234 5678",
        "0066812345678",
        "00 66 81 234 5678",
        "66812345678",
    ],
)
def test_every_way_of_writing_one_number_gives_one_number(raw):
    assert phone(raw) == Normal("+66812345678")


def test_a_lost_leading_zero_is_put_back_and_remarked():
    assert phone("812345678") == Normal("+66812345678", ("leading_zero",))
    assert phone("993646159", "TW") == Normal("+886993646159", ("leading_zero",))


def test_an_international_number_needs_no_region():
    assert phone("+886 912 345 678", None) == Normal("+886912345678")
    assert phone("00886912345678", None) == Normal("+886912345678")
    assert phone("+886912345678", "TH") == Normal("+886912345678")


@pytest.mark.parametrize("region", sorted(phonenumbers.SUPPORTED_REGIONS))
def test_an_example_number_of_every_region_stands_in_every_region(region):
    number = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
    number = number or phonenumbers.example_number(region)
    e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    national = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL)
    assert [phone(e164, where) for where in (region, "TH", "TW", None)] == [Normal(e164)] * 4
    assert phone(national, region).value == e164


def library_reading(raw, region):
    try:
        number = phonenumbers.parse(raw, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


@given(
    raw=st.one_of(
        st.from_regex(r"\A0[0-9]{7,10}\Z"),
        st.from_regex(r"\A0[146789][0-9]{7,8}\Z"),
        st.from_regex(r"\A(0[0-9]{1,2}|\(0[0-9]{1,2}\))[ .-]?[0-9]{3}[ .-]?[0-9]{3,4}\Z"),
        st.from_regex(r"\A0(4000[0-9]|67[0-4][0-9])[0-9]{4,5}\Z"),
    ),
    region=st.sampled_from(["TH", "TW"]),
)
@example(raw="0400010123", region="TW")
@example(raw="0672408070", region="TH")
@example(raw="0141234567", region="TH")
@settings(deadline=None, max_examples=1_000)
def test_the_short_cut_for_plain_mobiles_equals_the_parser(raw, region):
    assume(not raw.lstrip("(").startswith("00"))  # an international prefix, read before
    answer = phone(raw, region)
    expected = library_reading(raw, region)
    assert (answer.value if isinstance(answer, Normal) else None) == expected
