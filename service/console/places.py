"""The pages of the console and the right that opens each; menu, guard and tests read this table.

A page opens for a role when the policy pack grants the role any of the (resource, action,
purpose) rights that the page names. What a role may not open is not in its menu either.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from policies import AccessSnapshot
from service.staff import Account

Right = tuple[str, str, str | None]
MEMBERSHIP = "membership"


@dataclass(frozen=True, slots=True)
class Place:
    """One page, or a page and those behind it; `key` names its texts and its event."""

    key: str
    path: str
    group: str
    rights: tuple[Right, ...]


_PLACES = (
    Place("requests", "requests", "rights", (("rights_request", "read", None),)),
    Place("approvals", "approvals", "rights", (
        ("rights_request", "handle", None), ("backup", "manage", None), ("staff", "manage", None),
        ("audience", "export", "marketing"),
    )),
    Place("duplicates", "duplicates", "rights", (("duplicates", "read", None),)),
    Place("members", "members", "rights", (("member", "lookup", MEMBERSHIP),)),
    Place("trail", "trail", "proof", (("audit", "read", None),)),
    Place("reviews", "reviews", "proof", (("audit", "review", None),)),
    Place("consents", "consents", "proof", (("governance", "read", None),)),
    Place("refusals", "refusals", "proof", (("governance", "read", None),)),
    Place("purposes", "purposes", "proof", (("policy", "read", None),)),
    Place("ropa", "ropa", "proof", (("governance", "read", None),)),
    Place("findings", "findings", "keep", (("governance", "read", None),)),
    Place("retention", "retention", "keep", (
        ("audit", "hold", None), ("governance", "read", None),
    )),
    Place("backups", "backups", "keep", (("backup", "manage", None),)),
    Place("staff", "staff", "keep", (("staff", "manage", None), ("governance", "read", None))),
)  # fmt: skip
PLACES: Mapping[str, Place] = {place.key: place for place in _PLACES}
GROUPS = ("rights", "proof", "keep")


def may_open(access: AccessSnapshot, account: Account, place: Place) -> bool:
    """Say whether the policy pack grants this account any right that opens the page."""
    return any(
        access.allows(account.role, account.brand, resource, action, purpose)
        for resource, action, purpose in place.rights
    )
