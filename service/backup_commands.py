"""What the command line asks of an open registry about its backups."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from backup import Recipients
from service.key_places import key_folders
from service.runtime import Runtime
from service.tasks import system_caller

Progress = Callable[[int, int], None]


async def backup_init(
    runtime: Runtime, _progress: Progress, *, store: str, recipients: list[str]
) -> dict[str, Any]:
    """Agree on a store; without recipients, on the recovery kit's."""
    if not recipients:
        recipients = runtime.ring_backups.kits.recipients()
    settings = runtime.settings
    return await runtime.backups.init(
        system_caller("cli"),
        store,
        Recipients(recipients),
        private=[settings.data_dir, *key_folders(settings)],
    )


async def backup_create(runtime: Runtime, progress: Progress) -> dict[str, Any]:
    """Make a backup now."""
    made = await runtime.backups.create(system_caller("cli"), progress)
    await runtime.ring_backups.refresh()
    return made


async def backup_status(runtime: Runtime, _progress: Progress) -> dict[str, Any]:
    """Say how backups stand."""
    return await runtime.backups.status()


async def backup_note(
    runtime: Runtime, _progress: Progress, *, generation: int, level: int, seconds: float
) -> dict[str, Any]:
    """Note what the command line found by reading the store; level 3 is a drill."""
    caller = system_caller("cli")
    await runtime.backups.note_verified(caller, generation, level)
    if level == _DRILL:
        await runtime.backups.note_drill(caller, generation, seconds)
    return {"noted": True}


_DRILL = 3
BACKUP_COMMANDS: Mapping[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "backup.init": backup_init,
    "backup.create": backup_create,
    "backup.status": backup_status,
    "backup.note": backup_note,
}
