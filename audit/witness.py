"""A witness: a second pair of eyes that signs a log's head only while the log keeps its word.

It remembers, for each log it knows, the largest tree it has signed, and signs the next one only
with a proof that nothing of the earlier tree was changed. So whoever owns the log's database and
even its key can no longer show two histories to two people, or cut the end off: kept out is the
operator himself. It shares nothing with a registry but this protocol (c2sp.org/tlog-witness):
its own key, its own SQLite file, no personal data, nothing secret in what it is sent.
"""

import asyncio
import base64
import binascii
import re
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.errors import NoteError, ProofError
from audit.merkle import EMPTY_ROOT, verify_consistency
from audit.note import ED25519, Checkpoint, Cosigner, Verifier, open_note, split_note
from kernel import Clock

MAX_REQUEST_BYTES = 64 * 1024
MAX_PROOF_HASHES = 63
ADD_CHECKPOINT = "/add-checkpoint"
SIZE_TYPE = "text/x.tlog.size"
_TEXT = "text/plain; charset=utf-8"
_OLD = re.compile("old (0|[1-9][0-9]{0,18})")
_BUSY_SECONDS = 10.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS head (
    origin TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    root BLOB NOT NULL,
    note TEXT NOT NULL,
    seconds INTEGER NOT NULL
) STRICT
"""


@dataclass(frozen=True, slots=True)
class Submission:
    """What a log sends: the size it believes was signed last, the way from there, the new head."""

    old: int
    proof: tuple[bytes, ...]
    note: str


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer: its status, its media type and its text."""

    status: int
    text: str
    media_type: str = _TEXT


def write_submission(old: int, proof: Sequence[bytes], note: str) -> bytes:
    """Write the body of an `add-checkpoint` request."""
    lines = [f"old {old}", *(base64.b64encode(each).decode() for each in proof)]
    return ("\n".join(lines) + "\n\n" + note).encode()


def read_submission(body: bytes) -> Submission:
    """Read the body of an `add-checkpoint` request; `NoteError` when it is not one."""
    try:
        head, separator, note = body.decode("utf-8").partition("\n\n")
    except UnicodeDecodeError:
        raise NoteError("the request is not UTF-8") from None
    first, *hashes = head.split("\n")
    match = _OLD.fullmatch(first)
    if match is None or not separator:
        raise NoteError("the request does not begin with the old size")
    if len(hashes) > MAX_PROOF_HASHES:
        raise NoteError(f"a proof has at most {MAX_PROOF_HASHES} hashes")
    return Submission(int(match[1]), tuple(_hash(line) for line in hashes), note)


