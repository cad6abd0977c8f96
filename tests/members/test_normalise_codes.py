"""Identity numbers, LINE ids, whole numbers and small vocabularies."""

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from members.normalise import Formats, Normal, normalise

TODAY = date(2026, 11, 23)
UID = "U55497e1255e8658ba6154f2b7402e727"


def read(kind, raw, country=None):
    answer = normalise(kind, raw, Formats(None, None, country, TODAY))
    return answer.value if isinstance(answer, Normal) else answer.code


@pytest.mark.parametrize("country", [None, "SG", "XX"])
def test_an_identity_number_of_an_undeclared_or_unknown_country_is_refused(country):
    assert read("national_id", "1234545678781", country) == "country"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("1-2345-45678-78-9", "checksum"),
        ("1111111111119", "repeated"),
        ("2222222222226", "repeated"),
        ("1.1017E+12", "excel_number"),
        ("1234545678781.0", "excel_number"),
        ("123454567878", "invalid"),
        ("12345456787811", "invalid"),
        ("0234545678781", "invalid"),
        ("A123456789", "invalid"),
        ("N/A", "invalid"),
        ("12345 O5678781", "invalid"),
    ],
)
def test_a_thai_number_that_cannot_be_one_is_refused(raw, code):
    assert read("national_id", raw, "TH") == code


@pytest.mark.parametrize(
    "raw",
    [
        "1234545678781",
        "1-2345-45678-78-1",
        "1 2345 45678 78 1",
        "๑๒๓๔๕๔๕๖๗๘๗๘๑",
        "'1234545678781",
        "１２３４５４５６７８７８１",
    ],
)
def test_a_thai_number_is_thirteen_bare_digits(raw):
    assert read("national_id", raw, "TH") == "1234545678781"


# Sample numbers that public validators use: household, new resident, old resident numbers.
@pytest.mark.parametrize("raw", ["A123456789", "A800000014", "AA00000009", "AC01234567"])
def test_a_published_taiwanese_sample_is_valid(raw):
    assert read("national_id", raw, "TW") == raw
    assert read("national_id", f" {raw.lower()} ", "TW") == raw


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("A123456788", "checksum"),
        ("A800000015", "checksum"),
        ("B123456789", "checksum"),
        ("A12345678", "invalid"),
        ("A323456789", "invalid"),
        ("1234545678781", "invalid"),
        ("AE01234567", "invalid"),
        ("ก123456789", "invalid"),
    ],
)
def test_a_taiwanese_number_that_cannot_be_one_is_refused(raw, code):
    assert read("national_id", raw, "TW") == code


@given(body=st.from_regex(r"\A[A-Z][1289][0-9]{7}\Z"))
@settings(deadline=None)
def test_exactly_one_check_digit_fits_a_taiwanese_number(body):
    fitting = [d for d in "0123456789" if read("national_id", body + d, "TW") == body + d]
    assert len(fitting) == 1


@given(body=st.from_regex(r"\A[1-8][0-9]{11}\Z").filter(lambda digits: len(set(digits)) > 1))
@settings(deadline=None)
def test_exactly_one_check_digit_fits_a_thai_number(body):
    fitting = [d for d in "0123456789" if read("national_id", body + d, "TH") == body + d]
    assert len(fitting) == 1


@pytest.mark.parametrize(
    "raw", [UID[:-1], UID + "0", "C" + UID[1:], "@brand", UID[:-1] + "g", "N/A"]
)
def test_what_is_not_a_line_user_id_is_refused(raw):
    assert read("line_uid", raw) == "invalid"


def test_a_line_user_id_has_one_spelling():
    assert read("line_uid", UID) == UID
    assert read("line_uid", f" {UID.upper()}\u200b") == UID
    assert read("line_uid", UID.lower()) == UID


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("ชาย", "M"), ("ช", "M"), ("นาย", "M"), ("Male", "M"), ("m", "M"), ("男", "M"), ("先生", "M"),
        ("หญิง", "F"), ("ญ.", "F"), ("นางสาว", "F"), ("FEMALE", "F"), ("女", "F"), ("小姐", "F"),
        ("X", "X"), ("อื่นๆ", "X"), ("其他", "X"),
        ("1", "invalid"), ("unknown thing", "invalid"), ("ไม่ระบุ", "empty"), ("-", "empty"),
    ],
)  # fmt: skip
def test_a_gender_is_read_in_three_languages_and_never_guessed(raw, value):
    assert read("gender", raw) == value


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("Y", "yes"), ("1", "yes"), ("ยินยอม", "yes"), ("同意", "yes"), ("TRUE", "yes"),
        ("N", "no"), ("0", "no"), ("ไม่ยินยอม", "no"), ("不同意", "no"),
        ("maybe", "invalid"), ("2", "invalid"), ("", "empty"), ("N/A", "empty"),
    ],
)  # fmt: skip
def test_an_answer_is_yes_or_no_and_silence_is_neither(raw, value):
    assert read("yes_no", raw) == value


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("13169", "13169"), ("1,234,567", "1234567"), ("-5", "-5"), ("๑๒", "12"), ("007", "7"),
        ("12.0", "12"), ("12.5", "invalid"), ("1,23", "invalid"), ("1E+05", "excel_number"),
        ("many", "invalid"), ("ไม่มี", "empty"), ("9" * 16, "invalid"), ("-0", "0"),
    ],
)  # fmt: skip
def test_points_are_whole_numbers(raw, value):
    assert read("integer", raw) == value


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("TH", "TH"), ("ไทย", "TH"), ("Thailand", "TH"), ("臺灣", "TW"), ("gb", "UK"), ("EU", "EU"),
        ("us-ca", "US-CA"), ("DE", "DE"), ("Atlantis", "invalid"), ("T", "invalid"), ("無", "empty"),
    ],
)  # fmt: skip
def test_a_jurisdiction_is_named_as_its_law_pack_is(raw, value):
    assert read("jurisdiction", raw) == value
