"""Signed notes and checkpoints: how the log puts its name under a tree.

A checkpoint (c2sp.org/tlog-checkpoint) is a three-line text, signed as a note
(c2sp.org/signed-note). Whoever holds the verifier key can tell a tree that this log vouched
for from one that somebody else would like it to have vouched for; parsing is strict so that
one signature never covers two readings.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from audit.errors import NoteError
from audit.merkle import HASH_SIZE

ED25519 = 0x01
COSIGNATURE_V1 = 0x04

MAX_NOTE_BYTES = 1_000_000
MAX_SIGNATURES = 100
MAX_SIZE = 2**63 - 1
_KEY_ID_BYTES = 4
_ED25519_KEY_BYTES = 32
_TIMESTAMP_BYTES = 8
_DECIMAL = re.compile("0|[1-9][0-9]{0,18}")
_DASH = "\u2014 "


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of the log: its origin, the number of leaves and their root hash.

    Extension lines are neither written nor read: the specification advises against them, as
    no monitor can audit them.
    """

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        if not self.origin or any(ord(letter) < ord(" ") for letter in self.origin):
            raise NoteError("the origin of a checkpoint is one line of text")
        if not 0 <= self.size <= MAX_SIZE:
            raise NoteError("the size of a checkpoint is out of range")
        if len(self.root) != HASH_SIZE:
            raise NoteError("the root hash of a checkpoint is not 32 bytes long")

    def body(self) -> str:
        """Give the note text: origin, size and base64 root, a line each."""
        return f"{self.origin}\n{self.size}\n{_base64(self.root)}\n"

    @classmethod
    def parse(cls, body: str) -> Self:
        """Read a note text; `NoteError` unless `body()` would write the very same text."""
        match body.split("\n"):
            case [origin, size, root, ""]:
                if not _DECIMAL.fullmatch(size):
                    raise NoteError("the size of a checkpoint is not a plain decimal number")
                return cls(origin, int(size), _unbase64(root, "the root hash"))
            case _:
                raise NoteError("a checkpoint has exactly three lines: origin, size and root hash")


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key under a name, as it is written in a verifier key text.

    Understands Ed25519 note signatures (type 0x01) and Ed25519 witness cosignatures (type
    0x04, c2sp.org/tlog-cosignature).
    """

    name: str
    kind: int
    public: bytes

    def __post_init__(self) -> None:
        _require_name(self.name)
        if self.kind not in {ED25519, COSIGNATURE_V1}:
            raise NoteError("the verifier key is of a type that is not understood here")
        if len(self.public) != _ED25519_KEY_BYTES:
            raise NoteError("the verifier key does not hold a 32-byte Ed25519 key")

    @classmethod
    def from_vkey(cls, text: str) -> Self:
        """Read `<name>+<key id>+<base64(type || key)>`, spaces and newlines around it aside.

        `NoteError` when the key id (8 hexadecimal digits) is not that of name, type and key.
        """
        name, _, rest = text.strip().partition("+")
        key_id, _, material = rest.partition("+")
        key = _unbase64(material, "the verifier key")
        verifier = cls(name, key[0], key[1:])
        if key_id != verifier.key_id.hex():
            raise NoteError("the key id in the verifier key is not that of its name and key")
        return verifier

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that, with the name, tell which key made a signature."""
        return sha256(f"{self.name}\n".encode() + bytes([self.kind]) + self.public).digest()[
            :_KEY_ID_BYTES
        ]

    @property
    def vkey(self) -> str:
        """The verifier key text, which is what a verifier is to be given out of band."""
        return f"{self.name}+{self.key_id.hex()}+{_base64(bytes([self.kind]) + self.public)}"

    def accepts(self, text: str, signature: bytes) -> bool:
        """Say whether `signature` (without its key id) is this key's over the note text."""
        message = text.encode()
        if self.kind == COSIGNATURE_V1:
            message = _cosigned(text, int.from_bytes(signature[:_TIMESTAMP_BYTES]))
            signature = signature[_TIMESTAMP_BYTES:]
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class Signer:
    """A private Ed25519 key under a name. It never shows its key, not even in a traceback."""

    verifier: Verifier
    _private: Ed25519PrivateKey

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> Self:
        """Make a signer from 32 secret bytes (RFC 8032 section 5.1.5)."""
        if len(seed) != _ED25519_KEY_BYTES:
            raise NoteError("the seed of a signing key is 32 bytes long")
        private = Ed25519PrivateKey.from_private_bytes(seed)
        return cls(Verifier(name, ED25519, private.public_key().public_bytes_raw()), private)

    @property
    def name(self) -> str:
        """The key name, which for a log is the origin of its checkpoints."""
        return self.verifier.name

    @property
    def vkey(self) -> str:
        """The verifier key text to publish."""
        return self.verifier.vkey

    def under(self, name: str) -> Self:
        """Give the same key under another name, which makes another verifier key of it."""
        return type(self)(Verifier(name, ED25519, self.verifier.public), self._private)

    def sign(self, text: str) -> str:
        """Give the signature line for a note text, its newline included."""
        signature = self.verifier.key_id + self._private.sign(text.encode())
        return f"{_DASH}{self.name} {_base64(signature)}\n"


