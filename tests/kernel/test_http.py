"""Problem details, cursors and entity tags: what is refused is never repeated."""

import base64

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel import FieldProblem, InvalidRequestError, NotAllowedError, PreconditionError
from kernel.http import (
    IDEMPOTENCY_KEY,
    check_if_match,
    decode_cursor,
    digest,
    encode_cursor,
    etag,
    problem,
)

CANARY = "สมหญิง ใจดี 081-234-5678"
keys = st.lists(st.one_of(st.text(max_size=40), st.integers(-(2**53), 2**53)), max_size=4)


def test_problem_details_carry_the_members_of_rfc_9457_and_ours():
    error = NotAllowedError(
        "the purpose has no basis", reason="consent_withdrawn", audit_id="evt_1"
    )
    assert problem(error, "req_1") == {
        "type": "https://yinyom.dev/problems/not-allowed",
        "title": "Not allowed",
        "status": 403,
        "detail": "the purpose has no basis",
        "next": "Ask an administrator for the scope or role that this needs.",
        "reason": "consent_withdrawn",
        "audit_id": "evt_1",
        "request_id": "req_1",
    }


def test_problem_details_leave_out_what_is_not_known():
    assert set(problem(NotAllowedError())) == {"type", "title", "status", "next"}


def test_faulty_places_are_named_by_pointer_and_code():
    error = InvalidRequestError(
        errors=[FieldProblem("/a", "missing"), FieldProblem("/b", "type", "a number is needed")]
    )
    assert problem(error)["errors"] == [
        {"pointer": "/a", "code": "missing"},
        {"pointer": "/b", "code": "type", "detail": "a number is needed"},
    ]


def packed(value):
    return base64.urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "%%%",
        "e30",  # {}
        "bnVsbA",  # null
        CANARY,
        "A" * 5000,
        packed(["mem_1"]),  # a key short
        packed(["mem_1", 7, 8]),  # a key long
        packed(["mem_1", "7"]),  # another type
        packed(["mem_1", True]),  # a boolean is not a number
        packed(["mem_1", 7.0]),
        packed(["mem_1", None]),
        packed([["mem_1"], 7]),
    ],
)
def test_a_cursor_that_this_listing_did_not_give_out_is_refused(cursor):
    with pytest.raises(InvalidRequestError) as caught:
        decode_cursor(cursor, str, int)
    assert [place.pointer for place in caught.value.errors] == ["/query/cursor"]


def test_a_refused_cursor_is_not_repeated():
    with pytest.raises(InvalidRequestError) as caught:
        decode_cursor(packed([CANARY, 1]), str)
    shown = caught.value.diagnostics() + orjson.dumps(problem(caught.value)).decode()
    assert CANARY not in shown
    assert packed([CANARY, 1]) not in shown


@given(keys)
def test_a_cursor_gives_back_what_was_packed(values):
    cursor = encode_cursor(*values)
    assert decode_cursor(cursor, *map(type, values)) == values
    assert set(cursor) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@given(st.text(max_size=60))
def test_any_text_is_a_cursor_or_is_refused(text):
    try:
        values = decode_cursor(text, str, int)
    except InvalidRequestError:
        return
    assert [type(value) for value in values] == [str, int]


@pytest.mark.parametrize("header", ['"v3"', '"v1", "v2"', '"x4"', "v4", "4", '""', '"v44"', '"v4'])
def test_another_version_fails_the_precondition(header):
    with pytest.raises(PreconditionError):
        check_if_match(header, 4)


@pytest.mark.parametrize("header", [None, "*", " * ", '"v4"', '"v1", "v4"'])
def test_the_present_version_passes_the_precondition(header):
    check_if_match(header, 4)


@given(st.integers(0, 10**17))
def test_an_entity_tag_matches_its_own_version_only(version):
    check_if_match(etag(version), version)
    with pytest.raises(PreconditionError):
        check_if_match(etag(version), version + 1)


@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_no_two_lists_of_parts_share_a_digest(one, other):
    assert (digest(*one) == digest(*other)) == (one == other)


@pytest.mark.parametrize("key", ["", "with space", "ชื่อ", "tab\t", "x" * 256, "line\n"])
def test_an_idempotency_key_is_plain_visible_ascii(key):
    assert not IDEMPOTENCY_KEY.fullmatch(key)


def test_an_idempotency_key_may_have_255_characters():
    assert IDEMPOTENCY_KEY.fullmatch("k" * 255)
