"""Checks an exported audit log from its files and a public key, with no database or network.

It trusts nothing but the key that the caller brings: whoever had the server, its database
and the bundle in hand must not be able to change, drop, add or reorder one event unnoticed.
The file stands alone on purpose. It needs Python and `cryptography` and nothing else of
Yinyom, so anybody may copy it; and since it shares no line with the code that wrote the log,
a mistake there does not repeat itself here. The format: docs/formats/audit-log.md.
"""

import argparse
import base64
import binascii
import io
import json
import os
import re
import stat
import struct
import sys
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    if __name__ != "__main__":
        raise
    sys.stderr.write(
        "this machine has no Python package `cryptography`: pip install cryptography\n"
    )
    sys.exit(3)

__all__ = [
    "RINGS",
    "BadKeyError",
    "Finding",
    "VerifyReport",
    "main",
    "read_checkpoints",
    "verify_bundle",
]

RINGS = {
    "tree": "i: the signed tree",
    "anchor": "ii: an older checkpoint",
    "witness": "iii: a witness",
}
"""The rings of evidence, from the one that the log's owner could forge to those that nobody can."""

MAX_FINDINGS = 20
MAX_NOTE_BYTES = 1_000_000
_WIDTH = 256
_HASH = 32
_MAX_ENTRY = 0xFFFF
_MAX_LINE = _MAX_ENTRY + 64
_LINE = re.compile(rb'\{"index":(0|[1-9][0-9]{0,18}),"event":(.*)\}\n')
_PRUNED = b'{"action":"retention.pruned"'
_MANIFEST = b'"manifest":{'
_MAX_ROWS = 1000
_ROTATED = b'{"action":"audit.key_rotated"'
_ROTATION_FILE = re.compile("rotation/([1-9][0-9]{0,3})/(checkpoint|keys)")
_MAX_KEYS_BYTES = 4096
_EVENTS = "events.ndjson"
_NOTE_TYPE, _WITNESS_TYPE = 0x01, 0x04
_Hashes = list[bytes | None]
_Run = tuple[int, int]


class BadKeyError(ValueError):
    """A verifier key text given by the caller is malformed: a usage error, not a finding."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: which check caught it, where, and in which words.

    `index` is the first event concerned, `path` the file in the bundle. The codes: `missing`,
    `unreadable`, `unexpected`, `checkpoint`, `signature`, `origin`, `witness`, `bundle`,
    `entry`, `tile`, `rewritten`, `root`, `events`, `manifest`, `old-checkpoint`, `rollback`,
    `fork`, `rotation`, `stopped`; docs/formats/audit-log.md says what each means. `ring` is which
    of `RINGS` caught it: an older checkpoint is a witness's word where a witness asked for has
    signed it.
    """

    code: str
    index: int | None
    path: str | None
    detail: str
    ring: str = "tree"

    def __str__(self) -> str:
        event = None if self.index is None else f"event {self.index}"
        place = ", ".join(part for part in (event, self.path) if part)
        return ": ".join(part for part in (self.code, place, self.detail) if part)


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a bundle claims to be (`origin`, `size`, base64 `root`) and all that is wrong with it.

    The claims are worth something only when `ok`. `unchecked` names files that came along
    and that no signature covers. `pruned` counts events that are gone and of which an event
    `retention.pruned` in this very log says that they were deleted when their time had come. `keys`
    are those that the log was signed with in turn, from the first that the bundle tells of to the
    one that signed its head; the key given is among them.
    """

    ok: bool
    origin: str | None
    size: int | None
    root: str | None
    findings: tuple[Finding, ...]
    unchecked: tuple[str, ...]
    pruned: int = 0
    keys: tuple[str, ...] = ()

    @property
    def incomplete(self) -> bool:
        """True when files are missing and nothing that is there was found to be wrong."""
        return bool(self.findings) and all(f.code in {"missing", "stopped"} for f in self.findings)

    @property
    def first_bad_index(self) -> int | None:
        """The lowest index of an event that a finding names."""
        return min((f.index for f in self.findings if f.index is not None), default=None)

    @property
    def ring(self) -> str | None:
        """The ring that caught the first bad event, or whatever was found first without one."""
        at = self.first_bad_index
        return next((f.ring for f in self.findings if f.index == at), None)

    def as_json(self) -> dict[str, object]:
        """Give the report as plain JSON; the words of findings are for people and may change."""
        found = [
            {"code": f.code, "ring": f.ring, "index": f.index, "path": f.path, "detail": f.detail}
            for f in self.findings
        ]
        return {
            "ok": self.ok,
            "incomplete": self.incomplete,
            "origin": self.origin,
            "size": self.size,
            "root": self.root,
            "first_bad_index": self.first_bad_index,
            "ring": self.ring,
            "pruned": self.pruned,
            "keys": list(self.keys),
            "found": found,
            "unchecked": list(self.unchecked),
        }


def verify_bundle(
    path: Path | str,
    vkey: str,
    old_checkpoints: str | Sequence[str] | None = None,
    witness_vkeys: Sequence[str] = (),
) -> VerifyReport:
    """Check a bundle, a folder or a `.zip`, against the log's verifier key.

    `vkey` must come from somewhere else than the bundle. `old_checkpoints` are the texts of
    checkpoints kept from before, one or many: the log must continue each of them, which is what
    a bundle alone cannot show, as a log cut short is a log. Each of `witness_vkeys` must have
    cosigned. Where the log's key was replaced, an earlier or a later one will do as `vkey`, if the
    bundle holds what leads from one to the other (`_Succession`). Reads as a stream, in bounded
    memory.

    Raises:
        BadKeyError: When a verifier key is malformed. Whatever is wrong with the bundle is a
            finding and raises nothing.
    """
    key, witnesses = _read_keys(vkey, witness_vkeys)
    kept = [old_checkpoints] if isinstance(old_checkpoints, str) else old_checkpoints or ()
    findings = _Findings()
    head: _Head | None = None
    unchecked: tuple[str, ...] = ()
    gone, keys = _Gone(), _Succession(key)
    try:
        with _open_bundle(Path(path)) as files:
            keys.read(files, findings)
            if {key.public for key in keys.chain} & {key.public for key in witnesses}:
                findings.add("witness", "a key of the log itself is no witness", ring="witness")
            head = _read_checkpoint(files, keys.last, witnesses, findings)
            if head is not None:
                old = _read_old(kept, keys, witnesses, head, findings)
                old = sorted([*old, *keys.overlaps(head, findings)], key=lambda one: one.head.size)
                unchecked = _check_names(files, head.size, keys.files, findings)
                with closing(_Events(files, findings)) as events:
                    manifests = _Manifests(files, head.size, findings)
                    _Walk(files, head, findings, gone, (manifests, keys)).run(old, events)
                keys.settle(head, findings)
    except _BadFileError as error:
        findings.items.append(Finding(error.code, None, error.path, error.detail))
    except _EnoughError:
        findings.items.append(
            Finding("stopped", None, None, f"stopped after {MAX_FINDINGS} findings")
        )
    return VerifyReport(
        ok=not findings.items,
        origin=head and head.origin,
        size=head and head.size,
        root=head and base64.b64encode(head.root).decode(),
        findings=tuple(findings.items),
        unchecked=unchecked,
        pruned=gone.pruned,
        keys=tuple(str(each) for each in keys.chain),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program; 0 the bundle holds, 1 it does not, 2 wrong usage, 3 nothing to run with."""
    parser = argparse.ArgumentParser(description="Check an exported audit log.")
    parser.add_argument("path", type=Path, help="the bundle: a folder or a .zip")
    parser.add_argument("--key", required=True, help="the log's verifier key, from elsewhere")
    parser.add_argument("--old", type=Path, action="append", default=[], help="a kept checkpoint")
    parser.add_argument("--anchors", type=Path, help="a folder of kept checkpoints, *.note")
    parser.add_argument("--witness", action="append", default=[], help="a witness's verifier key")
    parser.add_argument("--json", action="store_true", help="answer as one line of JSON")
    options = parser.parse_args(arguments)
    try:
        if not options.path.exists():
            parser.error(f"there is no {options.path}")
        old = read_checkpoints(options.old, options.anchors)
        report = verify_bundle(options.path, options.key, old, options.witness)
    except (BadKeyError, OSError, UnicodeDecodeError) as error:
        parser.error(str(error))
    if options.json:
        sys.stdout.write(json.dumps(report.as_json()) + "\n")
        return 0 if report.ok else 1
    lines = [f"log   {report.origin}", f"size  {report.size}", f"root  {report.root}"]
    lines += [f"BAD   {finding}" for finding in report.findings]
    if len(report.keys) > 1:
        lines.append(f"note  the log's key was replaced: {', then '.join(report.keys)}")
    if report.pruned:
        lines.append(f"note  {report.pruned} events pruned by policy, as the log itself tells")
    lines += [f"note  not covered by the signature: {name}" for name in report.unchecked]
    if report.first_bad_index is not None:
        lines.append(f"first bad event {report.first_bad_index}")
    if report.ring is not None:
        lines.append(f"caught by ring {RINGS[report.ring]}")
    lines.append("OK" if report.ok else "NOT OK")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if report.ok else 1


