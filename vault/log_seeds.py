"""The log's signing seeds among the secrets of a ring: versions, and what is derived from them.

The seed the log began with is `audit-signing`, a later one `audit-signing/2` and so on. A ring
holds two while a rotation is prepared or not yet finished; which one counts, the log's head says.
Backups are signed with a key that was derived from the first seed. That one must outlive it, since
recovery kits on paper name it: the first rotation gives it a secret of its own.
"""

import os
from collections.abc import Collection, Mapping

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from vault.wrapping import KEY_BYTES

LOG_SEED = "audit-signing"
BACKUP_SEED = "backup-signing"


def version_of_log_seed(name: str) -> int | None:
    """Give the version of a seed of the log by the name of its secret; None for other secrets."""
    if name == LOG_SEED:
        return 1
    base, _, number = name.partition("/")
    return int(number) if base == LOG_SEED and number.isdecimal() else None


def log_seeds_in(secrets: Mapping[str, bytes]) -> dict[int, bytes]:
    """Give the log's seeds by version, the oldest first."""
    found = {version_of_log_seed(name): seed for name, seed in secrets.items()}
    return {version: found[version] for version in sorted(filter(None, found))}


def backup_seed_in(secrets: Mapping[str, bytes]) -> bytes:
    """Give the seed that signs backups: its own secret, or derived from the log's first seed."""
    own = secrets.get(BACKUP_SEED)
    if own is not None:
        return own
    info = b"backup-signing0"
    return HKDFExpand(hashes.SHA256(), KEY_BYTES, info).derive(secrets[LOG_SEED])


def has_log_secrets(names: Collection[str]) -> bool:
    """Whether these secrets sign the log and the backups."""
    return any(map(version_of_log_seed, names)) and (LOG_SEED in names or BACKUP_SEED in names)


def next_log_secrets(secrets: Mapping[str, bytes], above: int) -> dict[str, bytes]:
    """Make what a rotation of the log's key adds; nothing where a newer seed is there already."""
    newest = max(log_seeds_in(secrets))
    if newest > above:
        return {}
    made = {f"{LOG_SEED}/{newest + 1}": os.urandom(KEY_BYTES)}
    return made if BACKUP_SEED in secrets else made | {BACKUP_SEED: backup_seed_in(secrets)}


def old_log_secrets(secrets: Mapping[str, bytes], below: int) -> set[str]:
    """Name the seeds of the log under a version."""
    versions = {name: version_of_log_seed(name) for name in secrets}
    return {name for name, version in versions.items() if version is not None and version < below}
