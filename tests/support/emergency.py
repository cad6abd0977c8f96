"""Emergencies for tests: who asks, what they ask for, and the road by which it is opened."""

from typing import Any

from disclosure import Emergency, EmergencyAccess, EmergencyView
from kernel import Caller, MemberId
from tests.support.requests import staff
from tests.support.world import World

CANARY = "quince-justification-ถูกนำส่งโรงพยาบาลโดยไม่มีบัตร"
"""What is found nowhere in the clear."""
EMERGENCY = Emergency(("phone", "birth_date"), "medical_help", f"  {CANARY}\n")


def emergency_access(world: World, *, a_day: int = 3, **parts: Any) -> EmergencyAccess:
    """The road, with the parts of a world but for those given."""
    runtime = world.runtime
    names = ("database", "vault", "audit", "pack", "access", "consent", "members")
    return EmergencyAccess(**{n: getattr(runtime, n) for n in names} | parts, a_day=a_day)


async def break_glass(
    world: World,
    member_id: MemberId,
    asked: Emergency = EMERGENCY,
    caller: Caller | None = None,
    road: EmergencyAccess | None = None,
) -> EmergencyView:
    """Open one member as an officer, somebody else each time."""
    await world.runtime.gatekeeper.refresh()
    road = road or emergency_access(world)
    return await road.open(caller or staff(), member_id, asked, world.runtime.gatekeeper.epochs())
