"""The pure part of webhooks: signatures that strangers verify, targets refused, retries that end."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from disclosure.webhook import Retries, TargetRules, headers, new_secret, payload, secret_text
from kernel import InvalidRequestError, SystemClock

PUBLIC = "https://crm.example.com/hooks"
HOUR_US = 3_600_000_000


@given(
    kind=st.sampled_from(["consent.withdrawn", "member.erased"]),
    at_us=st.integers(0, 2**50),
    purpose=st.none() | st.text(max_size=20),
)
def test_a_library_that_we_did_not_write_verifies_our_signature(kind, at_us, purpose):
    secret = new_secret()
    body = payload(kind, at_us, "sub_x", purpose, None)
    sent = headers(secret, "msg_1", SystemClock().now_us(), body)
    verified = Webhook(secret_text(secret)).verify(body, sent)
    assert verified["type"] == kind
    assert verified["data"] == {"id": "sub_x", "purpose": purpose, "channel": None}


@pytest.mark.parametrize("place", ["body", "id", "moment", "signature", "key"])
def test_one_changed_byte_does_not_verify(place):
    secret = new_secret()
    body = payload("member.erased", 1, "sub_x", None, None)
    sent = headers(secret, "msg_1", SystemClock().now_us(), body)
    if place == "body":
        body = body.replace(b"sub_x", b"sub_y")
    elif place == "id":
        sent["webhook-id"] = "msg_2"
    elif place == "moment":
        sent["webhook-timestamp"] = str(int(sent["webhook-timestamp"]) + 1)
    elif place == "signature":
        sent["webhook-signature"] = sent["webhook-signature"][:-3] + "AA="
    else:
        secret = new_secret()
    with pytest.raises(WebhookVerificationError):
        Webhook(secret_text(secret)).verify(body, sent)


def test_a_body_is_thin_and_the_same_each_time():
    body = payload("consent.withdrawn", 1_700_000_000_000_000, "sub_x", "marketing", "sms")
    assert body == payload("consent.withdrawn", 1_700_000_000_000_000, "sub_x", "marketing", "sms")
    assert json.loads(body) == {
        "type": "consent.withdrawn",
        "timestamp": "2023-11-14T22:13:20.000000Z",
        "data": {"id": "sub_x", "purpose": "marketing", "channel": "sms"},
    }


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://crm.example.com/", "https_required"),
        ("ftp://crm.example.com/", "https_required"),
        ("file:///etc/passwd", "url"),
        ("crm.example.com", "url"),
        ("https://", "url"),
        ("https://crm.example.com:99999/", "url"),
        ("https://crm.example.com/a b", "url"),
        ("https://crm.example.com\\@10.0.0.1/", "url"),
        ("https://crm.exämple.com/", "url"),
        ("https://crm.example.com/\r\nX: y", "url"),
        ("https://[::1", "url"),
        ("https://" + "a" * 600, "url"),
        ("https://user:pass@crm.example.com/", "url_credentials"),
        ("https://crm.example.com/#part", "url_credentials"),
        ("https://10.0.0.1/", "target_not_allowed"),
        ("https://192.168.1.1/", "target_not_allowed"),
        ("https://169.254.169.254/latest/meta-data/", "target_not_allowed"),
        ("https://100.64.0.1/", "target_not_allowed"),
        ("https://0.0.0.0/", "target_not_allowed"),
        ("https://224.0.0.1/", "target_not_allowed"),
        ("https://[::1]/", "target_not_allowed"),
        ("https://[fe80::1]/", "target_not_allowed"),
        ("https://[fd00::1]/", "target_not_allowed"),
        ("https://[::ffff:10.0.0.1]/", "target_not_allowed"),
        ("https://[64:ff9b::a00:1]/", "target_not_allowed"),
        ("https://[2002:a00:1::]/", "target_not_allowed"),
        ("https://[64:ff9b:1::a00:1]/", "target_not_allowed"),  # translated by the house itself
        ("https://[::ffff:0:a00:1]/", "target_not_allowed"),
        ("https://[::a00:1]/", "target_not_allowed"),
        ("https://[fec0::1]/", "target_not_allowed"),
        ("https://127.0.0.1/", "target_not_allowed"),
        ("http://localhost:8420/", "target_not_allowed"),
    ],
)
def test_a_target_that_is_not_for_webhooks_is_refused(url, code):
    with pytest.raises(InvalidRequestError) as refused:
        TargetRules().check(url)
    assert refused.value.reason == code
    assert url not in str(refused.value)


def test_this_machine_is_a_target_only_for_a_registry_that_listens_there_only():
    here = TargetRules(loopback=True)
    for url in ("http://127.0.0.1:9/x", "http://localhost/", "https://[::1]:8443/", PUBLIC):
        here.check(url)
    for url in ("http://127.0.0.2/", "https://127.0.0.2/", "https://10.0.0.1/"):
        with pytest.raises(InvalidRequestError):
            here.check(url)
    assert not here.allows("rebound.example.com", "127.0.0.1"), "a name must not lead home"


def test_a_host_of_the_house_is_reached_only_when_the_settings_name_it():
    assert not TargetRules().allows("crm.internal", "10.0.0.7")
    assert TargetRules(frozenset({"crm.internal"})).allows("crm.internal", "10.0.0.7")
    assert not TargetRules(frozenset({"crm.internal"})).allows("other.internal", "10.0.0.7")
    assert TargetRules().allows("crm.example.com", "93.184.216.34")
    assert not TargetRules().allows("crm.example.com", "fe80::1%eth0")


@given(chances=st.lists(st.floats(0, 0.999), min_size=200, max_size=200))
def test_pauses_grow_to_a_bound_and_end_after_three_days(chances):
    retries = Retries()
    now_us, pauses = 0, []
    for attempt, chance in enumerate(chances, 1):
        next_us = retries.next_us(attempt, 0, now_us, chance)
        if next_us is None:
            break
        pauses.append(next_us - now_us)
        now_us = next_us
    else:
        pytest.fail("it never gave up")
    assert 72 * HOUR_US <= now_us < 76 * HOUR_US
    assert all(pause <= 4 * HOUR_US for pause in pauses)
    assert all(late >= early // 2 for early, late in itertools.pairwise(pauses))
    assert 20 <= len(pauses) <= 80
