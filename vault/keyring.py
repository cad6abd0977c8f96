"""The key ring: the ring roots, and the secrets that never enter the database.

One call to the KMS opens one outer key, and that opens everything: the living ring roots, which
wrap bucket keys (in the database), and under the newest of them the ring's own secrets. Those
live only in this file, so that a thief of the database, or of a data backup, can neither
enumerate phone numbers against blind indexes nor sign a checkpoint. Where the KMS cannot destroy
one version of its root, a secret beside the file that can be overwritten is mixed in. There is
no default key: without a key ring nothing starts.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kernel import UnavailableError, new_random_id
from vault.errors import KeyRingError, UnreadableError
from vault.log_seeds import (
    LOG_SEED,
    backup_seed_in,
    has_log_secrets,
    log_seeds_in,
    next_log_secrets,
    old_log_secrets,
)
from vault.private_files import locked
from vault.providers import KeyProvider
from vault.ring_file import (
    FORMAT,
    Erasables,
    StoredRing,
    read_ring_file,
    ring_context,
    write_ring_file,
)
from vault.wrapping import KEY_BYTES, KeptSecret, unwrap, unwrap_into, wipe, wrap

SECRETS = ("index", "suppression", "ledger-tag", "digest", LOG_SEED, "receipt-signing")
_ALWAYS = ("suppression", "ledger-tag", "digest", "receipt-signing")
_OTHER_KEYS = {"outer", "wrapping", "root"}  # each context names one key
_SECRET_NAME = re.compile(r"[a-z]+(-[a-z]+)*(/[1-9][0-9]{0,3})?")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a key ring is, where its erasable secret is, and what opens it."""

    path: Path
    erasables: Erasables
    provider: KeyProvider


@dataclass(frozen=True, slots=True, repr=False)
class _Opened:
    """What a key ring file holds, opened: replaced as a whole, never changed."""

    stored: StoredRing
    wrapping: AESGCM
    ciphers: Mapping[int, AESGCM]
    secrets: Mapping[str, bytes] = field(repr=False)


