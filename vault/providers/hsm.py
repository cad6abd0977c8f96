"""The `pkcs11` KMS: AES keys on a token, a hardware security module or SoftHSM.

The keys are made on the token and are sensitive and not extractable; their version stands in
CKA_ID. Destroying a version destroys its object on the token.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kernel import YinyomError
from vault.cell import NONCE_BYTES, TAG_BYTES
from vault.errors import KeyRingError, UnreadableError
from vault.providers.protocol import ProviderHealth
from vault.providers.remote import refused, require, unreachable
from vault.wrapping import KEY_BYTES, KeptSecret

_KMS = "The PKCS#11 token"
_REMEDY = (
    "Look at kms.pkcs11_token, kms.pkcs11_key and the PIN; many tokens lock after a few tries."
)
_VERSION_BYTES = 4
_ONE_SESSION = threading.Lock()
"""PKCS#11 knows one login for a token and a process, whatever its threads do."""


class Pkcs11KeyProvider(KeptSecret):
    """The AES-256 keys of one label on one token; a session lasts as long as one call."""

    name = "pkcs11"
    destroys = True

    def __init__(self, module: Path | None, token: str, pin: str, *, key: str = "yinyom") -> None:
        try:
            import pkcs11
        except ImportError:
            raise KeyRingError(
                "the KMS `pkcs11` needs the package python-pkcs11",
                remedy="pip install 'yinyom[pkcs11]'",
            ) from None
        if module is None:
            raise KeyRingError("kms.pkcs11_module is not set", remedy="Name the token's library.")
        self._token = require(token, "kms.pkcs11_token", "Give the label of the token.")
        self._pin = require(pin, "kms.pkcs11_pin", "Name its file in YINYOM_KMS__PKCS11_PIN_FILE.")
        self._label = require(key, "kms.pkcs11_key", "Give the label of the key.")
        self._pkcs11 = pkcs11
        self._down = (
            pkcs11.DeviceError,
            pkcs11.DeviceRemoved,
            pkcs11.NoSuchToken,
            pkcs11.TokenNotPresent,
            pkcs11.TokenNotRecognised,
        )
        try:
            self._library = pkcs11.lib(str(module))
        except (RuntimeError, OSError, pkcs11.PKCS11Error):
            raise KeyRingError(
                f"{module.name} is no PKCS#11 library that can be loaded",
                remedy="Look at kms.pkcs11_module.",
            ) from None

    def prepare(self) -> None:
        """Make the first key when there is none yet."""
        with self._session(write=True) as session:
            if not self._keys(session):
                self._generate(session, 1)

    def wrap(self, secret: bytes | bytearray, context: bytes) -> bytes:
        """Protect a secret under the newest key."""
        with self._session() as session:
            version, key = max(self._existing(session).items())
            prefix, nonce = version.to_bytes(_VERSION_BYTES, "big"), os.urandom(NONCE_BYTES)
            body: bytes = key.encrypt(bytes(secret), **self._gcm(nonce, prefix + context))
        return prefix + nonce + body

    def unwrap(self, wrapped: bytes, context: bytes) -> bytearray:
        """Open a secret under the key that its first bytes name."""
        prefix, rest = wrapped[:_VERSION_BYTES], wrapped[_VERSION_BYTES:]
        nonce, body = rest[:NONCE_BYTES], rest[NONCE_BYTES:]
        if len(body) < TAG_BYTES:
            raise UnreadableError
        with self._session() as session:
            key = self._existing(session).get(int.from_bytes(prefix))
            if key is None:
                raise UnreadableError
            try:
                return bytearray(key.decrypt(body, **self._gcm(nonce, prefix + context)))
            except self._down:
                raise
            except self._pkcs11.PKCS11Error:
                # What a token says of a wrong tag differs from maker to maker.
                raise UnreadableError from None

    def rotate(self) -> str:
        """Make a new key on the token."""
        with self._session(write=True) as session:
            version = max(self._existing(session)) + 1
            self._generate(session, version)
        return str(version)

    def destroy(self, version: str) -> bool:
        """Destroy the object of a version."""
        with self._session(write=True) as session:
            keys = {str(number): key for number, key in self._existing(session).items()}
            if version == max(keys, key=int):
                raise KeyRingError(
                    "the newest version of the KMS root is in use and is not destroyed",
                    remedy="Rotate first; the version before it can be destroyed then.",
                )
            if version in keys:
                keys[version].destroy()
        return True

    def health(self) -> ProviderHealth:
        """Ask which versions are on the token."""
        try:
            with self._session() as session:
                versions = tuple(str(version) for version in sorted(self._existing(session)))
        except YinyomError as error:
            return ProviderHealth(ok=False, version="", versions=(), says=error.detail)
        says = f"PKCS#11 token, key version {versions[-1]}"
        return ProviderHealth(ok=True, version=versions[-1], versions=versions, says=says)

    def _keys(self, session: Any) -> dict[int, Any]:
        attribute = self._pkcs11.Attribute
        wanted = {
            attribute.CLASS: self._pkcs11.ObjectClass.SECRET_KEY,
            attribute.LABEL: self._label,
        }
        found: dict[int, Any] = {}
        for key in session.get_objects(wanted):
            version = int.from_bytes(key[attribute.ID])
            if version in found:
                raise KeyRingError("two keys on the token have the same label and version")
            found[version] = key
        return found

    def _existing(self, session: Any) -> dict[int, Any]:
        keys = self._keys(session)
        if not keys:
            remedy = "Run `yinyom init` for a new registry, or put back the token of this one."
            raise refused(_KMS, "NoSuchKey", remedy)
        return keys

    def _generate(self, session: Any, version: int) -> None:
        attribute, flag = self._pkcs11.Attribute, self._pkcs11.MechanismFlag
        session.generate_key(
            self._pkcs11.KeyType.AES,
            8 * KEY_BYTES,
            id=version.to_bytes(_VERSION_BYTES, "big"),
            label=self._label,
            store=True,
            capabilities=flag.ENCRYPT | flag.DECRYPT,
            template={attribute.SENSITIVE: True, attribute.EXTRACTABLE: False},
        )

    def _gcm(self, nonce: bytes, context: bytes) -> dict[str, Any]:
        parameters = self._pkcs11.GCMParams(nonce, context, 8 * TAG_BYTES)
        return {"mechanism": self._pkcs11.Mechanism.AES_GCM, "mechanism_param": parameters}

    @contextmanager
    def _session(self, *, write: bool = False) -> Iterator[Any]:
        try:
            with _ONE_SESSION:
                token = self._library.get_token(token_label=self._token)
                with token.open(rw=write, user_pin=self._pin) as session:
                    yield session
        except self._down as error:
            raise unreachable(_KMS, type(error).__name__) from None
        except self._pkcs11.PKCS11Error as error:
            raise refused(_KMS, type(error).__name__, _REMEDY) from None