def read_checkpoints(files: Sequence[Path], folder: Path | None = None) -> list[str]:
    """Read kept checkpoints from files, and from every `*.note` in or under a folder.

    `OSError` or `UnicodeDecodeError` for what cannot be read; `FileNotFoundError` for a folder
    without any, which would let everything pass.
    """
    found = [*files]
    if folder is not None:
        notes = sorted(folder.rglob("*.note"))
        if not notes:
            raise FileNotFoundError(f"there is no checkpoint (*.note) in {folder}")
        found += notes
    return [_read_text(path) for path in found]


def _read_text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(MAX_NOTE_BYTES + 1)
    if len(data) > MAX_NOTE_BYTES:
        raise OSError(f"{path} is too long for a checkpoint")
    return data.decode("utf-8")


# --- hashes and paths (RFC 6962 section 2.1, c2sp.org/tlog-tiles) ---


def _leaf_hash(entry: bytes) -> bytes:
    return sha256(b"\x00" + entry).digest()


def _fold(nodes: Sequence[bytes]) -> bytes:
    """Hash neighbouring subtrees pairwise up to their root; an odd last one moves up as it is."""
    if not nodes:
        return sha256().digest()
    while len(nodes) > 1:
        odd = nodes[len(nodes) // 2 * 2 :]
        pairs = zip(nodes[::2], nodes[1::2], strict=False)
        nodes = [*[sha256(b"\x01" + left + right).digest() for left, right in pairs], *odd]
    return nodes[0]


def _path(kind: str, n: int, width: int) -> str:
    digits = f"{n:03}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
    name = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
    return f"tile/{kind}/{name}" + ("" if width == _WIDTH else f".p/{width}")


def _width(size: int, level: int, n: int) -> int:
    """Say how many hashes tile `(level, n)` of a tree holds: 0 when there is no such tile."""
    return max(0, min(_WIDTH, (size >> 8 * level) - n * _WIDTH))


# --- signed notes (c2sp.org/signed-note, tlog-checkpoint, tlog-cosignature) ---


class _NoteError(ValueError):
    """A note is malformed; the message says how."""


class _Head(NamedTuple):
    origin: str
    size: int
    root: bytes


_MAX_SIZE = 2**63 - 1


class _Key(NamedTuple):
    name: str
    key_id: bytes
    kind: int
    public: bytes

    @classmethod
    def parse(cls, vkey: str) -> "_Key":
        name, _, rest = vkey.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        try:
            material = _unbase64(encoded)
        except _NoteError as error:
            raise BadKeyError("the verifier key is not NAME+ID+BASE64") from error
        expected = sha256(name.encode() + b"\n" + material).digest()[:4]
        if not name or key_id != expected.hex():
            raise BadKeyError("the id in the verifier key does not fit its name and key")
        if material[0] not in {_NOTE_TYPE, _WITNESS_TYPE} or len(material) != 1 + _HASH:
            raise BadKeyError("the verifier key is not an Ed25519 key")
        return cls(name, expected, material[0], material[1:])

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}"

    @property
    def digest(self) -> str:
        """The SHA-256 of the verifier key text in hexadecimal digits."""
        material = base64.b64encode(bytes([self.kind]) + self.public).decode()
        return sha256(f"{self.name}+{self.key_id.hex()}+{material}".encode()).hexdigest()

    def signed(self, text: bytes, signature: bytes) -> bool:
        if self.kind == _WITNESS_TYPE:
            time, signature = int.from_bytes(signature[:8]), signature[8:]
            text = b"cosignature/v1\ntime %d\n" % time + text
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except (InvalidSignature, ValueError):
            return False
        return True


def _read_keys(log: str, witnesses: Sequence[str]) -> tuple[_Key, list[_Key]]:
    """Read the caller's keys; the log vouches for nothing as its own witness, nor one for two."""
    key, others = _Key.parse(log), [_Key.parse(text) for text in witnesses]
    if key.kind != _NOTE_TYPE:
        raise BadKeyError("the log's key is one of a witness (type 4)")
    if any(other.kind != _WITNESS_TYPE for other in others):
        raise BadKeyError("a witness's key is one of a log (type 1): nothing cosigns with it")
    if len({key.public, *(other.public for other in others)}) <= len(others):
        raise BadKeyError("log and witnesses do not each have a key of their own")
    return key, others


class _Note(NamedTuple):
    text: bytes
    signatures: list[tuple[str, bytes, bytes]]

    def problem(self, key: _Key) -> str | None:
        """Say why this note may not be believed to be signed by the key, if it may not."""
        mine = [s for name, key_id, s in self.signatures if (name, key_id) == key[:2]]
        if not mine:
            others = ", ".join(ascii(f"{n}+{i.hex()}")[1:-1] for n, i, _ in self.signatures[:4])
            return f"not signed by {key}; the signatures there are by {others}"
        if not key.signed(self.text, mine[0]):
            return f"the signature by {key} does not fit the text: text or signature was changed"
        return None


