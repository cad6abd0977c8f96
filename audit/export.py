"""Writes the log, or rather a signed state of it, as a bundle that strangers can verify.

The layout is that of c2sp.org/tlog-tiles, so tools that know nothing of Yinyom read it; beside
the tiles stand the events as JSON lines, for people. A bundle is written under another name
and renamed when it is whole: nobody ever meets half of one. What is stored is exported as it
is, damaged or not, since telling is the verifier's part.
"""

import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

from audit.errors import ExportError, NoteError
from audit.log_key import KeyRotation
from audit.note import Checkpoint, split_note
from audit.tiles import ENTRIES, WIDTH, TilePath, encode_entries, tiles_of

ROTATION_PARTS = ("checkpoint", "keys")
"""The files of the folder `rotation/<n>` of a bundle, n from 1."""
ENTRIES_PER_READ = 16 * WIDTH
_MANIFEST = b'"manifest":{'
_COPY_BYTES = 1 << 20

Progress = Callable[[int, int], None]
"""Is told how many of how many events have been written."""


def manifest_path(index: int) -> str:
    """Name the file with the rows of the event at a place of the log."""
    return f"manifests/{index:012}.rows"


class LogSource(Protocol):
    """Where a bundle comes from: one state of the log that does not change while it is read."""

    @property
    def size(self) -> int:
        """The number of events, as in the checkpoint."""
        ...

    def checkpoint_note(self) -> str:
        """Give the signed checkpoint of this size, with its cosignatures."""
        ...

    def tile(self, level: int, n: int, width: int) -> bytes:
        """Give the first `width` hashes of a tile."""
        ...

    def entries(self, start: int, end: int) -> Iterator[bytes | None]:
        """Give the stored events `start` up to but not including `end`, at most 4,096.

        None stands for one that was deleted; whether by rule, the verifier finds out.
        """
        ...

    def manifests(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Give index and rows, as they are stored, of the events in a range that have any."""
        ...


def write_bundle(
    destination: Path,
    source: LogSource,
    progress: Progress | None = None,
    rotations: Sequence[KeyRotation] = (),
) -> None:
    """Write a bundle as a folder, or as a `.zip` when the destination is named so.

    With the `rotations` of the log's key, the oldest first, whoever has an earlier key can follow;
    those that this checkpoint is not over stay out.
    Memory stays bounded whatever the size of the log. Nothing is fsynced: a bundle is a copy
    that can be made again and whose verification shows whether it is whole.

    Raises:
        ExportError: When there is something at the destination already, when its folder does
            not exist, or when the source does not give what its checkpoint calls for. Then
            nothing is left behind.
    """
    _require_free(destination)
    note = source.checkpoint_note()
    try:
        checkpoint = Checkpoint.parse(split_note(note)[0])
    except NoteError as error:
        raise ExportError("the checkpoint to export is malformed") from error
    if checkpoint.size != source.size:
        raise ExportError(f"the checkpoint is of {checkpoint.size} events, not of {source.size}")
    with _workshop(destination) as workshop:
        made = workshop / "bundle"
        events = workshop / "events.ndjson"
        with _writer(made, as_zip=destination.suffix == ".zip") as writer:
            writer.write("README.md", _readme(checkpoint).encode())
            writer.write("checkpoint", note.encode())
            under = rotations_under(rotations, checkpoint.origin, checkpoint.size)
            for n, rotation in enumerate(under, 1):
                for part in ROTATION_PARTS:
                    writer.write(f"rotation/{n}/{part}", rotation_file(rotation, part).encode())
            for path in tiles_of(source.size):
                writer.write(str(path), source.tile(*path))
            with events.open("wb") as lines:
                _write_entries(source, writer, lines, progress)
            writer.adopt("events.ndjson", events)
        try:
            made.replace(destination)
        except OSError as error:
            raise ExportError("something has come to the destination meanwhile") from error


def rotation_file(rotation: KeyRotation, part: str) -> str:
    """Give a file of a rotation: the overlap checkpoint, or the two keys, the old one first."""
    match part:
        case "checkpoint":
            return rotation.note
        case _:
            return f"{rotation.old_vkey}\n{rotation.new_vkey}\n"


def rotations_under(rotations: Sequence[KeyRotation], origin: str, size: int) -> list[KeyRotation]:
    """Give the rotations that a log of this name and size tells of, the oldest first."""
    return [each for each in rotations if each.origin == origin and each.size <= size]


def _write_entries(
    source: LogSource, writer: "_Writer", lines: IO[bytes], progress: Progress | None
) -> None:
    for start in range(0, source.size, ENTRIES_PER_READ):
        end = min(start + ENTRIES_PER_READ, source.size)
        portion = list(source.entries(start, end))
        if len(portion) != end - start:
            raise ExportError(f"of the events {start} to {end - 1} there are {len(portion)}")
        for index, entry in enumerate(portion, start):
            if entry is None:
                continue
            if b"\n" in entry:
                raise ExportError(f"event {index} is not one line of JSON")
            lines.write(b'{"index":%d,"event":%b}\n' % (index, entry))
        for at in range(0, len(portion), WIDTH):
            width = min(WIDTH, len(portion) - at)
            bundle = [entry for entry in portion[at : at + width] if entry is not None]
            # A bundle with a gap is no bundle to anybody: what is left of it stands in the lines.
            if len(bundle) == width:
                path = TilePath(ENTRIES, (start + at) // WIDTH, width)
                writer.write(str(path), encode_entries(bundle))
        if any(entry is not None and _MANIFEST in entry for entry in portion):
            for index, rows in source.manifests(start, end):
                writer.write(manifest_path(index), rows)
        if progress is not None:
            progress(end, source.size)


class _Writer(Protocol):
    def write(self, name: str, data: bytes) -> None: ...
    def adopt(self, name: str, file: Path) -> None: ...


class _FolderWriter:
    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir()

    def write(self, name: str, data: bytes) -> None:
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def adopt(self, name: str, file: Path) -> None:
        file.replace(self._root / name)


class _ZipWriter:
    """Gives every file one date and one mode, so that one log makes one zip, byte for byte."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def write(self, name: str, data: bytes) -> None:
        self._archive.writestr(self._describe(name), data)

    def adopt(self, name: str, file: Path) -> None:
        # A zip takes one file at a time, so the lines were kept aside while bundles were written.
        described = self._describe(name)
        with (
            file.open("rb") as source,
            self._archive.open(described, "w", force_zip64=True) as target,
        ):
            shutil.copyfileobj(source, target, _COPY_BYTES)

    def _describe(self, name: str) -> zipfile.ZipInfo:
        described = zipfile.ZipInfo(name)
        described.external_attr = 0o644 << 16
        # Hashes do not shrink.
        is_hashes = name.startswith("tile/") and not name.startswith("tile/entries/")
        described.compress_type = zipfile.ZIP_STORED if is_hashes else zipfile.ZIP_DEFLATED
        return described


@contextmanager
def _writer(made: Path, *, as_zip: bool) -> Iterator[_Writer]:
    if as_zip:
        with zipfile.ZipFile(made, "w") as archive:
            yield _ZipWriter(archive)
    else:
        yield _FolderWriter(made)


@contextmanager
def _workshop(destination: Path) -> Iterator[Path]:
    """Make a folder beside the destination, so that renaming is atomic, and clear it away."""
    try:
        made = tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent)
    except OSError as error:
        raise ExportError("the folder of the destination cannot be written to") from error
    try:
        yield Path(made)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _require_free(destination: Path) -> None:
    """Let through what does not exist, and for a folder an empty one."""
    if destination.is_dir() and destination.suffix != ".zip":
        if any(destination.iterdir()):
            raise ExportError("the destination is a folder with something in it")
    elif destination.exists():
        raise ExportError("there is something at the destination already")


