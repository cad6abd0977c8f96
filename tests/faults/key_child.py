"""A process that replaces keys until a chosen step kills it, while members come, go and are read.

`key_child.py ACT STEP WHEN DATA_DIR [URL]`: the step is a function of the vault, or of whoever
keeps the ring backup, and the process
ends by SIGKILL before it or after it. Each line on its output is a change that had returned when
the line was written.
"""

import asyncio
import itertools
import sys
from collections.abc import Awaitable, Callable

from kernel.logging import configure_logging
from tests.faults.child import settings_of, tell
from tests.faults.dying import die_at, place_of
from tests.support.world import App, World, open_world

STEPS = {
    "rewrap": (
        "vault.rotation_repository:want_all",
        "vault.buckets:BucketKeys.make",
        "vault.rotation_repository:move_keys",
        "vault.rotation_repository:drop_replaced",
        "vault.rotation_log:end",
    ),
    "rotate": (
        "vault.keyring:KeyRing.add_root",
        "vault.rotation_repository:set_ring",
        "vault.rotation_repository:rewrap_buckets",
        "vault.keyring:KeyRing.drop_roots",
        "vault.rotation_log:end",
    ),
    "rotate_kms": ("vault.keyring:KeyRing.rewrap_outer", "vault.keyring:KeyRing.rotate_kms"),
    "seal": (
        "vault.rotation_repository:take_destroyed",
        "vault.rotation_repository:want",
        "vault.keyring:KeyRing.add_root",
        "vault.buckets:BucketKeys.make",
        "vault.rotation_repository:move_keys",
        "vault.rotation_repository:drop_replaced",
        "vault.rotation_repository:rewrap_buckets",
        "keeping:refresh",
        "vault.keyring:KeyRing.drop_roots",
        "vault.keyring:KeyRing.seal_outer",
        "vault.rotation_log:end",
    ),
}


def silent(_done: int, _total: int) -> None:
    """Nobody looks."""


def act_on(world: World, act: str) -> Awaitable[object]:
    keys = world.runtime.keys
    acts: dict[str, Callable[[], Awaitable[object]]] = {
        "rewrap": lambda: keys.rotations.rewrap(silent),
        "rotate": lambda: keys.rotations.rotate_ring(silent),
        "rotate_kms": keys.rotations.rotate_kms,
        "seal": lambda: keys.sealing.run(silent),
    }
    return acts[act]()


def deadly(world: World, step: str, when: str) -> None:
    """Let a function kill the process, at its beginning or before it returns."""
    if step == "keeping:refresh":
        die_at(type(world.runtime.keys.sealing._keeping), "refresh", when)
    else:
        die_at(*place_of(step), when)


async def come_and_go(crm: App, world: World, turns: int | None) -> None:
    for at in itertools.count() if turns is None else range(turns):
        stays = await crm.register({"given_name": f"คน{at}", "phone": f"08{at % 10**8:08}"})
        tell(registered=stays.id)
        goes = await crm.register({"given_name": f"คน{at}"})
        tell(registered=goes.id)
        await world.erase(goes)
        tell(erased=goes.id)
        assert (await crm.view(stays)).status_code == 200


async def main(act: str, step: str, when: str, data_dir: str, url: str = "") -> None:
    configure_logging("error")
    async with open_world(settings_of(data_dir, url)) as world:
        made = await world.runtime.clients.list()
        crm = await world.app(f"crm-{len(made)}", "members:write", "purpose:membership")
        tell(client=crm.id)
        await come_and_go(crm, world, 4)
        deadly(world, step, when)
        going_on = asyncio.create_task(come_and_go(crm, world, None))
        for _ in range(100):
            await act_on(world, act)
        going_on.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
