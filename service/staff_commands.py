"""What the command line can ask about staff accounts; see `service.commands`."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from service.runtime import Runtime
from service.tasks import system_caller

Progress = Callable[[int, int], None]


async def staff_add(
    runtime: Runtime, _progress: Progress, *, name: str, role: str, brand: str, person: str | None
) -> dict[str, Any]:
    """Make a staff account."""
    from service.commands import check_brand

    check_brand(brand)
    return await runtime.staff.add(
        system_caller("cli", brand), name, role, brand=brand, person=person
    )


async def staff_list(runtime: Runtime, _progress: Progress) -> dict[str, Any]:
    """Describe every staff account."""
    return {"staff": await runtime.staff.listing()}


async def staff_role(
    runtime: Runtime, _progress: Progress, *, staff: str, role: str
) -> dict[str, Any]:
    """Give a staff account another role."""
    return await runtime.staff.give_role(system_caller("cli"), staff, role)


async def staff_disable(runtime: Runtime, _progress: Progress, *, staff: str) -> dict[str, Any]:
    """Disable a staff account."""
    return await runtime.staff.disable(system_caller("cli"), staff)


async def staff_reset(runtime: Runtime, _progress: Progress, *, staff: str) -> dict[str, Any]:
    """Give a staff account a new one-time password."""
    return await runtime.staff.reset(system_caller("cli"), staff)


STAFF_COMMANDS: Mapping[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "staff.add": staff_add,
    "staff.list": staff_list,
    "staff.role": staff_role,
    "staff.disable": staff_disable,
    "staff.reset": staff_reset,
}
