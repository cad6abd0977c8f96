"""What the command line can ask of the keys of an open registry."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from members import count_members
from service.runtime import Runtime
from vault import bucket_count, key_counts

Progress = Callable[[int, int], None]


async def vault_status(runtime: Runtime, _progress: Progress) -> dict[str, Any]:
    """Count keys by kind and version."""
    async with runtime.database.read() as session:
        counts = await key_counts(session)
        buckets = await bucket_count(session)
        members = await count_members(session)
    return {
        "tenant": runtime.vault.tenant,
        "key_ring": runtime.vault.ring_id,
        "ring_version": runtime.vault.ring_version,
        "bucket_keys": buckets,
        "members": members,
        "keys": [{"kind": kind, "version": version, "count": n} for kind, version, n in counts],
    }


VAULT_COMMANDS: Mapping[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "vault.status": vault_status,
}
