"""The story in one command: sample members, and the whole mission told step by step.

Every line that is printed is the result of a real call: over HTTP to a server started here, or
of a command of the command line. What does not come out as the story says stops the demo.
"""

import asyncio
import socket
import time
from pathlib import Path

from kernel.logging import configure_logging
from service.asgi import Service
from service.control import ControlServer
from service.demo import business, campaign, joining, rights, trail
from service.demo.officer import Officer
from service.demo.receiver import Receiver
from service.demo.scene import Scene, set_the_scene
from service.demo.stage import HOST, DemoError, Stage
from service.schema import has_schema
from service.server import listen, uvicorn_server
from service.settings import LogSettings, Settings
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
        return await _tell_on(listening, stage, settings, credentials_file, serve_on=serve_on)


async def _tell_on(
    listening: socket.socket,
    stage: Stage,
    settings: Settings,
    credentials_file: Path,
    *,
    serve_on: bool,
) -> int:
    began = time.monotonic()
    made = await set_up(settings)
    quiet = LogSettings(level="warning", requests=False)
    service = Service(settings.model_copy(update={"log": quiet}))
    runtime = await service.open()
    control = None if settings.on_postgres else ControlServer(runtime)
    if control is not None:
        await control.start()
    bound = listening.getsockname()[1]
    server = uvicorn_server(service, host=HOST, port=bound)
    serving = asyncio.create_task(server.serve([listening]))
    try:
        while not server.started:
            if serving.done():
                raise DemoError("the server did not start")
            await asyncio.sleep(0.01)
        if service.runtime is None:
            raise DemoError("the registry is not open")
        scene = Scene(stage, service.runtime, settings, bound)
        stage.line(f"[bold]Yinyom[/]  ยินยอม  ·  registry in {made.data_dir} on {made.engine}")
        await _play(scene, credentials_file)
        stage.line(f"\n[green]✓[/] the whole story in {time.monotonic() - began:.1f} s")
        stage.line(f"  credentials of the sample clients: {credentials_file}")
        if serve_on:
            base = f"http://{HOST}:{bound}"
            stage.line(f"\nServing on [bold]{base}[/]  ·  portal {base}/th/  ·  API {base}/docs")
            stage.line("Codes for the portal arrive in " + str(settings.outbox_file))
            stage.line("Stop with Ctrl-C.")
            await serving
    finally:
        server.should_exit = True
        await serving
        if control is not None:
            await control.stop()
        await service.close()
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
    finally:
        receiver.close()
    await trail.verify_log(scene)
