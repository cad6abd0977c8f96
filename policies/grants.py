"""The vocabulary of access: resources, actions, and the rows of `roles/policy.csv`.

A row names a role, a brand, a resource or field category, an action and a purpose. Words
outside this vocabulary are refused at load, because a misspelt rule is a rule that does not
protect anybody.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass

WILDCARD = "*"
NO_PURPOSE = "-"

# Casbin's role manager looks at ten levels, the asking role included.
MAX_ROLE_DISTANCE = 9

VIEW = "view"
VIEW_MASKED = "view_masked"
VIEW_EMERGENCY = "view_emergency"
"""Unmasked, of one member, for an emergency: break-glass, with everything that it costs."""
FIELD_ACTIONS = frozenset({VIEW, VIEW_MASKED, VIEW_EMERGENCY})

RESOURCE_ACTIONS: Mapping[str, frozenset[str]] = {
    "member": frozenset({"register", "update", "lookup", "introduce", "search", "break_glass"}),
    "contact_point": frozenset({"add", "verify"}),
    "consent": frozenset({"read", "write"}),
    "duplicates": frozenset({"read", "resolve"}),
    "import": frozenset({"write"}),
    "loyalty_account": frozenset({"read", "write"}),
    "audience": frozenset({"count", "export"}),
    "change": frozenset({"read"}),
    "suppression": frozenset({"read"}),
    "webhook": frozenset({"manage"}),
    "disclosure": frozenset({"read"}),
    "rights_request": frozenset({"open", "read", "handle"}),
    "restriction": frozenset({"write"}),
    "audit": frozenset({"read", "export", "hold", "open_detail", "review"}),
    "governance": frozenset({"read"}),
    "policy": frozenset({"read", "activate"}),
    "client": frozenset({"manage"}),
    "staff": frozenset({"manage"}),
    "key": frozenset({"manage"}),
    "backup": frozenset({"manage"}),
}

_TOKEN = re.compile(r"[A-Za-z0-9_:.-]+|\*")
_RULE_LENGTH, _LINK_LENGTH = 7, 4
_EFFECTS = ("allow", "deny")


@dataclass(frozen=True, slots=True)
class Rule:
    """A `p` row: who may or may not do what, for which purpose, in which brand."""

    role: str
    brand: str
    resource: str
    action: str
    purpose: str
    effect: str

    @property
    def row(self) -> str:
        """The row as it stands in the file."""
        return ", ".join(("p", *astuple(self)))


@dataclass(frozen=True, slots=True)
class Link:
    """A `g` row: `role` has all that `inherits` has, in one brand or in `*` all."""

    role: str
    inherits: str
    brand: str


def parse_rows(text: str) -> tuple[list[Rule], list[Link], list[str]]:
    """Read policy rows; the third list holds the lines that are none."""
    rules: list[Rule] = []
    links: list[Link] = []
    broken: list[str] = []
    for line in text.splitlines():
        tokens = [token.strip() for token in line.split(",")]
        if not line.strip() or line.startswith("#"):
            continue
        well_formed = all(_TOKEN.fullmatch(token) for token in tokens)
        if well_formed and _is_rule(tokens):
            rules.append(Rule(*tokens[1:]))
        elif well_formed and _is_link(tokens):
            links.append(Link(*tokens[1:]))
        else:
            broken.append(line.strip())
    return rules, links, broken


def inherited(role: str, links: Iterable[Link]) -> frozenset[str]:
    """Give the role and all it inherits, as far as Casbin follows."""
    above: dict[str, set[str]] = {}
    for link in links:
        above.setdefault(link.role, set()).add(link.inherits)
    reached, edge = {role}, {role}
    for _ in range(MAX_ROLE_DISTANCE):
        edge = {role for name in edge for role in above.get(name, ())} - reached
        reached |= edge
    return frozenset(reached)


def _is_rule(tokens: list[str]) -> bool:
    named = len(tokens) == _RULE_LENGTH and tokens[0] == "p" and tokens[1] != WILDCARD
    return named and tokens[-1] in _EFFECTS


def _is_link(tokens: list[str]) -> bool:
    return len(tokens) == _LINK_LENGTH and tokens[0] == "g" and WILDCARD not in tokens[1:3]
