"""The search process: holds names in RAM, answers over a 0600 Unix socket, knows nothing else.

One at a time has a data directory's lock. It asks nobody for anything: the server that may open
names tells it, and tells it to forget. It makes no text of a name and writes no log, and what
came in is overwritten in the buffer it came in. Kept out: other users (the socket), debuggers
and core dumps, and whatever would send names away (there is no network; see `isolation`).
"""

import argparse
import fcntl
import json
import os
import selectors
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

from service.search import frames, isolation
from service.search.frames import LENGTH, LONGEST_FRAME, Ask, MalformedFrameError, Say
from service.search.projection import FullError, Projection
from service.sockets import SEARCH_SOCKET, listen_for_owner

LOCK_FILE = "search.lock"
TAKEN = 5
"""Exit code: another process holds the names of this data directory."""
MEBIBYTE = 1 << 20
_MOST_PEERS = 32
_SEND_SECONDS = 5.0
_WALK_SECONDS = 60.0


class Keeping:
    """What the process holds, and how it answers a request about it."""

    def __init__(self, most_bytes: int, *, networked: bool) -> None:
        self._projection = Projection(most_bytes)
        self._most_bytes = most_bytes
        self._networked = networked
        self._state = Say.COLD
        self._walk = 0
        self._walking_until = 0.0

    def answer(self, body: memoryview) -> bytes:
        """Answer one request; a malformed one changes nothing that was there before."""
        try:
            return self._answer(body)
        except FullError:
            self.forget()
            self._state = Say.FULL
            return bytes([Say.FULL])
        except (MalformedFrameError, ValueError, IndexError, struct.error):
            return bytes([Say.MALFORMED])

    def forget(self) -> None:
        """Overwrite everything; what is asked for next is cold."""
        self._projection.clear()
        self._state = Say.COLD
        self._walking_until = 0.0

    def _answer(self, body: memoryview) -> bytes:
        ask = Ask(body[0])
        if ask is Ask.STATE:
            return bytes([Say.OK]) + json.dumps(self._described()).encode()
        if ask in {Ask.FIND, Ask.BORN}:
            return self._search(ask, body)
        if ask is Ask.BEGIN:
            return self._begin()
        if ask is not Ask.REMOVE and self._state is Say.FULL:
            return bytes([Say.FULL])
        return self._change(ask, body)

    def _change(self, ask: Ask, body: memoryview) -> bytes:
        if ask in {Ask.CONFIRM, Ask.END}:
            return self._go_on(ask, body)
        if ask is Ask.PUT:
            for one in frames.put_rows(body):
                self._projection.put(one.member, one.stamp, one.month, one.brand, one.form)
        else:
            for member in frames.removed(body):
                self._projection.remove(member)
        return bytes([Say.OK])

    def _begin(self) -> bytes:
        """Let one walk begin; a walk of which nothing was heard for a minute has ended."""
        now = time.monotonic()
        if now < self._walking_until:
            return bytes([Say.BUSY])
        if self._state is Say.FULL:
            self._state = Say.COLD
        self._walk = self._walk % 255 + 1
        self._walking_until = now + _WALK_SECONDS
        self._projection.begin()
        return bytes([Say.OK, self._walk])

    def _go_on(self, ask: Ask, body: memoryview) -> bytes:
        if body[1] != self._walk or not self._walking_until:
            return bytes([Say.BUSY])
        if ask is Ask.END:
            self._walking_until = 0.0
            self._state = Say.OK
            return bytes([Say.OK]) + self._projection.end().to_bytes(8)
        self._walking_until = time.monotonic() + _WALK_SECONDS
        wanted = [
            member
            for member, stamp in frames.expected(body)
            if not self._projection.confirm(member, stamp)
        ]
        return bytes([Say.OK]) + b"".join(wanted)

    def _search(self, ask: Ask, body: memoryview) -> bytes:
        if self._state is not Say.OK:
            return bytes([self._state])
        if ask is Ask.BORN:
            month, brand = body[1], bytes(body[2:])
            if not 1 <= month <= 12:  # noqa: PLR2004 (months)
                raise MalformedFrameError
            return bytes([Say.OK]) + b"".join(self._projection.born_in(brand, month))
        question = frames.asked(body)
        try:
            answer = self._projection.find(
                question.brand, question.words, question.parts, question.after, question.most
            )
            return frames.hits(answer)
        finally:
            for words in question.words:
                for word in words:
                    word[:] = bytes(len(word))

    def _described(self) -> dict[str, Any]:
        return {
            "state": {Say.OK: "warm", Say.FULL: "full"}.get(self._state, "cold"),
            "members": len(self._projection),
            "bytes": self._projection.size,
            "most_bytes": self._most_bytes,
            "network": "shared" if self._networked else "none",
            "walking": time.monotonic() < self._walking_until,
            "pid": os.getpid(),
        }


