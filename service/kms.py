"""Which KMS keeps the root key, as the settings say, and where the files of keys lie."""

from pathlib import Path

from kernel import ConfigurationError
from service.files import KEY_RING_FILE, KMS_ROOT_FILE
from service.settings import KmsSettings, Settings
from vault import FileKeyProvider, KeyProvider, KeyRing, create_key_ring, open_key_ring


def key_provider(kms: KmsSettings, keys_dir: Path) -> KeyProvider:
    """Give the KMS that the settings name; what it needs and lacks is a `ConfigurationError`."""
    return FileKeyProvider(kms.root_file or keys_dir / KMS_ROOT_FILE)


def new_key_provider(kms: KmsSettings, keys_dir: Path) -> KeyProvider:
    """Give the same KMS, with a root made in it when it has none yet."""
    provider = FileKeyProvider(kms.root_file or keys_dir / KMS_ROOT_FILE)
    if not provider.exists():
        provider.make()
    return provider


def open_ring(settings: Settings) -> KeyRing:
    """Open the key ring with one call to the KMS."""
    provider = key_provider(settings.kms, settings.keys_dir)
    path = settings.keys_dir / KEY_RING_FILE
    return open_key_ring(path, provider, erasable_dir=settings.kms.erasable_dir)


def make_ring(settings: Settings) -> KeyRing:
    """Make the first key ring of an installation, or open the one that an interrupted run left."""
    path = settings.keys_dir / KEY_RING_FILE
    if path.exists():
        return open_ring(settings)
    if not settings.on_postgres and settings.database_file.exists():
        raise ConfigurationError(
            "there is a database here, but not its key ring",
            remedy="Put the keys directory back. A new key ring could open nothing in it.",
        )
    provider = new_key_provider(settings.kms, settings.keys_dir)
    return create_key_ring(path, provider, settings.tenant, erasable_dir=settings.kms.erasable_dir)
