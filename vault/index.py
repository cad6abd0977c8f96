"""Blind indexes: find a member by phone or card number without storing either in the clear.

A tag is the first 16 bytes of HMAC-SHA-256 over a versioned normal form, under a key of its own
for each kind and index version. The keys live in the key ring, never in the database, so its
thief sees at most that two members share a value. Only high-entropy identifiers get a tag;
names, birthdays and gender never do, because their frequencies alone would give them away.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from kernel import ConflictError
from vault.cell import length_prefixed

TAG_BYTES = 16
TAG_BITS = 8 * TAG_BYTES
_TAG = slice(None, TAG_BYTES)
FIRST_VERSION = 1
FIRST_SECRET = "index"  # noqa: S105 (the name of a secret)
INDEXED_KINDS = frozenset({"phone", "email", "line_uid", "national_id", "card_no"})


@dataclass(frozen=True, slots=True)
class Identifier:
    """A value that makes its owner findable: its kind, and its normal form in each version.

    Two index versions may differ in the normal form, so whoever tags or looks up hands over the
    way to write the value and not one writing of it. Prints without the value.
    """

    kind: str
    form: Callable[[int], str] = field(repr=False)


class IndexState(StrEnum):
    """What a version of an index is to its kind."""

    FILLING = "filling"
    """Written by every change, not complete, asked by nobody."""
    LIVE = "live"
    """Complete, written, and what every look-up asks."""
    OLD = "old"
    """Asked and written no more; its tags are being deleted."""


@dataclass(frozen=True, slots=True)
class IndexVersion:
    """One version of the index of one kind: which key, which normal form, and how far it is.

    The version also names the key (`secret_name`); a `hardened` one takes the normal form
    through Argon2id first. `cursor` is the last owner whose tags were made by a re-index,
    `done` how many that are.
    """

    kind: str
    version: int = FIRST_VERSION
    form: int = 1
    state: IndexState = IndexState.LIVE
    cursor: str = ""
    done: int = 0
    hardened: bool = False

    @property
    def secret_name(self) -> str:
        """The name of its secret in the key ring."""
        return secret_name(self.version)


def secret_name(version: int) -> str:
    """Name the key-ring secret of an index version: `index`, then `index/2` and so on."""
    return FIRST_SECRET if version == FIRST_VERSION else f"{FIRST_SECRET}/{version}"


def version_of_secret(name: str) -> int | None:
    """Give the index version whose secret bears a name; None for secrets of other uses."""
    base, _, version = name.partition("/")
    return (int(version) if version else FIRST_VERSION) if base == FIRST_SECRET else None


class Indexes:
    """Which versions of which index there are at one epoch; a kind without a row is at its first.

    Pure and immutable: what a process holds in RAM, and compares with the database by the epoch.
    """

    def __init__(self, epoch: int, rows: Iterable[IndexVersion]) -> None:
        self.epoch = epoch
        versions: dict[str, list[IndexVersion]] = {kind: [] for kind in sorted(INDEXED_KINDS)}
        for row in sorted(rows, key=lambda one: one.version):
            versions[row.kind].append(row)
        self.stored = frozenset(kind for kind, found in versions.items() if found)
        self._versions: Mapping[str, list[IndexVersion]] = {
            kind: found or [IndexVersion(kind)] for kind, found in versions.items()
        }

    def all(self) -> list[IndexVersion]:
        """Give every version of every kind, those of the first version that are nowhere stored."""
        return [one for versions in self._versions.values() for one in versions]

    def live(self, kind: str) -> IndexVersion:
        """Give the version that look-ups ask; `KeyError` for a kind that is not indexed."""
        return next(one for one in self._versions[kind] if one.state is IndexState.LIVE)

    def written(self, kind: str) -> list[IndexVersion]:
        """Give the versions that a change must write, the newest last."""
        return [one for one in self._versions[kind] if one.state is not IndexState.OLD]

    def unfinished(self) -> list[IndexVersion]:
        """Give what a re-index has left to do: versions being filled, or to be dropped."""
        return [one for one in self.all() if one.state is not IndexState.LIVE]

    def secrets(self) -> frozenset[str]:
        """Name the key-ring secrets that some version still needs."""
        return frozenset(one.secret_name for one in self.all())

    def next(
        self, kinds: Iterable[str], forms: Mapping[str, int], hardened: Collection[str] = ()
    ) -> list[IndexVersion]:
        """Plan the next version of some kinds, one number for all.

        `forms` says of which normal form each is, `hardened` which of them are. `ConflictError`
        while an earlier re-index is unfinished.
        """
        if self.unfinished():
            raise ConflictError("an earlier re-index is not finished", reason="reindexing")
        version = max(one.version for one in self.all()) + 1
        return [
            IndexVersion(kind, version, forms[kind], IndexState.FILLING, hardened=kind in hardened)
            for kind in sorted(kinds)
        ]


class BlindIndex:
    """Makes the tags of one index version; one keyed HMAC a kind, copied for each value."""

    def __init__(self, secret: bytes, version: int = FIRST_VERSION) -> None:
        self._fresh = {kind: _keyed(secret, kind, version).copy for kind in INDEXED_KINDS}

    def tag(self, kind: str, normal_form: str) -> bytes:
        """Give the 16-byte tag of a normal form; `KeyError` for a kind that is not indexed."""
        mac = self._fresh[kind]()
        mac.update(normal_form.encode())
        return mac.finalize()[_TAG]


def harden(normal_form: str, ring_id: str) -> str:
    """Make a normal form costly to guess: Argon2id (RFC 9106), three passes over 4 MiB.

    The salt is the ring's own, so that no table serves two registries. Six to ten milliseconds
    for a value, and so for each guess of whoever holds the index key.
    """
    salt = hashlib.sha256(b"harden1" + length_prefixed(ring_id)).digest()[:16]
    slow = Argon2id(salt=salt, length=32, iterations=3, lanes=1, memory_cost=4096)
    return slow.derive(normal_form.encode()).hex()


def _keyed(secret: bytes, kind: str, version: int) -> HMAC:
    info = b"index1" + length_prefixed(kind) + version.to_bytes(2)
    key = HKDFExpand(hashes.SHA256(), 32, info).derive(secret)
    return HMAC(key, hashes.SHA256())
