"""Doing again, after a restore, what happened to accounts: nobody gets back what was taken.

A password that was replaced opens nothing any more, and no form of the new one is in the ledger:
the account waits for `yinyom staff reset`.
"""

from audit import RightsEntry, RightsKind
from kernel import MemberId, UnitOfWork
from service.staff import repository
from service.staff.passwords import hash_password, one_time_password
from service.staff.repository import DISABLED

CHANGED_PASSWORD = "password"  # noqa: S105 (the name of a change)
CHANGED_ROLE = "role"


async def replay_staff(work: UnitOfWork, _member_id: MemberId | None, entry: RightsEntry) -> bool:
    """Do one entry again; False when it is not of an account that the data knows."""
    if entry.kind != RightsKind.STAFF:
        return False
    found = await repository.hold_account(work, str(entry.detail["staff"]))
    if found is None:
        return False
    change = entry.detail["change"]
    if change == CHANGED_ROLE:
        await repository.set_role(work, found.id, str(entry.detail["role"]))
    elif change == CHANGED_PASSWORD:
        await repository.set_password(work, found.id, hash_password(one_time_password()), None)
    else:
        await repository.set_state(work, found.id, DISABLED)
    return True
