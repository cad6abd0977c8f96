"""Events: one spelling each, and no place in them for anything personal."""

import dataclasses
import json
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import EventError
from audit.event import (
    Actor,
    AuditEvent,
    Subject,
    canonical_bytes,
    check,
    epoch_of,
    epochs,
    subject_token,
    subject_tokens,
    timestamp,
    value_digest,
)
from audit.merkle import leaf_hash

KEY = bytes(range(32))
OTHER_KEY = bytes(32)
LETTERS = "01k8z3m6q7e8r9t0v1w2x3y4z5"
NOW = 1_795_489_200_123_456
CRAFTED = "0123456789abcdefghjkmnpqrstvwxyz"


def event(**changes):
    whole = AuditEvent(
        id=f"evt_{LETTERS}",
        ts=NOW,
        nonce=bytes(16),
        actor=Actor(f"cli_{LETTERS}", "app:crm", "api"),
        action="member.view",
        purpose="marketing",
        channel="sms",
        legal_basis="consent",
        resource=f"consent:con_{LETTERS}",
        subject=subject_token(KEY, NOW),
        fields=("birth_date", "phone"),
        decision="allow",
        reason="ok",
        policy="sha256:" + "ab" * 32,
        request_id=f"req_{LETTERS}",
        count=1,
        before={"phone": value_digest(KEY, "phone", "+66812345678")},
        after={"phone": value_digest(KEY, "phone", "+66898765432")},
        detail_ref="sha256:" + "cd" * 32,
    )
    return dataclasses.replace(whole, **changes)


# No place for personal data.

PERSONAL = [
    "somchai@example.com",
    "+66812345678",
    "0812345678",
    "1-1037-02071-81-1",
    "1103702071811",
    "tel0812345678",
    "สมหญิง",
    "Somying Jaidee",
    "somying jaidee",
    "192.168.10.23",
    "Mozilla/5.0 (X11; Linux)",
    f"mem_{LETTERS}",
    f"sub_{LETTERS}",
    f"cp_{LETTERS}",
    f"member:mem_{LETTERS}",
    "",
    "ok\n",
    "x" * 65,
]


@pytest.mark.parametrize("text", PERSONAL)
@pytest.mark.parametrize("member", ["purpose", "channel", "legal_basis", "resource", "reason"])
def test_a_personal_value_fits_no_text_member(member, text):
    with pytest.raises(EventError, match=member):
        check(event(**{member: text}))


@pytest.mark.parametrize("text", PERSONAL)
def test_a_personal_value_fits_no_other_place_either(text):
    for changes in (
        {"action": text},
        {"actor": Actor(text, "app:crm", "api")},
        {"actor": Actor("system", text, "api")},
        {"actor": Actor("system", "system", text)},
        {"fields": (text,)},
        {"before": {text: "0" * 32}},
        {"after": {"phone": text}},
        {"subject": Subject(text, epoch_of(NOW))},
        {"policy": text},
        {"detail_ref": text},
        {"id": text},
        {"decision": text},
        {"outcome": text},
    ):
        with pytest.raises(EventError):
            check(event(**changes))


@pytest.mark.parametrize("text", PERSONAL)
def test_the_refusal_does_not_repeat_what_it_refuses(text):
    with pytest.raises(EventError) as refusal:
        check(event(reason=text))
    assert not text.strip() or text not in refusal.value.diagnostics()


@pytest.mark.parametrize(
    "changes",
    [
        {"request_id": "a b"},
        {"request_id": "somchai@example.com"},
        {"request_id": f"mem_{LETTERS}"},
        {"legal_basis": f"consent:con_{LETTERS}"},
        {"resource": f"sub_{LETTERS}:con_{LETTERS}"},
        {"resource": f"consent:sub_{LETTERS}"},
        {"subject": Subject("0" * 32, "2026-10")},
        {"subject": Subject("0" * 31, epoch_of(NOW))},
        {"fields": ("phone", "birth_date")},
        {"fields": ("phone", "phone")},
        {"policy": "sha256:" + "AB" * 32},
        {"ts": -1},
        {"ts": 253_402_300_800_000_000},
        {"ts": 1.5},
        {"count": -1},
        {"count": 2**53},
        {"count": True},
        {"count": 1.0},
        {"decision": "maybe"},
        {"outcome": "maybe"},
        {"id": f"evt_{LETTERS[:-1]}"},
        {"id": f"evt_{LETTERS[:-1]}u"},
        {"nonce": bytes(15)},
    ],
)
def test_a_member_out_of_its_shape_is_refused(changes):
    with pytest.raises(EventError):
        check(event(**changes))


def test_a_member_acts_as_self_or_as_a_token():
    check(event(actor=Actor("self", "member", "portal")))
    check(event(actor=Actor(subject_token(OTHER_KEY, NOW).token, "guardian", "portal")))


@pytest.mark.parametrize(
    "resource",
    ["member/view", f"con_{LETTERS}", f"consent:con_{LETTERS}", "sha256:" + "ab" * 32],
)
def test_a_resource_is_a_word_an_id_or_a_digest(resource):
    check(event(resource=resource))


# Canonical bytes.


def test_own_vectors_hold(own_vectors):
    for vector in own_vectors("events"):
        given_event = vector["event"]
        made = AuditEvent(
            **{
                **given_event,
                "nonce": bytes.fromhex(given_event["nonce"]),
                "actor": Actor(**given_event["actor"]),
                "subject": Subject(**given_event["subject"]) if "subject" in given_event else None,
                "fields": tuple(given_event.get("fields", ())),
            }
        )
        check(made)
        assert canonical_bytes(made).decode() == vector["bytes"]
        assert leaf_hash(canonical_bytes(made)).hex() == vector["leaf_hash"]


