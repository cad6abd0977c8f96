"""One decision, written as others expect receipts: ISO/IEC TS 27560, Kantara 1.1, a page to print.

Pure: what was decided, the pack's words and the controller's facts in, documents out. The
mandatory fields of TS 27560 are those of the W3C guide to it; terms are those of DPV 2.3. What
the registry does not know is said to be unknown and never left to be guessed.
"""

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from consent.model import ConsentEvent, NoticeRecord, Status
from kernel import rfc3339
from kernel.i18n import Language
from policies import (
    DPV,
    BasisKind,
    Channel,
    Controller,
    FieldKey,
    JurisdictionCode,
    LocalText,
    PolicyPack,
    Purpose,
)

ISO_SCHEMA = "ISO/IEC TS 27560:2023"
KANTARA = "KI-CR-v1.1.0"
WITHDRAWAL = "in the member portal, or POST /v1/members/{id}/consents:withdraw"
_STATES = {
    Status.GIVEN: "ConsentGiven",
    Status.REFUSED: "ConsentRefused",
    Status.WITHDRAWN: "ConsentWithdrawn",
    Status.EXPIRED: "ConsentExpired",
    Status.OBJECTED: "ConsentStatusInvalidForProcessing",
}
_DECISIONS: Mapping[Status, LocalText] = {
    Status.GIVEN: LocalText("ให้ความยินยอม", "Allowed", "同意"),
    Status.REFUSED: LocalText("ไม่ให้ความยินยอม", "Not allowed", "不同意"),
    Status.WITHDRAWN: LocalText("ถอนความยินยอม", "Withdrawn", "撤回同意"),
    Status.EXPIRED: LocalText("ความยินยอมหมดอายุ", "Ran out", "同意已到期"),
    Status.OBJECTED: LocalText("คัดค้านการตลาดแบบตรง", "Objected", "拒絕行銷"),
}
_LABELS: Mapping[str, LocalText] = {
    "title": LocalText("ใบรับความยินยอม", "Consent receipt", "同意收據"),
    "decision": LocalText("การตัดสินใจ", "Decision", "決定"),
    "purpose": LocalText("วัตถุประสงค์", "Purpose", "目的"),
    "channel": LocalText("ช่องทาง", "Channel", "管道"),
    "moment": LocalText("เวลา (UTC)", "Moment (UTC)", "時間（UTC）"),
    "controller": LocalText("ผู้ควบคุมข้อมูลส่วนบุคคล", "Controller", "個人資料控管者"),
    "contact": LocalText("ติดต่อ", "Contact", "聯絡方式"),
    "number": LocalText("เลขที่ใบรับ", "Receipt number", "收據編號"),
    "record": LocalText("รายการในบันทึกตรวจสอบ", "Entry in the audit log", "稽核紀錄編號"),
    "revision": LocalText("รหัสข้อความ", "Revision of the words", "告知內容版本碼"),
    "consequence": LocalText("ถ้าถอนความยินยอม", "If you withdraw", "若您撤回"),
    "words": LocalText("ข้อความที่แสดงต่อคุณ", "The words you were shown", "向您顯示的內容"),
    "signature": LocalText(
        "ลายมือชื่ออิเล็กทรอนิกส์ของใบรับนี้", "The signature of this receipt", "本收據的電子簽章"
    ),
}


@dataclass(frozen=True, slots=True)
class Receiptable:
    """Everything that a receipt may say of one decision.

    `principal` is how whoever asks knows the member (`sub_…`, or `self`), `jurisdiction` the
    law the member is under.
    """

    event: ConsentEvent
    notice: NoticeRecord | None
    jurisdiction: str
    principal: str
    controller: Controller
    pack: PolicyPack
    log: str

    @property
    def purpose(self) -> Purpose | None:
        """The purpose, if the pack still has it."""
        return self.pack.purposes.get(self.event.purpose)  # type: ignore[call-overload, no-any-return]

    @property
    def language(self) -> Language:
        """The language of the words that were shown; Thai where none were."""
        return Language(self.notice.lang) if self.notice is not None else Language.TH

    def facts(self) -> dict[str, Any]:
        """Say what ties a receipt of another format to our log; `consent/verify.py` reads it."""
        return {
            "id": self.event.id,
            "decision": self.event.status.value,
            "purpose": self.event.purpose,
            "channel": self.event.channel or None,
            "notice_revision": self.event.notice_revision,
            "audit_id": self.event.audit_id,
            "log": self.log,
        }