class KeyRing(KeptSecret):
    """An opened key ring: ring-root ciphers by version, and the ring's secrets in RAM.

    Whatever changes it is in the file, durably, before it is in RAM. Every change holds the
    folder of keys, reads what the file says now and replaces it as a whole, so two processes may
    change it at once, and one that dies leaves the old state or the new one.
    """

    name = "key ring"

    def __init__(self, place: _Place, opened: _Opened) -> None:
        self._place = place
        self._now = opened

    @property
    def id(self) -> str:
        """The identity of the ring; the database remembers it."""
        return self._now.stored.id

    @property
    def tenant(self) -> str:
        """The controller whose keys these are."""
        return self._now.stored.tenant

    @property
    def version(self) -> int:
        """The newest version of the ring root."""
        return max(self._now.ciphers)

    @property
    def versions(self) -> tuple[int, ...]:
        """The living versions of the ring root, the oldest first."""
        return tuple(sorted(self._now.ciphers))

    @property
    def provider(self) -> KeyProvider:
        """The KMS that opens this ring."""
        return self._place.provider

    # --- using it ---------------------------------------------------------------------

    def secret(self, name: str) -> bytes:
        """Give a 32-byte secret of the ring, such as `audit-signing` or `index/2`."""
        return self._now.secrets[name]

    def secrets(self) -> dict[str, bytes]:
        """Give every secret of the ring by name, for a ring backup."""
        return dict(self._now.secrets)

    def log_seeds(self) -> dict[int, bytes]:
        """Give the Ed25519 seeds of the log by version, the oldest first."""
        return log_seeds_in(self._now.secrets)

    def backup_seed(self) -> bytes:
        """Give the Ed25519 seed that signs backups: a key of its own, whatever the log's is."""
        return backup_seed_in(self._now.secrets)

    def wrap(self, secret: bytes, context: bytes) -> bytes:
        """Wrap a key under the newest ring root."""
        return self.wrap_newest(secret, context)[1]

    def wrap_newest(self, secret: bytes, context: bytes) -> tuple[int, bytes]:
        """Wrap a key and say under which version, though another thread may add a root now."""
        ciphers = self._now.ciphers
        version = max(ciphers)
        return version, wrap(ciphers[version], secret, context)

    def unwrap(self, version: int, wrapped: bytes, context: bytes) -> bytes:
        """Unwrap a key under a ring root version; `UnreadableError` when that one is gone."""
        cipher = self._now.ciphers.get(version)
        if cipher is None:
            raise UnreadableError
        return unwrap(cipher, wrapped, context)

    def material(self) -> bytes:
        """Give everything a recovery kit must be able to bring back, as one secret document."""
        now = self._now
        return orjson.dumps(
            {
                "format": FORMAT,
                "id": self.id,
                "tenant": self.tenant,
                "roots": {
                    str(version): unwrap(
                        now.wrapping, wrapped, _root_context(now.stored, version)
                    ).hex()
                    for version, wrapped in now.stored.roots.items()
                },
                "secrets": {name: value.hex() for name, value in now.secrets.items()},
            },
            option=orjson.OPT_SORT_KEYS,
        )

    # --- changing it ------------------------------------------------------------------

    def reopen(self) -> "KeyRing":
        """Take over what another process wrote; asks the KMS only when the outer key is new."""
        with locked(self._place.path.parent):
            self._now = self._fresh()
        return self

    def add_root(self) -> "KeyRing":
        """Make a ring root of the next version; it wraps from now on, the older ones still open."""

        def change(now: _Opened) -> StoredRing:
            version = max(now.ciphers) + 1
            root = bytearray(os.urandom(KEY_BYTES))
            try:
                return _under_new_root(now, version, root)
            finally:
                wipe(root)

        return self._change(change)

    def drop_roots(self, below: int) -> "KeyRing":
        """Forget the ring roots under a version; the newest one always stays.

        Copies of the old file still hold them until `rotate_kms` or `rewrap_outer` has made the
        key that opens those copies unobtainable.
        """

        def change(now: _Opened) -> StoredRing:
            if below > max(now.ciphers):
                raise KeyRingError("the newest ring root is in use and is not dropped")
            kept = {v: wrapped for v, wrapped in now.stored.roots.items() if v >= below}
            return replace(now.stored, roots=kept)

        return self._change(change)

    def add_secret(self, name: str) -> bytes:
        """Make a secret of the ring, such as `index/2`; one that is there is given as it is."""
        if not _SECRET_NAME.fullmatch(name) or name.partition("/")[0] in _OTHER_KEYS:
            raise KeyRingError("that is no name of a secret")

        def change(now: _Opened) -> StoredRing:
            if name in now.secrets:
                return now.stored
            newest = now.ciphers[max(now.ciphers)]
            wrapped = wrap(newest, os.urandom(KEY_BYTES), _context(now.stored, name))
            return replace(now.stored, secrets={**now.stored.secrets, name: wrapped})

        return self._change(change).secret(name)

    def add_log_seed(self, above: int) -> int:
        """Make the log a seed of the next version, or give one that is newer than `above`.

        What used to be derived from the first seed gets a secret of its own with it.
        """

        def change(now: _Opened) -> StoredRing:
            made = next_log_secrets(now.secrets, above)
            newest = now.ciphers[max(now.ciphers)]
            wrapped = {
                name: wrap(newest, value, _context(now.stored, name))
                for name, value in made.items()
            }
            if not made:
                return now.stored
            return replace(now.stored, secrets={**now.stored.secrets, **wrapped})

        return max(self._change(change).log_seeds())

    def drop_log_seeds(self, below: int) -> "KeyRing":
        """Forget the log's seeds under a version; the newest one always stays.

        Copies of the old file still hold them until `seal_outer` has made those worthless.
        """

        def change(now: _Opened) -> StoredRing:
            if below > max(log_seeds_in(now.secrets)):
                raise KeyRingError("the newest seed of the log is in use and is not dropped")
            gone = old_log_secrets(now.secrets, below)
            kept = {n: wrapped for n, wrapped in now.stored.secrets.items() if n not in gone}
            return replace(now.stored, secrets=kept) if gone else now.stored

        return self._change(change)

    def drop_secret(self, name: str) -> "KeyRing":
        """Forget a secret of the ring; the ones without which nothing starts always stay."""

        def change(now: _Opened) -> StoredRing:
            kept = {n: wrapped for n, wrapped in now.stored.secrets.items() if n != name}
            if not is_complete(kept):
                raise KeyRingError("a ring is nothing without that secret")
            return replace(now.stored, secrets=kept)

        return self._change(change)

    def rewrap_outer(self) -> "KeyRing":
        """Wrap the ring under a fresh outer key of the KMS's newest root: one call to the KMS.

        Where the KMS destroys no versions, the erasable secret is replaced with it and the old
        one overwritten, so that no copy of the old file opens again.
        """
        with locked(self._place.path.parent):
            now = self._fresh()
            stored, wrapping = _under_new_outer(self._place, now)
            write_ring_file(self._place.path, stored)
            self._now = replace(now, stored=stored, wrapping=wrapping)
            self._place.erasables.destroy_others(stored.id, stored.erasable)
        return self

    def seal_outer(self) -> "KeyRing":
        """Make every earlier copy of the key ring file worthless, by the cheapest way there is.

        A KMS that destroys versions rotates and destroys; for any other one the erasable secret
        is replaced, which costs no rotation: AWS KMS allows a key only a few.
        """
        if self._place.provider.destroys:
            self.rotate_kms()
            return self
        return self.rewrap_outer()

    def rotate_kms(self) -> str:
        """Rotate the KMS root, wrap the ring under it, destroy what opened the ring before.

        Safe to repeat after a crash anywhere: the ring is wrapped anew before an old version is
        destroyed, and old versions that a dead process left behind are destroyed with the rest.
        """
        provider = self._place.provider
        with locked(self._place.path.parent):
            self._now = self._fresh()
            version = provider.rotate()
            self.rewrap_outer()
            if provider.destroys:
                health = provider.health()
                if not health.ok:
                    raise UnavailableError(
                        f"the old root of the KMS was not destroyed: {health.says}",
                        remedy="The ring opens. Rotate again when the KMS answers.",
                    )
                for old in health.versions:
                    if old != version:
                        provider.destroy(old)
        return version

    def _change(self, act: Callable[[_Opened], StoredRing]) -> "KeyRing":
        with locked(self._place.path.parent):
            now = self._fresh()
            stored = act(now)
            if stored is not now.stored:
                write_ring_file(self._place.path, stored)
            self._now = _open(stored, now.wrapping)
        return self

    def _fresh(self) -> _Opened:
        stored = read_ring_file(self._place.path, is_complete)
        now = self._now
        if stored == now.stored:
            return now
        if stored.id != now.stored.id or stored.tenant != now.stored.tenant:
            raise KeyRingError(
                f"{self._place.path.name} was replaced by another ring while this one was open",
                remedy="Put back the ring that belongs to this database, or start again.",
            )
        same_outer = (stored.outer, stored.erasable) == (now.stored.outer, now.stored.erasable)
        with _explained():
            wrapping = now.wrapping if same_outer else _open_outer(self._place, stored)
            return _open(stored, wrapping)


