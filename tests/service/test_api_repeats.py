"""Requests that come twice, or too late: idempotency keys, and changes on an old state."""

import itertools
import json
import threading

import pytest

from tests.support.serving import SHOWN_AT

PHONE = {"kind": "phone", "value": "089-765-4321", "region": "TH"}


_numbers = itertools.count(1)


def key() -> str:
    """A key that no other test uses."""
    return f"key-{next(_numbers)}"


def with_key(name: str) -> dict[str, str]:
    return {"Idempotency-Key": name}


@pytest.fixture(scope="module")
def member(registry):
    made = registry.crm.register(registry.crm.decision())
    registry.verify(made)
    return made


def post_with_key(client, name, path, body):
    return client.post(path, body, headers=with_key(name))


# --- the same request again -----------------------------------------------------------


def test_a_repeated_registration_gives_the_same_ids_and_makes_nobody(registry):
    name, body = key(), registry.crm.registration(registry.crm.decision())
    first = post_with_key(registry.crm, name, "/v1/members", body)
    again = post_with_key(registry.crm, name, "/v1/members", body)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (":introduce", {"to": "sender"}, 200),
        ("/contact-points", PHONE, 201),
        ("/consents", {"consents": ["decision"]}, 201),
        ("/consents:withdraw", {"purpose": "marketing", "channel": "sms"}, 200),
    ],
)
def test_every_post_that_changes_something_is_done_once(registry, member, path, body, status):
    if "to" in body:
        body = {"to": registry.sender.id}
    if "consents" in body:
        body = {"consents": [registry.crm.decision()]}
    name, path = key(), f"/v1/members/{member['id']}{path}"
    before = len(consents(registry, member))
    first = post_with_key(registry.crm, name, path, body)
    assert first.status_code == status, first.text
    again = post_with_key(registry.crm, name, path, body)
    assert (again.status_code, again.json()) == (status, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    other = post_with_key(registry.crm, key(), path, body)
    assert "idempotency-replayed" not in other.headers
    assert len(consents(registry, member)) == max(before, 1)


def consents(registry, member):
    return registry.crm.get(f"/v1/members/{member['id']}/consents").json()["consents"]


def test_a_code_that_was_taken_is_taken_again_when_the_answer_was_lost(registry):
    made = registry.crm.register()
    point = made["contact_points"][0]["id"]
    path = f"/v1/members/{made['id']}/contact-points/{point}:verify"
    body, name = {"code": registry.code_for(point)}, key()
    first = post_with_key(registry.crm, name, path, body)
    again = post_with_key(registry.crm, name, path, body)
    assert (again.status_code, again.json()) == (200, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    without = registry.crm.post(path, body)
    assert (without.status_code, without.json()["reason"]) == (422, "no_code")


def test_a_code_that_was_refused_stays_refused_and_counts_once(registry):
    made = registry.crm.register()
    point = made["contact_points"][0]["id"]
    path = f"/v1/members/{made['id']}/contact-points/{point}:verify"
    right = registry.code_for(point)
    wrong, name = f"{(int(right) + 1) % 1_000_000:06d}", key()
    for _ in range(7):
        refused = post_with_key(registry.crm, name, path, {"code": wrong})
        assert (refused.status_code, refused.json()["reason"]) == (422, "code_wrong")
    assert registry.crm.post(path, {"code": right}).status_code == 200, "one attempt was used"


@pytest.mark.parametrize("change", [{"jurisdiction": "EU"}, {"consents": []}])
def test_a_key_that_comes_with_another_body_is_refused(registry, change):
    name, body = key(), registry.crm.registration(registry.crm.decision())
    assert post_with_key(registry.crm, name, "/v1/members", body).status_code == 201
    answer = post_with_key(registry.crm, name, "/v1/members", {**body, **change})
    assert answer.status_code == 409
    assert answer.json()["type"].endswith("/conflict")
    assert answer.json()["reason"] == "idempotency_key_reused"


def test_a_key_that_comes_with_another_member_is_refused(registry, member):
    name, other = key(), registry.crm.register()
    path = "/v1/members/{}/contact-points"
    assert post_with_key(registry.crm, name, path.format(member["id"]), PHONE).status_code == 201
    answer = post_with_key(registry.crm, name, path.format(other["id"]), PHONE)
    assert (answer.status_code, answer.json()["reason"]) == (409, "idempotency_key_reused")


def test_a_key_belongs_to_one_client_and_one_route(registry, member):
    name = key()
    body = {"consents": [registry.crm.decision()]}
    path = f"/v1/members/{member['id']}/consents"
    assert post_with_key(registry.crm, name, path, body).status_code == 201
    withdrawn = post_with_key(
        registry.crm, name, f"{path}:withdraw", {"purpose": "marketing", "channel": "sms"}
    )
    assert withdrawn.status_code == 200
    assert "idempotency-replayed" not in withdrawn.headers
    registered = post_with_key(registry.crm, name, "/v1/members", registry.crm.registration())
    assert registered.status_code == 201


def test_a_key_whose_request_failed_may_be_used_for_the_mended_request(registry):
    name = key()
    broken = registry.crm.registration(phone="12")
    assert post_with_key(registry.crm, name, "/v1/members", broken).status_code == 422
    mended = registry.crm.registration(phone="081-234-5678")
    assert post_with_key(registry.crm, name, "/v1/members", mended).status_code == 201


@pytest.mark.parametrize("header", ["", "a b", "x" * 256, "ÿ", "สมหญิง"])
def test_a_key_is_printable_ascii(registry, header):
    answer = registry.crm.post(
        "/v1/members",
        registry.crm.registration(),
        headers={b"Idempotency-Key": header.encode()},
    )
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {"pointer": "/headers/Idempotency-Key", "code": "idempotency_key"}
    ]


def test_reads_and_look_ups_are_decided_every_time_whatever_key_they_carry(registry, member):
    name = with_key(key())
    asked = {"kind": "phone", "value": "081-234-5678", "region": "TH", "purpose": "membership"}
    checked = {"id": member["id"], "purpose": "membership"}
    for path, body in (("/v1/members:lookup", asked), ("/v1/decisions:check", checked)):
        for _ in range(2):
            answer = registry.crm.post(path, body, headers=name)
            assert answer.status_code == 200
            assert "idempotency-replayed" not in answer.headers
    one = registry.crm.post("/v1/decisions:check", checked, headers=name).json()
    two = registry.crm.post("/v1/decisions:check", checked, headers=name).json()
    assert one["audit_id"] != two["audit_id"]


def test_a_replay_tells_nothing_of_a_member_who_was_erased_since(registry):
    name, body = key(), registry.crm.registration()
    made = post_with_key(registry.crm, name, "/v1/members", body).json()
    found = registry.server.cli(
        "members", "find", made["id"], "--client", registry.crm.id, "--json"
    ).answer
    erased = registry.server.cli("members", "erase", found["member"], "--yes", "--json")
    assert erased.answer["keys_destroyed"] >= 1
    again = post_with_key(registry.crm, name, "/v1/members", body)
    assert (again.status_code, again.json()["reason"]) == (404, "member_unknown")


def test_the_same_key_at_the_same_time_makes_one_member(registry):
    name, body = key(), registry.crm.registration(registry.crm.decision())
    answers, start = [], threading.Barrier(8)

    def send():
        start.wait()
        answers.append(post_with_key(registry.crm, name, "/v1/members", body))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {201}
    assert len({json.dumps(answer.json()) for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1


# --- changes on an old state ----------------------------------------------------------


def test_a_member_is_seen_with_the_tag_that_a_change_asks_for(registry):
    made = registry.crm.register()
    path = f"/v1/members/{made['id']}"
    seen = registry.crm.get(f"{path}?purpose=membership")
    tag = seen.headers["etag"]
    assert tag == '"v1"'
    assert seen.json()["data"]["given_name"] != "สมหญิง", "the outline is masked"

    changed = registry.crm.patch(
        path, {"fields": {"given_name": "สมใจ"}}, headers={"If-Match": tag}
    )
    assert changed.status_code == 200
    assert changed.json() == {
        "id": made["id"],
        "version": 2,
        "audit_id": changed.json()["audit_id"],
    }
    assert changed.headers["etag"] == '"v2"'
    assert registry.crm.get(f"{path}?purpose=membership").headers["etag"] == '"v2"'

    late = registry.crm.patch(path, {"fields": {"given_name": "สมศรี"}}, headers={"If-Match": tag})
    assert late.status_code == 412
    assert late.json()["type"].endswith("/precondition-failed")
    read = registry.crm.get(f"{path}/view?purpose=membership&fields=given_name")
    assert read.json()["data"] == {"given_name": "สมใจ"}


@pytest.mark.parametrize(
    ("if_match", "status"),
    [("*", 200), ('"v1"', 200), ('"v7", "v1"', 200), ('W/"v1"', 200), ('"v7"', 412), ("junk", 412),
     ("", 412), ('"v99999999999999999999"', 412)],
)  # fmt: skip
def test_an_if_match_header_is_read_as_its_standard_says(registry, if_match, status):
    made = registry.crm.register()
    answer = registry.crm.patch(
        f"/v1/members/{made['id']}",
        {"fields": {"given_name": "สมใจ"}},
        headers={"If-Match": if_match},
    )
    assert answer.status_code == status


def test_an_unknown_member_has_no_tag(registry):
    answer = registry.crm.get("/v1/members/sub_nobody?purpose=membership")
    assert answer.status_code == 404
    assert "etag" not in answer.headers


def test_a_decision_made_on_an_old_state_is_refused_if_the_app_asks_so(registry):
    made = registry.crm.register(registry.crm.decision())
    path = f"/v1/members/{made['id']}/consents"
    shown = registry.crm.get(path)
    tag = shown.headers["etag"]
    assert registry.crm.get(path).headers["etag"] == tag, "looking changes nothing"

    body = {"consents": [registry.crm.decision("profiling", None)]}
    first = registry.crm.post(path, body, headers={"If-Match": tag})
    assert first.status_code == 201
    late = registry.crm.post(path, body, headers={"If-Match": tag})
    assert (late.status_code, late.json()["type"].rpartition("/")[2]) == (
        412,
        "precondition-failed",
    )
    withdrawn = registry.crm.post(
        f"{path}:withdraw", {"purpose": "profiling"}, headers={"If-Match": first.headers["etag"]}
    )
    assert withdrawn.status_code == 200
    states = {c["purpose"]: c["status"] for c in registry.crm.get(path).json()["consents"]}
    assert states == {"marketing": "given", "profiling": "withdrawn"}
    assert registry.crm.get(path).headers["etag"] == withdrawn.headers["etag"]


def test_a_withdrawal_needs_no_tag(registry):
    made = registry.crm.register(registry.crm.decision())
    path = f"/v1/members/{made['id']}/consents:withdraw"
    assert registry.crm.post(path, {"purpose": "marketing"}).status_code == 200


def test_a_state_of_the_past_has_no_tag_to_change_it_by(registry, member):
    answer = registry.crm.get(f"/v1/members/{member['id']}/consents?as_of={SHOWN_AT}")
    assert answer.status_code == 200
    assert "etag" not in answer.headers
