"""Who may ask: tokens as OAuth 2.0 has them, and every way in which one does not count."""

import asyncio
import base64

import pytest

from tests.support.serving import SCOPES, Client
from tests.support.world import execute

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
GRANT = {"grant_type": "client_credentials"}
SOMEBODY = "cli_00000000000000000000000000"


@pytest.fixture
def new_client(registry):
    """A maker of clients that nobody else uses, registered while the server runs."""
    made = []

    def make(*scopes: str, brand: str = "main") -> Client:
        name = f"extra-{len(made)}-{id(made):x}"
        options = [part for scope in scopes for part in ("--scope", scope)]
        added = registry.server.cli("clients", "add", name, "--brand", brand, *options, "--json")
        assert added.code == 0, added.err
        made.append(Client(registry.server.base_url, added.answer))
        return made[-1]

    yield make
    for client in made:
        client.http.close()


def basic(client_id: str, secret: str) -> dict[str, str]:
    pair = base64.b64encode(f"{client_id}:{secret}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


# --- the token endpoint (RFC 6749) ----------------------------------------------------


@pytest.mark.parametrize("way", ["basic", "body"])
def test_a_secret_buys_a_token_in_the_header_or_in_the_body(registry, way):
    crm = registry.crm
    inside = {"client_id": crm.id, "client_secret": crm.secret} if way == "body" else {}
    headers = basic(crm.id, crm.secret) if way == "basic" else {}
    answer = registry.http.post("/oauth/token", data=GRANT | inside, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    token = answer.json()
    assert token.keys() == {"access_token", "token_type", "expires_in", "scope"}
    assert token["token_type"] == "Bearer"
    assert token["expires_in"] == 600
    assert sorted(token["scope"].split()) == sorted(SCOPES["crm"])
    assert len(base64.urlsafe_b64decode(token["access_token"] + "=")) == 32, "256 bits, opaque"


def test_a_token_may_be_asked_for_fewer_scopes_and_then_has_no_more(registry):
    crm = registry.crm
    answer = registry.http.post(
        "/oauth/token",
        data=GRANT | {"scope": "purpose:marketing"},
        headers=basic(crm.id, crm.secret),
    )
    assert answer.json()["scope"] == "purpose:marketing"
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    refused = registry.http.post("/v1/members", json=crm.registration(), headers=headers)
    assert refused.status_code == 403
    assert refused.json()["reason"] == "scope_missing"
    assert "audit_id" in refused.json()


@pytest.mark.parametrize(
    ("form", "headers", "status", "error"),
    [
        ("", {}, 400, "invalid_request"),
        ("x", {}, 400, "invalid_request"),
        ("grant_type=client_credentials&grant_type=client_credentials", {}, 400, "invalid_request"),
        ("&".join(f"a{n}=b" for n in range(30)), {}, 400, "invalid_request"),
        ("grant_type=password&username=a&password=b", {}, 400, "unsupported_grant_type"),
        ("grant_type=client_credentials", {}, 401, "invalid_client"),
        ("grant_type=client_credentials&client_id=a&client_secret=b", {}, 401, "invalid_client"),
        ("grant_type=client_credentials&client_id=%00&client_secret=b", {}, 401, "invalid_client"),
        ("grant_type=client_credentials&client_id=%ff&client_secret=b", {}, 401, "invalid_client"),
        (
            f"grant_type=client_credentials&client_id={SOMEBODY}&client_secret=",
            {},
            401,
            "invalid_client",
        ),
        ("grant_type=client_credentials", {"Authorization": "Basic !!!"}, 401, "invalid_client"),
        ("grant_type=client_credentials", {"Authorization": "Basic YQ=="}, 401, "invalid_client"),
        ("grant_type=client_credentials", basic(SOMEBODY, ""), 401, "invalid_client"),
        ("grant_type=client_credentials", basic("%00", "%00"), 401, "invalid_client"),
        ("grant_type=client_credentials", {"Authorization": "Bearer x"}, 401, "invalid_client"),
    ],
)
def test_the_token_endpoint_refuses_in_the_words_of_its_standard(
    registry, form, headers, status, error
):
    answer = registry.http.post("/oauth/token", content=form, headers=FORM | headers)
    assert (answer.status_code, answer.json()) == (status, {"error": error})
    assert answer.headers["cache-control"] == "no-store"
    assert ("www-authenticate" in answer.headers) == (status == 401)


def test_a_wrong_secret_and_an_unknown_client_look_the_same(registry):
    answers = [
        registry.http.post("/oauth/token", data=GRANT, headers=basic(client_id, "wrong"))
        for client_id in (registry.crm.id, SOMEBODY, "nobody")
    ]
    assert {(answer.status_code, answer.text) for answer in answers} == {
        (401, '{"error":"invalid_client"}')
    }


@pytest.mark.parametrize("scope", ["purpose:profiling", "nope", "purpose:marketing nope", "*"])
def test_no_token_has_a_scope_that_its_client_has_not(registry, scope):
    headers = basic(registry.crm.id, registry.crm.secret)
    answer = registry.http.post("/oauth/token", data=GRANT | {"scope": scope}, headers=headers)
    assert (answer.status_code, answer.json()) == (400, {"error": "invalid_scope"})


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", ""])
def test_the_token_endpoint_reads_forms_only(registry, content_type):
    answer = registry.http.post(
        "/oauth/token",
        content="grant_type=client_credentials",
        headers={"Content-Type": content_type, **basic(registry.crm.id, registry.crm.secret)},
    )
    assert (answer.status_code, answer.json()) == (400, {"error": "invalid_request"})


# --- bearer tokens --------------------------------------------------------------------

PATHS = ["/v1/members/sub_x/view?purpose=membership", "/v1/audit/events", "/v1/members/sub_x"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "token_missing"),
        ("", "token_missing"),
        ("Bearer", "token_missing"),
        ("Basic {token}", "token_missing"),
        ("{token}", "token_missing"),
        ("Bearer {token}{token}{token}{token}{token}{token}", "token_missing"),
        ("Bearer x", "token_unknown"),
        ("Bearer {token}x", "token_unknown"),
        ("Bearer {token}, Bearer {token}", "token_unknown"),
        ("Bearer ÿ", "token_unknown"),
    ],
)
def test_a_header_that_is_no_token_of_ours_opens_nothing(registry, path, header, reason):
    headers = {}
    if header is not None:
        headers = {b"Authorization": header.format(token=registry.crm.token).encode("latin-1")}
    answer = registry.http.get(path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    problem = answer.json()
    assert problem["type"].endswith("/not-authenticated")
    assert problem["reason"] == reason


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("order", [1, -1])
def test_two_credentials_count_as_none(registry, path, order):
    headers = [("Authorization", "Bearer x"), ("Authorization", f"Bearer {registry.crm.token}")]
    answer = registry.http.get(path, headers=headers[::order])
    assert answer.status_code == 401
    assert answer.json()["reason"] == "token_repeated"


def test_the_scheme_of_a_credential_has_no_case(registry):
    headers = {"Authorization": f"bEARER {registry.crm.token}"}
    assert registry.http.get("/v1/audit/events", headers=headers).status_code == 200


def test_a_token_ends_with_its_minutes(registry, new_client):
    client = new_client("purpose:membership").sign_in()
    asyncio.run(
        execute(
            registry.server.settings,
            "UPDATE access_token SET expires_us = 1 WHERE client_id = :client",
            client=client.id,
        )
    )
    answer = client.get("/v1/members/sub_x/view?purpose=membership")
    assert answer.status_code == 401
    assert answer.json()["reason"] == "token_expired"


def test_a_revoked_client_reads_nothing_from_the_moment_the_command_returns(registry, new_client):
    client = new_client("members:write", "purpose:membership").sign_in()
    member = client.register()
    path = f"/v1/members/{member['id']}/view?purpose=membership"
    assert client.get(path).status_code == 200
    revoked = registry.server.cli("clients", "revoke", client.id, "--json")
    assert revoked.answer == {"client_id": client.id, "state": "revoked"}
    answer = client.get(path)
    assert answer.status_code == 401
    assert answer.json()["type"].endswith("/not-authenticated")
    assert client.post("/v1/members", client.registration()).status_code == 401
    with pytest.raises(AssertionError, match="invalid_client"):
        client.sign_in()


def test_a_rotated_secret_stops_the_old_one_and_its_tokens_at_once(registry, new_client):
    client = new_client("purpose:membership").sign_in()
    rotated = registry.server.cli("clients", "rotate", client.id, "--json")
    assert rotated.answer.keys() == {"client_id", "client_secret", "scopes"}
    assert client.get("/v1/members/sub_x/view?purpose=membership").status_code == 401
    with pytest.raises(AssertionError, match="invalid_client"):
        client.sign_in()
    fresh = Client(registry.server.base_url, rotated.answer).sign_in()
    assert fresh.get("/v1/members/sub_x/view?purpose=membership").status_code == 404
    fresh.http.close()


def test_a_client_of_another_brand_neither_registers_nor_knows_members_here(registry, new_client):
    stranger = new_client("members:write", "members:introduce", "purpose:membership", brand="other")
    stranger.sign_in()
    refused = stranger.post("/v1/members", stranger.registration())
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["code"] == "other_brand"

    member = registry.crm.register()
    read = stranger.get(f"/v1/members/{member['id']}/view?purpose=membership")
    assert (read.status_code, read.json()["reason"]) == (404, "member_unknown")
    introduced = registry.crm.post(f"/v1/members/{member['id']}:introduce", {"to": stranger.id})
    assert (introduced.status_code, introduced.json()["reason"]) == (404, "client_unknown")
    found = stranger.post(
        "/v1/members:lookup",
        {"kind": "phone", "value": "081-234-5678", "region": "TH", "purpose": "membership"},
    )
    assert (found.status_code, found.json()["reason"]) == (404, "member_unknown")


# --- scopes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "method", "path", "body"),
    [
        ("sender", "POST", "/v1/members", "registration"),
        ("sender", "PATCH", "/v1/members/sub_x", {"fields": {"given_name": "a"}}),
        ("sender", "POST", "/v1/members/sub_x:introduce", {"to": SOMEBODY}),
        ("till", "POST", "/v1/members/sub_x/contact-points", {"kind": "phone", "value": "1"}),
        ("till", "POST", "/v1/members/sub_x/contact-points/cp_x:verify", {"code": "1"}),
        ("cdp", "POST", "/v1/members/sub_x/consents", "decisions"),
        ("cdp", "POST", "/v1/members/sub_x/consents:withdraw", {"purpose": "profiling"}),
        ("cdp", "GET", "/v1/members/sub_x/consents", None),
        ("till", "GET", "/v1/consents/con_x/receipt", None),
        ("till", "GET", "/v1/audit/events", None),
        ("till", "GET", "/v1/members/sub_x/disclosures", None),
        ("till", "GET", "/audit/log/tile/entries/000", None),
    ],
)
def test_an_act_that_no_scope_covers_is_refused_and_on_record(registry, client, method, path, body):
    asking = registry.clients[client]
    if body == "registration":
        body = asking.registration()
    elif body == "decisions":
        body = {"consents": [asking.decision()]}
    answer = asking.request(method, path, json=body)
    assert answer.status_code == 403
    assert answer.json()["type"].endswith("/not-allowed")
    assert answer.json()["reason"] == "scope_missing"
    assert answer.json()["audit_id"].startswith("evt_")


