"""Names: one code sequence for what looks the same, titles kept and left out of the key."""

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from members.normalise import Formats, Normal, Refused, index_form, normalise

FORMATS = Formats(None, None, None, date(2026, 11, 23))


def name(raw):
    return normalise("name", raw, FORMATS)


@pytest.mark.parametrize(
    "raw", ["", " ", "-", "\u200b", "N/A", "#N/A", "ไม่ระบุ", "ไม่มี", "無", "不詳"]
)
def test_a_word_for_nothing_is_no_name(raw):
    assert name(raw) == Refused("empty")


def test_a_name_longer_than_any_name_is_refused():
    assert name("น" * 201) == Refused("too_long")
    assert name("น" * 200) == Normal("น" * 200)


@pytest.mark.parametrize("raw", ["Null", "None", "Na", "นา", "O'Brien", "d’Arc", "Anne-Marie", "๑"])
def test_a_real_name_is_left_alone(raw):
    assert name(raw) == Normal(raw)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("\u200b志宏 ", "志宏"),
        ("สม\u200bชาย\ufeff", "สมชาย"),
        ("ＪＯＨＮ　Ｓｍｉｔｈ", "JOHN Smith"),
        ("  John \t Smith\n", "John Smith"),
        ("เเก้ว", "แก้ว"),
        ("น\u0e4d\u0e32", "นำ"),
        ("น\u0e49\u0e33", "น\u0e49\u0e33"),
        ("น\u0e4d\u0e49\u0e32", "น\u0e49\u0e33"),
        ("น\u0e49\u0e4d\u0e32", "น\u0e49\u0e33"),
        ("น\u0e33\u0e49", "น\u0e49\u0e33"),
        ("ก\u0e48\u0e34ง", "ก\u0e34\u0e48ง"),
        ("ก\u0e34\u0e48\u0e48ง", "ก\u0e34\u0e48ง"),
        ("Jose\u0301", "José"),
        ("陳偉強", "陳偉強"),
        ("陈伟强", "陈伟强"),
    ],
)
def test_what_looks_the_same_is_written_the_same(raw, value):
    assert name(raw) == Normal(value)


@pytest.mark.parametrize("raw", ["นายสมชาย", "คุณ สมหญิง", "Mr. John", "王小明先生"])
def test_a_title_stays_in_the_name(raw):
    assert name(raw) == Normal(raw)


@pytest.mark.parametrize(
    ("normal", "key"),
    [
        ("นายสมชาย", "สมชาย"),
        ("นางสาว สมหญิง", "สมหญิง"),
        ("น.ส.สมหญิง", "สมหญิง"),
        ("ด.ช. สมชาย", "สมชาย"),
        ("คุณสมหญิง", "สมหญิง"),
        ("คุณากร", "คุณากร"),
        ("นาย", "นาย"),
        ("Mr. John SMITH", "john smith"),
        ("mrs smith", "smith"),
        ("Mrinal", "mrinal"),
        ("王小明先生", "王小明"),
        ("王小姐", "王"),
        ("先生", "先生"),
        ("陳偉強", "陳偉強"),
    ],
)
def test_the_key_of_a_name_has_no_title_and_one_case(normal, key):
    assert index_form("name", normal) == key


@given(st.text("นกเแาำ\u0e4d\u0e48\u0e49\u0e34\u0e38\u0e31\u0e4c\u200b ", max_size=14))
@settings(deadline=None, max_examples=1_000)
def test_thai_spelling_settles_in_one_pass(raw):
    first = name(raw)
    if isinstance(first, Normal):
        assert name(first.value) == first
        assert "เเ" not in first.value
        assert "\u0e4d\u0e32" not in first.value


def test_free_text_keeps_its_wording_and_lines():
    text = "โทรกลับ ０６３\r\nแพ้ถั่ว\u200b  มาก\n"
    assert normalise("text", text, FORMATS) == Normal("โทรกลับ ０６３\nแพ้ถั่ว มาก")
    assert normalise("text", "x" * 4001, FORMATS) == Refused("too_long")
    assert normalise("text", "N/A", FORMATS) == Refused("empty")
    assert normalise("text", "a\u2028b\x0bc", FORMATS) == Normal("a\nb\nc")