def _parse_note(raw: bytes) -> _Note:
    try:
        note = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _NoteError("it is not UTF-8") from error
    if any(letter < " " and letter != "\n" for letter in note):
        raise _NoteError("it holds control characters")
    text, blank, tail = note.rpartition("\n\n")
    if not blank or not tail.endswith("\n"):
        raise _NoteError("it does not end in a blank line and signature lines")
    signatures = []
    for line in tail[:-1].split("\n"):
        match line.split(" "):
            case ["\u2014", name, encoded] if name:
                blob = _unbase64(encoded)
                signatures.append((name, blob[:4], blob[4:]))
            case _:
                raise _NoteError("a signature line is malformed")
    return _Note(f"{text}\n".encode(), signatures)


def _parse_head(text: bytes) -> _Head:
    match text.decode().split("\n"):
        case [origin, size, root, ""] if origin and re.fullmatch("0|[1-9][0-9]{0,18}", size):
            if not origin.isprintable():
                raise _NoteError("its origin holds signs that do not show")
            if int(size) > _MAX_SIZE:
                raise _NoteError("its size is larger than any log")
            head = _Head(origin, int(size), _unbase64(root))
        case _:
            raise _NoteError("it is not the three lines origin, size and root hash")
    if len(head.root) != _HASH:
        raise _NoteError(f"its root hash has {len(head.root)} bytes instead of {_HASH}")
    return head


def _unbase64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data or base64.b64encode(data).decode() != text:
        raise _NoteError("base64 in it is malformed")
    return data


# --- files: a folder or a zip ---


class _BadFileError(Exception):
    """A file of the bundle cannot be had; it carries the code and the words of its finding."""

    def __init__(self, code: str, path: str | None, detail: str) -> None:
        super().__init__(detail)
        self.code, self.path, self.detail = code, path, detail


class _EnoughError(Exception):
    """So much is wrong that more findings would tell nobody more."""


@dataclass(slots=True)
class _Findings:
    items: list[Finding] = field(default_factory=list)

    def add(
        self,
        code: str,
        detail: str,
        *,
        index: int | None = None,
        path: str | None = None,
        ring: str = "tree",
    ) -> None:
        self.items.append(Finding(code, index, path, detail, ring))
        if len(self.items) >= MAX_FINDINGS:
            raise _EnoughError

    def add_error(self, error: _BadFileError, index: int | None = None) -> None:
        self.add(error.code, error.detail, index=index, path=error.path)


class _Files(Protocol):
    def names(self) -> Iterator[str]: ...
    def read(self, name: str, limit: int) -> bytes: ...
    def open(self, name: str) -> IO[bytes]: ...
    def close(self) -> None: ...


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> Iterator[str]:
        """Give every file; a link, a device or a pipe would be read otherwise by the next program.

        Nothing of a log lies deeper than its tiles, so a folder without end is not walked.
        """
        inside = [("", 0)]
        while inside:
            folder, depth = inside.pop()
            try:
                with os.scandir(self._root / folder) as entries:
                    for entry in entries:
                        name = f"{folder}{entry.name}"
                        if entry.is_dir(follow_symlinks=False) and depth < _MAX_DEPTH:
                            inside.append((f"{name}/", depth + 1))
                        elif entry.is_file(follow_symlinks=False):
                            yield name
                        else:
                            raise _BadFileError("unexpected", ascii(name)[1:-1], _NO_FILE)
            except OSError as error:
                raise _BadFileError("unreadable", folder or None, _UNREADABLE) from error

    def read(self, name: str, limit: int) -> bytes:
        with self._open(name) as stream:
            try:
                return stream.read(min(os.fstat(stream.fileno()).st_size, limit) + 1)
            except OSError as error:
                raise _BadFileError("unreadable", name, _UNREADABLE) from error

    def open(self, name: str) -> IO[bytes]:
        return self._open(name)

    def _open(self, name: str) -> IO[bytes]:
        path = self._root / name
        try:
            if not stat.S_ISREG(path.lstat().st_mode):  # reading a pipe would never end
                raise _BadFileError("unreadable", name, _NO_FILE)
            return path.open("rb")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _BadFileError("missing", name, "the file is missing") from error
        except OSError as error:
            raise _BadFileError("unreadable", name, _UNREADABLE) from error

    def close(self) -> None:
        pass


_MAX_DEPTH = 12
_NO_FILE = "it is neither a file nor a folder"
_UNREADABLE = "the file cannot be read"
_DAMAGED = "the file is damaged"
_TWO_READINGS = "programs would read this zip in different ways: "


class _DamagedError(Exception):
    """What a file of a zip holds is not what its headers say."""


_DAMAGE = (OSError, zlib.error, _DamagedError)


class _Member(NamedTuple):
    """A file of a zip: where its header is and its packed bytes begin, and what it should give."""

    header: int
    at: int
    packed: int
    size: int
    crc: int
    method: int
    flags: int
    name: bytes


