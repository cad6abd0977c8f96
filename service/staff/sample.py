"""One account per role, for a demo: passwords for keeps, so that a reader can sign in at once."""

from typing import Any

from kernel import Caller
from service.staff.accounts import ROLES, Staff


async def make_staff(staff: Staff, caller: Caller, *, brand: str) -> dict[str, dict[str, Any]]:
    """Make one account per role, named as its role; gives name, id and password by role."""
    made: dict[str, dict[str, Any]] = {}
    for role in ROLES:
        one = await staff.add(caller, role, role, brand=brand, person=role, one_time=False)
        made[role] = {key: one[key] for key in ("staff_id", "name", "password")}
    return made