class Witness:
    """Signs heads of the logs it was told of; any number of processes may share its file.

    `NoteError` for a log whose key is a witness's, or this very witness's.
    """

    def __init__(
        self,
        cosigner: Cosigner,
        logs: Iterable[Verifier],
        file: Path,
        clock: Clock,
    ) -> None:
        self._cosigner = cosigner
        self._logs: dict[str, list[Verifier]] = {}
        for log in logs:
            if log.kind != ED25519:
                raise NoteError("the key of a witness is no log's (type 4): nothing logs with it")
            if log.public == cosigner.verifier.public:
                raise NoteError("the log's key is this witness's own: nobody witnesses their own")
            self._logs.setdefault(log.name, []).append(log)
        self._file = file
        self._clock = clock
        with self._open() as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute(_SCHEMA)

    def add_checkpoint(self, body: bytes) -> Reply:
        """Check a submission and sign it, or say by its status what is wrong with it.

        400 malformed, 403 no signature of a known key or only of one that was succeeded, 404
        unknown log, 409 another old size than the one signed last (the answer names it), 422 the
        proof does not hold.
        """
        try:
            sent = read_submission(body)
            head = Checkpoint.parse(split_note(sent.note)[0])
        except NoteError as error:
            return Reply(400, f"{error.detail or error.title}\n")
        known = self._logs.get(head.origin)
        if known is None:
            return Reply(404, "this witness does not know that log\n")
        try:
            open_note(sent.note, known)
        except NoteError:
            return Reply(403, "no key that this witness knows for that log has signed it\n")
        if self._is_succeeded(sent.note, known):
            return Reply(403, "the key that signed it was succeeded by another one\n")
        if sent.old > head.size:
            return Reply(400, "the old size is larger than the new one\n")
        return self._advance(sent, head)

    def _is_succeeded(self, note: str, known: Sequence[Verifier]) -> bool:
        """Say whether a later key of the log than any under this note has signed here already.

        Of keys of one name each succeeds those before it: a stolen old one gets no signature once
        the new one was seen.
        """
        seen = self.heads().get(known[0].name)
        return seen is not None and _latest(note, known) < _latest(seen[1], known)

    def heads(self) -> dict[str, tuple[int, str]]:
        """Give size and signed note of the largest tree of each log, as it was signed."""
        with self._open() as database:
            rows = database.execute("SELECT origin, size, note FROM head ORDER BY origin")
            return {origin: (size, note) for origin, size, note in rows}

    def _advance(self, sent: Submission, head: Checkpoint) -> Reply:
        """Compare with what was signed last and remember the new head, in one transaction."""
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            row = database.execute(
                "SELECT size, root, seconds FROM head WHERE origin = ?", (head.origin,)
            ).fetchone()
            size, root, last = (0, EMPTY_ROOT, 0) if row is None else row
            if sent.old != size or (head.size == size and head.root != root):
                return Reply(409, f"{size}\n", SIZE_TYPE)
            if not _continues(sent, head, root):
                return Reply(422, "the proof does not lead from the old head to the new one\n")
            seconds = max(self._clock.now_us() // 1_000_000, last)
            database.execute(
                "INSERT INTO head VALUES (?, ?, ?, ?, ?) ON CONFLICT (origin) DO UPDATE SET"
                " size = excluded.size, root = excluded.root, note = excluded.note,"
                " seconds = excluded.seconds",
                (head.origin, head.size, head.root, sent.note, seconds),
            )
            database.execute("COMMIT")
        return Reply(200, self._cosigner.cosign(head.body(), seconds))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Open the file for one piece of work; what was not committed is undone."""
        database = sqlite3.connect(self._file, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            database.execute("PRAGMA synchronous=FULL")
            yield database
        finally:
            database.close()


def _latest(note: str, known: Sequence[Verifier]) -> int:
    """Give the place of the latest key that signed a note; -1 where this witness knows none."""
    try:
        signed = open_note(note, known).signed_by
    except NoteError:
        return -1
    return max(known.index(verifier) for verifier in signed)


def _continues(sent: Submission, head: Checkpoint, root: bytes) -> bool:
    if sent.old in {0, head.size}:
        return not sent.proof
    try:
        verify_consistency(sent.old, head.size, root, head.root, sent.proof)
    except ProofError:
        return False
    return True


def _hash(line: str) -> bytes:
    try:
        data = base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if base64.b64encode(data).decode() != line or not data:
        raise NoteError("a line of the proof is not base64")
    return data


class WitnessApp:
    """The witness over HTTP: `POST /add-checkpoint`, and nothing else."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            return
        reply = await self._reply(scope, receive)
        data = reply.text.encode()
        headers = [
            (b"content-type", reply.media_type.encode()),
            (b"content-length", str(len(data)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": data})

    async def _reply(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    ) -> Reply:
        if scope["path"] != ADD_CHECKPOINT:
            return Reply(404, "there is only /add-checkpoint here\n")
        if scope["method"] != "POST":
            return Reply(405, "a checkpoint is sent by POST\n")
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return Reply(400, "the request broke off\n")
            body += message.get("body", b"")
            if len(body) > MAX_REQUEST_BYTES:
                return Reply(413, f"a request has at most {MAX_REQUEST_BYTES} bytes\n")
            more = message.get("more_body", False)
        return await asyncio.to_thread(self._witness.add_checkpoint, body)
