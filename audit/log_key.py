"""The key that a log is signed with: as one process knows it now, and the keys it had before.

A key is replaced under a checkpoint that the old and the new key have both signed, with the event
of it as its last leaf (`KeyRotation`). Whoever trusts one key of the chain may follow it to the
others; an earlier key is believed only up to the head with which it ended, so a key that was stolen
after its rotation signs nothing that counts here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from audit.errors import NoteError
from audit.note import ED25519, Checkpoint, Signer, Verifier, open_checkpoint, open_note

KEY_ROTATED = "audit.key_rotated"
_DIGEST = slice(None, 32)


def vkey_digest(vkey: str) -> str:
    """Name a verifier key as the `resource` of an event does: the SHA-256 of its text."""
    return f"sha256:{sha256(vkey.encode()).hexdigest()}"


def short_digest(vkey: str) -> str:
    """Name a verifier key as `before` of an event does: the first 16 bytes of that hash."""
    return sha256(vkey.encode()).hexdigest()[_DIGEST]


class LogKey:
    """The signing key of one process; taken anew where the log's head names another one.

    `find` looks where keys are kept for the signer with a verifier key text, and gives it only if
    it is newer than the one in hand: nobody leads a process back to a key that has ended.
    """

    def __init__(self, signer: Signer, find: Callable[[str], Signer | None] | None = None) -> None:
        self._signer = signer
        self._find = find

    @classmethod
    def of(cls, key: "Signer | LogKey") -> "LogKey":
        """Take a key as it is, or make one of a signer that never changes."""
        return key if isinstance(key, LogKey) else cls(key)

    @property
    def signer(self) -> Signer:
        """The signer of this moment."""
        return self._signer

    @property
    def vkey(self) -> str:
        """The verifier key text of this moment."""
        return self._signer.vkey

    def adopt(self, vkey: str) -> bool:
        """Sign with the key that bears this text from now on; False where it is not to be had."""
        if vkey == self._signer.vkey:
            return True
        found = None if self._find is None else self._find(vkey)
        if found is None or found.vkey != vkey:
            return False
        self._signer = found
        return True

    def has_signed(self, note: str) -> bool:
        """Say whether a checkpoint bears this key's signature."""
        try:
            open_checkpoint(note, self._signer.verifier)
        except NoteError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class KeyRotation:
    """How one key followed another: the overlap checkpoint, whose last leaf is the event of it."""

    size: int
    origin: str
    old_vkey: str
    new_vkey: str
    note: str
    event_id: str
    rotated_us: int

    def overlap(self) -> Checkpoint:
        """Give the overlap checkpoint; `NoteError` unless both keys have signed this very one."""
        keys = [Verifier.from_vkey(self.old_vkey), Verifier.from_vkey(self.new_vkey)]
        opened = open_note(self.note, keys)
        head = Checkpoint.parse(opened.text)
        if len(opened.signed_by) != len(keys):
            raise NoteError("an overlap checkpoint bears the signatures of both keys")
        if any(key.name != self.origin or key.kind != ED25519 for key in keys):
            raise NoteError("the keys of a rotation are of one log")
        if (head.origin, head.size) != (self.origin, self.size):
            raise NoteError("the overlap checkpoint is of another log or size")
        return head


@dataclass(frozen=True, slots=True)
class KnownKeys:
    """A key that is trusted, and by it the rotations that lead to it, the newest first."""

    current: Verifier
    rotations: Sequence[KeyRotation] = ()

    @classmethod
    def leading_to(cls, current: Verifier, rotations: Sequence[KeyRotation]) -> "KnownKeys":
        """Follow rotations, the oldest first, backwards from a trusted key as far as they hold.

        They are compared by the public keys: a name that a log took later changes a key's text.
        """
        public, held = current.public, []
        for rotation in reversed(rotations):
            try:
                rotation.overlap()
            except NoteError:
                break
            if Verifier.from_vkey(rotation.new_vkey).public != public:
                break
            held.append(rotation)
            public = Verifier.from_vkey(rotation.old_vkey).public
        return cls(current, tuple(held))

    @property
    def publics(self) -> frozenset[bytes]:
        """Every public key that has signed this log."""
        earlier = {Verifier.from_vkey(each.old_vkey).public for each in self.rotations}
        return frozenset({self.current.public, *earlier})

    def vkeys(self) -> list[str]:
        """Give the verifier key texts under the present name, the newest first."""
        return [
            self.current.vkey,
            *(
                Verifier(self.current.name, ED25519, Verifier.from_vkey(each.old_vkey).public).vkey
                for each in self.rotations
            ),
        ]

    def open(self, note: str) -> Checkpoint:
        """Open a checkpoint that one of the keys signed while it was the log's.

        `NoteError` as of `open_checkpoint`; also for an earlier key's signature under a head
        beyond the one with which it ended.
        """
        try:
            return open_checkpoint(note, self.current)
        except NoteError:
            for vkey, rotation in zip(self.vkeys()[1:], self.rotations, strict=True):
                try:
                    head = open_checkpoint(note, Verifier.from_vkey(vkey))
                except NoteError:
                    continue
                if head.size <= rotation.size:
                    return head
            raise