def _readme(checkpoint: Checkpoint) -> str:
    return f"""\
# An audit log, to be checked by anybody

    origin  {checkpoint.origin}
    events  {checkpoint.size}

This is the whole audit log of a Yinyom registry as its checkpoint signs it. You need not
believe the party that handed it to you, nor this file, which no signature covers. You do need
one thing from somewhere else: the **verifier key** of the log, a line such as
`{checkpoint.origin}+1a2b3c4d+AVS9…`. Take it from where it was published, from an earlier
exchange, from an outside witness; never from whoever hands you the bundle along with it.

| File | What it is |
|---|---|
| `checkpoint` | origin, number of events, root hash, and the signatures under them |
| `tile/entries/…` | the events as they were recorded, 256 to a file, each behind its length |
| `tile/0/…`, `tile/1/…`, … | the hashes of the Merkle tree over them, 256 to a file |
| `rotation/…` | where the log's key was replaced: the checkpoint that both signed, both keys |
| `events.ndjson` | the same events, a line each, for people and `jq` |
| `manifests/<index>.rows` | of an event that tells of many members, a row for each |

What an event said is deleted when the registry's policy says that its time has come. Its leaf hash
stays, so the tree is whole; a file of `tile/entries/` in which an event is gone is left out, and
what is left of it stands in `events.ndjson` alone. Each deletion by rule is told of by an event
`retention.pruned` of this very log. The verifier counts what they name, and calls the rest missing.

## Checking it

With Yinyom's verifier, one file of Python that needs nothing but `cryptography`:

    python verify.py THIS_BUNDLE --key VERIFIER_KEY [--old EARLIER_CHECKPOINT]

With code that its makers never touched: the layout is the public one of
<https://c2sp.org/tlog-tiles>, the checkpoint is one of <https://c2sp.org/tlog-checkpoint> and
the tree is that of RFC 6962. In Go, `golang.org/x/mod/sumdb/note` opens the checkpoint and
`golang.org/x/mod/sumdb/tlog` checks the tiles and each event (leave the `8/` out of its tile
paths); in Python, `aics_tlog.audit_tiles` does.

## What it proves

If the check passes, these are all the events the log held at that size, in their order, and
none has been changed, dropped or put in since the checkpoint was signed. A log cut short is
still a log: to see that nothing is missing at the end, or that history was not rewritten by a
holder of the signing key, compare with a checkpoint that you or a witness kept (`--old`).

Events hold no names, addresses or values: a member is a token made with the member's own key
and good for one month, a value is a digest under that key. Once the key is destroyed they
point to nobody.
"""