def test_what_is_none_or_empty_is_left_out():
    least = AuditEvent(
        id=f"evt_{LETTERS}",
        ts=0,
        nonce=bytes(16),
        actor=Actor("system", "system", "worker"),
        action="log.started",
        before={},
    )
    check(least)
    assert set(json.loads(canonical_bytes(least))) == {
        "v", "id", "ts", "nonce", "actor", "action", "outcome",
    }  # fmt: skip


IDS = st.text(CRAFTED, min_size=26, max_size=26)
WORDS = st.from_regex(r"[a-z][a-z_]{0,20}", fullmatch=True)
DIGESTS = st.dictionaries(WORDS, st.from_regex("[0-9a-f]{32}", fullmatch=True), max_size=4)
EVENTS = st.builds(
    event,
    id=IDS.map("evt_{}".format),
    ts=st.integers(NOW, NOW + 1_000_000),
    nonce=st.binary(min_size=16, max_size=16),
    actor=st.builds(Actor, IDS.map("cli_{}".format), WORDS, WORDS),
    purpose=st.none() | WORDS,
    reason=st.none() | WORDS,
    fields=st.sets(WORDS, max_size=5).map(lambda names: tuple(sorted(names))),
    decision=st.sampled_from([None, "allow", "deny"]),
    outcome=st.sampled_from(["ok", "error", "partial"]),
    count=st.none() | st.integers(0, 2**53 - 1),
    before=st.none() | DIGESTS,
    after=st.none() | DIGESTS,
)


@given(EVENTS)
def test_the_bytes_are_what_the_standard_library_calls_sorted_compact_json(made):
    check(made)
    body = json.loads(canonical_bytes(made))
    again = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert canonical_bytes(made) == again.encode()
    assert b"\n" not in canonical_bytes(made)
    assert body["v"] == 1


@given(EVENTS)
def test_two_events_with_other_nonces_have_other_leaves(made):
    other = dataclasses.replace(made, nonce=bytes([made.nonce[0] ^ 1]) + made.nonce[1:])
    assert leaf_hash(canonical_bytes(other)) != leaf_hash(canonical_bytes(made))


def test_fields_are_written_in_order_even_when_they_come_in_another():
    body = json.loads(canonical_bytes(event(fields=("phone", "birth_date"))))
    assert body["fields"] == ["birth_date", "phone"]


def test_an_event_over_8_kilobytes_is_refused():
    names = tuple(f"field_{chr(97 + i // 26)}{chr(97 + i % 26)}_{'x' * 40}" for i in range(170))
    with pytest.raises(EventError, match="8192"):
        canonical_bytes(event(fields=names))


@pytest.mark.parametrize(
    "changes", [{"count": 0.5}, {"count": True}, {"nonce": b""}, {"reason": "\ud800"}]
)
def test_what_would_break_the_format_is_refused_on_the_hot_path_too(changes):
    with pytest.raises(EventError):
        canonical_bytes(event(**changes))


# Time.


@given(st.integers(0, 253_402_300_799_999_999))
def test_a_timestamp_is_rfc_3339_in_utc_with_microseconds(moment_us):
    text = timestamp(moment_us)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text)
    read = datetime.fromisoformat(text)
    seconds = int((read.replace(microsecond=0) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    assert seconds * 1_000_000 + read.microsecond == moment_us
    assert epoch_of(moment_us) == text[:7]


def test_epochs_count_the_months_from_first_to_last():
    november = NOW
    two_months_later = NOW + 62 * 86_400_000_000
    assert epochs(november, two_months_later) == ["2026-11", "2026-12", "2027-01"]
    assert epochs(november, november) == ["2026-11"]
    assert epochs(two_months_later, november) == []


# Tokens and digests.


def test_own_pseudonym_vectors_hold(own_vectors):
    vectors = own_vectors("pseudonyms")
    key = bytes.fromhex(vectors["key"])
    for vector in vectors["tokens"]:
        assert subject_token(key, vector["when_us"]) == (vector["token"], vector["epoch"])
        assert subject_tokens(key, [vector["epoch"]]) == [vector["token"]]
    for vector in vectors["digests"]:
        assert value_digest(key, vector["field"], vector["value"]) == vector["digest"]


def test_a_member_has_one_token_a_month_and_another_the_next():
    month = epochs(NOW, NOW + 400 * 86_400_000_000)
    tokens = subject_tokens(KEY, month)
    assert len(set(tokens)) == len(month)
    assert subject_token(KEY, NOW) == subject_token(KEY, NOW + 60_000_000)
    assert not set(tokens) & set(subject_tokens(OTHER_KEY, month))


@given(st.text(max_size=8), st.text(max_size=8), st.text(max_size=8), st.text(max_size=8))
def test_no_two_fields_and_values_run_into_one_digest(field, value, other_field, other_value):
    same = (field, value) == (other_field, other_value)
    digests = (value_digest(KEY, field, value), value_digest(KEY, other_field, other_value))
    assert (digests[0] == digests[1]) == same


def test_one_value_has_unlike_digests_under_two_members_keys():
    assert value_digest(KEY, "phone", "1") != value_digest(OTHER_KEY, "phone", "1")


def test_a_digest_is_never_a_token():
    assert value_digest(KEY, "", "2026-11") not in subject_tokens(KEY, ["2026-11"])


def test_a_key_too_short_to_hide_anything_is_refused():
    with pytest.raises(EventError):
        subject_token(b"", NOW)
    with pytest.raises(EventError):
        value_digest(bytes(15), "phone", "1")
