"""Wiring of the backup room, and the places into which a restore builds.

A restore needs no registry: the store, the recovery kit and this code are enough. What it builds
stands beside its target until one rename puts it there, so a process that dies leaves the target
as it was and a draft that the next restore clears away.
"""

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from audit import AuditLog, RightsLedger, Sequencing
from backup import (
    About,
    Backups,
    Identities,
    LedgerShipping,
    Pace,
    Places,
    Recipients,
    S3Access,
    Shelf,
    TargetNotEmptyError,
    UnknownSignerError,
    backup_signer,
    open_store,
    read_shelf,
)
from kernel import Building, Clock, ConfigurationError, Database, SystemClock
from service.files import KEY_RING_FILE, RECOVERY_KITS_FILE, RING_BACKUP_FOLDER
from service.kms import new_key_provider
from service.lock import DataDirLock
from service.schema import HEAD, migrate
from service.settings import DatabaseSettings, KmsSettings, Settings, VaultSettings
from vault import (
    KeyProvider,
    KeyRing,
    PassingKeyProvider,
    RecoveryKits,
    RingBackups,
    RingFolder,
    Vault,
)

_STAGING_SCHEMA = "yinyom_restoring"
_PINNED = "# Backup key: "


def s3_access(settings: Settings) -> S3Access:
    """Give how to reach S3 as the settings say."""
    backup = settings.backup
    secret = "" if backup.s3_secret_key is None else backup.s3_secret_key.get_secret_value()
    return S3Access(backup.s3_endpoint, backup.s3_region, backup.s3_access_key, secret)


def wire_backups(
    settings: Settings,
    database: Database,
    vault: Vault,
    audit: AuditLog,
    rights: RightsLedger,
    sequencer: Sequencing,
    clock: Clock,
    policy: str,
) -> tuple[Backups, LedgerShipping]:
    """Make the service of backups and the shipping of the rights ledger, and connect them."""
    signer = backup_signer(vault.ring_id, vault.backup_seed())
    places = Places(signer, lambda address: open_store(address, s3_access(settings)))
    shipping = LedgerShipping(database, rights, places, clock)
    rights.announce_through(shipping, shipping.nudge)
    backup = settings.backup
    backups = Backups(
        database,
        vault,
        audit,
        rights,
        places,
        shipping,
        About(database.dialect, HEAD, audit.origin, lambda: audit.vkey, policy),
        Pace(backup.every_hours, backup.ring_days, backup.keep_days),
        clock,
        sequencer.drain,
    )
    return backups, shipping


def kit_remark(ring: KeyRing) -> str:
    """Give the line by which a recovery kit knows whose signature its backups bear."""
    return _PINNED + backup_signer(ring.id, ring.backup_seed()).vkey


def pinned_key(kit: Path | None) -> str | None:
    """Read that line from a kit; None when there is no kit or an older one."""
    if kit is None or not kit.is_file():
        return None
    lines = kit.read_text(encoding="utf-8", errors="replace").splitlines()
    found = [line.removeprefix(_PINNED).strip() for line in lines if line.startswith(_PINNED)]
    return found[0] if found else None


def trusted_key(kit: Path | None, signer: str | None) -> str:
    """Give the key that a store's signatures are held against: as said, or as the kit knows it.

    The store names one too, and whoever could write to it could write that: `UnknownSignerError`.
    """
    known = signer or pinned_key(kit)
    if known is None:
        raise UnknownSignerError("neither --signer nor the recovery kit says it")
    return known


def kit_recipients(kit: Path) -> Recipients | None:
    """Give the public recipients of a kit; None when it is not here any more."""
    return Recipients(Identities.of_kit(kit).recipients) if kit.is_file() else None


async def open_shelf(settings: Settings, address: str, expected: str | None) -> Shelf:
    """Open a store and read its manifests."""
    return await read_shelf(open_store(address, s3_access(settings)), expected)


# --- staging --------------------------------------------------------------------------


