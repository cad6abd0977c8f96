"""Rights requests past HTTP: open, prove, decide, carry out, in one line each."""

from collections.abc import Mapping
from typing import Any

from disclosure import self_caller
from dsar import Right, Rights, RightsRequest, Via
from kernel import Caller, MemberId, RequestId, new_id
from service.tasks import system_caller
from tests.support.world import World


def staff(role: str = "dpo", brand: str = "main") -> Caller:
    """Somebody of the staff, each time somebody else."""
    return Caller(new_id("stf"), role, "console", brand, RequestId(new_id("req")))


class Desk:
    """The room's service in a world, each call in a unit of work of its own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rights: Rights = world.runtime.rights_requests
        self.member = self_caller("main", "portal", new_id("req"))

    @property
    def now_us(self) -> int:
        return self.world.runtime.clock.now_us()

    async def do(self, step: str, caller: Caller, *arguments: Any, **more: Any) -> Any:
        async with self.world.runtime.database.unit_of_work() as work:
            act = getattr(self.rights, step)
            return await act(work, caller, *arguments, now_us=self.now_us, **more)

    async def open(
        self,
        member_id: MemberId,
        right: Right,
        *,
        via: Via = Via.PORTAL,
        details: Mapping[str, Any] | None = None,
        caller: Caller | None = None,
        **more: Any,
    ) -> RightsRequest:
        return await self.do(
            "open", caller or self.member, member_id, right, via=via, details=details, **more
        )

    async def read(self, request: RightsRequest) -> RightsRequest:
        async with self.world.runtime.database.read() as session:
            return await self.rights.read(session, request.id)

    async def code(self, request: RightsRequest, caller: Caller | None = None) -> tuple[str, str]:
        """Ask for a code and give contact point and code."""
        async with self.world.runtime.database.read() as session:
            points = await self.rights.contact_points(session, await self.read(request))
        await self.do("send_code", caller or self.member, request.id, points[0].id)
        await self.world.runtime.courier.deliver()
        return points[0].id, self.world.code_for(points[0].id)

    async def prove(self, request: RightsRequest, caller: Caller | None = None) -> None:
        """Answer a fresh code."""
        caller = caller or self.member
        point, code = await self.code(request, caller)
        assert await self.do("verify", caller, request.id, point, code) is None

    async def carry_out(self, request: RightsRequest) -> RightsRequest | None:
        return await self.rights.carry_out(request.id, system_caller("worker"))