def create_key_ring(
    path: Path, provider: KeyProvider, tenant: str, *, erasable_dir: Path | None = None
) -> KeyRing:
    """Make a key ring with fresh random keys and write it, wrapped, to `path`."""
    secrets = {name: os.urandom(KEY_BYTES) for name in SECRETS}
    ring_id = new_random_id("ring")
    return renew_key_ring(path, provider, ring_id, tenant, 1, secrets, erasable_dir=erasable_dir)


def renew_key_ring(
    path: Path,
    provider: KeyProvider,
    ring_id: str,
    tenant: str,
    version: int,
    secrets: Mapping[str, bytes],
    *,
    erasable_dir: Path | None = None,
) -> KeyRing:
    """Write a key ring of known secrets under a fresh ring root, as a restore does."""
    place = _place(path, provider, erasable_dir)
    if path.exists():
        raise KeyRingError(f"{path.name} exists already and is not overwritten")
    nothing = StoredRing(ring_id, tenant, provider.name, b"", None, {}, {})
    unused = AESGCM(os.urandom(KEY_BYTES))
    stored, wrapping = _under_new_outer(place, _Opened(nothing, unused, {}, secrets))
    root = bytearray(os.urandom(KEY_BYTES))
    try:
        made = _under_new_root(_Opened(stored, wrapping, {}, secrets), version, root)
    finally:
        wipe(root)
    write_ring_file(path, made, replace=False)
    return KeyRing(place, _open(made, wrapping))


