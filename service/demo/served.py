"""An open registry with its server, for as long as a chapter needs it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable

import uvicorn

from service.asgi import Service
from service.control import ControlServer
from service.demo.stage import HOST, DemoError
from service.runtime import Runtime
from service.server import uvicorn_server
from service.settings import LogSettings, Settings


@contextlib.asynccontextmanager
async def served(
    settings: Settings,
    listening: socket.socket,
    make_server: Callable[..., uvicorn.Server] = uvicorn_server,
) -> AsyncIterator[tuple[Runtime, asyncio.Task[None]]]:
    """Serve a registry on a bound socket; gives it and the task that ends with the server."""
    quiet = LogSettings(level="warning", requests=False)
    service = Service(settings.model_copy(update={"log": quiet}))
    runtime = await service.open()
    control = None if settings.on_postgres else ControlServer(runtime)
    if control is not None:
        await control.start()
    server = make_server(service, host=HOST, port=listening.getsockname()[1])
    serving = asyncio.create_task(server.serve([listening]))
    try:
        while not server.started:
            if serving.done():
                raise DemoError("the server did not start")
            await asyncio.sleep(0.01)
        yield runtime, serving
    finally:
        server.should_exit = True
        await serving
        if control is not None:
            await control.stop()
        await service.close()
