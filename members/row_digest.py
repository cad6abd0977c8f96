"""Digests of whole member rows, by which the trail remembers what a row last was.

A cell that authenticates may still be an old one: whoever can write to the database can put
back what a member's row held last year, and its key opens it. So every event that writes a row
carries a keyed digest of the row as it became, under its version, and `yinyom vault verify`
holds the rows against the newest of them (docs/formats/audit-log.md). The key is the member's
pseudonym key: the digest tells nobody anything, and nothing at all once that key is destroyed.
"""

import hmac
import re
from collections.abc import Mapping
from struct import Struct

from kernel import id_bytes
from members.repository import MemberRow
from vault import OwnerKey

_LABEL = b"row1"
_DIGEST_BYTES = 16
_PREFIX = "row."
_NAME = re.compile(r"row\.([1-9][0-9]{0,5})")
_U32 = Struct(">I")


def row_digest(pseudonym: OwnerKey, row: MemberRow) -> dict[str, str]:
    """Give `row.<version>` → digest, to go into the `after` of the event that wrote the row.

    HMAC-SHA-256 under the pseudonym key, first 16 bytes, hex, over member, version, brand,
    jurisdiction, and every cell and its provenance in order of field. Cells are taken as they
    rest, sealed; nothing is opened.
    """
    return {f"{_PREFIX}{row.version}": digest_of(pseudonym, row)}


def digest_of(pseudonym: OwnerKey, row: MemberRow) -> str:
    """Give the digest alone."""
    return hmac.digest(pseudonym.secret, _message(row), "sha256")[:_DIGEST_BYTES].hex()


def recorded_digest(after: Mapping[str, str]) -> tuple[int, str] | None:
    """Read version and digest of a row out of the `after` of an event; None without one."""
    for name, digest in after.items():
        found = _NAME.fullmatch(name)
        if found is not None:
            return int(found[1]), digest
    return None


def _message(row: MemberRow) -> bytes:
    parts = [
        _LABEL,
        id_bytes(row.id),
        _U32.pack(row.version),
        _text(row.brand),
        _text(row.jurisdiction),
        _U32.pack(len(row.cells)),
    ]
    for field in sorted(row.cells):
        parts += (_text(field), _bytes(row.cells[field]))
    parts.append(_U32.pack(len(row.provenance)))
    for field in sorted(row.provenance):
        known = row.provenance[field]
        verified = "" if known.verified_us is None else str(known.verified_us)
        evidence = "" if known.evidence is None else known.evidence
        told = (field, known.source, str(known.collected_us), verified, evidence)
        parts += map(_text, told)
    return b"".join(parts)


def _text(text: str) -> bytes:
    return _bytes(text.encode())


def _bytes(data: bytes) -> bytes:
    return _U32.pack(len(data)) + data