class _Draft:
    """A folder beside the target; its lock says whether somebody is still at work in it."""

    def __init__(self, target: Path) -> None:
        self.target = target.absolute()
        self.folder = self.target.with_name(f".{self.target.name}.restoring")
        self._lock = DataDirLock(self.folder)

    def make(self, needed_bytes: int) -> None:
        if self.target.exists() and (not self.target.is_dir() or any(self.target.iterdir())):
            raise TargetNotEmptyError(f"{self.target.name} exists and is not an empty folder")
        if not self.target.parent.is_dir():
            raise ConfigurationError(f"there is no folder {self.target.parent.name}/ to restore to")
        if shutil.disk_usage(self.target.parent).free < needed_bytes:
            raise ConfigurationError(f"the restore needs {needed_bytes} bytes of free disk")
        self.folder.mkdir(mode=0o700, exist_ok=True)
        found = self.folder.lstat()
        if stat.S_ISLNK(found.st_mode) or found.st_uid != os.getuid():
            raise ConfigurationError(f"{self.folder.name} beside the target is not this user's")
        self.folder.chmod(0o700)
        if not self._lock.acquire():
            raise ConfigurationError("another restore is at work beside this target")
        for left in self.folder.iterdir():  # a restore that was killed
            if left.name != self._lock.name:
                shutil.rmtree(left) if left.is_dir() else left.unlink()

    def put(self) -> None:
        for file in self.folder.rglob("*"):
            _sync(file)
        self.folder.replace(self.target)
        _sync(self.target.parent)
        self._lock.release()

    def drop(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()


class _Keys:
    """What both stagings do with keys."""

    def __init__(self, draft: _Draft, kms: KmsSettings) -> None:
        self._draft = draft
        # The files of the restored keys lie in the draft: a root file elsewhere is another's.
        self._kms = kms.model_copy(update={"root_file": None})
        self.key_ring = draft.folder / "keys" / KEY_RING_FILE

    def provider(self) -> KeyProvider:
        """Give the KMS of the settings, with a root in it."""
        return new_key_provider(self._kms, self.key_ring.parent)

    async def keep(self, database: Database, vault: Vault, recipients: Recipients) -> None:
        """Make the ring backup that the same recovery kit opens."""
        keys, clock = self.key_ring.parent, SystemClock()
        kits = RecoveryKits(keys / RECOVERY_KITS_FILE)
        kits.add(recipients.texts, clock.now_us())
        folder = RingFolder(keys / RING_BACKUP_FOLDER)
        await RingBackups(database, vault, folder, kits, clock, keep_us=0).refresh()


class SqliteStaging(_Keys):
    """Builds a whole data directory and renames it."""

    def __init__(self, settings: Settings, target: Path, needed_bytes: int) -> None:
        super().__init__(_Draft(target), settings.kms)
        self._needed = needed_bytes
        self._settings = settings.model_copy(
            update={
                "data_dir": self._draft.folder,
                "database": DatabaseSettings(),
                "vault": VaultSettings(bucket_bits=settings.vault.bucket_bits),
            }
        )

    async def make(self) -> Database:
        """Make the folder and an empty registry in it."""
        from kernel.sqlite import SqliteDatabase

        self._draft.make(self._needed)
        await migrate(self._settings)
        return SqliteDatabase(self._settings.database_file, owes=Building)

    async def put(self, database: Database) -> None:
        """Close the file and rename its folder over the empty target."""
        await database.close()
        self._draft.put()

    async def drop(self, database: Database | None) -> None:
        """Remove the folder."""
        if database is not None:
            await database.close()
        self._draft.drop()


class DrillStaging(SqliteStaging):
    """Builds a data directory that nobody can open once the drill, however it ends, is over."""

    def provider(self) -> KeyProvider:
        """Make a KMS root that is in no file."""
        return PassingKeyProvider()


class PostgresStaging(_Keys):
    """Builds a schema beside the empty `public` and renames it; keys go into a folder."""

    def __init__(self, settings: Settings, url: str, target: Path, needed_bytes: int) -> None:
        super().__init__(_Draft(target), settings.kms)
        self._url = url
        self._needed = needed_bytes
        staged = f"{url}{'&' if '?' in url else '?'}search_path={_STAGING_SCHEMA}"
        self._settings = settings.model_copy(
            update={
                "data_dir": self._draft.folder,
                "database": DatabaseSettings(url=staged),
                "vault": VaultSettings(bucket_bits=settings.vault.bucket_bits),
            }
        )
        self._made = False

    async def make(self) -> Database:
        """Make folder and schema; the database must hold nothing."""
        from kernel.postgres import PostgresDatabase

        if await self._run(_COUNT_PUBLIC):
            raise TargetNotEmptyError("the database holds tables already")
        self._draft.make(self._needed)
        self._made = True
        await self._run(f"DROP SCHEMA IF EXISTS {_STAGING_SCHEMA} CASCADE")
        await self._run(f"CREATE SCHEMA {_STAGING_SCHEMA}")
        await migrate(self._settings)
        await self._run(
            f"SET LOCAL search_path TO {_STAGING_SCHEMA}", _guards("DISABLE"), "SELECT 1"
        )
        return PostgresDatabase(self._settings.database.url, owes=Building)

    async def put(self, database: Database) -> None:
        """Rename folder and schema; the database changes in one transaction."""
        await database.close()
        self._draft.put()
        try:
            await self._run(*_SWAP)
        except BaseException:
            self._draft.target.replace(self._draft.folder)
            raise

    async def drop(self, database: Database | None) -> None:
        """Remove folder and schema."""
        if database is not None:
            await database.close()
        if self._made:
            await self._run(f"DROP SCHEMA IF EXISTS {_STAGING_SCHEMA} CASCADE")
            self._draft.drop()

    async def _run(self, *statements: str) -> int:
        import asyncpg

        from kernel.postgres import driver_dsn

        try:
            connection = await asyncpg.connect(driver_dsn(self._url))
            try:
                async with connection.transaction():
                    for statement in statements[:-1]:
                        await connection.execute(statement)
                    return await connection.fetchval(statements[-1]) or 0
            finally:
                await connection.close()
        except asyncpg.DependentObjectsStillExistError as error:
            raise TargetNotEmptyError("something came into the database meanwhile") from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise ConfigurationError(
                f"the target database refused ({type(error).__name__})",
                remedy="The role needs to own the database: it renames a schema.",
            ) from error


_COUNT_PUBLIC = (
    "SELECT count(*) FROM pg_class WHERE relnamespace = "
    "(SELECT oid FROM pg_namespace WHERE nspname = 'public')"
)
# A function that fixed its search_path fixed it to the staging schema's name.
_MEND_FUNCTIONS = """
DO $$ DECLARE f regprocedure; BEGIN
  FOR f IN SELECT oid::regprocedure FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace AND proconfig IS NOT NULL
  LOOP EXECUTE format('ALTER FUNCTION %s SET search_path = public, pg_temp', f); END LOOP;
END $$
"""


def _guards(switch: str) -> str:
    """Switch the guards that ask for an event: off while rows are brought back, then on.

    Only the owner of the tables can, and nobody else can see the schema that is being built.
    """
    return f"""
        DO $$ DECLARE t record; BEGIN
          FOR t IN SELECT tgrelid::regclass AS of_table, tgname FROM pg_trigger
            JOIN pg_class ON pg_class.oid = tgrelid
            WHERE relnamespace = current_schema()::regnamespace AND tgname = relname || '_recorded'
          LOOP EXECUTE format('ALTER TABLE %s {switch} TRIGGER %I', t.of_table, t.tgname);
          END LOOP;
        END $$
    """  # noqa: S608 (either switch is a word of this file)


_SWAP: Sequence[str] = (
    "DROP SCHEMA public RESTRICT",  # fails when anything has come into it
    f"ALTER SCHEMA {_STAGING_SCHEMA} RENAME TO public",
    "GRANT USAGE ON SCHEMA public TO PUBLIC",
    "SET LOCAL search_path TO public",
    _MEND_FUNCTIONS,
    _guards("ENABLE ALWAYS"),
    "SELECT 1",
)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
