"""Running the service: one process with uvicorn, or several of them on PostgreSQL."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import structlog
import uvicorn

from kernel import ConfigurationError
from kernel.logging import configure_logging
from service.asgi import CONFIG, DATA_DIR, Service
from service.control import ControlServer
from service.metrics import MetricsServer
from service.runtime import Runtime
from service.settings import Settings

_KEEP_ALIVE_SECONDS = 75
_SHUTDOWN_SECONDS = 10
_BACKLOG = 2_048


def serve_forever(
    settings: Settings, *, config: Path | None, host: str, port: int, workers: int
) -> None:
    """Serve until told to stop."""
    configure_logging(settings.log.level)
    if workers == 1:
        import uvloop

        uvloop.run(serve(settings, host=host, port=port))
        return
    if not settings.on_postgres:
        raise ConfigurationError(
            "SQLite has one writer, so it has one worker",
            remedy="Leave --workers out, or move to PostgreSQL (database.url).",
        )
    if settings.server.metrics_port is not None:
        raise ConfigurationError(
            "several workers cannot share one metrics port",
            remedy="Leave server.metrics_port out, or run one worker a port.",
        )
    asyncio.run(_refuse_here(settings))
    # Meant for the workers, who forget their bucket keys; the parent has none and goes on.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    listen(host, port).close()
    os.environ[DATA_DIR] = str(settings.data_dir)
    if config is not None:
        os.environ[CONFIG] = str(config)
    uvicorn.run(
        "service.asgi:from_environment",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        ws="none",
        proxy_headers=False,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )


async def serve(settings: Settings, *, host: str, port: int) -> None:
    """Open the installation, listen, answer; close it when told to stop."""
    service = Service(settings)
    runtime = await service.open()
    gc.freeze()  # what was loaded stays; the collector need not look at it again
    gc.enable()
    control = None if settings.on_postgres else ControlServer(runtime)
    metrics = MetricsServer(runtime, service.edge)
    try:
        if control is not None:
            await control.start()
        if settings.server.metrics_port is not None:
            await metrics.start(host, settings.server.metrics_port)
        with listen(host, port) as listening:
            await uvicorn_server(service, host=host, port=port).serve([listening])
    finally:
        await metrics.stop()
        if control is not None:
            await control.stop()
        await service.close()


async def _refuse_here(settings: Settings) -> None:
    """Open and close the installation: what is unfit is said once, not by every worker."""
    runtime = await Runtime.open(settings)
    await runtime.close()


def listen(host: str, port: int) -> socket.socket:
    """Take the address to serve on, or say why it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host} port {port} ({error.strerror})",
            remedy="Stop what listens there, or choose another address (--host, --port).",
        ) from error


class _Guest(uvicorn.Server):
    """Serves inside a process whose signals belong to another server."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, and say where."""
        await super().startup(sockets)
        for server in self.servers:
            for listening in server.sockets:
                host, port = listening.getsockname()[:2]
                structlog.get_logger().info("serving", host=host, port=port)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take no signal."""
        yield


class _Server(_Guest):
    """Ends by itself when told to, so that what follows it (closing the registry) still runs.

    uvicorn's own way raises the signal again after serving, which would end the process first.
    """

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM as the wish to stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


def uvicorn_server(service: Service, *, host: str, port: int) -> uvicorn.Server:
    """Make the HTTP server for an opened service; it ends on SIGINT and SIGTERM."""
    return _Server(_configured(service, host, port))


def guest_server(service: Service, *, host: str, port: int) -> uvicorn.Server:
    """Make one more HTTP server for a process that has one."""
    return _Guest(_configured(service, host, port))


def _configured(service: Service, host: str, port: int) -> uvicorn.Config:
    return uvicorn.Config(
        service,
        host=host,
        port=port,
        http="httptools",
        lifespan="off",
        ws="none",
        proxy_headers=False,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )


async def work_forever(settings: Settings) -> None:
    """Run the background of an installation without serving it."""
    configure_logging(settings.log.level)
    runtime = await Runtime.open(settings)
    await runtime.start()
    runtime.search_keeper.start()
    structlog.get_logger().info("worker", worker="started")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    await stop.wait()
    await runtime.close()