def test_a_purpose_that_the_client_was_not_given_is_refused_and_on_record(registry):
    member = registry.crm.register()
    known = registry.introduced(member["id"], "till")
    answer = registry.till.get(f"/v1/members/{known}/view?purpose=marketing&channel=sms")
    assert answer.status_code == 403
    assert answer.json()["type"].endswith("/purpose-not-allowed")
    assert answer.json()["reason"] == "scope_missing"
    events = registry.crm.get("/v1/audit/events").json()["events"]
    assert answer.json()["audit_id"] in {event["id"] for event in events}


def test_duplicates_are_told_to_those_who_may_ask_for_them_only(registry, new_client):
    registry.crm.register()
    told = registry.crm.register()
    assert told["duplicates"]
    assert all(duplicate["fields"] == ["phone"] for duplicate in told["duplicates"])
    quiet = new_client("members:write").sign_in()
    assert quiet.register().keys() == {"id", "consents", "contact_points", "audit_id"}


def test_what_anybody_may_know_needs_no_token(registry):
    for path in (
        *("/v1/purposes", "/v1/notices/marketing", "/v1/audit/key", "/v1/audit/checkpoint"),
        *("/audit/log/checkpoint", "/livez", "/readyz", "/openapi.json"),
    ):
        assert registry.http.get(path).status_code == 200, path
