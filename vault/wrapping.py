"""Wrapping of keys by keys: AES-256-GCM under a context, and buffers that are overwritten.

A wrapped key opens in its own place alone, so whoever moves one to another member, bucket or
ring gets nothing. Whoever reads this process's memory later finds no key that was only needed
to open another one: those pass through buffers that are overwritten.
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vault.cell import NONCE_BYTES
from vault.errors import UnreadableError

KEY_BYTES = 32
_NONCE = slice(None, NONCE_BYTES)
_BODY = slice(NONCE_BYTES, None)


def wrap(cipher: AESGCM, secret: bytes | bytearray, context: bytes) -> bytes:
    """Wrap a key: `nonce(12) ‖ ciphertext ‖ tag(16)`, bound to its context."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, secret, context)


def unwrap(cipher: AESGCM, wrapped: bytes, context: bytes) -> bytes:
    """Unwrap a key in its context, or raise `UnreadableError`."""
    try:
        return cipher.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], context)
    except (InvalidTag, ValueError) as error:
        raise UnreadableError from error


def unwrap_into(cipher: AESGCM, wrapped: bytes, context: bytes) -> bytearray:
    """Unwrap a 32-byte key into a buffer that the caller overwrites with `wipe`."""
    key = bytearray(KEY_BYTES)
    try:
        # Refuses, by its length, whatever does not hold exactly one key.
        cipher.decrypt_into(wrapped[_NONCE], wrapped[_BODY], context, key)
    except (InvalidTag, ValueError) as error:
        wipe(key)
        raise UnreadableError from error
    return key


def wipe(*buffers: bytearray) -> None:
    """Overwrite buffers that held keys."""
    for buffer in buffers:
        buffer[:] = bytes(len(buffer))


class KeptSecret:
    """What holds keys: prints as its name, and is neither copied nor pickled."""

    name: str

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def __reduce__(self) -> str:
        raise TypeError(f"{self!r} is neither copied nor pickled")
