"""A process that replaces the log's key until a chosen step kills it, while members are read.

`rotation_child.py STEP WHEN DATA_DIR [URL]`: the process ends by SIGKILL before that step of a
rotation or after it; with `-` for a step it goes on until somebody else kills it. Each line on its
output is a change that had returned when the line was written.
"""

import asyncio
import sys
from contextvars import ContextVar

from kernel.logging import configure_logging
from service.key_rotation import rotate_log_key
from service.settings import Settings
from tests.faults.child import settings_of, tell
from tests.faults.dying import die_at, place_of
from tests.support.world import App, Known, open_world

STEPS = {
    "seed": ("vault.keyring:KeyRing.add_log_seed", 1),
    "prepared": ("audit.repository:append_event", 1),
    "ring backup": ("vault.ring_backups:RingBackups.refresh", 1),
    "event": ("audit.repository:append_event", 2),
    "leaf": ("audit.repository:place_leaves", 1),
    "tiles": ("audit.repository:store_tiles", 1),
    "overlap": ("audit.repository:add_checkpoint", 1),
    "succession": ("audit.log_key_repository:add_rotation", 1),
    "head": ("audit.log_key_repository:rekey_head", 1),
    "handing over": ("audit.sequencer:Sequencer.rekey", 1),
    "anchors": ("service.anchors:Anchors.anchor", 1),
    "destroyed": ("audit.repository:append_event", 3),
    "dropped": ("vault.keyring:KeyRing.drop_log_seeds", 1),
    "sealed": ("vault.keyring:KeyRing.seal_outer", 1),
    "ring backup again": ("vault.ring_backups:RingBackups.refresh", 2),
}
"""What a rotation does one after the other, and which call of it; only the task that rotates dies."""
READERS = 2
_ROTATES: ContextVar[bool] = ContextVar("rotates", default=False)


def rotating_settings(data_dir: str, url: str) -> Settings:
    """Settings with an anchor beside the registry: a head that was put there cannot be lost."""
    settings = settings_of(data_dir, url)
    anchors = settings.data_dir.parent / "anchors"
    anchors.mkdir(exist_ok=True)
    audit = settings.audit.model_copy(update={"anchors": (f"folder:{anchors}",)})
    return settings.model_copy(update={"audit": audit})


async def read_on(crm: App, member: Known) -> None:
    while True:
        answer = await crm.view(member)
        tell(read=answer.json()["audit_id"])


async def main(step: str, when: str, data_dir: str, url: str = "") -> None:
    configure_logging("error")
    async with open_world(rotating_settings(data_dir, url)) as world:
        made = await world.runtime.clients.list()
        crm = await world.app(f"crm-{len(made)}", "members:write", "purpose:membership")
        member = await crm.register(phone="081-234-5678")
        tell(began=world.runtime.audit.vkey)
        reading = [asyncio.create_task(read_on(crm, member)) for _ in range(READERS)]
        if step != "-":
            function, nth = STEPS[step]
            die_at(*place_of(function), when, nth, _ROTATES.get)
        _ROTATES.set(True)
        while True:
            told = await rotate_log_key(
                world.runtime, lambda _done, _total: None, confirmed=True, operator=None
            )
            tell(rotated=told["vkey"], finished=told["size"] is None)
            assert not any(one.done() for one in reading), "a reader failed"


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
