"""The record of processing activities, made from the pack and the facts of the installation.

GDPR art. 30(1)(a)-(g) and PDPA s.39(1)-(8) ask for the same things in other words; each entry
says which column answers which letter. Pure: nothing is typed in by hand twice, so the record
cannot drift from what the registry does. What nobody configured is said to be not configured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from policies.controller import Controller
from policies.jurisdictions import lawful_basis
from policies.model import Fact, PolicyPack, Purpose

COLUMNS: Mapping[str, Mapping[str, str]] = {
    "controller": {"EU": "30(1)(a)", "TH": "s.39(3)"},
    "purposes": {"EU": "30(1)(b)", "TH": "s.39(2)"},
    "data_subjects": {"EU": "30(1)(c)", "TH": "s.39(1)"},
    "categories": {"EU": "30(1)(c)", "TH": "s.39(1)"},
    "recipients": {"EU": "30(1)(d)", "TH": "s.39(6)"},
    "transfers": {"EU": "30(1)(e)", "TH": "s.39(6)"},
    "retention": {"EU": "30(1)(f)", "TH": "s.39(4)"},
    "rights": {"EU": "art. 15-22", "TH": "s.39(5)"},
    "refusals": {"EU": "5(2)", "TH": "s.39(7)"},
    "security": {"EU": "30(1)(g)", "TH": "s.39(8)"},
}
_SECURITY = (
    "each field encrypted under a key of its member (AES-256-GCM)",
    "no field opened without purpose, lawful basis, role and an event committed before",
    "signed append-only audit log that strangers can verify",
    "outlines by default; roles and scopes per purpose",
)


@dataclass(frozen=True, slots=True)
class Recipient:
    """An internal app or other receiver, and the purposes it may read for."""

    name: str
    brand: str
    purposes: tuple[str, ...]


def record_of_processing(
    pack: PolicyPack,
    controller: Controller,
    recipients: Sequence[Recipient],
    *,
    members: int,
    at: datetime,
) -> dict[str, Any]:
    """Write the record as JSON-ready data, with the columns of both laws."""
    return {
        "generated_at": at.isoformat(),
        "policy": {"name": pack.name, "version": pack.version, "digest": pack.digest},
        "columns": {name: dict(law) for name, law in COLUMNS.items()},
        "controller": {
            "name": controller.said("name"),
            "contact": controller.said("contact"),
            "dpo_contact": controller.said("dpo_contact"),
            "address": controller.said("address"),
        },
        "data_subjects": {"category": "members", "records": members},
        "transfers": {"storage_location": controller.said("storage_location")},
        "rights": {
            code: {key: _fact(fact) for key, fact in place.dsar.items()}
            for code, place in pack.jurisdictions.items()
        },
        "refusals": "GET /v1/refusals",
        "security": list(_SECURITY),
        "activities": [_activity(pack, purpose, recipients) for purpose in pack.purposes.values()],
    }


def _activity(
    pack: PolicyPack, purpose: Purpose, recipients: Sequence[Recipient]
) -> dict[str, Any]:
    fields = [field for key, field in pack.fields.items() if key in purpose.fields]
    categories = list(dict.fromkeys(field.category for field in fields))
    kept = pack.retention_classes[purpose.retention_class]
    classes = list(dict.fromkeys(field.retention_class for field in fields))
    return {
        "purpose": purpose.key,
        "title": purpose.title.as_dict(),
        "dpv": purpose.dpv_iri,
        "basis": {
            code: {
                "type": (basis := lawful_basis(purpose, place)).kind.value,
                "section": basis.section,
            }
            for code, place in pack.jurisdictions.items()
        },
        "direct_marketing": purpose.direct_marketing,
        "necessary_for_service": purpose.necessary_for_service,
        "categories": [{"key": key, "title": pack.categories[key].as_dict()} for key in categories],
        "fields": [field.key for field in fields],
        "sensitive": [field.key for field in fields if field.sensitive],
        "channels": list(purpose.channels),
        "recipients": {
            "stated": purpose.recipients.as_dict(),
            "clients": [
                {"name": one.name, "brand": one.brand}
                for one in recipients
                if purpose.key in one.purposes
            ],
        },
        "retention": {
            "class": purpose.retention_class,
            "title": kept.title.as_dict(),
            "periods": {
                key: {
                    code: _fact(fact) for code, fact in pack.retention_classes[key].period.items()
                }
                for key in classes
                if pack.retention_classes[key].period
            },
        },
        "notice": purpose.notice,
        "assessment": purpose.assessment,
    }


def _fact(fact: Fact) -> dict[str, Any]:
    value = list(fact.value) if isinstance(fact.value, tuple) else fact.value
    return {
        "value": value,
        "unit": fact.unit,
        "source": fact.source,
        "status": fact.status.value,
        "unverified": fact.unverified,
    }
