"""Writing a receipt in the format asked for, signed, with the log's proof once there is one."""

import base64
import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from audit import AuditLog, NoteError, Verifier, open_note
from consent.model import ConsentEvent
from consent.receipt import ReceiptSigner
from consent.receipt_forms import Receiptable, iso27560, kantara, page
from consent.service import ConsentService
from consent.verify import ReceiptReport, verify_document
from kernel import ReadSession
from policies import Controller, PolicyPack


class ReceiptFormat(StrEnum):
    """How a receipt is written."""

    OWN = "yinyom"
    ISO = "iso27560"
    KANTARA = "kantara-1.1"
    HTML = "html"


@dataclass(frozen=True, slots=True)
class Written:
    """A receipt as bytes to keep: exactly these are what `yinyom consents verify` takes."""

    content: bytes
    media_type: str


class Receipts:
    """Writes and checks receipts of one controller."""

    def __init__(
        self,
        signer: ReceiptSigner,
        pack: PolicyPack,
        audit: AuditLog,
        consent: ConsentService,
        controller: Controller,
    ) -> None:
        self.signer = signer
        self._pack = pack
        self._audit = audit
        self._consent = consent
        self._controller = controller

    async def write(
        self,
        session: ReadSession,
        event: ConsentEvent,
        form: ReceiptFormat,
        *,
        principal: str,
        jurisdiction: str,
    ) -> Written:
        """Write a receipt; JSON formats carry the inclusion proof when the log has the event.

        `principal` is how whoever asks knows the member, never the registry's own id.
        """
        proof = await self._proof(session, event)
        notice = (
            None
            if event.notice_revision is None
            else await self._consent.words(session, event.notice_revision)
        )
        if form is ReceiptFormat.OWN:
            core = self.signer.core(event, notice)
        else:
            said = Receiptable(
                event,
                notice,
                jurisdiction,
                principal,
                self._controller,
                self._pack,
                self.signer.log,
            )
            if form is ReceiptFormat.HTML:
                return Written(self._page(said), "text/html; charset=utf-8")
            core = iso27560(said) if form is ReceiptFormat.ISO else kantara(said)
        document: dict[str, Any] = {"receipt": core, "jws": self.signer.sign(core)}
        if proof is not None:
            document["proof"] = proof
        return Written(orjson.dumps(document), "application/json")

    async def verify(self, session: ReadSession, document: dict[str, Any]) -> ReceiptReport:
        """Check a receipt with this controller's own keys, and any key that the log ever had."""
        first: ReceiptReport | None = None
        for vkey in await self._audit.vkeys(session):
            report = verify_document(document, self.signer.public_key(), vkey)
            if report.ok:
                return report
            first = first or report
        return first or verify_document(document, self.signer.public_key(), self.signer.log)

    def _page(self, said: Receiptable) -> bytes:
        bare = page(said, "").encode()
        payload = said.facts() | {"page": f"sha256:{hashlib.sha256(bare).hexdigest()}"}
        return page(said, self.signer.sign(payload)).encode()

    async def _proof(self, session: ReadSession, event: ConsentEvent) -> dict[str, Any] | None:
        """Give the proof with the line of the log's key only: another's proves nothing here."""
        found = await self._audit.prove(session, event.audit_id)
        if found is None:
            return None
        text, _, lines = found.note.partition("\n\n")
        key = Verifier.from_vkey(self._audit.vkey)
        own = next(
            (line for line in lines.splitlines() if _is_by(key, f"{text}\n\n{line}\n")), None
        )
        if own is None:
            return None
        body = await self._audit.stored_bytes(session, event.audit_id)
        return {
            "index": found.index,
            "event": base64.b64encode(body).decode(),
            "hashes": [base64.b64encode(one).decode() for one in found.hashes],
            "checkpoint": f"{text}\n\n{own}\n",
        }


def _is_by(key: Verifier, note: str) -> bool:
    try:
        open_note(note, [key])
    except NoteError:
        return False
    return True
