"""Vault: keys, cells and blind indexes. The only room that holds key bytes.

Enter by `Vault`; `open` wants an `AccessTicket`, which the audit room gives out after the
event of the disclosure has committed.
"""

from vault.cell import PAD_BLOCKS
from vault.errors import KeyRingError, UnreadableError
from vault.index import (
    INDEXED_KINDS,
    TAG_BITS,
    BlindIndex,
    Identifier,
    Indexes,
    IndexState,
    IndexVersion,
    harden,
)
from vault.index_repository import StoredTag
from vault.keyring import KeyRing, create_key_ring, open_key_ring, renew_key_ring
from vault.kits import Kit, RecoveryKits, identities_of, write_recovery_kit
from vault.leakage import (
    SPACES,
    beacon_bits,
    coincidences,
    enumeration_seconds,
    flat,
    recovery_from_histogram,
    recovery_from_shares,
    seasonal,
    zipf,
)
from vault.log_seeds import log_seeds_in
from vault.owner_key import PSEUDONYM, OwnerKey
from vault.private_files import destroy_private, read_private, write_private
from vault.providers import (
    AwsKmsKeyProvider,
    FileKeyProvider,
    KeyProvider,
    PassingKeyProvider,
    PassphraseKeyProvider,
    Pkcs11KeyProvider,
    ProviderHealth,
    VaultTransitKeyProvider,
)
from vault.recovering import Recoverable, Recovered, Recovering
from vault.recovery_repository import newest_ring_root
from vault.repository import (
    WrappedKey,
    bucket_count,
    destroy_expired_keys,
    key_counts,
    key_from_row,
    key_source,
)
from vault.rewrapping import Note as KeyNote
from vault.rewrapping import Progress
from vault.ring_backup import RingBackup, RingKey, read_ring
from vault.ring_backups import Proof, RingBackups, RingBackupState
from vault.ring_folder import RingFolder, RingSet
from vault.rotation import Move, Rotations, SecretKeeper
from vault.rotation_log import Rotation
from vault.rotation_status import RotationStatus, rotation_status
from vault.sealed import Sealed
from vault.sealing import Sealing
from vault.service import ARCHIVE, ORDINARY, SealedRow, Vault
from vault.tags import Tags
from vault.ticket import AccessTicket

__all__ = [
    "ARCHIVE",
    "INDEXED_KINDS",
    "ORDINARY",
    "PAD_BLOCKS",
    "PSEUDONYM",
    "SPACES",
    "TAG_BITS",
    "AccessTicket",
    "AwsKmsKeyProvider",
    "BlindIndex",
    "FileKeyProvider",
    "Identifier",
    "IndexState",
    "IndexVersion",
    "Indexes",
    "KeyNote",
    "KeyProvider",
    "KeyRing",
    "KeyRingError",
    "Kit",
    "Move",
    "OwnerKey",
    "PassingKeyProvider",
    "PassphraseKeyProvider",
    "Pkcs11KeyProvider",
    "Progress",
    "Proof",
    "ProviderHealth",
    "Recoverable",
    "Recovered",
    "Recovering",
    "RecoveryKits",
    "RingBackup",
    "RingBackupState",
    "RingBackups",
    "RingFolder",
    "RingKey",
    "RingSet",
    "Rotation",
    "RotationStatus",
    "Rotations",
    "Sealed",
    "SealedRow",
    "Sealing",
    "SecretKeeper",
    "StoredTag",
    "Tags",
    "UnreadableError",
    "Vault",
    "VaultTransitKeyProvider",
    "WrappedKey",
    "beacon_bits",
    "bucket_count",
    "coincidences",
    "create_key_ring",
    "destroy_expired_keys",
    "destroy_private",
    "enumeration_seconds",
    "flat",
    "harden",
    "identities_of",
    "key_counts",
    "key_from_row",
    "key_source",
    "log_seeds_in",
    "newest_ring_root",
    "open_key_ring",
    "read_private",
    "read_ring",
    "recovery_from_histogram",
    "recovery_from_shares",
    "renew_key_ring",
    "rotation_status",
    "seasonal",
    "write_private",
    "write_recovery_kit",
    "zipf",
]
