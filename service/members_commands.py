"""What the command line can ask of the members room beyond importing, finding and erasing."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from service.runtime import Runtime
from service.tasks import system_caller

Progress = Callable[[int, int], None]


async def members_dedupe(runtime: Runtime, progress: Progress, *, brand: str) -> dict[str, Any]:
    """Compare all members of a brand and put likely pairs into the queue."""
    began_us = runtime.clock.now_us()
    scanned = await runtime.matching.scan(system_caller("cli", brand), progress)
    return {
        "brand": brand,
        "members": scanned.members,
        "pairs": scanned.pairs,
        "new": scanned.new,
        "open": scanned.waiting,
        "seconds": round((runtime.clock.now_us() - began_us) / 1_000_000, 3),
    }


MEMBERS_COMMANDS: Mapping[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "members.dedupe": members_dedupe,
}
