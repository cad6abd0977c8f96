"""The `vault-transit` KMS: a key of the transit engine of HashiCorp Vault or OpenBao.

The ring's context goes along as associated data. Old versions of the key are destroyed at once,
by raising the lowest version that may be used and trimming what is below it.
"""

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from kernel import YinyomError
from vault.errors import KeyRingError, UnreadableError
from vault.providers.protocol import ProviderHealth
from vault.providers.remote import (
    MISUNDERSTANDINGS,
    not_understood,
    refused,
    require,
    require_tls,
    unreachable,
)
from vault.wrapping import KeptSecret

_KMS = "Vault"
_REMEDY = "Look at kms.vault_key and at what the policy of this token allows."
_NO_KEY, _BAD_REQUEST = "kms_key_missing", "kms_bad_request"
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_CIPHERTEXT = re.compile(rb"vault:v[1-9][0-9]{0,8}:[A-Za-z0-9+/=]{1,4000}")
Answer = TypeVar("Answer")


class VaultTransitKeyProvider(KeptSecret):
    """One key of a transit engine, of type `aes256-gcm96`."""

    name = "vault-transit"
    destroys = True

    def __init__(
        self,
        address: str,
        token: str,
        *,
        key: str = "yinyom",
        mount: str = "transit",
        namespace: str = "",
        ca_file: Path | None = None,
        timeout_seconds: float = 10.0,
    ) -> None:
        try:
            import hvac
        except ImportError:
            raise KeyRingError(
                "the KMS `vault-transit` needs the package hvac",
                remedy="pip install 'yinyom[vault]'",
            ) from None
        require(address, "kms.vault_address", "Give it as https://…")
        require(token, "kms.vault_token", "Name its file in YINYOM_KMS__VAULT_TOKEN_FILE.")
        require_tls(address, "kms.vault_address")
        for part in (key, *mount.split("/")):
            if not _PART.fullmatch(part):
                raise KeyRingError("kms.vault_key or kms.vault_mount is not a name")
        self._key, self._mount = key, mount
        client = hvac.Client(
            url=address,
            token=token,
            namespace=namespace or None,
            verify=True if ca_file is None else str(ca_file),
            timeout=timeout_seconds,
            # The token goes to this address alone: no redirect, no proxy of the environment.
            allow_redirects=False,
        )
        client.adapter.session.trust_env = False
        self._transit = client.secrets.transit
        self._errors = hvac.exceptions
        self._down = (
            hvac.exceptions.BadGateway,
            hvac.exceptions.InternalServerError,
            hvac.exceptions.RateLimitExceeded,
            hvac.exceptions.VaultDown,
            hvac.exceptions.VaultNotInitialized,
        )

    def prepare(self) -> None:
        """Make the key when there is none yet."""
        try:
            self._read()
        except KeyRingError as error:
            if error.reason != _NO_KEY:
                raise
            self._ask(
                lambda: self._transit.create_key(
                    name=self._key,
                    key_type="aes256-gcm96",
                    exportable=False,
                    allow_plaintext_backup=False,
                    mount_point=self._mount,
                )
            )
            self._read()

    def wrap(self, secret: bytes | bytearray, context: bytes) -> bytes:
        """Protect a secret under the newest version of the key."""
        plain = base64.b64encode(secret).decode()
        data = self._data(
            lambda: self._transit.encrypt_data(
                name=self._key,
                plaintext=plain,
                associated_data=base64.b64encode(context).decode(),
                mount_point=self._mount,
            )
        )
        wrapped = _text(data, "ciphertext").encode()
        if not _CIPHERTEXT.fullmatch(wrapped):
            raise not_understood(_KMS)
        return wrapped

    def unwrap(self, wrapped: bytes, context: bytes) -> bytearray:
        """Open a secret under whichever living version wrapped it."""
        if not _CIPHERTEXT.fullmatch(wrapped):
            raise UnreadableError
        try:
            data = self._data(
                lambda: self._transit.decrypt_data(
                    name=self._key,
                    ciphertext=wrapped.decode(),
                    associated_data=base64.b64encode(context).decode(),
                    mount_point=self._mount,
                )
            )
        except KeyRingError as error:
            if error.reason == _BAD_REQUEST:
                raise UnreadableError from None
            raise
        try:
            return bytearray(base64.b64decode(_text(data, "plaintext"), validate=True))
        except ValueError:
            raise not_understood(_KMS) from None

    def rotate(self) -> str:
        """Make a new version of the key."""
        self._ask(lambda: self._transit.rotate_key(name=self._key, mount_point=self._mount))
        return str(self._read()[-1])

    def destroy(self, version: str) -> bool:
        """Destroy a version, and with it every one before it: Vault trims from the oldest on."""
        versions = self._read()
        number = int(version) if version.isdecimal() else 0
        if number >= versions[-1]:
            raise KeyRingError(
                "the newest version of the KMS root is in use and is not destroyed",
                remedy="Rotate first; the version before it can be destroyed then.",
            )
        if number >= versions[0]:
            lowest = number + 1
            self._configure(min_encryption_version=lowest)  # never under the one for decryption
            self._configure(min_decryption_version=lowest)
            self._ask(
                lambda: self._transit.trim_key(
                    name=self._key, min_version=lowest, mount_point=self._mount
                )
            )
        return True

    def health(self) -> ProviderHealth:
        """Ask which versions of the key there are."""
        try:
            found = self._read()
        except YinyomError as error:
            return ProviderHealth(ok=False, version="", versions=(), says=error.detail)
        versions = tuple(str(number) for number in found)
        says = f"Vault transit, key version {versions[-1]}"
        return ProviderHealth(ok=True, version=versions[-1], versions=versions, says=says)

    def _configure(self, **limits: int) -> None:
        self._ask(
            lambda: self._transit.update_key_configuration(
                name=self._key, mount_point=self._mount, **limits
            )
        )

    def _read(self) -> list[int]:
        """Give the numbers of the versions that are not trimmed away, the oldest first."""
        data = self._data(lambda: self._transit.read_key(name=self._key, mount_point=self._mount))
        try:
            oldest = max(1, int(data["min_available_version"]))
            versions = list(range(oldest, int(data["latest_version"]) + 1))
        except MISUNDERSTANDINGS:
            raise not_understood(_KMS) from None
        if not versions:
            raise not_understood(_KMS)
        return versions

    def _data(self, call: Callable[[], Any]) -> Any:
        answer = self._ask(call)
        try:
            return answer["data"]
        except (KeyError, TypeError):
            raise not_understood(_KMS) from None

    def _ask(self, call: Callable[[], Answer]) -> Answer:
        try:
            return call()
        except self._errors.InvalidPath:
            remedy = "Run `yinyom init` for a new registry, or put back the key of this one."
            raise refused(_KMS, "NoSuchKey", remedy, reason=_NO_KEY) from None
        except self._errors.InvalidRequest:
            raise refused(_KMS, "InvalidRequest", _REMEDY, reason=_BAD_REQUEST) from None
        except self._down as error:
            raise unreachable(_KMS, type(error).__name__) from None
        except self._errors.VaultError as error:
            raise refused(_KMS, type(error).__name__, _REMEDY) from None
        except OSError as error:  # what hvac's HTTP library raises
            raise unreachable(_KMS, type(error).__name__) from None
        except MISUNDERSTANDINGS:
            raise not_understood(_KMS) from None


def _text(data: Any, name: str) -> str:
    found = data.get(name) if isinstance(data, dict) else None
    if not isinstance(found, str):
        raise not_understood(_KMS)
    return found