class _Peer:
    """One connection and the buffer into which its requests come."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.buffer = bytearray(LENGTH.size + LONGEST_FRAME)
        self.view = memoryview(self.buffer)
        self.filled = 0

    def receive(self) -> memoryview | None:
        """Take what has come; gives a whole request, None while it is not whole.

        `ConnectionError` when the other side is gone or says more than one frame may hold.
        """
        count = self.connection.recv_into(self.view[self.filled :])
        if not count:
            raise ConnectionResetError
        self.filled += count
        if self.filled < LENGTH.size:
            return None
        (length,) = LENGTH.unpack_from(self.buffer)
        if not 0 < length <= LONGEST_FRAME or self.filled > LENGTH.size + length:
            raise ConnectionAbortedError
        if self.filled < LENGTH.size + length:
            return None
        return self.view[LENGTH.size : LENGTH.size + length]

    def send(self, answer: bytes) -> None:
        self.connection.settimeout(_SEND_SECONDS)
        self.connection.sendall(LENGTH.pack(len(answer)) + answer)

    def wipe(self) -> None:
        """Overwrite what came."""
        self.view[: self.filled] = bytes(self.filled)
        self.filled = 0


def hold_names(data_dir: Path, most_bytes: int, *, parent: int | None = None) -> int:
    """Hold the names of a registry until told to end; gives the exit code.

    With `parent` it ends with that process.
    """
    if parent is not None and not isolation.end_with(parent):
        return 0
    lock = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return TAKEN
    listening = listen_for_owner(data_dir, SEARCH_SOCKET)
    networked = not isolation.leave_network()
    isolation.refuse_dumps()
    keeping = Keeping(most_bytes, networked=networked)
    signal.signal(signal.SIGTERM, _stop)
    try:
        _serve(listening, keeping)
    except (SystemExit, KeyboardInterrupt):
        return 0
    finally:
        keeping.forget()
        (data_dir / SEARCH_SOCKET).unlink(missing_ok=True)
        os.close(lock)
    return 0


def _stop(_number: int, _frame: object) -> None:
    sys.exit(0)


def _serve(listening: socket.socket, keeping: Keeping) -> None:
    with selectors.DefaultSelector() as waiting:
        waiting.register(listening, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                peer = key.data
                if peer is None:
                    if len(waiting.get_map()) <= _MOST_PEERS:
                        _accept(listening, waiting)
                elif not _served(peer, keeping):
                    waiting.unregister(peer.connection)
                    peer.wipe()
                    peer.connection.close()


def _accept(listening: socket.socket, waiting: selectors.BaseSelector) -> None:
    try:
        connection, _ = listening.accept()
    except OSError:
        return
    waiting.register(connection, selectors.EVENT_READ, _Peer(connection))


def _served(peer: _Peer, keeping: Keeping) -> bool:
    """Serve what a peer has sent; False when the connection is over."""
    try:
        body = peer.receive()
        if body is not None:
            answer = keeping.answer(body)
            peer.wipe()
            peer.send(answer)
    except OSError:
        return False
    return True


def main(arguments: list[str] | None = None) -> int:
    """Run from a command line: the data directory, the bound in MiB, the parent if any."""
    parser = argparse.ArgumentParser(prog="yinyom-search")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--max-mb", type=int, required=True)
    parser.add_argument("--parent", type=int)
    given = parser.parse_args(arguments)
    return hold_names(given.data_dir, given.max_mb * MEBIBYTE, parent=given.parent)


if __name__ == "__main__":
    sys.exit(main())
