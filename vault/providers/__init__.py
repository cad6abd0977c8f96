"""Where the KMS root lives: one class for each kind of place, all of one shape.

The root never enters a database or a backup. Providers that need a library of their own load it
when they are made, so that an embedded registry starts without any of them.
"""

from vault.providers.aws import AwsKmsKeyProvider
from vault.providers.file import FileKeyProvider
from vault.providers.hsm import Pkcs11KeyProvider
from vault.providers.passing import PassingKeyProvider
from vault.providers.passphrase import PassphraseKeyProvider
from vault.providers.protocol import KeyProvider, ProviderHealth
from vault.providers.transit import VaultTransitKeyProvider

__all__ = [
    "AwsKmsKeyProvider",
    "FileKeyProvider",
    "KeyProvider",
    "PassingKeyProvider",
    "PassphraseKeyProvider",
    "Pkcs11KeyProvider",
    "ProviderHealth",
    "VaultTransitKeyProvider",
]
