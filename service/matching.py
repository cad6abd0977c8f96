"""What follows when members come in or change: the background work of the members room."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from service.tasks import DAY_US, system_caller

if TYPE_CHECKING:
    from service.runtime import Runtime

MERGES_SETTLED = "merges_settled"


def follow_members(runtime: "Runtime") -> None:
    """Let the worker and the courier of a runtime do what the members room needs done."""

    async def settle(_payload: Mapping[str, Any]) -> None:
        await runtime.partings.settle_due(system_caller("worker"))

    runtime.worker.on(MERGES_SETTLED, settle, every_us=DAY_US)
