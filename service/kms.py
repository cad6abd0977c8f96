"""Which KMS keeps the root key, as the settings say, and where the files of keys lie."""

from pathlib import Path

from pydantic import SecretStr

from kernel import ConfigurationError
from service.files import KEY_RING_FILE, KMS_ROOT_FILE
from service.settings import KmsSettings, Settings
from service.shield import shield_process
from vault import (
    AwsKmsKeyProvider,
    FileKeyProvider,
    KeyProvider,
    KeyRing,
    PassphraseKeyProvider,
    Pkcs11KeyProvider,
    VaultTransitKeyProvider,
    create_key_ring,
    open_key_ring,
)


def key_provider(kms: KmsSettings, keys_dir: Path) -> KeyProvider:
    """Give the KMS that the settings name; what it needs and lacks is a `ConfigurationError`."""
    match kms.provider:
        case "file":
            return FileKeyProvider(kms.root_file or keys_dir / KMS_ROOT_FILE)
        case "passphrase":
            return PassphraseKeyProvider(
                kms.root_file or keys_dir / KMS_ROOT_FILE,
                _plain(kms.passphrase),
                _plain(kms.next_passphrase),
            )
        case "aws-kms":
            return AwsKmsKeyProvider(
                kms.aws_key,
                region=kms.aws_region,
                endpoint=kms.aws_endpoint,
                access_key=kms.aws_access_key,
                secret_key=_plain(kms.aws_secret_key),
                timeout_seconds=kms.timeout_seconds,
            )
        case "vault-transit":
            return VaultTransitKeyProvider(
                kms.vault_address,
                _plain(kms.vault_token),
                key=kms.vault_key,
                mount=kms.vault_mount,
                namespace=kms.vault_namespace,
                ca_file=kms.vault_ca_file,
                timeout_seconds=kms.timeout_seconds,
            )
        case "pkcs11":
            return Pkcs11KeyProvider(
                kms.pkcs11_module, kms.pkcs11_token, _plain(kms.pkcs11_pin), key=kms.pkcs11_key
            )


def new_key_provider(kms: KmsSettings, keys_dir: Path) -> KeyProvider:
    """Give the same KMS, with a root made in it when it has none yet.

    A key of AWS KMS is the operator's to make: it comes with a policy and a bill.
    """
    provider = key_provider(kms, keys_dir)
    if isinstance(provider, (FileKeyProvider, PassphraseKeyProvider)):
        if not provider.exists():
            provider.make()
    elif isinstance(provider, (VaultTransitKeyProvider, Pkcs11KeyProvider)):
        provider.prepare()
    return provider


def ring_file(settings: Settings) -> Path:
    """Give where the key ring lies."""
    return settings.keys_dir / KEY_RING_FILE


def open_ring(settings: Settings) -> KeyRing:
    """Open the key ring with one call to the KMS, in a process whose memory is shielded."""
    shield_process()
    provider = key_provider(settings.kms, settings.keys_dir)
    return open_key_ring(ring_file(settings), provider, erasable_dir=settings.kms.erasable_dir)


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


def _plain(secret: SecretStr | None) -> str:
    return "" if secret is None else secret.get_secret_value()
