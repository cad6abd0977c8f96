"""What holds for every kind: no exception, no second opinion, no value in a message."""

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from members.normalise import (
    DATE_ERAS,
    KINDS,
    REASONS,
    Formats,
    Normal,
    Refused,
    index_form,
    newest_form,
    normalise,
)

TODAY = date(2026, 11, 23)

formats = st.builds(
    Formats,
    phone_region=st.sampled_from([None, "TH", "TW", "US", "IT", "ar", "XX"]),
    date_era=st.sampled_from([None, *sorted(DATE_ERAS), "lunar"]),
    id_country=st.sampled_from([None, "TH", "TW", "SG"]),
    today=st.just(TODAY),
)
raws = st.one_of(
    st.text(max_size=60),
    st.text(st.characters(codec=None), max_size=12),  # lone surrogates too
    st.text("0123456789๐๑๒０１２+-/.()年月日 民國'\u200bOeE@,;", max_size=24),
    st.from_regex(r"\A\+?[0-9]{6,14}\Z"),
    st.from_regex(r"\A[A-Za-z0-9.]{1,12}@[a-z0-9-]{1,9}\.(com|co\.th|ไทย)\Z"),
    st.from_regex(r"\A[0-9]{1,4}[-/][0-9]{1,2}[-/][0-9]{1,4}\Z"),
    st.from_regex(r"\A[A-Z][0-9]{9}\Z"),
    st.text("UuabcdefABCDEF0123456789", min_size=33, max_size=33),
)


@given(kind=st.sampled_from(sorted(KINDS)), raw=raws, context=formats)
@settings(deadline=None, max_examples=1_000)
def test_every_text_is_either_normal_or_refused_and_normal_forms_stand(kind, raw, context):
    answer = normalise(kind, raw, context)
    if isinstance(answer, Refused):
        assert answer.message
        return
    assert normalise(kind, answer.value, context).value == answer.value
    answer.value.encode()
    assert index_form(kind, answer.value)


@given(kind=st.sampled_from(["name", "text", "email"]), raw=st.text(max_size=30))
@settings(deadline=None, max_examples=500)
def test_a_key_is_its_own_key(kind, raw):
    answer = normalise(kind, raw, Formats(None, None, None, TODAY))
    if isinstance(answer, Normal) and kind != "name":  # a name may carry two titles
        key = index_form(kind, answer.value)
        assert index_form(kind, key) == key


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_lone_surrogate_is_refused_and_not_passed_on(kind):
    assert normalise(kind, "ab\ud800", Formats("TH", "iso", "TH", TODAY)) == Refused("invalid")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_value_without_bound_is_refused_before_it_is_worked_on(kind):
    assert normalise(kind, "1" * 20_000, Formats("TH", "iso", "TH", TODAY)) == Refused("too_long")


def test_an_unknown_kind_is_a_programming_error():
    with pytest.raises(KeyError):
        normalise("shoe_size", "42", Formats(None, None, None, TODAY))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_kind_is_written_in_the_versions_that_there_are_and_in_no_other(kind):
    newest = newest_form(kind)
    assert index_form(kind, "a@example.com", newest) == index_form(kind, "a@example.com")
    for version in (0, -1, newest + 1):
        with pytest.raises(ValueError, match="no such version"):
            index_form(kind, "a@example.com", version)


def test_a_refusal_never_repeats_the_value():
    answer = normalise("phone", "O812345678", Formats("TH", None, None, TODAY))
    assert "812345678" not in repr(answer) + answer.message
    assert all(code.replace("_", "").isalpha() for code in REASONS)


def test_no_library_is_loaded_before_it_is_needed():
    import subprocess
    import sys

    code = (
        "import sys, members.normalise, members.importing;"
        "print(sorted({'phonenumbers', 'email_validator', 'stdnum'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
