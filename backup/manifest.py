"""The manifest: what a backup consists of, signed, chained to the one before, free of secrets.

It is written last, so a backup without one does not exist, and it names the hash of every object,
so the store cannot exchange one. Whoever only has the recipients' public keys can make objects;
without the signing key, which is derived from the key ring, nobody can make a manifest.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from audit import NoteError, Signer, Verifier, open_note, sign_note
from backup.envelope import FORMAT
from backup.errors import (
    BadSignatureError,
    CorruptObjectError,
    TruncatedManifestError,
)

FORMAT_NAME = "format.json"
_SIGNATURE = "\n\n— "


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as the manifest knows it: `rows` of `table`, or a page of the ring."""

    name: str
    version: str | None
    size: int
    sha256: str
    rows: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """One backup: where each table lies, and how far log and ledger had come."""

    store: str
    generation: int
    id: str
    created_us: int
    previous: str
    engine: str
    schema: str
    origin: str
    log_key: str
    policy: str
    recipients: tuple[str, ...]
    tables: Mapping[str, tuple[StoredObject, ...]]
    ring: tuple[StoredObject, ...]
    audit_size: int
    audit_root: str
    rights_position: int
    rights_link: str
    rights_objects: int
    audit_objects: int

    @property
    def rows(self) -> int:
        """How many rows all tables have together."""
        return sum(stored.rows for stored in self.data_objects())

    @property
    def stored_bytes(self) -> int:
        """How many bytes its objects take, shared ones included."""
        return sum(stored.size for stored in (*self.data_objects(), *self.ring))

    def data_objects(self) -> list[StoredObject]:
        """Give the objects of all tables."""
        return [stored for objects in self.tables.values() for stored in objects]


def manifest_name(generation: int) -> str:
    """Name the manifest of a generation; one name, so that two writers cannot both have it."""
    return f"m/{generation:08d}.json"


def backup_signer(ring_id: str, seed: bytes) -> Signer:
    """Give the signer of a registry's backups."""
    return Signer.from_seed(f"backup.{ring_id}", seed)


def digest(data: bytes) -> str:
    """Give SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sign(document: Mapping[str, Any], signer: Signer) -> bytes:
    """Write a document as one line of canonical JSON with a signature under it."""
    line = orjson.dumps(document, option=orjson.OPT_SORT_KEYS).decode()
    return sign_note(f"{line}\n", signer).encode()


def read_signed(name: str, data: bytes, vkey: str) -> dict[str, Any]:
    """Check the signature under a document and give it.

    Raises:
        TruncatedManifestError: There is no whole signed document.
        BadSignatureError: It is signed by somebody else, or was changed.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise CorruptObjectError(f"{name} is damaged") from None
    if _SIGNATURE not in text or not text.endswith("\n"):
        raise TruncatedManifestError(f"{name} ends before its signature")
    try:
        opened = open_note(text, [Verifier.from_vkey(vkey)])
        document: dict[str, Any] = orjson.loads(opened.text)
    except NoteError:
        raise BadSignatureError(f"{name} is not signed by this store's key") from None
    except ValueError:
        raise TruncatedManifestError(f"{name} is not of the format") from None
    return document


def write_manifest(manifest: Manifest, signer: Signer) -> bytes:
    """Give the bytes of a signed manifest."""
    return sign({"format": FORMAT, **asdict(manifest)}, signer)


def read_manifest(name: str, data: bytes, vkey: str) -> Manifest:
    """Read a signed manifest back."""
    said = read_signed(name, data, vkey)
    try:
        if said.pop("format") != FORMAT:
            raise TruncatedManifestError(f"{name} is of a format that this version does not read")
        tables = {table: _objects(found) for table, found in said.pop("tables").items()}
        ring, recipients = _objects(said.pop("ring")), tuple(said.pop("recipients"))
        manifest = Manifest(**said, tables=tables, ring=ring, recipients=recipients)
    except (KeyError, TypeError, AttributeError):
        raise TruncatedManifestError(f"{name} is not of the format") from None
    if manifest_name(manifest.generation) != name:
        raise BadSignatureError(f"{name} is the manifest of generation {manifest.generation}")
    return manifest


def _objects(found: Sequence[Mapping[str, Any]]) -> tuple[StoredObject, ...]:
    return tuple(StoredObject(**one) for one in found)
