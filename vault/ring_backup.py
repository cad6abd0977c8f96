"""Ring backups: the keys that live now, re-wrapped to age recipients alone.

Data backups may be kept for months; the ring that opens them is replaced with every backup and
the old one goes after days. So a member whose keys were destroyed is unreadable in every backup
as soon as the last ring that knew them is gone, and a ring root, kept or destroyed, has no part
in it. A page exists in the clear only between the vault and the recipients' encryption.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgpack

from vault.errors import KeyRingError
from vault.keyring import KeyRing, is_complete, renew_key_ring
from vault.providers import KeyProvider
from vault.wrapping import KEY_BYTES

FORMAT = "yinyom-ring/0"
KEYS_A_PAGE = 20_000


@dataclass(frozen=True, slots=True)
class RingKey:
    """One key of one owner, as it comes out of a ring backup. Prints without its bytes."""

    owner_id: str
    kind: str
    version: int
    key: bytes = field(repr=False)
    destroy_after_us: int | None


@dataclass(frozen=True, slots=True)
class RingBackup:
    """An opened ring backup; it can become a key ring and the keys in its database."""

    id: str
    tenant: str
    version: int
    _secrets: dict[str, bytes] = field(repr=False)
    _keys: tuple[RingKey, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self._keys)

    def each(self) -> Iterator[RingKey]:
        """Give every key, in order of its owner."""
        return iter(self._keys)

    def secret(self, name: str) -> bytes:
        """Give a secret of the ring, such as `ledger-tag`."""
        return self._secrets[name]

    def secrets(self) -> dict[str, bytes]:
        """Give every secret of the ring by name, for a key ring of the same identity."""
        return dict(self._secrets)

    def write(
        self, path: Path, provider: KeyProvider, *, erasable_dir: Path | None = None
    ) -> KeyRing:
        """Write a key ring of the same id and secrets under a fresh root of the next version."""
        version = self.version + 1
        return renew_key_ring(
            path, provider, self.id, self.tenant, version, self._secrets, erasable_dir=erasable_dir
        )


def first_page(ring: KeyRing) -> bytes:
    """Write the page that holds the ring's identity and secrets."""
    page: bytes = msgpack.packb(
        {
            "format": FORMAT,
            "id": ring.id,
            "tenant": ring.tenant,
            "version": ring.version,
            "secrets": ring.secrets(),
        }
    )
    return page


def key_page(keys: Iterable[RingKey]) -> bytes:
    """Write a page of keys."""
    rows = [(k.owner_id, k.kind, k.version, k.key, k.destroy_after_us) for k in keys]
    page: bytes = msgpack.packb({"format": FORMAT, "keys": rows})
    return page


def read_ring(pages: Sequence[bytes]) -> RingBackup:
    """Read the decrypted pages of a ring backup, or `KeyRingError`."""
    try:
        head, *others = (msgpack.unpackb(page) for page in pages)
        if any(page["format"] != FORMAT for page in (head, *others)):
            raise KeyRingError("the ring backup is of a format that this version does not read")
        keys = tuple(RingKey(*row) for page in others for row in page["keys"])
        ring = RingBackup(
            head["id"],
            head["tenant"],
            head["version"],
            dict(head["secrets"]),
            keys,
        )
        secrets = head["secrets"].values()
        whole = all(len(key) == KEY_BYTES for key in (*secrets, *(key.key for key in keys)))
        whole = whole and is_complete(head["secrets"])
    except (AttributeError, ValueError, KeyError, TypeError, msgpack.UnpackException) as error:
        raise KeyRingError("the ring backup is damaged") from error
    if not whole:
        raise KeyRingError("the ring backup is damaged")
    return ring