def open_key_ring(
    path: Path, provider: KeyProvider, *, erasable_dir: Path | None = None
) -> KeyRing:
    """Open the key ring with exactly one call to the KMS."""
    place = _place(path, provider, erasable_dir)
    with locked(path.parent):
        stored = read_ring_file(path, is_complete)
        if stored.kms != provider.name:
            raise KeyRingError(
                f"this key ring is kept by the KMS `{stored.kms}`, not by `{provider.name}`",
                remedy=f"Set kms.provider to {stored.kms}.",
            )
        with _explained():
            ring = KeyRing(place, _open(stored, _open_outer(place, stored)))
        place.erasables.destroy_others(stored.id, stored.erasable)
    return ring


def is_complete(names: Iterable[str]) -> bool:
    """Whether no secret is missing; of blind indexes and of the log's seeds one is enough."""
    here = set(names)
    indexes = any(name == "index" or name.startswith("index/") for name in here)
    return indexes and has_log_secrets(here) and here.issuperset(_ALWAYS)


# --- inside ---------------------------------------------------------------------------


def _place(path: Path, provider: KeyProvider, erasable_dir: Path | None) -> _Place:
    return _Place(path, Erasables(erasable_dir or path.parent), provider)


def _context(stored: StoredRing, name: str) -> bytes:
    return ring_context(stored.id, stored.tenant, name)


def _root_context(stored: StoredRing, version: int) -> bytes:
    return _context(stored, f"root/{version}")


def _wrapping_key(stored: StoredRing, outer: bytearray, erasable: bytearray) -> AESGCM:
    """Derive what wraps the ring roots; all the buffers are overwritten."""
    both, key = outer + erasable, bytearray(KEY_BYTES)
    try:
        info = _context(stored, "wrapping")
        HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=info).derive_into(both, key)
        return AESGCM(key)
    finally:
        wipe(outer, erasable, both, key)


def _open_outer(place: _Place, stored: StoredRing) -> AESGCM:
    """Ask the KMS for the outer key, once."""
    erasable = place.erasables.read(stored.id, stored.erasable)
    outer = place.provider.unwrap(stored.outer, _context(stored, "outer"))
    if len(outer) != KEY_BYTES:
        wipe(outer, erasable)
        raise UnreadableError
    return _wrapping_key(stored, outer, erasable)


def _open(stored: StoredRing, wrapping: AESGCM) -> _Opened:
    """Open the roots under the wrapping key, and the secrets under the newest root."""
    ciphers = {}
    for version, wrapped in stored.roots.items():
        root = unwrap_into(wrapping, wrapped, _root_context(stored, version))
        ciphers[version] = AESGCM(root)
        wipe(root)
    newest = ciphers[max(ciphers)]
    secrets = {
        name: unwrap(newest, wrapped, _context(stored, name))
        for name, wrapped in stored.secrets.items()
    }
    return _Opened(stored, wrapping, ciphers, secrets)


def _under_new_root(now: _Opened, version: int, root: bytearray) -> StoredRing:
    """Give the ring with one root more and its secrets wrapped under that one."""
    stored, cipher = now.stored, AESGCM(root)
    wrapped = wrap(now.wrapping, root, _root_context(stored, version))
    secrets = {
        name: wrap(cipher, secret, _context(stored, name)) for name, secret in now.secrets.items()
    }
    return replace(stored, roots={**stored.roots, version: wrapped}, secrets=secrets)


def _under_new_outer(place: _Place, now: _Opened) -> tuple[StoredRing, AESGCM]:
    """Give the ring under a fresh outer key, its erasable secret already durably in its file."""
    provider, old = place.provider, now.stored
    place.erasables.destroy_others(old.id, old.erasable)
    number = None if provider.destroys else (old.erasable or 0) + 1
    outer = bytearray(os.urandom(KEY_BYTES))
    wrapped_outer = provider.wrap(outer, _context(old, "outer"))
    erasable = place.erasables.write(old.id, number)
    wrapping = _wrapping_key(old, outer, erasable)
    roots = {}
    for version, wrapped in old.roots.items():
        root = unwrap_into(now.wrapping, wrapped, _root_context(old, version))
        roots[version] = wrap(wrapping, root, _root_context(old, version))
        wipe(root)
    return replace(old, outer=wrapped_outer, erasable=number, roots=roots), wrapping


@contextmanager
def _explained() -> Iterator[None]:
    """Turn a ring that does not open into words about what to do."""
    try:
        yield
    except UnreadableError as error:
        raise KeyRingError(
            "the KMS root does not open this key ring",
            remedy="Put back the root key that belongs to this ring; "
            "the recovery kit opens the newest ring backup.",
        ) from error
