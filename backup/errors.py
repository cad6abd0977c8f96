"""What can go wrong with backups: each error says which object, and ends with an exit code.

The codes are those of docs/formats/backup.md. Whatever a restore raises, its target is as it was.
"""

from kernel import ConfigurationError, YinyomError

_UNTOUCHED = "Nothing was changed. "


class BackupError(YinyomError):
    """Root of the errors of backups."""

    slug = "backup"
    status = 500
    title = "The backup cannot be used like this"
    remedy = _UNTOUCHED + "Run `yinyom backup verify` and read its report."


class StoreError(ConfigurationError):
    """The backup store is not configured, not reachable, or not the one that it was."""

    slug = "backup-store"
    title = "The backup store cannot be used"
    remedy = "Run `yinyom backup init --store folder:PATH` or `--store s3://BUCKET/PREFIX`."


class NoSuchSetError(BackupError):
    """There is no backup, or none of the generation asked for."""

    slug = "backup-unknown"
    status = 404
    title = "There is no such backup"
    remedy = _UNTOUCHED + "`yinyom backup list` names those that are there."
    exit_code = 10


class BadSignatureError(BackupError):
    """A manifest, ledger object or log is not signed by the key that this store belongs to."""

    slug = "backup-signature"
    title = "The backup does not bear the right signature"
    remedy = _UNTOUCHED + "Somebody wrote to the store who is not this registry. Keep it as it is."
    exit_code = 11


class UnknownSignerError(BackupError):
    """Nobody said whose signature the store must bear, and the store does not get to say it."""

    slug = "backup-signer"
    status = 409
    title = "It is not known whose signature the backups must bear"
    remedy = (
        _UNTOUCHED + "Give --signer KEY as `backup init` printed it, or --kit FILE with a recovery "
        "kit that names it. A key that only the store names proves nothing."
    )
    exit_code = 11


class MissingObjectError(BackupError):
    """An object that a manifest names, or the next one of a row, is not in the store."""

    slug = "backup-missing"
    title = "An object is missing from the store"
    remedy = _UNTOUCHED + "Look for it in older versions of the bucket, or in a second copy."
    exit_code = 12


class CorruptObjectError(BackupError):
    """An object is not what its manifest says: a bit, a length or a place differs."""

    slug = "backup-corrupt"
    title = "An object of the store is damaged"
    remedy = _UNTOUCHED + "Fetch it from a second copy, or take an earlier generation."
    exit_code = 13


class WrongKeyError(BackupError):
    """None of the identities at hand opens the backup."""

    slug = "backup-key"
    title = "This key does not open the backup"
    remedy = _UNTOUCHED + "Give the recovery kit whose recipient is named above (--kit FILE)."
    exit_code = 14


class TruncatedManifestError(BackupError):
    """A manifest ends before its signature, or is not one."""

    slug = "backup-manifest"
    title = "A manifest is cut short or not of the format"
    remedy = _UNTOUCHED + "Fetch it from a second copy, or take an earlier generation."
    exit_code = 15


class OtherSchemaError(BackupError):
    """A backup was made by a version of Yinyom whose tables are not this one's."""

    slug = "backup-schema"
    status = 409
    title = "This version of Yinyom does not restore that backup"
    remedy = _UNTOUCHED + "Restore it with the version that made it, then upgrade what it restored."
    exit_code = 15


class TargetNotEmptyError(BackupError):
    """A restore goes into an empty place only."""

    slug = "backup-target"
    status = 409
    title = "There is something at the target already"
    remedy = _UNTOUCHED + "Name a folder that does not exist yet, or an empty database."
    exit_code = 16


class OlderRefusedError(BackupError):
    """An older generation than the newest one was asked for without saying that it is meant."""

    slug = "backup-older"
    status = 409
    title = "There is a newer backup than this one"
    remedy = _UNTOUCHED + "Say --allow-older if going further back is what you mean."
    exit_code = 17


class LedgerGapError(BackupError):
    """The rights ledger in the store is not whole, so nobody knows what must not come back."""

    slug = "backup-ledger"
    title = "The rights ledger in the store has a gap"
    remedy = _UNTOUCHED + "Find the missing object: without it, somebody erased could come back."
    exit_code = 18
