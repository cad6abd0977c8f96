"""Checks a consent receipt from its file and a public key, with no database or network.

It trusts nothing but the key that the caller brings: whoever had the file in hand must not be
able to change one byte of it unnoticed, the proof that came along included. The file stands
alone on purpose: it needs Python and `cryptography` and nothing else of Yinyom, so a member, a
court or a regulator may copy it; and since it shares no line with the code that signed, a
mistake there does not repeat itself here. The format: docs/formats/receipt.md.
"""

import argparse
import base64
import binascii
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

__all__ = ["BadKeyError", "ReceiptReport", "key_text", "main", "verify_document", "verify_file"]

MAX_BYTES = 1_000_000
_TYPE = "consent-receipt+jws"
_KEY_BYTES = 32
_JWS_IN_PAGE = re.compile(rb'<pre id="jws">([A-Za-z0-9_.-]+)</pre>')
_SIGNATURE_LINE = re.compile(r"\u2014 (\S+) ([A-Za-z0-9+/=]+)\n")
_NOTE_ED25519 = 1


class BadKeyError(ValueError):
    """The key given by the caller is malformed: a usage error, not a finding."""


class _BadReceiptError(Exception):
    """Something about the receipt does not hold."""


@dataclass(frozen=True, slots=True)
class ReceiptReport:
    """What was found: the signed receipt when all of it holds, else why it does not.

    `proof` says whether an inclusion proof came along and holds (`verified`), or none came
    (`none`): then the receipt is signed, and nothing shows that the log has it.
    """

    ok: bool
    finding: str | None
    receipt: dict[str, Any] | None
    proof: str


def verify_file(raw: bytes, key: str, log_key: str | None = None) -> ReceiptReport:
    """Check a receipt as a file: JSON of any format, or the printable page.

    `key` is the receipt key (base64url, or the JWK); `log_key` the log's verifier key text,
    when it shall be another than the one the signed receipt names.
    """
    try:
        if raw.lstrip()[:1] == b"<":
            return ReceiptReport(True, None, _page(raw, _public(key)), "none")
        document = _document(raw)
    except _BadReceiptError as error:
        return ReceiptReport(False, str(error), None, "none")
    return verify_document(document, key, log_key)


def verify_document(
    document: dict[str, Any], key: str, log_key: str | None = None
) -> ReceiptReport:
    """Check a receipt that was read from JSON: `{"receipt", "jws"}` and perhaps `"proof"`."""
    public = _public(key)
    try:
        payload = _held(document, public, log_key)
    except _BadReceiptError as error:
        return ReceiptReport(False, str(error), None, "none")
    return ReceiptReport(True, None, payload, "verified" if "proof" in document else "none")


def _held(
    document: dict[str, Any], public: Ed25519PublicKey, log_key: str | None
) -> dict[str, Any]:
    """Give the signed payload when all of the document holds, or raise."""
    if not document.keys() <= {"receipt", "jws", "proof"} or "jws" not in document:
        raise _BadReceiptError("it is not a receipt of this format")
    payload = _signed(document["jws"], public)
    if "receipt" in document and _plain(document["receipt"]) != _plain(payload):
        raise _BadReceiptError("the receipt in clear is not the one that was signed")
    if "proof" in document:
        _prove(document["proof"], payload, log_key)
    return payload


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program; 0 when the receipt holds, 1 when it does not, 2 for wrong usage."""
    parser = argparse.ArgumentParser(description="Check a consent receipt.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--key", required=True, help="the receipt key, or a file with its JWK")
    parser.add_argument("--log-key", help="the log's verifier key text")
    given = parser.parse_args(arguments)
    try:
        report = verify_file(given.file.read_bytes(), key_text(given.key), given.log_key)
    except (OSError, BadKeyError) as error:
        parser.error(str(error))
    print("ok" if report.ok else f"refused: {report.finding}")  # noqa: T201 (its output)
    return 0 if report.ok else 1


def key_text(key: str) -> str:
    """Take a key, or read it from the file of that name."""
    file = Path(key)
    return file.read_text("utf-8") if len(key) < 256 and file.is_file() else key  # noqa: PLR2004


# --- the signature --------------------------------------------------------------------


def _public(key: str) -> Ed25519PublicKey:
    text = key.strip()
    try:
        if text.startswith("{"):
            jwk = json.loads(text)
            if (jwk["kty"], jwk["crv"]) != ("OKP", "Ed25519"):
                raise BadKeyError("the key is not an Ed25519 key")
            text = jwk["x"]
        raw = _unbase64url(text)
        if len(raw) != _KEY_BYTES:
            raise BadKeyError("the key is not 32 bytes")
        return Ed25519PublicKey.from_public_bytes(raw)
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError, _BadReceiptError) as error:
        raise BadKeyError("the key is neither base64url nor a JWK") from error


def _signed(jws: object, public: Ed25519PublicKey) -> dict[str, Any]:
    """Give the payload of a compact JWS (RFC 7515) that the key has signed, or raise."""
    if not isinstance(jws, str) or jws.count(".") != 2:  # noqa: PLR2004 (three parts)
        raise _BadReceiptError("the signature is not a compact JWS")
    header, payload, signature = jws.split(".")
    try:
        public.verify(_unbase64url(signature), f"{header}.{payload}".encode())
    except (InvalidSignature, UnicodeEncodeError) as error:
        raise _BadReceiptError("the signature does not fit: text or signature changed") from error
    said = _json(_unbase64url(header))
    if said.get("alg") != "EdDSA" or said.get("typ") != _TYPE:
        raise _BadReceiptError("the signature is not one of a receipt")
    return _json(_unbase64url(payload))


def _page(raw: bytes, public: Ed25519PublicKey) -> dict[str, Any]:
    """Check a page: the signed digest is that of the page without its signature."""
    found = _JWS_IN_PAGE.findall(raw)
    if len(found) != 1:
        raise _BadReceiptError("the page does not bear exactly one signature")
    payload = _signed(found[0].decode(), public)
    bare = raw.replace(found[0], b"", 1)
    if payload.get("page") != f"sha256:{sha256(bare).hexdigest()}":
        raise _BadReceiptError("the page is not the one that was signed")
    return payload


# --- reading --------------------------------------------------------------------------


def _document(raw: bytes) -> dict[str, Any]:
    """Read JSON that is written in one of two ways, so that no byte of it is without meaning."""
    if len(raw) > MAX_BYTES:
        raise _BadReceiptError("it is longer than any receipt")
    document = _json(raw)
    text = raw.decode()
    compact = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    indented = json.dumps(document, ensure_ascii=False, indent=2)
    if text.removesuffix("\n") not in {compact, indented}:
        raise _BadReceiptError("it is not written as a receipt is: something was changed")
    return document


def _json(raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise _BadReceiptError("it is not JSON") from error
    if not isinstance(found, dict):
        raise _BadReceiptError("it is not a receipt of this format")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _no(_: str) -> Any:
    raise ValueError("not a number of JSON")


def _plain(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _unbase64url(text: str) -> bytes:
    """Decode base64url without padding, and only as it is written by the book."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _BadReceiptError("it is not base64url") from error
    if base64.urlsafe_b64encode(raw).decode().rstrip("=") != text:
        raise _BadReceiptError("it is not base64url as it is written")
    return raw


