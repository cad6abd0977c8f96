"""Doing again, after a restore, what happened to clients: a revoked one does not come back.

A secret that was replaced is taken for one that leaked: the old one opens nothing any more, and the
ledger holds no form of the new one, so the client is rotated once more by a person.
"""

from audit import RightsEntry, RightsKind
from kernel import MemberId, UnitOfWork
from service.auth import repository

REVOKED = "revoked"
ROTATED = "rotated"
NO_SECRET = b""
"""No secret has this hash, as with agents, who have none."""


async def replay_client(work: UnitOfWork, _member_id: MemberId | None, entry: RightsEntry) -> bool:
    """Do one entry again; False when it is not of a client that the data knows."""
    if entry.kind != RightsKind.CLIENT:
        return False
    found = await repository.client_by_id(work, str(entry.detail["client"]))
    if found is None:
        return False
    if entry.detail["change"] == REVOKED:
        await repository.revoke(work, found.id)
    else:
        await repository.set_secret(work, found.id, NO_SECRET)
    return True
