"""What a machine client was allowed to ask for: `purpose:<key>` and `<resource>:<action>`.

Scopes only narrow the role `app`: a client reads for the purposes it was registered for and no
others, however generous the access rules are. An unknown scope is refused when the client is
made, so that a typing error never becomes a permission later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kernel import FieldProblem, InvalidRequestError
from policies.model import PolicyPack, PurposeKey

PURPOSE_PREFIX = "purpose:"

# Whoever may record a consent may record its withdrawal and show its receipt: withdrawing is
# as easy as giving (PDPA s.19, GDPR art. 7(3)).
SCOPE_GRANTS: Mapping[str, frozenset[tuple[str, str]]] = {
    "members:write": frozenset(
        {
            ("member", "register"),
            ("member", "update"),
            ("contact_point", "add"),
            ("contact_point", "verify"),
            ("consent", "write"),
            ("consent", "read"),
        }
    ),
    "members:introduce": frozenset({("member", "introduce")}),
    "members:search": frozenset({("member", "search")}),
    "duplicates:read": frozenset({("duplicates", "read")}),
    "consents:write": frozenset({("consent", "write"), ("consent", "read")}),
    "consents:read": frozenset({("consent", "read")}),
    "audit:read": frozenset({("audit", "read")}),
    "imports:write": frozenset({("import", "write")}),
    "duplicates:resolve": frozenset({("duplicates", "read"), ("duplicates", "resolve")}),
    "loyalty:read": frozenset({("loyalty_account", "read")}),
    "loyalty:write": frozenset({("loyalty_account", "read"), ("loyalty_account", "write")}),
    "audiences:query": frozenset({("audience", "count")}),
    "audiences:export": frozenset({("audience", "count"), ("audience", "export")}),
    "changes:read": frozenset({("change", "read")}),
    "suppressions:read": frozenset({("suppression", "read")}),
    "webhooks:manage": frozenset({("webhook", "manage")}),
    "rights-requests:open": frozenset({("rights_request", "open")}),
    "rights-requests:handle": frozenset(
        {("rights_request", "open"), ("rights_request", "read"), ("rights_request", "handle")}
    ),
    "legal-holds:manage": frozenset({("audit", "hold")}),
    "restrictions:write": frozenset({("restriction", "write")}),
    "governance:read": frozenset({("governance", "read")}),
}

# A look-up discloses only that somebody is known, for a purpose: the purpose scope decides.
_WITH_ANY_PURPOSE = frozenset({("member", "lookup")})


@dataclass(frozen=True, slots=True)
class Scopes:
    """The checked scopes of one client."""

    names: tuple[str, ...]
    purposes: frozenset[PurposeKey]
    grants: frozenset[tuple[str, str]]

    def allows_purpose(self, purpose: str) -> bool:
        """Say whether the client may act for a purpose."""
        return purpose in self.purposes

    def allows(self, resource: str, action: str) -> bool:
        """Say whether the client may do this to a resource; the role is asked besides."""
        return (resource, action) in self.grants


def scope_grammar(pack: PolicyPack) -> tuple[str, ...]:
    """List every scope that a client of this pack can have."""
    return (*(PURPOSE_PREFIX + key for key in pack.purposes), *SCOPE_GRANTS)


def parse_scopes(names: Sequence[str], pack: PolicyPack, *, pointer: str = "/scopes") -> Scopes:
    """Check the scopes asked for.

    Raises:
        InvalidRequestError: `scope_unknown`, with a pointer at each scope that is not one.
    """
    valid = frozenset(scope_grammar(pack))
    problems = [
        FieldProblem(f"{pointer}/{place}", "scope_unknown", "is not a scope of this pack")
        for place, name in enumerate(names)
        if name not in valid
    ]
    if problems:
        detail = f"valid scopes are {', '.join(sorted(valid))}"
        raise InvalidRequestError(detail, reason="scope_unknown", errors=problems)
    wanted = frozenset(names)
    purposes = frozenset(key for key in pack.purposes if PURPOSE_PREFIX + key in wanted)
    granted = [grants for name, grants in SCOPE_GRANTS.items() if name in wanted]
    if purposes:
        granted.append(_WITH_ANY_PURPOSE)
    return Scopes(tuple(sorted(wanted)), purposes, frozenset[tuple[str, str]]().union(*granted))
