"""Where the KMS root lives: one class for each kind of place, all of one shape.

The root never enters a database or a backup. Providers that need a library of their own load it
when they are made, so that an embedded registry starts without any of them.
"""

from vault.providers.file import FileKeyProvider
from vault.providers.passing import PassingKeyProvider
from vault.providers.protocol import KeyProvider, ProviderHealth

__all__ = ["FileKeyProvider", "KeyProvider", "PassingKeyProvider", "ProviderHealth"]
