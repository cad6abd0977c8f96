"""The names of the files that hold keys, in the data directory and its folder of keys."""

KMS_ROOT_FILE = "kms-root"
KEY_RING_FILE = "key-ring.json"
RING_BACKUP_FOLDER = "ring-backup"
RECOVERY_KITS_FILE = "recovery-kits.json"
RECOVERY_KIT_FILE = "recovery-kit.txt"
