"""Unix sockets in the data directory: made for their owner alone, found however deep it lies."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

CONTROL_SOCKET = "control.sock"
SEARCH_SOCKET = "search.sock"
_BACKLOG = 64


@contextlib.contextmanager
def short_path(folder: Path, name: str) -> Iterator[str]:
    """Give a path to a socket that fits into a socket address, however deep the folder is."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}/{name}"
    finally:
        os.close(handle)


def listen_for_owner(folder: Path, name: str) -> socket.socket:
    """Listen with mode 0600; a socket that was left there is replaced."""
    (folder / name).unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old = os.umask(0o177)
    try:
        with short_path(folder, name) as address:
            listening.bind(address)
    finally:
        os.umask(old)
    listening.listen(_BACKLOG)
    listening.setblocking(False)
    return listening