def iso27560(said: Receiptable) -> dict[str, Any]:
    """Write a receipt in the four sections of TS 27560 as JSON-LD in DPV terms."""
    event, controller = said.event, said.controller
    return {
        "@context": {"dpv": DPV, "dct": "http://purl.org/dc/terms/"},
        "@type": "https://w3id.org/dpv/schema/dpv-27560#receipt",
        "schema_version": ISO_SCHEMA,
        "receipt_id": event.id,
        "record_id": event.id,
        "pii_principal_id": said.principal,
        "processing": _processing(said),
        "parties": [
            {
                "party_id": controller.tenant,
                "party_type": f"{DPV}DataController",
                "name": controller.name or controller.tenant,
                "address": controller.said("address"),
                "contact": controller.said("contact"),
                "role": "controller",
            }
        ],
        "events": [
            {
                "event_time": rfc3339(event.at_us),
                "validity_duration": "until withdrawn",
                "entity_id": event.guardian_id or "member",
                "event_type": f"{DPV}ExplicitlyExpressedConsent",
                "event_state": DPV + _STATES[event.status],
            }
        ],
        "yinyom": said.facts(),
    }


def _processing(said: Receiptable) -> dict[str, Any]:
    purpose, language, pack = said.purpose, said.language, said.pack
    rules = pack.jurisdictions.get(JurisdictionCode(said.jurisdiction))
    basis = None if rules is None else rules.lawful_bases.get(BasisKind.CONSENT)
    kept = None if purpose is None else pack.retention_classes[purpose.retention_class]
    return {
        "privacy_notice": None
        if said.notice is None
        else f"/v1/notices/{said.notice.key}#{said.notice.revision}",
        "language": language.value,
        "purposes": [
            {
                "purpose": said.event.purpose
                if purpose is None
                else purpose.title.in_language(language),
                "purpose_type": None if purpose is None else purpose.dpv_iri,
                "lawful_basis": {
                    "type": f"{DPV}Consent",
                    "section": "" if basis is None else basis.section,
                },
                "pii_information": _information(said),
                "pii_controllers": [said.controller.tenant],
                "storage_locations": [said.controller.said("storage_location")],
                "retention_period": "" if kept is None else kept.title.in_language(language),
                "jurisdiction": said.jurisdiction,
                "recipient_third_parties": []
                if purpose is None
                else [purpose.recipients.in_language(language)],
                "withdrawal_method": WITHDRAWAL,
                "privacy_rights": [] if rules is None else sorted(rules.dsar),
                "authority": "" if rules is None else rules.authority.in_language(language),
            }
        ],
    }


def _information(said: Receiptable) -> list[dict[str, Any]]:
    fields = _fields(said)
    entries = [said.pack.fields[key] for key in said.pack.fields if key in fields]
    return [
        {
            "pii_type": entry.key,
            "title": entry.title.in_language(said.language),
            "optional": True,
            "sensitive_pii_category": entry.sensitive,
            "special_pii_category": entry.sensitive,
        }
        for entry in entries
    ]


def _fields(said: Receiptable) -> frozenset[FieldKey]:
    purpose = said.purpose
    if purpose is None:
        return frozenset()
    channel = Channel(said.event.channel) if said.event.channel else None
    return purpose.disclosable.get(channel, frozenset())


