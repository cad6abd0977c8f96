"""What anybody may know about a purpose before deciding: the data of `GET /v1/purposes`.

Names the words in force by hash, so that a consent can later be held against exactly what was
published. Holds nothing about any member.
"""

from datetime import datetime
from typing import Any

from kernel.i18n import Language
from policies.jurisdictions import lawful_basis
from policies.model import LawfulBasis, PolicyPack, Purpose


def public_purposes(pack: PolicyPack, at: datetime) -> list[dict[str, Any]]:
    """Describe every purpose, as `public_purpose` does, in the pack's order."""
    return [public_purpose(pack, purpose, at) for purpose in pack.purposes.values()]


def public_purpose(pack: PolicyPack, purpose: Purpose, at: datetime) -> dict[str, Any]:
    """Describe one purpose as JSON-ready data, with the notice revisions in force at a time.

    Raises:
        NotFoundError: no version of its notice is in force at that time.
    """
    notices = {lang: pack.current_notice(purpose.notice, lang, at) for lang in Language}
    shown = notices[Language.EN]
    return {
        "key": purpose.key,
        "title": purpose.title.as_dict(),
        "summary": purpose.summary.as_dict(),
        "dpv": purpose.dpv_iri,
        "basis": _bases(pack, purpose),
        "necessary_for_service": purpose.necessary_for_service,
        "direct_marketing": purpose.direct_marketing,
        "fields": [
            {"key": key, "title": field.title.as_dict()}
            for key, field in pack.fields.items()
            if key in purpose.fields
        ],
        "channels": [
            {
                "key": channel,
                "title": pack.channels[channel].title.as_dict(),
                "fields": [key for key in pack.fields if key in purpose.fields_for(channel)],
            }
            for channel in purpose.channels
        ],
        "recipients": purpose.recipients.as_dict(),
        "retention": {
            "class": purpose.retention_class,
            "title": pack.retention_classes[purpose.retention_class].title.as_dict(),
        },
        "withdrawal_consequence": purpose.withdrawal_consequence.as_dict(),
        "notice": {
            "key": purpose.notice,
            "version": shown.version,
            "change": shown.change.value,
            "effective_from": shown.effective_from.isoformat(),
            "revisions": {lang.value: notice.revision for lang, notice in notices.items()},
        },
    }


def _bases(pack: PolicyPack, purpose: Purpose) -> dict[str, Any]:
    found = {code: lawful_basis(purpose, place) for code, place in pack.jurisdictions.items()}
    return {
        **{code: _basis(basis) for code, basis in found.items()},
        "default": _basis(lawful_basis(purpose, None)),
    }


def _basis(basis: LawfulBasis) -> dict[str, Any]:
    section = {"section": basis.section} if basis.section else {}
    return {"type": basis.kind.value, **section, "name": basis.name.as_dict()}
