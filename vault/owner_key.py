"""Keys of one owner, in RAM for one piece of work.

What opens cells is kept as a cipher: the bytes it was made from lie in a buffer that is
overwritten at once. Only the pseudonym key leaves the vault as bytes. A key prints as what it
is of, and goes into no pickle.
"""

from typing import NoReturn

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kernel import NotAllowedError

PSEUDONYM = "pseudonym"


class OwnerKey:
    """An unwrapped key of one owner. Prints without its bytes."""

    __slots__ = ("_cipher", "_secret", "kind", "owner_id", "version")

    def __init__(self, owner_id: str, kind: str, version: int, key: bytes | bytearray) -> None:
        self.owner_id = owner_id
        self.kind = kind
        self.version = version
        speaks = kind == PSEUDONYM
        self._secret = bytes(key) if speaks else None
        self._cipher = None if speaks else AESGCM(key)

    def __repr__(self) -> str:
        return f"<key {self.kind} of {self.owner_id}>"

    def __reduce__(self) -> NoReturn:
        raise NotAllowedError("a key is written nowhere")

    @property
    def cipher(self) -> AESGCM:
        """What seals and opens the cells of this owner; the pseudonym key does neither."""
        if self._cipher is None:
            raise NotAllowedError("the pseudonym key seals no cell")
        return self._cipher

    @property
    def secret(self) -> bytes:
        """The raw key, for keyed digests under the pseudonym key."""
        if self._secret is None:
            raise NotAllowedError("only the pseudonym key leaves the vault")
        return self._secret
