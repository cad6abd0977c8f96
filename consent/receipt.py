"""Receipts: the proof of a decision that a member can keep and anybody can check.

The core names purpose, channel, words (by hash), moment and controller, and is signed as a
compact JWS (RFC 7515) with Ed25519 (RFC 8037). It holds no personal value, so it can be kept
after the member is gone. `consent/verify.py` checks one without us.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from consent.model import ConsentEvent, NoticeRecord
from kernel import rfc3339

FORMAT = "yinyom-receipt/0"


class ReceiptSigner:
    """Signs receipts for one controller; the key lives in the key ring.

    `log` is the verifier key text of the log in which the decision is on record, so that the
    signature of a receipt also says which log may prove it.
    """

    def __init__(self, seed: bytes, controller: str, log: str | Callable[[], str] = "") -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.controller = controller
        self._log = log

    @property
    def log(self) -> str:
        """The verifier key text of the log, which may be replaced while this one signs."""
        return self._log if isinstance(self._log, str) else self._log()

    def public_key(self) -> str:
        """Give the raw public key in base64url (the `x` of an OKP JWK, RFC 8037)."""
        return _b64(self._private.public_key().public_bytes_raw())

    def jwk(self) -> dict[str, str]:
        """Give the public key as a JWK; `kid` is its thumbprint (RFC 7638)."""
        wanted = {"crv": "Ed25519", "kty": "OKP", "x": self.public_key()}
        thumbprint = _b64(hashlib.sha256(orjson.dumps(wanted)).digest())
        return {**wanted, "alg": "EdDSA", "use": "sig", "kid": thumbprint}

    def receipt(self, event: ConsentEvent, notice: NoticeRecord | None) -> dict[str, Any]:
        """Write the receipt of a consent event: its core in clear, and the signature over it."""
        core = self.core(event, notice)
        return {"receipt": core, "jws": self.sign(core)}

    def core(self, event: ConsentEvent, notice: NoticeRecord | None) -> dict[str, Any]:
        """Say what a receipt says in its own format."""
        return {
            "format": FORMAT,
            "id": event.id,
            "controller": self.controller,
            "purpose": event.purpose,
            "channel": event.channel or None,
            "decision": event.status.value,
            "decided_at": rfc3339(event.at_us),
            "decided_by": "member" if event.guardian_id is None else event.guardian_id,
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
            "log": self.log,
        }

    def sign(self, payload: Mapping[str, Any]) -> str:
        """Sign a payload as a compact JWS."""
        header = _b64(orjson.dumps({"alg": "EdDSA", "typ": "consent-receipt+jws"}))
        body = _b64(orjson.dumps(payload, option=orjson.OPT_SORT_KEYS))
        signature = _b64(self._private.sign(f"{header}.{body}".encode()))
        return f"{header}.{body}.{signature}"


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
