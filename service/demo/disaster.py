"""The disaster: a backup, two rights used after it, and a new machine with nothing but the kit.

What is restored goes back to the backup; what members asked for does not.
"""

import tempfile
from pathlib import Path

from service.backup_commands import backup_create, backup_init
from service.demo import rights, trail
from service.demo.campaign import Joined
from service.demo.officer import Officer
from service.demo.scene import Scene
from service.demo.served import served
from service.demo.stage import HOST, Api, DemoError, expect, view_path
from service.files import RECOVERY_KIT_FILE
from service.restores import restore_backup
from service.server import guest_server, listen
from service.settings import DatabaseSettings


async def back_up(scene: Scene) -> str:
    """Back up to a folder beside the data; gives the store's address."""
    scene.stage.step("A backup that this machine itself cannot read")
    data_dir = scene.settings.data_dir.absolute()
    store = f"folder:{data_dir.with_name(data_dir.name + '-backups')}"
    begun = await backup_init(scene.runtime, _quiet, store=store, recipients=[])
    made = await backup_create(scene.runtime, _quiet)
    scene.stage.done(f"generation {made['generation']}: {made['rows']} rows in {store}")
    scene.stage.done(f"encrypted to {begun['recipients'][0]}, whose key is in the recovery kit")
    return store


async def use_rights(
    scene: Scene, crm: Api, desk: Api, officer: Officer, withdrawn: Joined, erased: Joined
) -> None:
    """Withdraw one member and erase another after the backup was made."""
    scene.stage.step("After the backup, Preeya withdraws and Kitti is erased")
    body = {"purpose": "marketing", "channel": "sms"}
    path = f"/v1/members/{withdrawn.id}/consents:withdraw"
    expect(await crm.call("POST", path, body), 200, "withdraw")
    scene.stage.done("Preeya's consent is withdrawn")
    request, path = await rights.ask(
        scene, crm, erased.id, erased.point, "erasure", ground="no_longer_needed"
    )
    await officer.send(f"/console/requests/{request['id']}", {"step": "fulfil"})
    done = expect(await desk.call("GET", path), 200, "erasure")
    scene.stage.done(f"Kitti's request: {done['state']}, and in the ledger beside the backups")


async def lose_everything(
    scene: Scene, store: str, gone: list[Joined], withdrawn: Joined, kept: Joined
) -> None:
    """Restore on a machine that has the store and the kit, and ask the restored registry."""
    scene.stage.step("Disaster: the machine is lost. A new one has the store and the kit only")
    with tempfile.TemporaryDirectory(prefix="yinyom-demo-") as folder:
        into = Path(folder) / "restored"
        settings = scene.settings.model_copy(
            update={"data_dir": into, "database": DatabaseSettings()}
        )
        restored = await restore_backup(
            settings,
            store,
            into=into,
            database_url="",
            generation=None,
            allow_older=False,
            kit=scene.settings.data_dir / RECOVERY_KIT_FILE,
            signer=scene.runtime.backups.vkey,
            progress=_quiet,
        )
        scene.stage.done(
            f"{restored['rows']} rows back, {restored['findable']} members can be found"
        )
        scene.stage.done(
            f"replayed to the last moment: {restored['erased_again']} erased again, "
            f"{sum(restored['replayed'].values())} decisions"
        )
        with listen(HOST, 0) as listening:
            async with served(settings, listening, guest_server) as (runtime, _):
                port = listening.getsockname()[1]
                there = Scene(scene.stage, runtime, settings, port, "", scene.clients, scene.staff)
                await _ask_restored(there, gone, withdrawn, kept)
                await trail.verify_log(there)


async def _ask_restored(there: Scene, gone: list[Joined], withdrawn: Joined, kept: Joined) -> None:
    """Ask for those who must not come back, for one who withdrew, and for one who stays."""
    crm = there.api("crm")
    for member in gone:
        expect(await crm.call("GET", view_path(member.id, "membership", None)), 404, "erased")
    there.stage.done(f"the {len(gone)} erased stay erased: 404")
    answer = expect(
        await crm.call("GET", view_path(withdrawn.id, "marketing", "sms")), 403, "withdrawn"
    )
    there.stage.done(f"the withdrawn stay denied: 403 {answer['reason']}")
    answer = expect(
        await crm.call("GET", view_path(kept.id, "marketing", "sms")), 200, "kept member"
    )
    if not answer["data"].get("phone"):
        raise DemoError("a member who was there is not readable after the restore")
    there.stage.done("who allowed it is read as before, by the same id")


def _quiet(_done: int, _total: int) -> None:
    """Show no bar: a line of the story tells what came out."""
