"""The control socket: how the command line reaches a server that has the registry open.

A Unix socket with mode 0600 inside the 0700 data directory: whoever may talk to it could read
the key files anyway. One JSON line asks; lines of progress and one line of answer come back.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import structlog

from kernel import ConfigurationError, YinyomError
from kernel.errors import FieldProblem
from service.commands import COMMANDS, Command
from service.runtime import Runtime
from service.sockets import CONTROL_SOCKET, listen_for_owner, short_path

_LONGEST_LINE = 4_194_304
_PROGRESS_EVERY = 100


class ControlServer:
    """Answers commands for as long as the server runs."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._path = runtime.settings.data_dir / CONTROL_SOCKET
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; only the owner of the data directory can connect."""
        listening = listen_for_owner(self._path.parent, CONTROL_SOCKET)
        self._server = await asyncio.start_unix_server(
            self._serve, sock=listening, limit=_LONGEST_LINE
        )

    async def stop(self) -> None:
        """Stop listening, and stop commands where they are: what they had committed stands."""
        if self._server is None:
            return
        self._server.close()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._server.wait_closed()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        try:
            line = await reader.readline()
            answer = await self._answer(orjson.loads(line), reader, writer)
            writer.write(orjson.dumps(answer) + b"\n")
            await writer.drain()
        except (ConnectionError, ValueError, RuntimeError) as error:
            # uvloop calls writing to somebody who has hung up a RuntimeError.
            structlog.get_logger().warning("control", error_type=type(error).__name__)
        except asyncio.CancelledError:
            structlog.get_logger().warning("control", reason="stopped")
        finally:
            writer.close()

    async def _answer(
        self, asked: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> dict[str, Any]:
        last = 0

        def progress(done: int, total: int) -> None:
            nonlocal last
            if reader.at_eof():  # as Ctrl-C stops a command that runs without a server
                raise ConnectionResetError
            if done - last >= _PROGRESS_EVERY or done == total:
                last = done
                writer.write(orjson.dumps({"progress": [done, total]}) + b"\n")

        try:
            command = _command(asked)
            return {"result": await command(self._runtime, progress, **asked["arguments"])}
        except ConnectionError:
            raise
        except YinyomError as error:
            return {"error": _pack(error)}
        except Exception as error:  # noqa: BLE001 (the edge: the server must live on)
            structlog.get_logger().error("control", error_type=type(error).__name__)
            return {"error": _pack(YinyomError())}


def _command(asked: Any) -> Command:
    name = asked.get("command") if isinstance(asked, dict) else None
    if not isinstance(name, str) or name not in COMMANDS:
        raise ConfigurationError(
            "the server that has the registry open is of another version and has no such command",
            remedy="Restart the server, so that it is of the same version as the command line.",
        )
    return COMMANDS[name]


async def ask(
    data_dir: Path,
    command: str,
    arguments: dict[str, Any],
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Ask the server that has the registry open; raises what the command raised there."""
    async for line in _lines(data_dir, {"command": command, "arguments": arguments}):
        if "progress" in line:
            progress(*line["progress"])
        elif "error" in line:
            raise _unpack(line["error"])
        else:
            result: dict[str, Any] = line["result"]
            return result
    raise ConfigurationError(
        "the server that has the registry open stopped before it answered",
        remedy="Look at its log and try again; what it had committed stands.",
    )


async def _lines(data_dir: Path, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    try:
        with short_path(data_dir, CONTROL_SOCKET) as address:
            reader, writer = await asyncio.open_unix_connection(address, limit=_LONGEST_LINE)
    except OSError as error:
        raise ConfigurationError(
            "another process has this registry open and does not answer",
            remedy="Wait until it has finished, or stop it.",
        ) from error
    try:
        writer.write(orjson.dumps(request) + b"\n")
        await writer.drain()
        while line := await reader.readline():
            yield orjson.loads(line)
    finally:
        writer.close()


class RemoteError(YinyomError):
    """An error that a command raised inside the server."""


def _pack(error: YinyomError) -> dict[str, Any]:
    return {
        "slug": error.slug,
        "status": error.status,
        "title": error.title,
        "detail": error.detail,
        "reason": error.reason,
        "remedy": error.remedy,
        "exit_code": error.exit_code,
        "errors": [[p.pointer, p.code, p.detail] for p in error.errors],
    }


def _unpack(packed: dict[str, Any]) -> RemoteError:
    error = RemoteError(
        packed["detail"],
        reason=packed["reason"],
        remedy=packed["remedy"],
        errors=[FieldProblem(*place) for place in packed["errors"]],
    )
    error.slug, error.status = packed["slug"], packed["status"]
    error.title, error.exit_code = packed["title"], packed["exit_code"]
    return error
