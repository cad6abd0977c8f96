"""What each wrapped key is bound to, as the associated data of its wrapping (docs/formats/keys.md).

A wrapped key that somebody moves to another row, owner, kind, version or bucket does not open.
"""

from functools import lru_cache
from struct import Struct

from kernel import id_bytes
from vault.cell import length_prefixed

NUMBERS = Struct(">III")


def bucket_context(tenant: str, bucket: int, version: int) -> bytes:
    """Bind a bucket key to its tenant, bucket and version."""
    return b"bucket1" + length_prefixed(tenant) + bucket.to_bytes(4) + version.to_bytes(4)


def key_context(
    tenant: str, owner_id: str, kind: str, version: int, bucket: int, bucket_version: int
) -> bytes:
    """Bind a wrapped key to its owner, kind, version and bucket (three 32-bit numbers)."""
    before, behind = around_owner(tenant, kind, version, bucket, bucket_version)
    return before + id_bytes(owner_id) + behind


def around_owner(
    tenant: str, kind: str, version: int, bucket: int, bucket_version: int
) -> tuple[bytes, bytes]:
    """Give what stands before and behind the owner in the context of a wrapped key."""
    before, behind = key_labels(tenant, kind)
    return before, behind + NUMBERS.pack(version, bucket, bucket_version)


def secret_context(tenant: str, label: str, row_id: str) -> bytes:
    """Bind a secret of the installation to its purpose and its row."""
    return b"secret1" + b"".join(length_prefixed(part) for part in (tenant, label, row_id))


@lru_cache(maxsize=256)
def key_labels(tenant: str, kind: str) -> tuple[bytes, bytes]:
    """Give what stands before and behind the owner in the context of a member key."""
    return b"key1" + length_prefixed(tenant), length_prefixed(kind)
