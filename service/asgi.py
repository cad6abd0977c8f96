"""The ASGI entry of `yinyom serve`: opens the installation in its lifespan, in every worker."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import structlog

from kernel import UnavailableError
from kernel.logging import configure_logging
from service.app import create_app
from service.middleware import Edge, Receive, Scope, Send
from service.runtime import Runtime
from service.settings import Settings, read_settings
from service.shield import shield_process
from service.watch import Watch

DATA_DIR = "YINYOM_SERVE_DATA_DIR"
CONFIG = "YINYOM_SERVE_CONFIG"


class Service:
    """Opens on start-up, answers, closes on shutdown."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._app: Edge | None = None
        self._watch: Watch | None = None
        self.runtime: Runtime | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open and close with the lifespan; hand everything else to the app."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif self._app is not None:
            await self._app(scope, receive, send)

    @property
    def edge(self) -> Edge:
        """The app of an opened service."""
        if self._app is None:
            raise UnavailableError("the service is not open")
        return self._app

    async def open(self) -> Runtime:
        """Open the installation and build the app over it."""
        runtime = await Runtime.open(self._settings)
        try:
            await runtime.start()
            runtime.search_keeper.start()
        except BaseException:
            await runtime.close()
            raise
        self.runtime = runtime
        self._forget_keys_on_signal(runtime)
        for lacking in shield_process():
            structlog.get_logger().warning("memory_not_shielded", reason=lacking)
        self._watch = Watch(runtime)
        self._watch.start()
        self._app = create_app(runtime)
        return runtime

    @staticmethod
    def _forget_keys_on_signal(runtime: Runtime) -> None:
        """Let SIGUSR1 empty the cache of bucket keys; a guest in a thread has no signals."""
        with contextlib.suppress(RuntimeError, ValueError):
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGUSR1, runtime.vault.forget_bucket_keys)

    async def close(self) -> None:
        """Close the installation."""
        if self._app is not None:
            self._app.flush_log()
        if self._watch is not None:
            await self._watch.stop()
        if self.runtime is not None:
            await self.runtime.close()
            self.runtime = None

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message: Any = await receive()
            if message["type"] == "lifespan.startup":
                if self.runtime is None:
                    await self.open()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.close()
                await send({"type": "lifespan.shutdown.complete"})
                return


def from_environment() -> Service:
    """Make the service of a worker process; the parent left its settings in the environment."""
    config = os.environ.get(CONFIG)
    settings = read_settings(Path(os.environ[DATA_DIR]), Path(config) if config else None)
    configure_logging(settings.log.level)
    return Service(settings)