def _unbase64(text: object) -> bytes:
    if not isinstance(text, str):
        raise _BadReceiptError("the proof is not one of this format")
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _BadReceiptError("the proof is not base64") from error
    if base64.b64encode(raw).decode() != text:
        raise _BadReceiptError("the proof is not base64 as it is written")
    return raw


# --- the inclusion proof --------------------------------------------------------------


def _prove(proof: object, payload: dict[str, Any], log_key: str | None) -> None:
    """Check that the event behind the receipt is in the log, under the log's signature."""
    if not isinstance(proof, dict) or proof.keys() != {"index", "event", "hashes", "checkpoint"}:
        raise _BadReceiptError("the proof is not one of this format")
    facts = payload.get("yinyom", payload)
    event = _unbase64(proof["event"])
    body = _json(event)
    wanted = {
        "id": facts.get("audit_id"),
        "resource": f"consent:{facts.get('id')}",
        "action": f"consent.{facts.get('decision')}",
        "purpose": facts.get("purpose"),
        "channel": facts.get("channel"),
    }
    if any(body.get(name) != value for name, value in wanted.items()):
        raise _BadReceiptError("the event of the proof is not that of the receipt")
    index, hashes = proof["index"], proof["hashes"]
    if type(index) is not int or not isinstance(hashes, list):
        raise _BadReceiptError("the proof is not one of this format")
    size, root = _head(proof["checkpoint"], log_key or str(facts.get("log")))
    leaf = sha256(b"\0" + event).digest()
    if _climb(index, size, leaf, [_unbase64(one) for one in hashes]) != root:
        raise _BadReceiptError("the proof does not lead to the root that the log signed")


def _head(note: object, vkey: str) -> tuple[int, bytes]:
    """Give size and root of a checkpoint that bears exactly the log's signature."""
    text, blank, lines = note.partition("\n\n") if isinstance(note, str) else ("", "", "")
    line = _SIGNATURE_LINE.fullmatch(lines)
    body = (text + "\n").split("\n")
    if not blank or line is None or len(body) != 4:  # noqa: PLR2004 (three lines, each ended)
        raise _BadReceiptError("the checkpoint is not one that one log has signed")
    name, _, rest = vkey.strip().partition("+")
    key_id, _, encoded = rest.partition("+")
    material, signature = _unbase64(encoded), _unbase64(line[2])
    expected = sha256(name.encode() + b"\n" + material).digest()[:4]
    named = key_id == expected.hex() and material[:1] == bytes([_NOTE_ED25519])
    if not named or (line[1], signature[:4]) != (name, expected) or body[0] != name:
        raise _BadReceiptError("the checkpoint is of another log than the receipt names")
    try:
        public = Ed25519PublicKey.from_public_bytes(material[1:])
        public.verify(signature[4:], (text + "\n").encode())
    except (InvalidSignature, ValueError) as error:
        raise _BadReceiptError("the log's signature does not fit its checkpoint") from error
    return int(body[1]), _unbase64(body[2])


def _climb(index: int, size: int, leaf: bytes, path: list[bytes]) -> bytes | None:
    """Walk an inclusion proof to its root (RFC 9162 section 2.1.3.2); None where it cannot be."""
    if not 0 <= index < size:
        return None
    place, edge, root = index, size - 1, leaf
    for sibling in path:
        if edge == 0:
            return None
        if place & 1 or place == edge:
            root = sha256(b"\1" + sibling + root).digest()
            while not place & 1 and place:
                place, edge = place >> 1, edge >> 1
        else:
            root = sha256(b"\1" + root + sibling).digest()
        place, edge = place >> 1, edge >> 1
    return root if edge == 0 else None


if __name__ == "__main__":
    sys.exit(main())