class _Zip:
    """A zip that every program reads alike; any other is refused, whatever is in it.

    Written here and not taken from `zipfile`, which like most readers goes by the directory at the
    end and passes over whatever else there is: files between files, a second directory, content
    behind the end of a packed stream. Other programs would show those to whoever reads the log.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise _BadFileError("unreadable", None, "the zip cannot be read") from error
        try:
            placed = self._placed(_directory(self._file))
            self._members = {_shown(one.name): one for one in placed if not one.name.endswith(b"/")}
        except (OSError, struct.error) as error:
            self._file.close()
            raise _BadFileError("unreadable", None, _NO_ZIP) from error
        except _BadFileError:
            self._file.close()
            raise

    def names(self) -> Iterator[str]:
        return iter(self._members)

    def read(self, name: str, limit: int) -> bytes:
        chunks: list[bytes] = []
        room = limit
        try:
            for chunk in self._chunks(self._member(name)):
                chunks.append(chunk)
                room -= len(chunk)
                if room < 0:
                    break
        except _DAMAGE as error:
            raise _BadFileError("unreadable", name, _DAMAGED) from error
        return b"".join(chunks)

    def open(self, name: str) -> IO[bytes]:
        return io.BufferedReader(_Stream(self._chunks(self._member(name))), _CHUNK)

    def close(self) -> None:
        self._file.close()

    def _member(self, name: str) -> _Member:
        try:
            member = self._members[name]
        except KeyError:
            raise _BadFileError("missing", name, "the file is missing") from None
        if member.method not in {_STORED, _DEFLATED}:
            raise _BadFileError("unreadable", name, "it is packed in another way than deflated")
        return member

    def _chunks(self, member: _Member) -> Iterator[bytes]:
        """Unpack a file piece by piece, and hold all of it against its header at the end."""
        stored = member.method == _STORED
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        at, end, left, crc, ahead = member.at, member.at + member.packed, member.size, 0, b""
        while left >= 0:
            if not ahead and at < end:
                self._file.seek(at)
                ahead = self._file.read(min(_CHUNK, end - at))
                at += len(ahead)
            if stored:
                chunk, ahead = ahead, b""
            else:
                chunk = inflater.decompress(ahead, _CHUNK)
                ahead = inflater.unconsumed_tail
            left -= len(chunk)
            crc = zlib.crc32(chunk, crc)
            if chunk:
                yield chunk
            elif not ahead:
                break
        whole = stored or (inflater.eof and not inflater.unused_data)
        if not whole or ahead or at != end or left or crc != member.crc:
            raise _DamagedError

    def _placed(self, members: list[_Member]) -> Iterator[_Member]:
        """Follow the files from the first byte to the directory; nothing may be between them."""
        names: set[str] = set()
        for member in members:
            if _shown(member.name).casefold() in names:
                raise _refused("two files of this name", _shown(member.name))
            names.add(_shown(member.name).casefold())
        *files, end = members
        files.sort()
        at = 0
        for member, behind in zip(files, [*files[1:], end], strict=True):
            if member.header != at:
                raise _refused("there is data before or between its files")
            placed = self._with_header(member)
            at = placed.at + placed.packed
            if at > behind.header:
                raise _refused("files overlap", _shown(placed.name))
            if placed.flags & _DESCRIBED_BEHIND:
                at += self._descriptor(placed, behind.header - at)
            yield placed
        if end.header != at:
            raise _refused("there is data before its directory")

    def _with_header(self, member: _Member) -> _Member:
        """Compare a file's own header with that in the directory, and find where it begins."""
        self._file.seek(member.header)
        sign, _, flags, method, _, _, *sizes, named, extra = _LOCAL.unpack(self._file.read(30))
        name, more = self._file.read(named), self._file.read(extra)
        if sign != b"PK\3\4" or len(more) != extra:
            raise _BadFileError("unreadable", None, _NO_ZIP)
        packed, size, _ = _sizes(more, sizes[1], sizes[2], 0)
        if (flags | member.flags) & _ENCRYPTED:
            raise _BadFileError("unreadable", _shown(member.name), "it is encrypted")
        told = member.crc, member.packed, member.size
        later = flags & _DESCRIBED_BEHIND and not any(sizes)
        same = (name, flags, method) == (member.name, member.flags, member.method)
        if not same or not (later or (sizes[0], packed, size) == told):
            raise _refused("a file has two headers that differ", _shown(member.name))
        return member._replace(at=member.header + _LOCAL.size + named + extra)

    def _descriptor(self, member: _Member, room: int) -> int:
        """Check the sizes that are repeated behind a file which was written as a stream."""
        self._file.seek(member.at + member.packed)
        found = self._file.read(min(room, 24))
        for form in ("<III", "<IQQ"):
            with suppress(struct.error):
                repeated = struct.pack(form, member.crc, member.packed, member.size)
                if found in {repeated, b"PK\7\10" + repeated}:
                    return len(found)
        raise _refused("a file is not followed by its sizes", _shown(member.name))


class _Stream(io.RawIOBase):
    """Chunks of a file, to be read like a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._held = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._held:
            self._held = memoryview(next(self._chunks, b""))
        taken = self._held[: len(buffer)]
        buffer[: len(taken)] = taken
        self._held = self._held[len(taken) :]
        return len(taken)


_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _DESCRIBED_BEHIND = 1, 8
_CHUNK = 1 << 18
_MAX_FILES = 1_000_000
_MAX_NAME = 255
_MANY, _MUCH = 0xFFFF, 0xFFFFFFFF
_NO_ZIP = "the zip is cut short, damaged or no zip at all"
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR_64 = struct.Struct("<4sIQI")


def _refused(why: str, name: str | None = None) -> _BadFileError:
    return _BadFileError("unexpected", name and ascii(name)[1:-1], _TWO_READINGS + why)


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _directory(file: IO[bytes]) -> list[_Member]:
    """Read the directory of a zip; behind its files stands one that marks where it begins."""
    start, size, count = _find_directory(file)
    if count > _MAX_FILES:
        raise _BadFileError("unexpected", None, f"a zip of more than {_MAX_FILES} files")
    file.seek(start)
    members, at = [], 0
    for _ in range(count):
        entry = _CENTRAL.unpack(file.read(_CENTRAL.size))
        sign, _, _, flags, method, _, _, crc, packed, plain, named, extra, told = entry[:13]
        name, more, _ = file.read(named), file.read(extra), file.read(told)
        if sign != b"PK\1\2":
            raise _BadFileError("unreadable", None, _NO_ZIP)
        attributes, header = entry[-2:]
        packed, plain, header = _sizes(more, packed, plain, header)
        _require_name(name, folder_of=plain)
        if stat.S_ISLNK(attributes >> 16):
            raise _refused("a file is a link for some", _shown(name))
        members.append(_Member(header, 0, packed, plain, crc, method, flags, name))
        at += _CENTRAL.size + named + extra + told
    if at != size:
        raise _refused("its directory is not as long as it says")
    return [*members, _Member(start, 0, 0, 0, 0, 0, 0, b"")]


def _find_directory(file: IO[bytes]) -> tuple[int, int, int]:
    """Give place, length and number of entries of the directory, from what ends the zip."""
    length = file.seek(0, os.SEEK_END)
    most = min(length, _MANY + _END.size)
    file.seek(length - most)
    tail = file.read(most)
    if tail.rfind(b"PK\5\6", 0, max(0, most - _END.size + 4)) < 0:
        raise _BadFileError("unreadable", None, _NO_ZIP)
    sign, *disks, here, count, size, start, comment = _END.unpack(tail[-_END.size :])
    if sign != b"PK\5\6" or comment:
        raise _refused("there is data behind its end")
    told: tuple[int, ...] = (*disks, here, count, size, start)
    end = length - _END.size
    larger = tail[: -_END.size][-_LOCATOR_64.size :]
    if larger.startswith(b"PK\6\7"):
        end -= _LOCATOR_64.size + _END_64.size
        file.seek(max(0, end))
        sign, _, _, _, *all_told = _END_64.unpack(file.read(_END_64.size))
        most_told = (_MANY, _MANY, _MANY, _MANY, _MUCH, _MUCH)
        fits = zip(told, all_told, most_told, strict=True)
        if not all(short in {long, most} for short, long, most in fits):
            raise _refused("its two ends differ")
        if sign != b"PK\6\6" or _LOCATOR_64.unpack(larger)[1:] != (0, end, 1):
            raise _refused("its second end is not where it should be")
        *disks, here, count, size, start = all_told
    if any(disks) or here != count or start + size != end:
        raise _refused("there is data before or around its directory")
    return start, size, count


def _sizes(extra: bytes, packed: int, size: int, header: int) -> tuple[int, int, int]:
    """Take sizes and place that are too large for a header from the field made for them."""
    at, seen = 0, set()
    while at < len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        data = extra[at + 4 : at + 4 + length]
        if len(data) != length or kind in seen or kind == _OTHER_NAME:
            raise _refused("a file has two names, or fields that do not end")
        if kind == _LARGE:
            values = [value for (value,) in struct.iter_unpack("<Q", data[: len(data) // 8 * 8])]
            size = values.pop(0) if size == _MUCH and values else size
            packed = values.pop(0) if packed == _MUCH and values else packed
            header = values.pop(0) if header == _MUCH and values else header
        seen.add(kind)
        at += 4 + length
    return packed, size, header


_LARGE, _OTHER_NAME = 0x0001, 0x7075
_NO_NAME = bytes(range(32)) + b"\\:\x7f"


def _require_name(name: bytes, *, folder_of: int) -> None:
    """Refuse a name that means another file to other programs, or one outside the bundle."""
    parts = name.removesuffix(b"/").split(b"/")
    strays = any(part in {b"", b".", b".."} for part in parts)
    if strays or len(name) > _MAX_NAME or any(one in _NO_NAME for one in name):
        raise _refused("the name of a file is no plain path", _shown(name[:_MAX_NAME]))
    if name.endswith(b"/") and folder_of:
        raise _refused("a folder has content", _shown(name))


def _open_bundle(path: Path) -> AbstractContextManager[_Files]:
    if path.is_dir():
        return closing(_Folder(path))
    if not path.exists():
        raise _BadFileError("missing", None, "there is no such bundle")
    return closing(_Zip(path))


def _read(files: _Files, name: str, limit: int) -> bytes:
    """Read a whole file of at most `limit` bytes, so that no bundle can fill the memory."""
    data = files.read(name, limit)
    if len(data) > limit:
        raise _BadFileError("unexpected", name, f"the file is longer than {limit} bytes")
    return data


# --- the checks, in order ---


def _read_checkpoint(
    files: _Files, key: _Key, witnesses: Sequence[_Key], findings: _Findings
) -> _Head | None:
    """Read the head. Checks go on under a wrong signature: the report is to say what fits what."""
    try:
        note = _parse_note(_read(files, "checkpoint", MAX_NOTE_BYTES))
        head = _parse_head(note.text)
    except _BadFileError as error:
        findings.add_error(error)
        return None
    except _NoteError as error:
        findings.add("checkpoint", f"malformed: {error}", path="checkpoint")
        return None
    problem = note.problem(key)
    if problem is not None:
        findings.add("signature", problem, path="checkpoint")
    if head.origin != key.name:
        detail = f"it is of the log {head.origin!a}, the key is of {key.name}"
        findings.add("origin", detail, path="checkpoint")
    for witness in witnesses:
        problem = note.problem(witness)
        if problem is not None:
            findings.add("witness", problem, path="checkpoint", ring="witness")
    return head


class _Old(NamedTuple):
    """An older checkpoint, and which ring of evidence it is."""

    head: _Head
    ring: str


class _Rotation(NamedTuple):
    """One replacement of the log's key: the head that both keys signed, and the event under it."""

    path: str
    note: _Note
    head: _Head
    old: _Key
    new: _Key


