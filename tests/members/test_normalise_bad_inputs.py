"""The catalogue of bad inputs that libraries get wrong, each with the answer that is required."""

from datetime import date

import pytest

from members.normalise import Formats, Normal, Refused, index_form, normalise

TODAY = date(2026, 11, 23)
TH = Formats("TH", "be-or-iso", "TH", TODAY)
TW = Formats("TW", "roc-or-iso", "TW", TODAY)
UNDECLARED = Formats(None, None, None, TODAY)


@pytest.mark.parametrize(
    ("kind", "raw", "formats", "answer"),
    [
        ("phone", "0912345678", TH, Normal("+66912345678")),
        ("phone", "0912345678", TW, Normal("+886912345678")),
        ("phone", "0912345678", UNDECLARED, Refused("region")),
        ("phone", "0066812345678", TH, Normal("+66812345678")),
        ("phone", "0812345678 0898765432", TH, Refused("several")),
        ("phone", "021234567 ต่อ 12", TH, Refused("extension")),
        ("phone", "8.12345678E+08", TH, Refused("excel_number")),
        ("national_id", "1.1017E+12", TH, Refused("excel_number")),
        ("phone", "812345678", TH, Normal("+66812345678", ("leading_zero",))),
        ("phone", "O812345678", TH, Refused("letters")),
        ("phone", "๐๘๑๒๓๔๕๖๗๘", TH, Normal("+66812345678")),
        ("phone", "０８１２３４５６７８", TH, Normal("+66812345678")),
        ("phone", "\u200b081\u200b2345678", TH, Normal("+66812345678")),
        ("email", "foo@example.com ", TH, Normal("foo@example.com")),
        ("email", "foo@example.com\u200b", TH, Normal("foo@example.com")),
        ("email", "foo@gmial.com", TH, Normal("foo@gmial.com", ("domain_typo",))),
        ("email", "สมชาย@ไทย.ไทย", TH, Normal("สมชาย@ไทย.ไทย")),
        ("email", "小明@例子.台灣", TW, Normal("小明@例子.台灣")),
        ("email", "Foo.Bar@gmail.com", TH, Normal("Foo.Bar@gmail.com")),
        ("name", "น\u0e49\u0e33", TH, Normal("น\u0e49\u0e33")),
        ("name", "น\u0e4d\u0e49\u0e32", TH, Normal("น\u0e49\u0e33")),
        ("name", "น\u0e49\u0e4d\u0e32", TH, Normal("น\u0e49\u0e33")),
        ("name", "เเก้ว", TH, Normal("แก้ว")),
        ("name", "แก้\u200bว\ufeff", TH, Normal("แก้ว")),
        ("national_id", "๑๒๓๔๕๔๕๖๗๘๗๘๑", TH, Normal("1234545678781")),
        ("national_id", "1111111111119", TH, Refused("repeated")),
        ("birth_date", "12/5/2530", TH, Normal("1987-05-12")),
        ("birth_date", "12 พ.ค. 2530", TH, Normal("1987-05-12")),
        ("birth_date", "29/02/2543", TH, Normal("2000-02-29")),
        ("birth_date", "民國76年5月12日", TW, Normal("1987-05-12")),
        ("birth_date", "0760512", TW, Normal("1987-05-12")),
        ("birth_date", "76/05/12", TW, Normal("1987-05-12")),
        ("birth_date", "76/05/12", UNDECLARED, Refused("era")),
        ("birth_date", "31/02/2530", TH, Refused("invalid")),
        ("birth_date", "44927", TH, Refused("excel_number")),
        ("name", "陳偉強", TW, Normal("陳偉強")),
        ("name", "陈伟强", TW, Normal("陈伟强")),
        ("name", "曾", TW, Normal("曾")),
        ("name", "單", TW, Normal("單")),
        ("name", "-", TH, Refused("empty")),
        ("name", "ไม่ระบุ", TH, Refused("empty")),
        ("gender", "無", TW, Refused("empty")),
        ("phone", "N/A", TH, Refused("invalid")),
    ],
)
def test_a_bad_input_gets_the_required_answer(kind, raw, formats, answer):
    assert normalise(kind, raw, formats) == answer


@pytest.mark.parametrize(
    ("one", "other"), [("陳偉強", "陳衛強"), ("สมชาย", "สมชัย"), ("วรรณา", "วันนา")]
)
def test_names_that_only_sound_alike_are_never_one_name(one, other):
    assert index_form("name", one) != index_form("name", other)
