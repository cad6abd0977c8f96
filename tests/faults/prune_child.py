"""A process that prunes the trail in small batches and kills itself at one step of one batch.

`prune_child.py STEP TIMES DATA_DIR [URL]`: SIGKILL right before the step's call number TIMES.
"""

import asyncio
import os
import signal
import sys
from typing import Any

import audit.expiry
from audit import retention_repository
from kernel.logging import configure_logging
from tests.faults.child import settings_of
from tests.support.world import open_world


def kill_at(step: str, times: int) -> None:
    act = getattr(retention_repository, step)
    called = 0

    async def doomed(*arguments: Any, **details: Any) -> Any:
        nonlocal called
        called += 1
        if called == times:
            os.kill(os.getpid(), signal.SIGKILL)
        return await act(*arguments, **details)

    setattr(retention_repository, step, doomed)


async def main(step: str, times: int, data_dir: str, url: str) -> None:
    audit.expiry._AT_ONCE = 10
    kill_at(step, times)
    async with open_world(settings_of(data_dir, url), background=False) as world:
        await world.runtime.pruning.prune(world.operator)


if __name__ == "__main__":
    configure_logging("error")
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], (*sys.argv, "")[4]))
