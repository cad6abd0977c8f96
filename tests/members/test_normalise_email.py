"""E-mail addresses: syntax only, kept as written, compared case-folded."""

import string
from datetime import date

import email_validator
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from members.normalise import Formats, Normal, Refused, index_form, normalise

FORMATS = Formats(None, None, None, date(2026, 11, 23))


def email(raw):
    return normalise("email", raw, FORMATS)


@pytest.mark.parametrize(
    "raw",
    [
        "a b@example.com",
        "nobody@@example.com",
        "nobodyexample.com",
        "nobody@",
        "@example.com",
        "nobody@localhost",
        "nobody@printer.local",
        "nobody@example",
        ".nobody@example.com",
        "no..body@example.com",
        "nobody.@example.com",
        "Somebody <nobody@example.com>",
        "nobody@example.com, other@example.com",
        "nobody@[192.0.2.1]",
        "nobody@exa_mple.com",
        "nobody@-example.com",
        "x" * 65 + "@example.com",
        "nobody@" + "x" * 64 + ".com",
        "n" * 330,
        "N/A",
    ],
)
def test_what_cannot_be_an_address_is_refused(raw):
    assert email(raw) == Refused("invalid")


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("nobody@example.com ", "nobody@example.com"),
        (" nobody@example.com", "nobody@example.com"),
        ("nobody@example.com\u200b", "nobody@example.com"),
        ("no\u200bbody@exam\ufeffple.com", "nobody@example.com"),
        ("nobody４９９１＠example．com", "nobody4991@example.com"),
        ("NOBODY@EXAMPLE.COM", "nobody@example.com"),
        ("nobody@EXAMPLE.com", "nobody@example.com"),
        ("'nobody@example.com", "nobody@example.com"),
        ("no+tag@example.com", "no+tag@example.com"),
        ("สมชาย@ไทย.ไทย", "สมชาย@ไทย.ไทย"),
        ("小明@例子.中國", "小明@例子.中國"),
        ("nobody@xn--o3cw4h.xn--o3cw4h", "nobody@ไทย.ไทย"),
    ],
)
def test_an_address_is_stripped_of_what_nobody_typed(raw, value):
    assert email(raw) == Normal(value)


def test_the_spelling_of_a_mailbox_stays_and_only_the_key_is_folded():
    answer = email("Foo.Bar@Gmail.com")
    assert answer == Normal("Foo.Bar@gmail.com")
    assert index_form("email", answer.value) == "foo.bar@gmail.com"
    assert index_form("email", email("FOO.BAR@GMAIL.COM").value) == "foo.bar@gmail.com"


def test_the_key_does_not_fold_one_domain_into_another():
    assert index_form("email", "x@straße.de") != index_form("email", "x@strasse.de")


@pytest.mark.parametrize(
    "raw", ["foo@gmial.com", "foo@gmal.com", "foo@gmaill.com", "foo@hotmai.com", "foo@gmail.co"]
)
def test_a_likely_slip_in_the_domain_is_accepted_with_a_remark(raw):
    assert email(raw) == Normal(raw, ("domain_typo",))


@pytest.mark.parametrize(
    "raw", ["foo@gmail.com", "foo@ymail.com", "foo@mail.com", "foo@example.org"]
)
def test_a_real_domain_gets_no_remark(raw):
    assert email(raw) == Normal(raw)


@given(
    local=st.text(string.ascii_lowercase + string.digits + "._-+@ ", min_size=1, max_size=70),
    domain=st.one_of(
        st.sampled_from(
            ["example.com", "mail.example.org", "localhost", "a..b", "exa mple.com", ""]
        ),
        st.text(string.ascii_letters + string.digits + ".-_@éไ", max_size=40),
    ),
)
@settings(deadline=None, max_examples=1_000)
def test_the_short_cut_for_plain_mailboxes_equals_the_library(local, domain):
    raw = f"{local}@{domain}"
    try:
        expected = email_validator.validate_email(
            " ".join(raw.split()), check_deliverability=False, strict=True
        ).normalized
    except email_validator.EmailNotValidError:
        expected = None
    answer = email(raw)
    assert (answer.value if isinstance(answer, Normal) else None) == expected
