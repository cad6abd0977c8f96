"""The `passphrase` KMS: a random root in a file, sealed under a passphrase by scrypt (RFC 7914).

Whoever has the whole disk and not the passphrase has to guess it, at 128 MiB of memory a guess.
The passphrase comes from the settings each time and is written nowhere; there is no default one.
"""

import base64
import binascii
import os
import unicodedata
from pathlib import Path
from typing import Any

import orjson
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from vault.errors import KeyRingError, UnreadableError
from vault.providers.versions import VersionedFiles
from vault.wrapping import KEY_BYTES, unwrap_into, wipe, wrap

FORMAT = "yinyom-passphrase/1"
SHORTEST = 12
_LABEL = b"passphrase1"
_SALT_BYTES = 16
_LOG_N, _MOST_LOG_N = 17, 20
_R, _P = 8, 1


class PassphraseKeyProvider(VersionedFiles):
    """A root that a file and a passphrase open together.

    `following` is the passphrase that the next version is sealed under: a rotation with it set
    changes the passphrase. `log_n` is scrypt's cost as a power of two, stored in the file.
    """

    name = "passphrase"

    def __init__(
        self, path: Path, passphrase: str, following: str = "", *, log_n: int = _LOG_N
    ) -> None:
        super().__init__(path)
        given = [unicodedata.normalize("NFKC", text) for text in (passphrase, following) if text]
        if not passphrase:
            raise KeyRingError(
                "no passphrase was given for the KMS root",
                remedy="Put it into a file and name that file in YINYOM_KMS__PASSPHRASE_FILE.",
            )
        if min(len(text) for text in given) < SHORTEST:
            raise KeyRingError(
                f"the passphrase is shorter than {SHORTEST} characters",
                remedy="Take five or six random words.",
            )
        self._known = [text.encode() for text in given]
        self._log_n = log_n

    def _seal_root(self, version: int) -> bytes:
        salt, root = os.urandom(_SALT_BYTES), bytearray(os.urandom(KEY_BYTES))
        key = _derive(self._known[-1], salt, self._log_n)
        try:
            wrapped = wrap(AESGCM(key), root, _context(version, self._log_n, salt))
        finally:
            wipe(key, root)
        return orjson.dumps(
            {
                "format": FORMAT,
                "kdf": "scrypt",
                "log_n": self._log_n,
                "r": _R,
                "p": _P,
                "salt": base64.b64encode(salt).decode(),
                "root": base64.b64encode(wrapped).decode(),
            },
            option=orjson.OPT_INDENT_2,
        )

    def _open_root(self, version: int, content: bytearray) -> bytearray:
        log_n, salt, wrapped = self._read(version, content)
        for passphrase in self._known:
            key = _derive(passphrase, salt, log_n)
            try:
                return unwrap_into(AESGCM(key), wrapped, _context(version, log_n, salt))
            except UnreadableError:
                continue
            finally:
                wipe(key)
        raise KeyRingError(
            f"the passphrase does not open {self._file(version).name}",
            remedy="Give the passphrase that the root was made with; "
            "the recovery kit opens the newest ring backup without it.",
        )

    def _read(self, version: int, content: bytearray) -> tuple[int, bytes, bytes]:
        try:
            document: dict[str, Any] = orjson.loads(content)
            log_n = document["log_n"]
            fit = (
                document["format"] == FORMAT
                and document["kdf"] == "scrypt"
                and (document["r"], document["p"]) == (_R, _P)
                and type(log_n) is int
                and 1 < log_n <= _MOST_LOG_N
            )
            salt = base64.b64decode(document["salt"], validate=True)
            wrapped = base64.b64decode(document["root"], validate=True)
        except (AttributeError, KeyError, TypeError, ValueError, binascii.Error) as error:
            raise self._no_key(version) from error
        if not fit or len(salt) != _SALT_BYTES:
            raise self._no_key(version)
        return log_n, salt, wrapped

    def _no_key(self, version: int) -> KeyRingError:
        return KeyRingError(f"{self._file(version).name} does not hold a sealed root key")


def _derive(passphrase: bytes, salt: bytes, log_n: int) -> bytearray:
    key = bytearray(KEY_BYTES)
    Scrypt(salt=salt, length=KEY_BYTES, n=1 << log_n, r=_R, p=_P).derive_into(passphrase, key)
    return key


def _context(version: int, log_n: int, salt: bytes) -> bytes:
    return _LABEL + version.to_bytes(4, "big") + bytes((log_n, _R, _P)) + salt
