"""Receipts: the proof of a decision that a member can keep and anybody can check.

The core names purpose, channel, words (by hash), moment and controller, and is signed as a
compact JWS (RFC 7515) with Ed25519 (RFC 8037). It holds no personal value, so it can be kept
after the member is gone.
"""

import base64
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from consent.model import ConsentEvent, NoticeRecord
from kernel import rfc3339

FORMAT = "yinyom-receipt/0"


class ReceiptSigner:
    """Signs receipts for one controller; the key lives in the key ring."""

    def __init__(self, seed: bytes, controller: str) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self._controller = controller

    @property
    def controller(self) -> str:
        """Who decides why and how, as the receipts name them."""
        return self._controller

    def public_key(self) -> str:
        """Give the raw public key in base64url (the `x` of an OKP JWK, RFC 8037)."""
        return _b64(self._private.public_key().public_bytes_raw())

    def receipt(self, event: ConsentEvent, notice: NoticeRecord | None) -> dict[str, Any]:
        """Write the receipt of a consent event: its core in clear, and the signature over it."""
        core: dict[str, Any] = {
            "format": FORMAT,
            "id": event.id,
            "controller": self._controller,
            "purpose": event.purpose,
            "channel": event.channel or None,
            "decision": event.status.value,
            "decided_at": rfc3339(event.at_us),
            "notice": None
            if notice is None
            else {
                "key": notice.key,
                "version": notice.version,
                "lang": notice.lang,
                "revision": notice.revision,
            },
            "evidence": event.evidence,
            "audit_id": event.audit_id,
        }
        header = _b64(orjson.dumps({"alg": "EdDSA", "typ": "consent-receipt+jws"}))
        payload = _b64(orjson.dumps(core, option=orjson.OPT_SORT_KEYS))
        signature = _b64(self._private.sign(f"{header}.{payload}".encode()))
        return {"receipt": core, "jws": f"{header}.{payload}.{signature}"}


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
