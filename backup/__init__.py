"""Backup: encrypted copies that the host cannot read, and restores that forget no right."""

from backup.classes import CLASSES, TableClass
from backup.envelope import Identities, Recipients
from backup.errors import (
    BackupError,
    NoSuchSetError,
    StoreError,
    TargetNotEmptyError,
    UnknownSignerError,
    WrongKeyError,
)
from backup.ledger import LedgerShipping, read_ledger
from backup.manifest import Manifest, backup_signer
from backup.place import Places, leave, open_store
from backup.reading import (
    Shelf,
    check_hashes,
    check_presence,
    check_schema,
    find_log,
    log_portions,
    read_newest_ring,
    read_rows,
    read_shelf,
)
from backup.restoring import Chosen, MayBeSigned, Replay, Restore, Restored, Staging
from backup.s3 import S3Access
from backup.service import Backups, Pace
from backup.store import FolderStore, ObjectStore
from backup.writing import About, Progress

__all__ = [
    "CLASSES",
    "About",
    "BackupError",
    "Backups",
    "Chosen",
    "FolderStore",
    "Identities",
    "LedgerShipping",
    "Manifest",
    "MayBeSigned",
    "NoSuchSetError",
    "ObjectStore",
    "Pace",
    "Places",
    "Progress",
    "Recipients",
    "Replay",
    "Restore",
    "Restored",
    "S3Access",
    "Shelf",
    "Staging",
    "StoreError",
    "TableClass",
    "TargetNotEmptyError",
    "UnknownSignerError",
    "WrongKeyError",
    "backup_signer",
    "check_hashes",
    "check_presence",
    "check_schema",
    "find_log",
    "leave",
    "log_portions",
    "open_store",
    "read_ledger",
    "read_newest_ring",
    "read_rows",
    "read_shelf",
]
