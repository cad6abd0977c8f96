"""The story in one command: sample members, and the whole mission told step by step.

Every line that is printed is the result of a real call: over HTTP to a server started here, or
of a command of the command line. What does not come out as the story says stops the demo.
"""

import asyncio
import socket
import time
from pathlib import Path

from kernel.logging import configure_logging
from service.demo import business, campaign, disaster, joining, rights
from service.demo.officer import Officer
from service.demo.receiver import Receiver
from service.demo.scene import Scene, set_the_scene
from service.demo.served import served
from service.demo.stage import HOST, DemoError, Stage
from service.schema import has_schema
from service.server import listen
from service.settings import Settings
from service.setup import set_up

CREDENTIALS_FILE = "demo-credentials.json"


def tell(settings: Settings, *, port: int, serve_on: bool) -> int:
    """Tell the story, then serve on if asked to; gives the exit code."""
    configure_logging("warning")
    return asyncio.run(_tell(settings, port=port, serve_on=serve_on))


async def _tell(settings: Settings, *, port: int, serve_on: bool) -> int:
    stage = Stage()
    credentials_file = settings.data_dir / CREDENTIALS_FILE
    if not credentials_file.exists() and await has_schema(settings):
        raise DemoError(
            "this data directory or database holds a registry that is not a demo",
            remedy="Choose an empty one with --data-dir, or another database.url.",
        )
    with listen(HOST, port if serve_on else 0) as listening:
        found_at = listening.getsockname()[1] if serve_on else port
        base = f"http://{HOST}:{found_at}"
        return await _tell_on(listening, stage, settings, credentials_file, base, serve_on=serve_on)


async def _tell_on(
    listening: socket.socket,
    stage: Stage,
    settings: Settings,
    credentials_file: Path,
    base: str,
    *,
    serve_on: bool,
) -> int:
    began = time.monotonic()
    made = await set_up(settings)
    async with served(settings, listening) as (runtime, serving):
        scene = Scene(stage, runtime, settings, listening.getsockname()[1], base)
        stage.line(f"[bold]Yinyom[/]  ยินยอม  ·  registry in {made.data_dir} on {made.engine}")
        await _play(scene, credentials_file)
        stage.line(f"\n[green]✓[/] the whole story in {time.monotonic() - began:.1f} s")
        stage.line(f"  credentials of the sample clients and staff: {credentials_file}")
        if serve_on:
            stage.line(f"\nServing on [bold]{base}[/]")
            stage.line(f"  portal {base}/th/  ·  console {base}/console/  ·  API {base}/docs")
            stage.line("Codes for the portal arrive in " + str(settings.outbox_file))
            stage.line("Stop with Ctrl-C.")
            await serving
    return 0


async def _play(scene: Scene, credentials_file: Path) -> None:
    """Play the chapters in their order."""
    await set_the_scene(scene, credentials_file)
    crm, till, sender, desk = (scene.api(name) for name in ("crm", "till", "sender", "desk"))
    member, point = await joining.register(scene, crm)
    await joining.verify(scene, crm, member, point)
    for_sender = await joining.read(scene, crm, sender, member)
    await joining.refuse(scene, till)
    await joining.withdraw(scene, crm, sender, member, for_sender)
    await business.import_the_old_list(scene)
    friends = await campaign.member_day(scene, crm)
    await campaign.buy(scene, crm, till, friends)
    reached = await campaign.reach(scene, sender)
    officer = Officer(scene.port, scene.staff["dpo"])
    await officer.sign_in()
    receiver = Receiver()
    try:
        await campaign.hear(scene, crm, sender, receiver, friends, reached)
        await rights.who_read(scene, crm, member)
        await rights.copy(scene, crm, desk, officer, member, point["id"])
        await rights.wait(scene, crm, friends[1])
        request = await rights.erase(scene, crm, desk, officer, member, point["id"])
        await rights.gone(scene, crm, sender, receiver, member, for_sender)
        await rights.certify(scene, desk, request)
        store = await disaster.back_up(scene)
        kept, withdrawn, erased = friends[1:4]
        await disaster.use_rights(scene, crm, desk, officer, withdrawn, erased)
        somying = campaign.Joined(member, point["id"])
        await disaster.lose_everything(scene, store, [somying, erased], withdrawn, kept)
    finally:
        receiver.close()
