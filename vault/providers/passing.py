"""A KMS in RAM alone: what it wrapped is noise when the process has ended, as a drill wants it."""

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vault.errors import KeyRingError, UnreadableError
from vault.providers.protocol import ProviderHealth
from vault.wrapping import KEY_BYTES, KeptSecret, unwrap_into, wrap

_VERSION_BYTES = 4


class PassingKeyProvider(KeptSecret):
    """Roots that no file ever held."""

    name = "passing"
    destroys = True

    def __init__(self) -> None:
        self._ciphers = {1: _fresh()}

    def wrap(self, secret: bytes | bytearray, context: bytes) -> bytes:
        """Protect a secret under the newest root."""
        version = max(self._ciphers)
        prefix = version.to_bytes(_VERSION_BYTES, "big")
        return prefix + wrap(self._ciphers[version], secret, prefix + context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytearray:
        """Open a secret under the root that its first bytes name."""
        prefix = wrapped[:_VERSION_BYTES]
        cipher = self._ciphers.get(int.from_bytes(prefix, "big"))
        if cipher is None:
            raise UnreadableError
        return unwrap_into(cipher, wrapped[_VERSION_BYTES:], prefix + context)

    def rotate(self) -> str:
        """Make a new root."""
        version = max(self._ciphers) + 1
        self._ciphers[version] = _fresh()
        return str(version)

    def destroy(self, version: str) -> bool:
        """Forget a root."""
        if version == str(max(self._ciphers)):
            raise KeyRingError("the newest version of the KMS root is in use and is not destroyed")
        if version.isdecimal():
            self._ciphers.pop(int(version), None)
        return True

    def health(self) -> ProviderHealth:
        """Say which roots there are."""
        versions = tuple(str(version) for version in sorted(self._ciphers))
        return ProviderHealth(ok=True, version=versions[-1], versions=versions, says="in RAM alone")


def _fresh() -> AESGCM:
    return AESGCM(AESGCM.generate_key(8 * KEY_BYTES))