class _Succession:
    """The keys that the log was signed with in turn, as a bundle tells of them.

    A key that comes along is believed only by a chain from the key given: each overlap checkpoint
    is signed by the key before and the key after it, is a head of this very tree, and its last
    event names both. What does not hold is a finding, so a report that is `ok` was led by none but
    keys that the given one vouches for, or that vouch for it.
    """

    def __init__(self, key: _Key) -> None:
        self._given = key
        self._rotations: list[_Rotation] = []
        self._told: dict[int, tuple[object, object]] = {}
        self.files: set[str] = set()

    @property
    def chain(self) -> list[_Key]:
        """The keys in turn; the given one alone where the bundle tells of no rotation."""
        if not self._rotations:
            return [self._given]
        return [self._rotations[0].old, *(each.new for each in self._rotations)]

    @property
    def last(self) -> _Key:
        """The key that must have signed the head of the bundle."""
        return self.chain[-1]

    def read(self, files: _Files, findings: _Findings) -> None:
        """Read the rotations of a bundle; one that does not hold ends the chain with a finding."""
        named = [match for name in files.names() if (match := _ROTATION_FILE.fullmatch(name))]
        count = max((int(match[1]) for match in named), default=0)
        self.files = {match[0] for match in named}
        for n in range(1, count + 1):
            path = f"rotation/{n}/checkpoint"
            try:
                rotation = self._one(files, n)
            except _BadFileError as error:
                findings.add_error(error)
                break
            except (_NoteError, BadKeyError) as error:
                findings.add("rotation", str(error), path=path)
                break
            self._rotations.append(rotation)
        if self._given not in self.chain:
            detail = f"it does not lead from or to the key given, {self._given}"
            findings.add("rotation", detail, path="rotation/1/keys")
            self._rotations = []

    def _one(self, files: _Files, n: int) -> _Rotation:
        path = f"rotation/{n}/checkpoint"
        note = _parse_note(_read(files, path, MAX_NOTE_BYTES))
        head = _parse_head(note.text)
        try:
            texts = _read(files, f"rotation/{n}/keys", _MAX_KEYS_BYTES).decode("ascii").split("\n")
        except UnicodeDecodeError as error:
            raise _NoteError("its keys are no verifier keys") from error
        if len(texts) != 3 or texts[2]:  # noqa: PLR2004 (two lines, each ended)
            raise _NoteError("its keys are not two lines")
        old, new = _Key.parse(texts[0]), _Key.parse(texts[1])
        for key in (old, new):
            problem = note.problem(key)
            if problem is not None:
                raise _NoteError(problem)
            if (key.name, key.kind) != (head.origin, _NOTE_TYPE):
                raise _NoteError("its keys are not those of a log of that name")
        if self._rotations and old != self._rotations[-1].new:
            raise _NoteError("the key that it ends is not the one that the rotation before began")
        if self._rotations and head.size <= self._rotations[-1].head.size:
            raise _NoteError("it does not come after the rotation before")
        return _Rotation(path, note, head, old, new)

    def overlaps(self, head: _Head, findings: _Findings) -> list["_Old"]:
        """Give the overlap checkpoints, of which the log must be a continuation each."""
        for each in self._rotations:
            if each.head.size > head.size or each.head.origin != head.origin or not each.head.size:
                detail = f"no log of {head.size} events tells of a rotation at {each.head.size}"
                findings.add("rotation", detail, path=each.path)
        return [_Old(one.head, "tree") for one in self._rotations if one.head.size <= head.size]

    def problem(self, note: _Note, size: int) -> str | None:
        """Say why no key that was the log's at a size has signed a note, if none has."""
        first: str | None = None
        ends = [*(each.head.size for each in self._rotations), size]
        for key, end in [*zip(self.chain, ends, strict=True)][::-1]:
            problem = note.problem(key)
            if problem is None and size <= end:
                return None
            if problem is None:
                return f"{key} signed it, whose time ended with event {end - 1}"
            first = first or problem
        return first

    def hear(self, index: int, entry: bytes) -> None:
        """Note which keys an event of a rotation names, if it is one."""
        try:
            said = json.loads(entry)
            if said["action"] == "audit.key_rotated":
                self._told[index] = said["resource"], said["before"]["log_key"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return

    def settle(self, head: _Head, findings: _Findings) -> None:
        """Hold the rotations against the events that tell of them, and the last key against all."""
        for each in self._rotations:
            index = each.head.size - 1
            named = f"sha256:{each.new.digest}", each.old.digest[:32]
            if self._told.get(index) != named:
                detail = "the last event under it does not name the keys that it goes from and to"
                findings.add("rotation", detail, index=index, path=each.path)
        for index, (_, ended) in sorted(self._told.items()):
            if ended == self.last.digest[:32] and index < head.size:
                detail = f"this event ends the time of {self.last}, which signed the head after it"
                findings.add("rotation", detail, index=index, path="checkpoint")


def _read_old(
    texts: Sequence[str],
    keys: _Succession,
    witnesses: Sequence[_Key],
    head: _Head,
    findings: _Findings,
) -> list[_Old]:
    """Read the older checkpoints that this log may be compared with, the shortest first."""
    kept: list[_Old] = []
    for text in texts:
        try:
            note = _parse_note(text.encode())
            old = _parse_head(note.text)
        except _NoteError as error:
            findings.add("old-checkpoint", f"malformed: {error}", ring="anchor")
            continue
        witnessed = any(note.problem(witness) is None for witness in witnesses)
        ring = "witness" if witnessed else "anchor"
        problem = keys.problem(note, old.size)
        if problem is not None:
            findings.add("old-checkpoint", problem, ring=ring)
        elif old.origin != head.origin:
            findings.add("old-checkpoint", f"it is of another log: {old.origin!a}", ring=ring)
        elif old.size > head.size:
            detail = (
                f"the older checkpoint counts {old.size} events, this one {head.size}: "
                f"{old.size - head.size} events are gone from the end"
            )
            findings.add("rollback", detail, index=head.size, ring=ring)
        else:
            kept.append(_Old(old, ring))
    return sorted(kept, key=lambda one: one.head.size)


def _check_names(
    files: _Files, size: int, others: set[str], findings: _Findings
) -> tuple[str, ...]:
    """Refuse tiles that a log of this size has not got; list the files nothing vouches for."""
    unchecked: list[str] = []
    for name in files.names():
        if not name.startswith("tile/"):
            if name.startswith("manifests/"):
                continue
            if name not in {"checkpoint", _EVENTS, *others} and len(unchecked) < MAX_FINDINGS:
                unchecked.append(ascii(name)[1:-1])
            continue
        match = re.fullmatch(r"tile/(entries|[0-9]{1,2})/([x0-9/]{3,40})(\.p/[0-9]{1,3})?", name)
        if match is not None:
            level = 0 if match[1] == "entries" else int(match[1])
            kind = match[1] if match[1] == "entries" else str(level)
            n = int(re.sub("[x/]", "", match[2]) or "0")
            width = _width(size, level, n)
            if width and name == _path(kind, n, width):
                continue
        findings.add("unexpected", f"no such file in a log of {size}", path=ascii(name)[1:-1])
    return tuple(sorted(unchecked))


class _Events:
    """The lines of events.ndjson, read along with the entries that they must equal."""

    def __init__(self, files: _Files, findings: _Findings) -> None:
        self._findings = findings
        self._ahead = b""
        self.reached = 0
        self._lines: IO[bytes] | None = None
        try:
            self._lines = files.open(_EVENTS)
        except _BadFileError as error:
            findings.add_error(error)

    def compare(self, start: int, entries: list[bytes]) -> None:
        """Compare the next lines with these entries, the first of which has index `start`."""
        lines = [b'{"index":%d,"event":%b}\n' % line for line in enumerate(entries, start)]
        expected = b"".join(lines)
        if any(b"\n" in entry for entry in entries):
            at = next(at for at, entry in enumerate(entries) if b"\n" in entry)
            self._give_up("events", "the entry is more than one line; not read further", start + at)
            return
        found = self._read(len(expected), start)
        if found is not None and found != expected:
            theirs = found.splitlines(keepends=True)
            good = next((at for at, line in enumerate(theirs) if line != lines[at]), len(theirs))
            detail = "the line is not the entry of this index; not read further"
            self._give_up("events", detail, start + good)

    def skip(self, start: int, count: int) -> None:
        """Pass over as many lines, whose entries cannot be had."""
        for _ in range(count):
            self._line(start)

    def take(self, start: int, count: int) -> _Hashes | None:
        """Give the entries of these lines where there is no bundle, and None for those gone.

        None for all of them when there are no lines to be had.
        """
        found: _Hashes = [None] * count
        at = start
        while line := self._line(at):
            match = _LINE.fullmatch(line)
            index = int(match[1]) if match else -1
            if match is None or index < at:
                self._give_up("events", "it is no line of a later event; not read further", at)
                self.reached = at
                break
            if index >= start + count:
                self._ahead = line
                break
            found[index - start] = match[2]
            at = index + 1
        return None if self._lines is None else found

    def compare_end(self, size: int) -> None:
        """Find that nothing follows the last line; reading up to there checks a zip's sum, too."""
        if self._read(1, None):
            self._give_up("events", f"it goes on after the {size} events of the log", size)

    def close(self) -> None:
        self._ahead = b""
        if self._lines is not None:
            self._lines.close()
            self._lines = None

    def _line(self, index: int) -> bytes:
        try:
            if self._lines is not None and not self._ahead:
                return self._lines.readline(_MAX_LINE)
        except _DAMAGE:
            self._give_up("unreadable", _DAMAGED, index)
        line, self._ahead = self._ahead, b""
        return line

    def _read(self, count: int, index: int | None) -> bytes | None:
        try:
            if self._lines is None:
                return None
            ahead, self._ahead = self._ahead[:count], self._ahead[count:]
            return ahead + self._lines.read(count - len(ahead))
        except _DAMAGE:
            self._give_up("unreadable", _DAMAGED, index)
            return None

    def _give_up(self, code: str, detail: str, index: int | None) -> None:
        self.close()
        self._findings.add(code, detail, index=index, path=_EVENTS)


_MANY_RUNS = 10_000


class _Gone:
    """Events that are not in the bundle, and what the log itself says of deletions by rule.

    Told at the end of the walk: an event `retention.pruned` stands behind what it speaks of.
    """

    def __init__(self) -> None:
        self.pruned = 0
        self._bundles: list[tuple[int, int]] = []
        self._runs: list[_Run] = []
        self._named: list[_Run] = []
        self._most = _MANY_RUNS

    def lacks(self, n: int, entries: _Hashes) -> None:
        """Note an entry bundle that is not there, with what the lines have of it."""
        self._bundles.append((n, len(entries)))
        for index, entry in enumerate(entries, n * _WIDTH):
            if entry is None and self._runs and self._runs[-1][1] + 1 == index:
                self._runs[-1] = self._runs[-1][0], index
            elif entry is None:
                self._runs.append((index, index))

    def hear(self, index: int, entry: bytes) -> None:
        """Note what an event says of deletions, if it is one that does; only of what is before."""
        try:
            said = json.loads(entry)
            if said["action"] != "retention.pruned":
                return
            pruned = said["pruned"]
            first, last, kept = pruned["first"], pruned["last"], pruned.get("except", [])
            bounds = [first - 1, *(each for one in kept for each in one), last + 1]
            runs = [(a + 1, b - 1) for a, b in zip(bounds[::2], bounds[1::2], strict=True)]
            whole = all(type(each) is int for each in (said["count"], *bounds))
            gaps = whole and all(a <= b for a, b in kept)
            counted = sum(b - a + 1 for a, b in runs) == said["count"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return
        if counted and gaps and 0 <= first <= last < index and all(a <= b for a, b in runs):
            self._named += [run for run in runs if _first_within(self._runs, *run) is not None]
            if len(self._named) > self._most:
                self._named = _joined(self._named)
                self._most = _MANY_RUNS + 2 * len(self._named)

    def settle(self, findings: _Findings) -> None:
        """Count what was deleted by rule, and find missing whatever else is not there."""
        left = _less(self._runs, _joined(self._named))
        self.pruned = sum(b - a + 1 for a, b in self._runs) - sum(b - a + 1 for a, b in left)
        for n, width in self._bundles:
            first, last = n * _WIDTH, n * _WIDTH + width - 1
            path = _path("entries", n, width)
            stray = _first_within(left, first, last)
            if _first_within(self._runs, first, last) is None:
                findings.add("missing", "the file is missing", index=first, path=path)
            elif stray is not None:
                detail = "the event is missing, and no retention.pruned event of this log names it"
                findings.add("missing", detail, index=stray, path=path)


class _Manifests:
    """The rows of events that tell of many members, each file against the root its event names."""

    def __init__(self, files: _Files, size: int, findings: _Findings) -> None:
        self._files, self._findings = files, findings
        self._left: set[int] = set()
        for name in files.names():
            if name.startswith("manifests/"):
                match = re.fullmatch(r"manifests/([0-9]{12,19})\.rows", name)
                index = int(match[1]) if match else size
                if index < size and name == self._path(index):
                    self._left.add(index)
                else:
                    detail = f"no such file in a log of {size}"
                    findings.add("unexpected", detail, path=ascii(name)[1:-1])

    @staticmethod
    def _path(index: int) -> str:
        return f"manifests/{index:012}.rows"

    def check(self, index: int, entry: bytes) -> None:
        """Compute the root over the rows of an event, if it names one."""
        try:
            event = json.loads(entry)
            said = event["manifest"]
            rows, root = said["rows"], bytes.fromhex(said["root"])
            fields = event.get("fields", [])
            sound = set(said) == {"rows", "root"} and event["count"] == rows and len(root) == _HASH
            sound = sound and type(rows) is int and 0 < rows <= _MAX_ROWS and "subject" not in event
            code = max(1, -(-len(fields) // 4))
        except (ValueError, KeyError, TypeError, RecursionError):
            sound, rows, root, fields, code = False, 0, b"", [], 0
        if not sound:
            self._findings.add("manifest", "the event names its rows in no known way", index=index)
            return
        path = self._path(index)
        self._left.discard(index)
        try:
            data = _read(self._files, path, _MAX_ENTRY)
        except _BadFileError as error:
            self._findings.add_error(error, index)
            return
        lines = data.split(b"\n")
        problem = None
        if lines.pop() != b"":
            problem = "it ends within a row"
        elif len(lines) != rows:
            problem = f"it holds {len(lines)} rows instead of {rows}"
        else:
            shape = re.compile(rb"[0-9a-f]{32} [0-9a-f]{%d}" % code)
            known = (shape.fullmatch(line) for line in lines)
            strays = (at for at, fits in enumerate(known) if fits is None)
            stray = next(strays, None)
            if _fold([_leaf_hash(line) for line in lines]) != root:
                problem = "its rows do not lead to the root that the event names"
            elif stray is not None or any(int(line[33:], 16) >> len(fields) for line in lines):
                problem = f"row {stray or 0} is not of the format"
            elif any(a[:32] >= b[:32] for a, b in pairwise(lines)):
                problem = "its rows are not in order, or a member stands in it twice"
        if problem is not None:
            self._findings.add("manifest", problem, index=index, path=path)

    def settle(self) -> None:
        """Refuse rows for which no event that is there has a place."""
        for index in sorted(self._left):
            detail = "no event at this place names these rows"
            self._findings.add("unexpected", detail, index=index, path=self._path(index))


def _joined(runs: list[_Run]) -> list[_Run]:
    """Join runs that touch or overlap."""
    joined: list[_Run] = []
    for first, last in sorted(runs):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(last, joined[-1][1])
        else:
            joined.append((first, last))
    return joined


def _less(runs: list[_Run], taken: list[_Run]) -> list[_Run]:
    """Give what is left of runs when others are taken away; both sorted and apart."""
    left: list[_Run] = []
    at = 0
    for first, last in runs:
        while at < len(taken) and taken[at][1] < first:
            at += 1
        begin, near = first, at
        while near < len(taken) and taken[near][0] <= last:
            if taken[near][0] > begin:
                left.append((begin, taken[near][0] - 1))
            begin = taken[near][1] + 1
            near += 1
        if begin <= last:
            left.append((begin, last))
    return left


def _first_within(runs: list[_Run], first: int, last: int) -> int | None:
    """Give the first index between two, both included, that lies in one of the sorted runs."""
    at = bisect_left(runs, first, key=lambda run: run[1])
    if at == len(runs) or runs[at][0] > last:
        return None
    return max(first, runs[at][0])


class _Walk:
    """One pass over the entries from first to last, building the tree upon them as it goes.

    `levels[k]` holds the hashes of the tile of level k that is being filled; `None` stands for
    one that cannot be known as files are missing.
    """

    def __init__(
        self,
        files: _Files,
        head: _Head,
        findings: _Findings,
        gone: _Gone,
        told: tuple["_Manifests", _Succession],
    ) -> None:
        self._files, self._head, self._findings, self._gone = files, head, findings, gone
        self._manifests, self._keys = told
        self._levels: list[_Hashes] = [[]]
        self._same = 0
        self._forked: set[str] = set()

    def run(self, kept: Sequence[_Old], events: _Events) -> None:
        size = self._head.size
        older = [*reversed(kept)]
        for start in range(0, size, _WIDTH):
            n, width = start // _WIDTH, min(_WIDTH, size - start)
            hashes = self._settle(0, n, self._leaves(n, width, events))
            while older and older[-1].head.size < start + width:
                old = older.pop()
                self._compare_with_old(old, hashes[: old.head.size - start])
            self._levels[0] = hashes
            if width == _WIDTH:
                self._hand_up(0, n)
        for level in range(1, len(self._levels)):
            if self._levels[level]:
                n = size >> 8 * (level + 1)
                self._levels[level] = self._settle(level, n, self._levels[level])
        for old in reversed(older):
            self._compare_with_old(old, self._levels[0])
        events.compare_end(size)
        self._gone.settle(self._findings)
        self._manifests.settle()
        self._check_root()

    def _hand_up(self, level: int, n: int) -> None:
        """Add the root of a full tile to the tile above; settle that one when it is full too."""
        if level + 1 == len(self._levels):
            self._levels.append([])
        above = [*self._levels[level + 1], _root_of(self._levels[level])]
        self._levels[level] = []
        self._levels[level + 1] = above
        if len(above) == _WIDTH:
            self._levels[level + 1] = self._settle(level + 1, n // _WIDTH, above)
            self._hand_up(level + 1, n // _WIDTH)

    def _leaves(self, n: int, width: int, events: _Events) -> _Hashes:
        """Hash the entries of bundle `n`, or what the lines have of them where there is none."""
        start = n * _WIDTH
        path = _path("entries", n, width)
        try:
            data = _read(self._files, path, width * (2 + _MAX_ENTRY))
        except _BadFileError as error:
            found = events.take(start, width) if error.code == "missing" else None
            if found is None:
                self._findings.add_error(error, max(start, events.reached))
                if error.code != "missing":
                    events.skip(start, width)
                return [None] * width
            self._gone.lacks(n, found)
            self._hear(start, found)
            return [None if entry is None else _leaf_hash(entry) for entry in found]
        entries = self._entries(n, width, data)
        if entries is None:
            events.skip(start, width)
            return [None] * width
        events.compare(start, entries)
        # `action` sorts before all other members; `rfind` is the quicker way to find nothing.
        telling = any(entry.startswith((_PRUNED, _ROTATED)) for entry in entries)
        if telling or data.rfind(_MANIFEST) >= 0:
            self._hear(start, entries)
        return [sha256(b"\x00" + entry).digest() for entry in entries]

    def _hear(self, start: int, entries: Sequence[bytes | None]) -> None:
        for index, entry in enumerate(entries, start):
            if entry is None:
                continue
            if entry.startswith(_PRUNED):
                self._gone.hear(index, entry)
            if entry.startswith(_ROTATED):
                self._keys.hear(index, entry)
            if _MANIFEST in entry:
                self._manifests.check(index, entry)

    def _entries(self, n: int, width: int, data: bytes) -> list[bytes] | None:
        """Cut entry bundle `n`; `None`, with a finding, when it does not hold its entries."""
        path = _path("entries", n, width)
        entries: list[bytes] = []
        at, end = 0, len(data)
        while at + 1 < end:
            start = at + 2
            at = start + (data[at] << 8 | data[at + 1])
            entries.append(data[start:at])
        if at == end - 1:
            entries.append(b"")
        if at != end:
            detail = f"it ends within entry {len(entries) - 1} of {width}"
        elif len(entries) != width:
            detail = f"it holds {len(entries)} entries instead of {width}"
        else:
            return entries
        tile: _Hashes = []
        with suppress(_BadFileError):
            tile = self._tile(0, n, width)
        pairs = zip(entries, tile, strict=False)
        strays = (at for at, (entry, leaf) in enumerate(pairs) if _leaf_hash(entry) != leaf)
        index = n * _WIDTH + next(strays, min(len(entries), width))
        self._findings.add("bundle", detail, index=index, path=path)
        return None

    def _tile(self, level: int, n: int, width: int) -> _Hashes:
        return _cut(self._tile_bytes(level, n, width))

    def _tile_bytes(self, level: int, n: int, width: int) -> bytes:
        path = _path(str(level), n, width)
        data = _read(self._files, path, 2 * _WIDTH * _HASH)
        if len(data) != width * _HASH:
            detail = f"it holds {len(data)} bytes instead of {width * _HASH}"
            raise _BadFileError("tile", path, detail)
        return data

    def _settle(self, level: int, n: int, computed: _Hashes) -> _Hashes:
        """Compare a stored tile with what lies below it, blame one of them, go on with the other.

        The arbiter is the tile above or, at the right edge of the tree, the root in the
        checkpoint.
        """
        width = len(computed)
        try:
            data = self._tile_bytes(level, n, width)
        except _BadFileError as error:
            self._findings.add_error(error, n << 8 * (level + 1))
            return computed
        if data == b"".join([each or b"" for each in computed]):
            return computed
        stored = _cut(data)
        computed = [mine or theirs for mine, theirs in zip(computed, stored, strict=True)]
        strays = [n * _WIDTH + at for at in range(width) if computed[at] != stored[at]]
        path = _path(str(level), n, width)
        if strays and self._fits_above(level, n, stored):
            self._blame_below(level, strays, path)
            return stored
        if strays:
            detail = f"{len(strays)} of its {width} hashes are not those of what lies below"
            if self._fits_above(level, n, computed):
                detail += ", which fits what lies above: this tile was changed"
            else:
                detail += ", and neither fits what lies above: more than one thing was changed"
            self._findings.add("tile", detail, index=strays[0] << 8 * level, path=path)
        return computed

    def _fits_above(self, level: int, n: int, hashes: _Hashes) -> bool:
        if len(hashes) < _WIDTH:
            below, above = self._levels[:level], self._levels[level + 1 :]
            return _edge_root([*below, hashes, *above]) == self._head.root
        parent_n, at = divmod(n, _WIDTH)
        parent: _Hashes = []
        with suppress(_BadFileError):
            parent = self._tile(level + 1, parent_n, _width(self._head.size, level + 1, parent_n))
        return parent[at : at + 1] == [_root_of(hashes)]

    def _blame_below(self, level: int, strays: list[int], path: str) -> None:
        if level == 0:
            n = strays[0] // _WIDTH
            detail = f"it does not hash to its leaf in {path}"
            if len(strays) > 1:
                detail += f"; nor do {len(strays) - 1} others of its bundle"
            bundle = _path("entries", n, _width(self._head.size, 0, n))
            self._findings.add("entry", detail, index=strays[0], path=bundle)
            return
        for n in strays:
            events = range(n << 8 * level, n + 1 << 8 * level)
            if not any(f.index in events and f.path != _EVENTS for f in self._findings.items):
                detail = f"one of the events {events[0]} to {events[-1]} was changed, and every "
                detail += f"tile above it up to this one; {path} still knows the true hash"
                child = _path(str(level - 1), n, _WIDTH)
                self._findings.add("rewritten", detail, index=events[0], path=child)

    def _check_root(self) -> None:
        root = _edge_root(self._levels)
        if root is not None and root != self._head.root:
            detail = f"the events lead to the root {base64.b64encode(root).decode()}"
            self._findings.add("root", f"{detail}, not to that in it", path="checkpoint")

    def _compare_with_old(self, old: _Old, lowest: _Hashes) -> None:
        root = _edge_root([lowest, *self._levels[1:]])
        if root is None:
            detail = "not compared, as files before its size are missing"
            self._findings.add("old-checkpoint", detail, ring=old.ring)
        elif root == old.head.root:
            self._same = old.head.size
        elif old.ring not in self._forked:
            self._forked.add(old.ring)
            detail = f"the first {old.head.size} events are not those of the older checkpoint"
            if self._same:
                detail += f", the first {self._same} are those of an older one"
            detail += ": history was changed"
            self._findings.add("fork", detail, index=self._same, ring=old.ring)


def _cut(tile: bytes) -> _Hashes:
    return [tile[at : at + _HASH] for at in range(0, len(tile), _HASH)]


def _root_of(hashes: _Hashes) -> bytes | None:
    known = [each for each in hashes if each is not None]
    return _fold(known) if len(known) == len(hashes) else None


def _edge_root(levels: Sequence[_Hashes]) -> bytes | None:
    """Give the root of a tree from the hashes of its unfinished tiles, lowest first."""
    edge: _Hashes = []
    for hashes in levels:
        if hashes:
            edge = [_root_of([*hashes, *edge])]
    return edge[0] if edge else _fold(())


if __name__ == "__main__":
    sys.exit(main())
