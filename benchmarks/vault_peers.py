"""The peers of `benchmarks/vault.py`: what one would take from PyPI instead of our cells.

Each seals and opens a record field by field, as its own documents show it, with its key in
hand; a peer that is not installed is noted and left out (`pip install '.[bench]'`).
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """One library at work on single values, with the size in bytes of what it stores."""

    key: str
    label: str
    seal: Callable[[str], bytes | str]
    open: Callable[[bytes | str], str]

    def seal_all(self, values: Mapping[str, str]) -> list[bytes | str]:
        return [self.seal(value) for value in values.values()]

    def stored(self, values: Mapping[str, str]) -> int:
        return sum(len(one) for one in self.seal_all(values))


def peers() -> tuple[list[Peer], dict[str, str]]:
    """Give the peers that are installed, and why each of the others is not here."""
    found: list[Peer] = []
    missing: dict[str, str] = {}
    for name, make in {"fernet": _fernet, "utils": _sqlalchemy_utils, "tink": _tink}.items():
        try:
            found.append(make())
        except ImportError as error:
            missing[name] = f"{error.name} is not installed"
    return found, missing


def _fernet() -> Peer:
    from cryptography.fernet import Fernet

    fernet = Fernet(Fernet.generate_key())
    return Peer(
        "fernet",
        "cryptography Fernet",
        lambda value: fernet.encrypt(value.encode()),
        lambda sealed: fernet.decrypt(sealed).decode(),
    )


def _sqlalchemy_utils() -> Peer:
    from sqlalchemy import Unicode
    from sqlalchemy.dialects import sqlite
    from sqlalchemy_utils import StringEncryptedType
    from sqlalchemy_utils.types.encrypted.encrypted_type import AesGcmEngine

    column = StringEncryptedType(Unicode, os.urandom(32).hex(), AesGcmEngine)
    dialect = sqlite.dialect()
    return Peer(
        "utils",
        "sqlalchemy-utils, GCM engine",
        lambda value: column.process_bind_param(value, dialect),
        lambda sealed: column.process_result_value(sealed, dialect),
    )


def _tink() -> Peer:
    import tink
    from tink import aead

    aead.register()
    local = tink.new_keyset_handle(aead.aead_key_templates.AES256_GCM).primitive(aead.Aead)
    envelope = aead.KmsEnvelopeAead(aead.aead_key_templates.AES256_GCM, local)
    return Peer(
        "tink",
        "Tink KMS envelope, local KEK",
        lambda value: envelope.encrypt(value.encode(), b"member"),
        lambda sealed: envelope.decrypt(sealed, b"member").decode(),
    )
