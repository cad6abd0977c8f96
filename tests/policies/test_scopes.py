import pytest

from kernel import InvalidRequestError
from policies import RESOURCE_ACTIONS, SCOPE_GRANTS, compile_access, parse_scopes, scope_grammar


@pytest.mark.parametrize(
    "scope",
    ["", "purpose:", "purpose:sales", "purpose:*", "members:read", "Members:write", "members", "*"],
)
def test_an_unknown_scope_is_refused_and_pointed_at(pack, scope):
    with pytest.raises(InvalidRequestError) as refused:
        parse_scopes(["purpose:marketing", scope], pack)

    assert [problem.pointer for problem in refused.value.errors] == ["/scopes/1"]
    assert refused.value.reason == "scope_unknown"


def test_the_pointer_names_the_place_in_the_request(pack):
    with pytest.raises(InvalidRequestError) as refused:
        parse_scopes(["a:b", "members:write", "c:d"], pack, pointer="/client/scopes")

    pointers = [problem.pointer for problem in refused.value.errors]
    assert pointers == ["/client/scopes/0", "/client/scopes/2"]


def test_the_grammar_is_the_purposes_and_the_fixed_list(pack):
    assert set(scope_grammar(pack)) == {
        "purpose:membership",
        "purpose:marketing",
        "purpose:profiling",
        "purpose:analytics",
        "members:write",
        "members:introduce",
        "members:search",
        "duplicates:read",
        "consents:write",
        "consents:read",
        "audit:read",
        "imports:write",
        "duplicates:resolve",
        "loyalty:read",
        "loyalty:write",
        "audiences:query",
        "audiences:export",
        "changes:read",
        "suppressions:read",
        "webhooks:manage",
        "rights-requests:open",
        "rights-requests:handle",
        "restrictions:write",
        "legal-holds:manage",
        "governance:read",
    }


def test_a_client_acts_only_for_the_purposes_it_was_given(pack):
    scopes = parse_scopes(["purpose:analytics", "purpose:profiling"], pack)

    assert scopes.allows_purpose("analytics")
    assert not scopes.allows_purpose("marketing")
    assert not scopes.allows("member", "register")
    assert not scopes.allows("consent", "write")


def test_no_scope_grants_nothing(pack):
    scopes = parse_scopes([], pack)

    assert scopes.names == ()
    assert not scopes.purposes
    assert not scopes.grants


def test_looking_somebody_up_needs_some_purpose(pack):
    assert parse_scopes(["purpose:membership"], pack).allows("member", "lookup")
    assert not parse_scopes(["members:write"], pack).allows("member", "lookup")


def test_who_may_record_a_consent_may_record_its_withdrawal(pack):
    for scope in ("members:write", "consents:write"):
        assert parse_scopes([scope], pack).allows("consent", "write")
    assert not parse_scopes(["consents:read"], pack).allows("consent", "write")


def test_scopes_are_kept_once_and_in_order(pack):
    scopes = parse_scopes(["purpose:marketing", "members:write", "purpose:marketing"], pack)

    assert scopes.names == ("members:write", "purpose:marketing")


def test_every_scope_grants_an_act_that_exists_and_that_the_role_app_may_do(pack):
    access = compile_access(pack)
    for grants in SCOPE_GRANTS.values():
        for resource, action in grants:
            assert action in RESOURCE_ACTIONS[resource]
            assert access.allows("app", "main", resource, action)
