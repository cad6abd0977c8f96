"""Who asks: the authenticated party behind a request, as every room sees it."""

from dataclasses import dataclass, field
from typing import NewType

RequestId = NewType("RequestId", str)


@dataclass(frozen=True, slots=True)
class Caller:
    """A client, a member, a staff account or the system itself, for one request.

    `id` is a pseudonym (`cli_…`, `mem_…`, `sys_…`), `role` a role of the policy pack, `via`
    the door (`api`, `portal`, `cli`, `worker`), `brand` the domain it may act in. `scopes` and the
    (resource, action) `grants` they stand for only narrow what the role may do.
    """

    id: str
    role: str
    via: str
    brand: str
    request_id: RequestId
    scopes: frozenset[str] = field(default_factory=frozenset)
    grants: frozenset[tuple[str, str]] = field(default_factory=frozenset)
