"""The OpenAPI document says what is so: every operation whole, every example accepted."""

import base64
import copy
import re
import time

import pytest

from tests.support.serving import SCOPES, served_registry

PROBLEM_CONTENT = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
JSON = "application/json"


@pytest.fixture(scope="module")
def registry(module_settings):
    """A registry of its own, whose crm may everything that an example asks for."""
    with served_registry(module_settings("sqlite")) as served:
        yield served


@pytest.fixture(scope="module")
def document(registry):
    answer = registry.http.get("/openapi.json")
    assert answer.headers["content-type"] == JSON
    return answer.json()


def operations(document):
    return [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def resolved(document, schema):
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


# --- every operation is described whole -----------------------------------------------


def test_it_is_openapi_3_1_and_names_every_route_that_surface_has_for_now(document):
    assert document["openapi"].startswith("3.1")
    assert {f"{method.upper()} {path}" for method, path, _ in operations(document)} == {
        "POST /oauth/token",
        "POST /v1/members",
        "GET /v1/members/{member}",
        "PATCH /v1/members/{member}",
        "POST /v1/members:lookup",
        "POST /v1/members:view",
        "POST /v1/members:search",
        "POST /v1/members/{member}:introduce",
        "POST /v1/members/{member}/contact-points",
        "POST /v1/members/{member}/contact-points/{contact_point}:verify",
        "GET /v1/members/{member}/loyalty",
        "POST /v1/members/{member}/points",
        "POST /v1/purchases",
        "GET /v1/members/{member}/coupons",
        "POST /v1/members/{member}/coupons",
        "POST /v1/members/{member}/coupons/{coupon}:use",
        "GET /v1/tags",
        "POST /v1/tags/{tag}:set",
        "POST /v1/tags/{tag}:clear",
        "GET /v1/purposes",
        "GET /v1/notices/{key}",
        "POST /v1/members/{member}/consents",
        "GET /v1/members/{member}/consents",
        "POST /v1/members/{member}/consents:withdraw",
        "GET /v1/members/{member}/objections",
        "POST /v1/members/{member}/objections",
        "GET /v1/members/{member}/guardians",
        "POST /v1/members/{member}/guardians",
        "POST /v1/members/{member}/guardians/{guardian}:verify",
        "POST /v1/members/{member}/guardians/{guardian}:end",
        "GET /v1/consents/{consent_id}/receipt",
        "POST /v1/receipts:verify",
        "GET /v1/receipts/key",
        "GET /v1/ropa",
        "GET /v1/reports/consent",
        "POST /v1/decisions:check",
        "GET /v1/members/{member}/view",
        "GET /v1/members/{member}/disclosures",
        "POST /v1/audiences:query",
        "POST /v1/audiences:export",
        "GET /v1/changes",
        "GET /v1/suppressions",
        "GET /v1/webhooks",
        "POST /v1/webhooks",
        "DELETE /v1/webhooks/{webhook}",
        "POST /v1/webhooks/{webhook}:replay",
        "GET /v1/webhooks/{webhook}/deliveries",
        "POST /v1/webhooks/{webhook}/deliveries/{delivery}:acknowledge",
        "GET /v1/audit/events",
        "GET /v1/audit/events/{event}/proof",
        "GET /v1/audit/checkpoint",
        "GET /v1/audit/key",
        "GET /audit/log/checkpoint",
        "GET /audit/log/{path}",
        "POST /v1/imports",
        "GET /v1/imports/{import_id}",
        "GET /v1/imports/{import_id}/quarantine",
        "GET /v1/duplicates",
        "POST /v1/duplicates/{duplicate}:merge",
        "POST /v1/duplicates/{duplicate}:dismiss",
        "POST /v1/merges/{merge}:undo",
        "GET /v1/rights-requests",
        "POST /v1/rights-requests",
        "GET /v1/rights-requests/{request_id}",
        "POST /v1/rights-requests/{request_id}:verify",
        "POST /v1/rights-requests/{request_id}:extend",
        "POST /v1/rights-requests/{request_id}:pause",
        "POST /v1/rights-requests/{request_id}:resume",
        "POST /v1/rights-requests/{request_id}:fulfil",
        "POST /v1/rights-requests/{request_id}:refuse",
        "GET /v1/rights-requests/{request_id}/plan",
        "GET /v1/rights-requests/{request_id}/export",
        "GET /v1/rights-requests/{request_id}/certificate",
        "GET /v1/refusals",
        "GET /v1/legal-holds",
        "POST /v1/legal-holds",
        "DELETE /v1/legal-holds/{hold}",
        "POST /v1/restrictions",
        "DELETE /v1/restrictions/{restriction}",
        "GET /livez",
        "GET /readyz",
    }


def test_every_operation_has_a_summary_one_tag_and_a_name_of_its_own(document):
    names = []
    for method, path, operation in operations(document):
        assert re.fullmatch(r"[A-Z].{5,70}", operation["summary"]), (method, path)
        assert len(operation["tags"]) == 1, (method, path)
        names.append(operation["operationId"])
    assert len(set(names)) == len(names)


def test_every_success_says_what_it_holds(document):
    for method, path, operation in operations(document):
        (status,) = [code for code in operation["responses"] if code.startswith("2")]
        content = operation["responses"][status]["content"]
        assert content, (method, path)
        for media_type, held in content.items():
            schema = resolved(document, held["schema"])
            if media_type == JSON:
                assert schema["type"] == "object", (method, path)
                assert schema["properties"], (method, path)
            else:
                assert schema == {"type": "string"}, (method, path)


def test_every_operation_may_refuse_with_a_problem(document):
    for method, path, operation in operations(document):
        responses = operation["responses"]
        assert responses["default"]["content"] == PROBLEM_CONTENT, (method, path)
        refusals = {code for code in responses if code.startswith(("4", "5"))}
        if path in {"/oauth/token", "/readyz"}:  # their standard, and their users, have own words
            refusals = set()
        for code in refusals:
            assert responses[code]["content"] == PROBLEM_CONTENT, (method, path, code)
        if operation["security"]:
            assert {"401", "403"} <= set(responses) or path == "/oauth/token", (method, path)


def test_what_needs_a_token_says_so_and_what_does_not_too(document, registry):
    for method, path, operation in operations(document):
        if path == "/oauth/token":
            continue
        asked = re.sub(r"\{\w+\}", "x", path)
        status = registry.http.request(method, asked, json={}).status_code
        if operation["security"] == []:
            assert status not in {401, 403}, (method, path)
        else:
            assert operation["security"] == [{"clientCredentials": []}]
            assert status in {401, 422}, (method, path)


def test_the_scopes_that_a_client_can_have_are_listed(document):
    flows = document["components"]["securitySchemes"]["clientCredentials"]["flows"]
    listed = flows["clientCredentials"]
    assert listed["tokenUrl"] == "/oauth/token"
    assert {scope for scopes in SCOPES.values() for scope in scopes} <= set(listed["scopes"])


def test_every_post_that_changes_something_takes_an_idempotency_key(document):
    reads = {
        "/v1/members:lookup",
        "/v1/members:view",
        "/v1/members:search",
        "/v1/decisions:check",
        "/v1/receipts:verify",
        "/v1/audiences:query",
        "/v1/audiences:export",
        "/oauth/token",
    }
    for method, path, operation in operations(document):
        named = {parameter["name"] for parameter in operation.get("parameters", ())}
        assert ("Idempotency-Key" in named) == (method == "post" and path not in reads), path


def test_every_parameter_has_an_example_or_says_what_it_is(document):
    for method, path, operation in operations(document):
        for parameter in operation.get("parameters", ()):
            schema = parameter["schema"]
            assert (
                parameter.get("example")
                or parameter.get("examples")
                or parameter.get("description")
                or schema.keys() & {"examples", "enum", "pattern"}
                or parameter["name"] == "cursor"
            ), (method, path, parameter["name"])


def test_no_request_may_hold_what_is_not_documented(document):
    bodies = {n: s for n, s in document["components"]["schemas"].items() if n.endswith("Body")}
    assert bodies
    for name, schema in bodies.items():
        assert schema["additionalProperties"] is False, name


def test_the_words_of_the_pack_are_the_words_of_the_document(document, registry):
    schemas = document["components"]["schemas"]
    known = registry.http.get("/v1/purposes").json()["purposes"]
    assert schemas["CheckBody"]["properties"]["purpose"]["enum"] == [one["key"] for one in known]
    by_consent = [one["key"] for one in known if one["basis"]["default"]["type"] == "consent"]
    assert schemas["WithdrawBody"]["properties"]["purpose"]["enum"] == by_consent
    fields = schemas["RegisterBody"]["properties"]["fields"]["propertyNames"]["enum"]
    assert {"given_name", "phone", "birth_date"} <= set(fields)
    assert "tier" not in fields, "a plain field is not typed in by a client"


# --- every example is accepted --------------------------------------------------------


class Walk:
    """Follows the examples in the order in which a developer would, with ids of this registry."""

    def __init__(self, document, registry):
        self.document = document
        self.registry = registry
        self.ids = {}

    def call(self, method, path):
        operation = self.document["paths"][path][method]
        details = {"headers": self.headers(operation)}
        if "requestBody" in operation:
            media_type, content = next(iter(operation["requestBody"]["content"].items()))
            example = self.example(content["schema"])
            if media_type == JSON:
                details["json"] = self.with_known_ids(example)
            else:
                details["data"] = self.with_known_ids(example)
        query = {
            one["name"]: one.get("example") or one["schema"]["examples"][0]
            for one in operation.get("parameters", ())
            if one["in"] == "query" and ("example" in one or "examples" in one["schema"])
        }
        client = self.registry.crm
        answer = client.request(method.upper(), path.format(**self.ids), params=query, **details)
        assert str(answer.status_code) in operation["responses"], answer.text
        assert answer.status_code < 300, (method, path, answer.text)
        return answer

    def headers(self, operation):
        if {"clientSecret": []} not in operation["security"]:
            return {}
        pair = f"{self.registry.crm.id}:{self.registry.crm.secret}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}

    def example(self, schema):
        schema = resolved(self.document, schema)
        if schema.get("examples"):
            return copy.deepcopy(schema["examples"][0])
        if "const" in schema:
            return schema["const"]
        return {
            name: self.example(schema["properties"][name])
            for name in schema["properties"]
            if name in schema.get("required", ())
        }

    def with_known_ids(self, example):
        """Put ids of this registry in the place of those that only show what an id looks like."""
        for name, known in {
            "id": lambda: self.ids["member"],
            "ids": lambda: [self.ids["member"]],
            "to": lambda: self.registry.sender.id,
            "member": lambda: self.ids["member"],
            "url": lambda: "http://127.0.0.1:9/nobody-listens",
            "code": lambda: self.registry.code_for(self.ids["contact_point"]),
        }.items():
            if name in example:
                example[name] = known()
        return example


# What needs two members in one queue, or a file: tests/members walks these with their examples.
# An objection stays with the address that every other example uses: tests/consent walks it.
STAGED = {
    ("post", "/v1/members/{member}/objections"),
    ("post", "/v1/members/{member}/guardians"),
    ("post", "/v1/members/{member}/guardians/{guardian}:verify"),
    ("post", "/v1/members/{member}/guardians/{guardian}:end"),
    ("post", "/v1/duplicates/{duplicate}:merge"),
    ("post", "/v1/duplicates/{duplicate}:dismiss"),
    ("post", "/v1/merges/{merge}:undo"),
    ("post", "/v1/imports"),
    ("get", "/v1/imports/{import_id}"),
    ("get", "/v1/imports/{import_id}/quarantine"),
    # One step of a request ends where the next begins: tests/dsar walks the path.
    *(
        ("post", f"/v1/rights-requests/{{request_id}}:{step}")
        for step in ("verify", "pause", "resume", "fulfil", "refuse")
    ),
    *(
        ("get", f"/v1/rights-requests/{{request_id}}/{what}")
        for what in ("plan", "export", "certificate")
    ),
    ("post", "/v1/restrictions"),
    ("delete", "/v1/restrictions/{restriction}"),
}


def a_request(client, member):
    return client.post("/v1/rights-requests", {"member": member, "right": "access"}).json()["id"]


def a_proven_event(client, event):
    """Wait until an event is under a signed checkpoint."""
    for _ in range(500):
        if client.get(f"/v1/audit/events/{event}/proof").status_code != 409:
            return event
        time.sleep(0.05)
    pytest.fail("the event got no checkpoint")


def a_delivery(client, webhook):
    """Let a member withdraw, and wait for what a webhook of the examples is then to be told."""
    member = client.register(client.decision())
    body = {"purpose": "marketing", "channel": "sms"}
    client.post(f"/v1/members/{member['id']}/consents:withdraw", body)
    for _ in range(500):
        found = client.get(f"/v1/webhooks/{webhook}/deliveries").json()["deliveries"]
        if found:
            return found[0]["id"]
        time.sleep(0.05)
    pytest.fail("nothing was put in line for the webhook")


def test_every_documented_example_is_accepted(document, registry):
    walk = Walk(document, registry)
    webhook = walk.call("post", "/v1/webhooks").json()["id"]
    registered = walk.call("post", "/v1/members").json()
    walk.ids = {
        "request_id": a_request(registry.crm, registered["id"]),
        "webhook": webhook,
        "delivery": a_delivery(registry.crm, webhook),
        "event": a_proven_event(registry.crm, registered["audit_id"]),
        "member": registered["id"],
        "contact_point": registered["contact_points"][0]["id"],
        "consent_id": registered["consents"][0]["id"],
        "key": "marketing",
        "path": "checkpoint",
        "tag": "event_guest",
    }
    walk.ids["coupon"] = walk.call("post", "/v1/members/{member}/coupons").json()["id"]
    walk.ids["hold"] = walk.call("post", "/v1/legal-holds").json()["id"]
    called = {
        ("post", "/v1/webhooks"),
        ("post", "/v1/members"),
        ("post", "/v1/members/{member}/coupons"),
        ("post", "/v1/legal-holds"),
    }
    last = [
        ("post", "/v1/members/{member}/consents:withdraw"),
        ("delete", "/v1/webhooks/{webhook}"),
    ]
    for method, path, _ in operations(document):
        if (method, path) not in called | STAGED and (method, path) not in last:
            walk.call(method, path)
            called.add((method, path))
    for method, path in last:
        walk.call(method, path)
        called.add((method, path))
    assert len(called) == len(operations(document)) - len(STAGED)


def test_links_lead_from_a_registration_to_what_can_be_done_with_it(document, registry):
    registered = registry.crm.register(registry.crm.decision())
    links = document["paths"]["/v1/members"]["post"]["responses"]["201"]["links"]
    places = {operation["operationId"]: path for _, path, operation in operations(document)}
    assert len(links) >= 9
    for link in links.values():
        path = places[link["operationId"]]
        for name, expression in link["parameters"].items():
            assert f"{{{name}}}" in path
            found = registered
            for part in expression.removeprefix("$response.body#/").split("/"):
                found = found[int(part)] if part.isdigit() else found[part]
            assert re.fullmatch(r"(sub|cp|con)_[0-9a-z]{26}", found)
