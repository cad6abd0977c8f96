"""Where ring backups and the list of recovery kits lie."""

from kernel import Clock, Database
from service.files import RECOVERY_KITS_FILE, RING_BACKUP_FOLDER
from service.settings import Settings
from service.tasks import DAY_US
from vault import RecoveryKits, RingBackups, RingFolder, Vault


def recovery_kits(settings: Settings) -> RecoveryKits:
    """Give the kits that ring backups of this registry are sealed to."""
    return RecoveryKits(settings.keys_dir / RECOVERY_KITS_FILE)


def ring_folder(settings: Settings) -> RingFolder:
    """Give the folder of ring backups beside the key ring."""
    return RingFolder(settings.keys_dir / RING_BACKUP_FOLDER)


def wire_ring_backups(
    settings: Settings, database: Database, vault: Vault, clock: Clock
) -> RingBackups:
    """Put the keeping of ring backups together."""
    return RingBackups(
        database,
        vault,
        ring_folder(settings),
        recovery_kits(settings),
        clock,
        keep_us=settings.vault.ring_backup_days * DAY_US,
    )
