"""How every command runs, reports and ends: one place that prints, and one that exits.

Exit codes: 0 ok, 1 failed check, 2 usage, 3 configuration, 4 not allowed. An error says what,
where, what is safe and what to do next; with `--json` it is the same as problem details.
"""

import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

if TYPE_CHECKING:
    from service.settings import Settings

FAILED_CHECK = 1
DONE = "[green]✓[/] "
WRONG = "[bold red]✗[/] "
_Answer = TypeVar("_Answer")


@dataclass(slots=True)
class Place:
    """Where the installation is, as the options before the command said."""

    data_dir: Path | None = None
    config: Path | None = None

    def settings(self) -> "Settings":
        """Read the settings of the installation."""
        from service.settings import read_settings

        return read_settings(self.data_dir, self.config)


PLACE = Place()
Json = Annotated[bool, typer.Option("--json", help="Answer as one JSON line.")]


def ask(name: str, arguments: dict[str, Any], *, as_json: bool) -> dict[str, Any]:
    """Run a command on the registry of this call, and end the process if it fails."""
    return run(lambda: command(PLACE, name, arguments, as_json=as_json), as_json=as_json)


def settings_here(*, as_json: bool) -> "Settings":
    """Read the settings of this call, and end the process if they are wrong."""
    from kernel.errors import YinyomError

    try:
        return PLACE.settings()
    except YinyomError as error:
        fail(error, as_json=as_json)


def run(action: Callable[[], Awaitable[_Answer]], *, as_json: bool = False) -> _Answer:
    """Run a coroutine to its end; errors that Yinyom raises on purpose end the process."""
    import asyncio

    from kernel.errors import YinyomError
    from kernel.logging import configure_logging

    configure_logging("warning")
    try:
        return asyncio.run(_awaited(action))
    except YinyomError as error:
        fail(error, as_json=as_json)
    except KeyboardInterrupt:
        sys.exit(130)


async def _awaited(action: Callable[[], Awaitable[_Answer]]) -> _Answer:
    return await action()


def fail(error: Any, *, as_json: bool) -> NoReturn:
    """Print an error for a person or a program, and end with its exit code."""
    if as_json:
        import orjson

        from kernel.http import problem

        print(orjson.dumps(problem(error)).decode())  # noqa: T201 (the one place that prints)
    else:
        from rich.console import Console

        console = Console(stderr=True, soft_wrap=True, highlight=False)
        first, *rest = error.diagnostics().splitlines()
        console.print(WRONG + _plain(first))
        for line in rest:
            console.print(f"  {_plain(line)}")
    sys.exit(error.exit_code)


def show(answer: Mapping[str, Any], *, as_json: bool, text: Callable[[], None]) -> None:
    """Print an answer as one JSON line, or as `text` prints it."""
    if as_json:
        import orjson

        print(orjson.dumps(answer).decode())  # noqa: T201 (the one place that prints)
    else:
        text()


def table(title: str, columns: list[str], rows: list[list[str]], empty: str) -> None:
    """Print a table, or one line when there is nothing in it."""
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=False, highlight=False)
    if not rows:
        console.print(empty)
        return
    drawn = Table(title=title, title_justify="left", header_style="bold", pad_edge=False)
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(_plain(cell) for cell in row))
    console.print(drawn)


def say(line: str, mark: str = "") -> None:
    """Print one line, behind `DONE` or `WRONG` or nothing; a path in it is never markup."""
    from rich.console import Console

    Console(soft_wrap=True, highlight=False).print(mark + _plain(line))


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def report_usage(words: str, *, as_json: bool) -> NoReturn:
    """Say that the command line was not used as it is meant, and end with code 2."""
    from kernel.errors import InvalidRequestError

    remedy = "Look at `yinyom --help`, or at `--help` of the command. Nothing was done."
    error = InvalidRequestError(words, reason="usage", remedy=remedy)
    error.title = "The command is not used like this"
    fail(error, as_json=as_json)


def report_crash(error: BaseException, *, as_json: bool) -> NoReturn:
    """Name kind and place of an error that nobody meant; its text may quote a person."""
    from kernel.errors import YinyomError

    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = "" if trace is None else f" in {trace.tb_frame.f_globals['__name__']}:{trace.tb_lineno}"
    remedy = "What had been committed stands. `yinyom doctor` checks the rest; report this place."
    fail(YinyomError(f"{type(error).__name__}{place}", remedy=remedy), as_json=as_json)


async def command(
    place: Place, name: str, arguments: dict[str, Any], *, as_json: bool
) -> dict[str, Any]:
    """Run a command on the registry: here, or in the server that has it open."""
    from service.commands import COMMANDS
    from service.control import ask
    from service.runtime import Runtime
    from service.sockets import CONTROL_SOCKET

    settings = place.settings()
    with progress_bar(name, as_json=as_json) as progress:
        if not settings.on_postgres and (settings.data_dir / CONTROL_SOCKET).exists():
            from kernel import ConfigurationError

            try:
                return await ask(settings.data_dir, name, arguments, progress)
            except ConfigurationError as error:
                if not _is_stale(settings):
                    raise error from None
        runtime = await Runtime.open(settings)
        try:
            await runtime.start(background=False)
            return await COMMANDS[name](runtime, progress, **arguments)
        finally:
            await runtime.close()


def _is_stale(settings: "Settings") -> bool:
    """Say whether the socket was left by a server that died: then nobody holds the lock."""
    from service.lock import DataDirLock

    lock = DataDirLock(settings.data_dir)
    free = lock.acquire()
    lock.release()
    return free


class _Silent:
    def __enter__(self) -> Callable[[int, int], None]:
        return lambda _done, _total: None

    def __exit__(self, *_: object) -> None:
        return None


def progress_bar(what: str, *, as_json: bool) -> Any:
    """Give a context manager of a progress function; it draws on a terminal only."""
    if as_json or not sys.stderr.isatty():
        return _Silent()
    return _Bar(what)


class _Bar:
    def __init__(self, what: str) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            TextColumn(what),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: Any = None

    def __enter__(self) -> Callable[[int, int], None]:
        self._progress.start()
        return self._advance

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def _advance(self, done: int, total: int) -> None:
        if self._task is None:
            self._task = self._progress.add_task("", total=total)
        self._progress.update(self._task, completed=done, total=total)