def kantara(said: Receiptable) -> dict[str, Any]:
    """Write a Kantara Consent Receipt 1.1.

    Data leaves to third parties exactly where a purpose has channels: a sender and the provider
    of the channel (the purpose's `recipients`).
    """
    purpose, language, event = said.purpose, said.language, said.event
    fields = _fields(said)
    sensitive = sorted(key for key in fields if said.pack.fields[key].sensitive)
    categories = sorted({said.pack.fields[key].category for key in fields})
    kept = None if purpose is None else said.pack.retention_classes[purpose.retention_class]
    title = event.purpose if purpose is None else purpose.title.in_language(language)
    recipients = "" if purpose is None else purpose.recipients.in_language(language)
    return {
        "version": KANTARA,
        "jurisdiction": said.jurisdiction,
        "consentTimestamp": event.at_us // 1_000_000,
        "collectionMethod": str(event.evidence.get("place", event.evidence.get("form", "api"))),
        "consentReceiptID": event.id,
        "language": language.value,
        "piiPrincipalId": said.principal,
        "piiControllers": [
            {
                "piiController": said.controller.name or said.controller.tenant,
                "contact": said.controller.said("contact"),
                "address": {"streetAddress": said.controller.said("address")},
                "email": said.controller.said("contact"),
                "phone": "",
            }
        ],
        "policyUrl": "" if said.notice is None else f"/v1/notices/{said.notice.key}",
        "services": [
            {
                "service": title,
                "purposes": [
                    {
                        "purpose": title,
                        "purposeCategory": [DPV if purpose is None else purpose.dpv_iri],
                        "consentType": "EXPLICIT",
                        "piiCategory": [*categories],
                        "primaryPurpose": purpose is not None and purpose.necessary_for_service,
                        "termination": "" if kept is None else kept.title.in_language(language),
                        "thirdPartyDisclosure": purpose is not None and purpose.channelled,
                        "thirdPartyName": recipients,
                    }
                ],
            }
        ],
        "sensitive": bool(sensitive),
        "spiCat": [*sensitive],
        "yinyom": said.facts(),
    }


def page(said: Receiptable, signature: str) -> str:
    """Write a receipt to print, in the language of the words shown, bearing its signature.

    The page is signed over itself without the signature, so it is made twice: first with none.
    """
    language = said.language

    def label(key: str) -> str:
        return html.escape(_LABELS[key].in_language(language))

    channel = said.pack.channels.get(Channel(said.event.channel))
    purpose = said.purpose
    rows = {
        "decision": _DECISIONS[said.event.status].in_language(language),
        "purpose": said.event.purpose if purpose is None else purpose.title.in_language(language),
        "channel": "" if channel is None else channel.title.in_language(language),
        "moment": rfc3339(said.event.at_us),
        "controller": said.controller.name or said.controller.tenant,
        "contact": said.controller.said("contact"),
        "number": said.event.id,
        "record": said.event.audit_id,
        "revision": said.event.notice_revision or "",
        "consequence": ""
        if purpose is None
        else purpose.withdrawal_consequence.in_language(language),
    }
    listed = "\n".join(
        f"<dt>{label(key)}</dt><dd>{html.escape(value)}</dd>"
        for key, value in rows.items()
        if value
    )
    words = (
        ""
        if said.notice is None
        else f"<h2>{label('words')}</h2>\n"
        f'<pre class="words" lang="{said.notice.lang}">{html.escape(said.notice.text)}</pre>\n'
    )
    return (
        f'<!doctype html>\n<html lang="{language.value}">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{label('title')}</title>\n"
        '<link rel="stylesheet" href="/static/style.css">\n</head>\n<body>\n<main>\n'
        f"<h1>{label('title')}</h1>\n<dl>\n{listed}\n</dl>\n{words}"
        f'<h2>{label("signature")}</h2>\n<pre id="jws">{signature}</pre>\n'
        "</main>\n</body>\n</html>\n"
    )
