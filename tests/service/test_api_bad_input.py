"""Bad input from outside: the exact problem, never a 5xx, the same on both engines."""

import json
import re

import pytest

from tests.support.serving import SHOWN_AT

BASE = "https://yinyom.dev/problems/"
PROBLEM = "application/problem+json"
NOBODY = "sub_00000000000000000000000000"
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def member(registry):
    made = registry.crm.register(registry.crm.decision())
    registry.verify(made)
    return made


def refused(answer, status, slug, *places, reason=None):
    """Check a problem whole: status twice, type, reason, places, an id to ask with."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    problem = answer.json()
    assert problem["type"] == BASE + slug
    assert problem["status"] == status
    assert problem["title"]
    assert problem["next"]
    assert problem.get("reason") == reason
    assert problem["request_id"] == answer.headers["x-request-id"]
    found = [(place["pointer"], place["code"]) for place in problem.get("errors", [])]
    assert found == list(places)
    return problem


# --- what the policy pack does not know -----------------------------------------------


@pytest.mark.parametrize("path", ["/view", ""])
@pytest.mark.parametrize(
    ("query", "slug", "reason", "places"),
    [
        ("", "invalid-request", None, [("/query/purpose", "missing")]),
        ("purpose=", "invalid-request", None, [("/query/purpose", "missing")]),
        ("purpose=nope", "unknown-purpose", "unknown_purpose", [("/purpose", "unknown_purpose")]),
        (
            "purpose=marketing",
            "invalid-request",
            "channel_required",
            [("/channel", "channel_required")],
        ),
        (
            "purpose=marketing&channel=fax",
            "invalid-request",
            "channel_unknown",
            [("/channel", "channel_unknown")],
        ),
        (
            "purpose=membership&channel=sms",
            "invalid-request",
            "channel_not_applicable",
            [("/channel", "channel_not_applicable")],
        ),
        (
            "purpose=membership&fields=given_name,nope,mem_x",
            "unknown-field",
            "unknown_field",
            [("/fields/1", "unknown_field"), ("/fields/2", "unknown_field")],
        ),
        (
            "purpose=membership&fields=",
            "unknown-field",
            "unknown_field",
            [("/fields/0", "unknown_field")],
        ),
        ("purpose=membership&purpose=membership", "invalid-request", "query", []),
        (
            "purpose=membership&field=phone",
            "invalid-request",
            None,
            [("/query", "extra_forbidden")],
        ),
        ("purpose=%ff", "invalid-request", "query", []),
        ("purpose=" + "a" * 5000, "invalid-request", "query_too_long", []),
        (
            "purpose=%00",
            "unknown-purpose",
            "unknown_purpose",
            [("/purpose", "unknown_purpose")],
        ),
    ],
)
def test_a_read_that_asks_for_what_is_not_there_is_told_which_place(
    registry, member, path, query, slug, reason, places
):
    answer = registry.crm.get(f"/v1/members/{member['id']}{path}?{query}")
    refused(answer, 422, slug, *places, reason=reason)


@pytest.mark.parametrize(
    ("change", "slug", "places"),
    [
        ({"jurisdiction": "XX"}, "invalid-member", [("/jurisdiction", "unknown_jurisdiction")]),
        ({"brand": "other"}, "invalid-request", [("/brand", "other_brand")]),
        ({"brand": None}, "invalid-request", [("/brand", "string_type")]),
        ({"brand": "Main Street"}, "invalid-request", [("/brand", "string_pattern_mismatch")]),
        (
            {"formats": {"phone_region": "XYZ"}},
            "invalid-request",
            [("/formats/phone_region", "string_too_long")],
        ),
        (
            {"formats": {"date_era": "guess"}},
            "invalid-member",
            [("/formats/date_era", "date_era")],
        ),
        (
            {"formats": {"phone_region": "T1"}},
            "invalid-member",
            [("/formats/phone_region", "region")],
        ),
        (
            {"fields": {"phone": "081-234-5678", "shoe_size": "42"}},
            "invalid-member",
            [("/fields", "unknown_field")],
        ),
        ({"fields": {"given_name": "สมหญิง"}}, "invalid-member", [("/fields", "no_identifier")]),
        ({"fields": {}}, "invalid-member", [("/fields", "no_identifier")]),
        ({"fields": {"phone": "12"}}, "invalid-member", [("/fields/phone", "invalid")]),
        ({"fields": {"phone": 812345678}}, "invalid-request", [("/fields/phone", "string_type")]),
        ({"fields": ["phone"]}, "invalid-request", [("/fields", "dict_type")]),
        ({"fields": None}, "invalid-request", [("/fields", "dict_type")]),
        ({"consents": {}}, "invalid-request", [("/consents", "list_type")]),
        ({"consents": [[]]}, "invalid-request", [("/consents/0", "model_attributes_type")]),
        ({"surprise": True}, "invalid-request", [("", "extra_forbidden")]),
        ({"formats": {"surprise": True}}, "invalid-request", [("/formats", "extra_forbidden")]),
    ],
)
def test_a_registration_that_does_not_fit_names_the_place(registry, change, slug, places):
    body = {**registry.crm.registration(phone="081-234-5678"), "formats": {"phone_region": "TH"}}
    refused(registry.crm.post("/v1/members", {**body, **change}), 422, slug, *places)


@pytest.mark.parametrize(
    ("change", "slug", "places"),
    [
        ({"purpose": "nope"}, "invalid-consent", [("/purpose", "unknown_purpose")]),
        ({"purpose": "membership"}, "invalid-consent", [("/purpose", "not_by_consent")]),
        ({"channel": "fax"}, "invalid-consent", [("/channel", "unknown_channel")]),
        ({"channel": None}, "invalid-consent", [("/channel", "channel_required")]),
        ({"decision": "perhaps"}, "invalid-request", [("/decision", "string_pattern_mismatch")]),
        ({"decision": "given\n"}, "invalid-request", [("/decision", "string_pattern_mismatch")]),
        (
            {"notice_revision": "sha256:0"},
            "invalid-consent",
            [("/notice_revision", "unknown_notice_revision")],
        ),
        ({"lang": "en"}, "invalid-consent", [("/lang", "wrong_language")]),
        (
            {"evidence": {"ui_action": "สมหญิง ใจดี"}},
            "invalid-consent",
            [("/evidence/ui_action", "evidence")],
        ),
        (
            {"evidence": {"shown_at": "yesterday"}},
            "invalid-consent",
            [("/evidence/shown_at", "evidence")],
        ),
        ({"evidence": {"x": {"y": [1]}}}, "invalid-consent", [("/evidence", "unknown_evidence")]),
        ({"surprise": 1}, "invalid-request", [("", "extra_forbidden")]),
    ],
)
def test_a_decision_that_does_not_fit_names_the_place(registry, member, change, slug, places):
    body = {"consents": [{**registry.crm.decision(), **change}]}
    answer = registry.crm.post(f"/v1/members/{member['id']}/consents", body)
    refused(answer, 422, slug, *[(f"/consents/0{pointer}", code) for pointer, code in places])


def test_one_registration_does_not_decide_twice_about_a_channel(registry):
    decision = registry.crm.decision()
    answer = registry.crm.post("/v1/members", registry.crm.registration(decision, decision))
    refused(answer, 422, "invalid-consent", ("/consents/1", "repeated"))


@pytest.mark.parametrize(
    ("body", "status", "slug", "places", "reason"),
    [
        ({"kind": "given_name"}, 422, "invalid-member", [("/kind", "unknown_kind")], None),
        ({"value": "x"}, 422, "invalid-member", [("/value", "invalid")], None),
        ({"kind": "card_no", "value": "A-17"}, 404, "member-unknown", [], "member_unknown"),
        ({"purpose": "nope"}, 422, "invalid-member", [("/purpose", "unknown_purpose")], None),
        ({"value": "081-234-0000"}, 404, "member-unknown", [], "member_unknown"),
        ({"purpose": "analytics"}, 403, "not-allowed", [], "scope_missing"),
        ({"surprise": 1}, 422, "invalid-request", [("", "extra_forbidden")], None),
    ],
)
def test_a_look_up_that_finds_nothing_says_why(registry, body, status, slug, places, reason):
    asked = {"kind": "phone", "value": "081-234-5678", "region": "TH", "purpose": "membership"}
    answer = registry.crm.post("/v1/members:lookup", {**asked, **body})
    problem = refused(answer, status, slug, *places, reason=reason)
    assert ("audit_id" in problem) == (status != 422), "a decision is an event, a typing error none"


@pytest.mark.parametrize(
    ("path", "slug", "reason"),
    [
        ("/v1/notices/nope?lang=th", "not-found", "notice_unknown"),
        ("/v1/nope", "not-found", "path_unknown"),
        ("/v1/members/", "not-found", "path_unknown"),
        ("/v1/purposes/", "not-found", "path_unknown"),
        ("/v1/consents/con_nope/receipt", "not-found", "consent_unknown"),
        ("/audit/log/tile/0/999", "not-found", "tile_unknown"),
        ("/audit/log/../../etc/passwd", "not-found", "path_unknown"),
        ("/audit/log/tile/x", "not-found", "tile_unknown"),
        ("/static/../app.py", "not-found", "path_unknown"),
        ("/static/%2e%2e/app.py", "not-found", "path_unknown"),
    ],
)
def test_what_does_not_exist_is_404(registry, path, slug, reason):
    refused(registry.crm.get(path), 404, slug, reason=reason)


@pytest.mark.parametrize("called", [NOBODY, "sub_nobody", "mem_01", "%F0%9F%98%80", "%ff", "a b"])
@pytest.mark.parametrize(
    ("method", "path", "body", "on_record"),
    [
        ("GET", "/view?purpose=membership", None, True),
        ("GET", "?purpose=membership", None, True),
        ("GET", "/consents", None, False),
        ("GET", "/disclosures", None, False),
        ("PATCH", "", {"fields": {"given_name": "a"}}, False),
        ("POST", ":introduce", {"to": "cli_nobody"}, False),
        ("POST", "/consents:withdraw", {"purpose": "profiling"}, False),
        ("POST", "/contact-points", {"kind": "email", "value": "a@example.com"}, False),
        ("POST", "/contact-points/cp_x:verify", {"code": "000000"}, False),
    ],
)
def test_an_unknown_member_is_404_on_every_path(registry, called, method, path, body, on_record):
    answer = registry.crm.request(method, f"/v1/members/{called}{path}", json=body)
    problem = refused(answer, 404, "member-unknown", reason="member_unknown")
    assert ("audit_id" in problem) == on_record, "a read is decided, so it is on record"


def test_a_member_of_another_client_is_as_unknown_as_nobody(registry, member):
    answer = registry.sender.get(f"/v1/members/{member['id']}/view?purpose=marketing&channel=sms")
    refused(answer, 404, "member-unknown", reason="member_unknown")


def test_a_check_of_an_unknown_member_is_404_and_on_record(registry):
    answer = registry.crm.post("/v1/decisions:check", {"id": NOBODY, "purpose": "membership"})
    assert "audit_id" in refused(answer, 404, "member-unknown", reason="member_unknown")


def test_a_batch_read_answers_for_every_member_it_was_asked_for(registry, member):
    ids = [member["id"], NOBODY, member["id"]]
    answer = registry.crm.post("/v1/members:view", {"ids": ids, "purpose": "membership"})
    assert answer.status_code == 200
    first, second = answer.json()["results"]
    assert first["data"]["given_name"] == "สมหญิง"
    assert second == {"id": NOBODY, "denied": "member_unknown", "audit_id": second["audit_id"]}


@pytest.mark.parametrize("ids", [[], [NOBODY] * 101, ["081-234-5678"], ["\0"], [1], "sub_x"])
def test_a_batch_read_takes_1_to_100_ids_and_echoes_nothing_else(registry, ids):
    answer = registry.crm.post("/v1/members:view", {"ids": ids, "purpose": "membership"})
    assert answer.status_code == 422
    assert answer.json()["type"] == BASE + "invalid-request"
    assert "081-234-5678" not in answer.text


@pytest.mark.parametrize("to", ["cli_00000000000000000000000000", "cli_nobody"])
def test_nobody_is_introduced_to_an_unknown_client(registry, member, to):
    answer = registry.crm.post(f"/v1/members/{member['id']}:introduce", {"to": to})
    refused(answer, 404, "not-found", reason="client_unknown")


@pytest.mark.parametrize("to", ["", "\0", "crm", 5, None])
def test_an_introduction_names_a_client_by_its_id(registry, member, to):
    answer = registry.crm.post(f"/v1/members/{member['id']}:introduce", {"to": to})
    assert answer.status_code == 422
    assert [place["pointer"] for place in answer.json()["errors"]] == ["/to"]


def test_a_wrong_code_and_a_foreign_contact_point_are_refused(registry):
    one, other = registry.crm.register(), registry.crm.register()
    point = one["contact_points"][0]["id"]
    wrong = f"{(int(registry.code_for(point)) + 1) % 1_000_000:06d}"
    answer = registry.crm.post(
        f"/v1/members/{one['id']}/contact-points/{point}:verify", {"code": wrong}
    )
    refused(answer, 422, "code-refused", reason="code_wrong")
    answer = registry.crm.post(
        f"/v1/members/{other['id']}/contact-points/{point}:verify", {"code": wrong}
    )
    refused(answer, 404, "contact-point-unknown", reason="contact_point_unknown")


# --- bodies that are no bodies --------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "places", "reason"),
    [
        (b"", [("", "missing")], None),
        (b"{", [("", "json_invalid")], None),
        (b'{"brand":"main"}}', [("", "json_invalid")], None),
        (b"null", [("", "model_attributes_type")], None),
        (b"[]", [("", "model_attributes_type")], None),
        (b"[" * 200_000, [], "malformed"),
        (b'{"fields":' * 50_000, [], "malformed"),
        (b'{"brand":' + b"9" * 10_000 + b"}", [], "malformed"),
        (b'{"brand":"\xff\xfe"}', [], "malformed"),
    ],
    ids=["empty", "cut", "surplus", "null", "list", "deep", "deep-keys", "number", "not-utf-8"],
)
def test_a_body_that_is_no_json_document_of_ours_is_a_problem(registry, content, places, reason):
    headers = {"Authorization": f"Bearer {registry.crm.token}", **JSON}
    answer = registry.http.post("/v1/members", content=content, headers=headers)
    refused(answer, 422, "invalid-request", *places, reason=reason)


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-0", b"true"])
def test_a_number_is_no_text_however_it_is_written(registry, number):
    headers = {"Authorization": f"Bearer {registry.crm.token}", **JSON}
    content = b'{"brand":"main","jurisdiction":"TH","fields":{"phone":' + number + b"}}"
    answer = registry.http.post("/v1/members", content=content, headers=headers)
    refused(answer, 422, "invalid-request", ("/fields/phone", "string_type"))
    content = b'{"consents":[{"purpose":"marketing","channel":"sms","decision":"given",'
    content += b'"notice_revision":"x","lang":"th","evidence":{"shown_at":' + number + b"}}]}"
    answer = registry.http.post(f"/v1/members/{NOBODY}/consents", content=content, headers=headers)
    assert answer.status_code in {404, 422}


@pytest.mark.parametrize("character", ["\0", "\x01", "\x1b", "\x7f", "\ud800"])
@pytest.mark.parametrize("field", ["given_name", "notes", "address", "phone", "email"])
def test_control_characters_and_half_characters_are_no_part_of_a_value(registry, character, field):
    body = registry.crm.registration(**{"phone": "081-234-5678", field: f"a{character}b"})
    answer = registry.crm.http.post(
        "/v1/members",
        content=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {registry.crm.token}", **JSON},
    )
    code = "string_unicode" if character == "\ud800" else "string_pattern_mismatch"
    refused(answer, 422, "invalid-request", (f"/fields/{field}", code))


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800", "\x1b[31m", "𝕏" * 30, "'; DROP TABLE x"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/members:lookup", {"kind": "{}", "value": "1", "purpose": "membership"}),
        ("/v1/members:lookup", {"kind": "phone", "value": "{}", "purpose": "membership"}),
        ("/v1/members:lookup", {"kind": "phone", "value": "1", "purpose": "{}"}),
        ("/v1/members:lookup", {"kind": "phone", "value": "1", "region": "{}", "purpose": "x"}),
        ("/v1/decisions:check", {"id": "{}", "purpose": "membership"}),
        ("/v1/decisions:check", {"id": NOBODY, "purpose": "{}"}),
        ("/v1/decisions:check", {"id": NOBODY, "purpose": "marketing", "channel": "{}"}),
        ("/v1/decisions:check", {"id": NOBODY, "purpose": "membership", "fields": ["{}"]}),
        ("/v1/members:view", {"ids": ["{}"], "purpose": "membership"}),
        ("/v1/members/{member}:introduce", {"to": "{}"}),
        ("/v1/members/{member}/contact-points", {"kind": "{}", "value": "1"}),
        ("/v1/members/{member}/contact-points", {"kind": "email", "value": "{}"}),
        ("/v1/members/{member}/contact-points/{point}:verify", {"code": "{}"}),
        ("/v1/members/{member}/consents:withdraw", {"purpose": "{}"}),
        ("/v1/members/{member}/consents:withdraw", {"purpose": "marketing", "channel": "{}"}),
        ("/v1/members/{member}/consents", {"consents": [{"purpose": "{}"}]}),
    ],
)
def test_hostile_text_is_refused_in_every_place_on_both_engines(registry, member, path, body, text):
    path = path.format(member=member["id"], point=member["contact_points"][0]["id"])
    content = json.dumps(body).replace('"{}"', json.dumps(text))
    answer = registry.http.post(
        path,
        content=content.encode(),
        headers={"Authorization": f"Bearer {registry.crm.token}", **JSON},
    )
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == PROBLEM


@pytest.mark.parametrize(
    "path",
    [
        "/v1/members/%00",
        "/v1/members/sub_%00/view?purpose=membership",
        "/v1/members/{member}/contact-points/%00:verify",
        "/v1/consents/%00/receipt",
        "/v1/notices/%00",
        "/audit/log/%00",
        "/static/%00",
        "/%00",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
def test_a_path_with_the_character_that_no_database_holds_is_refused(
    registry, member, method, path
):
    answer = registry.crm.request(method, path.format(member=member["id"]), json={"code": "1"})
    refused(answer, 422, "invalid-request", ("/path", "character"))


@pytest.mark.parametrize(
    "path", ["/v1/audit/events?cursor={}", "/v1/members/{member}/disclosures?cursor={}"]
)
@pytest.mark.parametrize(
    "cursor", ["x", "", "%00", "WyJcdTAwMDAiXQ", "WyJldnQiXQ", "WzFd", "bnVsbA"]
)
def test_a_cursor_that_no_listing_gave_out_is_refused(registry, member, path, cursor):
    path = path.replace("{}", cursor).format(member=member["id"])
    refused(registry.crm.get(path), 422, "invalid-request", ("/query/cursor", "cursor"))


@pytest.mark.parametrize(
    "as_of",
    ["x", "", "2026", "2026-11-23", "2026-11-23T03:00:00", "2026-11-23T03:00:00%2B24:00", "%00",
     "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "1969-12-31T23:59:59Z"],
)  # fmt: skip
def test_a_moment_is_written_with_its_offset_and_lies_in_our_time(registry, member, as_of):
    answer = registry.crm.get(f"/v1/members/{member['id']}/consents?as_of={as_of}")
    refused(answer, 422, "invalid-request", ("/query/as_of", "moment"))


@pytest.mark.parametrize(
    "path",
    [
        "/v1/notices/marketing?lang=th&lang=en",
        "/v1/members/{member}/consents?as_of=2026-11-23T03:00:00Z&as_of=2020-01-01T00:00:00Z",
        "/v1/audit/events?cursor=a&%63ursor=b",
    ],
)
def test_a_query_parameter_that_is_named_twice_means_nothing(registry, member, path):
    answer = registry.crm.get(path.format(member=member["id"]))
    refused(answer, 422, "invalid-request", reason="query")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/purposes?lang=th",
        "/v1/notices/marketing?language=en",
        "/v1/members/{member}/consents?asof=2020-01-01T00:00:00Z",
        "/v1/consents/{consent}/receipt?form=html",
        "/v1/audit/events?before=evt_x",
    ],
)
def test_a_query_parameter_that_is_not_known_is_not_passed_over(registry, member, path):
    path = path.format(member=member["id"], consent=member["consents"][0]["id"])
    answer = registry.crm.get(path)
    refused(answer, 422, "invalid-request", ("/query", "extra_forbidden"))


def test_a_notice_in_a_language_that_no_page_has_is_refused(registry):
    answer = registry.http.get("/v1/notices/marketing?lang=fr")
    refused(answer, 422, "invalid-request", ("/query/lang", "unknown_language"))


@pytest.mark.parametrize("letters", [65, 4000])
def test_unknown_fields_are_counted_and_not_named(registry, letters):
    body = registry.crm.registration(**{"phone": "081-234-5678", "x" * letters: "1"})
    answer = registry.crm.post("/v1/members", body)
    assert answer.status_code == 422
    assert "xxx" not in answer.text


def test_ten_thousand_fields_are_refused_as_a_whole(registry):
    body = registry.crm.registration(**{f"f{n}": "x" for n in range(10_000)})
    refused(registry.crm.post("/v1/members", body), 422, "invalid-member", reason="too_many")


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "*/*",
     "application/xml", "", "json", None],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/members", "/v1/members:lookup", "/v1/decisions:check"])
def test_a_body_of_another_type_is_not_read(registry, path, content_type):
    headers = {"Authorization": f"Bearer {registry.crm.token}"}
    if content_type is not None:
        headers["Content-Type"] = content_type
    answer = registry.http.post(path, content=b'{"brand":"main"}', headers=headers)
    refused(answer, 415, "unsupported-media-type")


def chunks(count):
    for _ in range(count):
        yield b" " * 16_384


@pytest.mark.parametrize("path", ["/v1/members", "/v1/decisions:check", "/oauth/token"])
def test_a_huge_body_is_refused_whether_or_not_it_says_its_length(registry, path):
    headers = {
        "Authorization": f"Bearer {registry.crm.token}",
        **(FORM if "oauth" in path else JSON),
    }
    said = registry.http.post(path, content=b" " * 1_048_577, headers=headers)
    refused(said, 413, "body-too-large")
    unsaid = registry.http.post(path, content=chunks(100), headers=headers)
    refused(unsaid, 413, "body-too-large")


def test_a_body_of_the_largest_size_is_read(registry):
    body = json.dumps(registry.crm.registration()).encode()
    answer = registry.crm.http.post(
        "/v1/members",
        content=body + b" " * (1_048_576 - len(body)),
        headers={"Authorization": f"Bearer {registry.crm.token}", **JSON},
    )
    assert answer.status_code == 201


# --- methods, paths, protocol ---------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/members", "POST"),
        ("/v1/members:lookup", "POST"),
        ("/v1/members/sub_x", "GET, PATCH"),
        ("/v1/members/sub_x/consents", "GET, POST"),
        ("/v1/members/sub_x:introduce", "POST"),
        ("/v1/purposes", "GET"),
        ("/static/style.css", "GET, HEAD"),
        ("/v1/members/sub_x/view", "GET"),
        ("/oauth/token", "POST"),
        ("/", "GET"),
        ("/th", "GET"),
        ("/th/", "GET, POST"),
        ("/th/withdraw", "GET, POST"),
        ("/console", "GET"),
        ("/console/queue", "GET, POST"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
def test_a_method_that_a_path_does_not_take_is_405_and_told_which_it_takes(
    registry, method, path, allowed
):
    answer = registry.crm.request(method, path)
    refused(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == allowed


def test_a_slash_too_many_is_not_redirected_because_that_would_repeat_the_address(registry):
    answer = registry.http.get("/v1/purposes/?name=somchai")
    refused(answer, 404, "not-found", reason="path_unknown")
    assert "location" not in answer.headers


def test_every_answer_tells_browsers_to_keep_nothing_and_to_guess_nothing(registry, member):
    for answer in (
        registry.crm.get(f"/v1/members/{member['id']}/view?purpose=membership"),
        registry.crm.get(f"/v1/members/{member['id']}?purpose=membership"),
        registry.crm.get(f"/v1/members/{NOBODY}/view?purpose=membership"),
        registry.crm.get("/v1/nope"),
        registry.http.post("/oauth/token"),
    ):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "server" not in answer.headers


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("6f1ed002-ab5a-4e2d-8f0c-0c1d2e3f4a5b", True),
        ("req_01m834me78fj3sts8ygaw6gmfy", True),
        ("0812345678", False),
        ("somchai@example.com", False),
        ("6F1ED002-AB5A-4E2D-8F0C-0C1D2E3F4A5B", False),
    ],
)
def test_a_request_keeps_its_id_when_that_can_name_nobody(registry, sent, kept):
    answer = registry.crm.get("/v1/purposes", headers={"X-Request-Id": sent})
    assert (answer.headers["x-request-id"] == sent) == kept
    assert re.fullmatch(r"req_[0-9a-z]{26}", answer.headers["x-request-id"]) or kept


def test_the_evidence_of_a_decision_is_codes_and_moments(registry):
    decision = {**registry.crm.decision(), "evidence": {"shown_at": SHOWN_AT, "place": "till.3"}}
    assert registry.crm.register(decision)["consents"]