@dataclass(frozen=True, slots=True)
class Cosigner:
    """A witness's private Ed25519 key under its name (c2sp.org/tlog-cosignature, type 0x04)."""

    verifier: Verifier
    _private: Ed25519PrivateKey

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> Self:
        """Make a cosigner from 32 secret bytes (RFC 8032 section 5.1.5)."""
        if len(seed) != _ED25519_KEY_BYTES:
            raise NoteError("the seed of a cosigning key is 32 bytes long")
        private = Ed25519PrivateKey.from_private_bytes(seed)
        public = private.public_key().public_bytes_raw()
        return cls(Verifier(name, COSIGNATURE_V1, public), private)

    @property
    def vkey(self) -> str:
        """The verifier key text to publish."""
        return self.verifier.vkey

    def cosign(self, text: str, seconds: int) -> str:
        """Give the signature line that says: at this POSIX time, this was the largest tree seen."""
        signature = self._private.sign(_cosigned(text, seconds))
        stamped = self.verifier.key_id + seconds.to_bytes(_TIMESTAMP_BYTES) + signature
        return f"{_DASH}{self.verifier.name} {_base64(stamped)}\n"


@dataclass(frozen=True, slots=True)
class OpenNote:
    """A note whose text may be trusted, and the verifiers whose signatures were checked."""

    text: str
    signed_by: tuple[Verifier, ...]


def sign_note(text: str, *signers: Signer) -> str:
    """Put a note text and its signatures together; the text must end in a newline."""
    if not signers:
        raise NoteError("a note needs a signature")
    _require_note_text(text)
    return f"{text}\n" + "".join(signer.sign(text) for signer in signers)


def sign_checkpoint(checkpoint: Checkpoint, *signers: Signer) -> str:
    """Sign a checkpoint; each signer's name must be the checkpoint's origin."""
    if any(signer.name != checkpoint.origin for signer in signers):
        raise NoteError("a log signs with the key that bears the name of its origin")
    return sign_note(checkpoint.body(), *signers)


def open_note(note: str, verifiers: Iterable[Verifier]) -> OpenNote:
    """Check the signatures of a note and hand out its text.

    Signatures by unknown keys are ignored, as the specification demands. `NoteError` when the
    note is malformed, when a known key's signature is wrong, or when no known key signed.
    """
    text, signatures = split_note(note)
    known = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
    signed_by: list[Verifier] = []
    for name, key_id, signature in signatures:
        verifier = known.get((name, key_id))
        if verifier is None or verifier in signed_by:
            continue
        if not verifier.accepts(text, signature):
            raise NoteError(f"the signature by {name}+{key_id.hex()} does not fit the text")
        signed_by.append(verifier)
    if not signed_by:
        raise NoteError("no known key has signed the note")
    return OpenNote(text, tuple(signed_by))


def open_checkpoint(note: str, log: Verifier) -> Checkpoint:
    """Check a log's signature under a checkpoint and give what it says.

    Raises:
        NoteError: As `open_note` does, when the origin is not the name of the key, and for the
            key of a witness, which says what it has seen and vouches for no log.
    """
    if log.kind != ED25519:
        raise NoteError("a log signs its checkpoints with a key of type 1")
    checkpoint = Checkpoint.parse(open_note(note, [log]).text)
    if checkpoint.origin != log.name:
        raise NoteError("the checkpoint is of another log than the key")
    return checkpoint


def origin_of(note: str) -> str:
    """Give the name of the log that a checkpoint says it is of, signature unseen."""
    return Checkpoint.parse(split_note(note)[0]).origin


def split_note(note: str) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    """Take a note apart into text and `(key name, key id, signature)`, nothing checked yet."""
    if len(note) > MAX_NOTE_BYTES:
        raise NoteError("the note is too long")
    head, separator, tail = note.rpartition("\n\n")
    text = head + "\n"
    if not separator or not tail.endswith("\n"):
        raise NoteError("the note does not end in a blank line and signature lines")
    _require_note_text(text)
    lines = tail[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise NoteError("the note has too many signatures")
    return text, [_signature_line(line) for line in lines]


def _cosigned(text: str, seconds: int) -> bytes:
    """Give what a cosignature of type 0x04 is made over."""
    return f"cosignature/v1\ntime {seconds}\n{text}".encode()


def _signature_line(line: str) -> tuple[str, bytes, bytes]:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space:
        raise NoteError("a signature line is malformed")
    _require_name(name)
    signature = _unbase64(encoded, "a signature")
    if len(signature) <= _KEY_ID_BYTES:
        raise NoteError("a signature is too short")
    return name, signature[:_KEY_ID_BYTES], signature[_KEY_ID_BYTES:]


def _require_note_text(text: str) -> None:
    if not text.endswith("\n"):
        raise NoteError("the text of a note ends in a newline")
    if any(letter < " " and letter != "\n" for letter in text):
        raise NoteError("the text of a note holds a control character")


def _require_name(name: str) -> None:
    if not name or "+" in name or any(letter < " " or letter.isspace() for letter in name):
        raise NoteError("a key name is text without spaces and plus signs")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unbase64(text: str, what: str) -> bytes:
    """Decode base64 that has one spelling only: no stray bits, no missing padding."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data or _base64(data) != text:
        raise NoteError(f"{what} is not canonical base64")
    return data
