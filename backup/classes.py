"""What each table is to a backup. A table that is not named here stops backups until it is.

`data` goes back to the day of the backup; `audit` and `rights` go on to their newest state; `keys`
travel in short-lived ring backups only; `never` is what must not outlive its moment or would let
a holder of the backup test whether somebody was here: sessions, tokens, codes, blind indexes.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from kernel import ConfigurationError


class TableClass(StrEnum):
    """How a table travels."""

    DATA = "data"
    RIGHTS = "rights"
    AUDIT = "audit"
    KEYS = "keys"
    NEVER = "never"


_NAMES: Mapping[TableClass, str] = {
    TableClass.DATA: """
        registry_fact epoch outbox
        notice consent_event consent_state member_gate
        member pairwise_id contact_point import_run import_row
        client staff
        loyalty_account points_entry points_lot purchase coupon loyalty_merge
        duplicate member_merge note_finding
        change change_head webhook webhook_delivery
        rights_request restriction guardian suppression audit_origin
        audit_hold audit_hold_subject audit_detail audit_review
    """,
    TableClass.RIGHTS: "rights_ledger",
    TableClass.AUDIT: """
        audit_event audit_pending audit_leaf audit_tile audit_checkpoint audit_head
        audit_pruned audit_key audit_manifest audit_manifest_token
    """,
    TableClass.KEYS: "vault_bucket vault_key",
    TableClass.NEVER: """
        vault_tag vault_index vault_ring vault_unbacked vault_destroyed vault_rekey vault_rotation
        access_token portal_session staff_session approval contact_code idempotency job
        import_upload import_part import_mark member_budget rights_export contact_claim
        backup_progress backup_set audit_cosignature audit_anchor
    """,
}

CLASSES: Mapping[str, TableClass] = {
    name: kind for kind, names in _NAMES.items() for name in names.split()
}

BLANKED: Mapping[tuple[str, str], Any] = {
    ("contact_point", "sign_in_tag"): None,
    ("import_row", "row_tag"): b"",
}
"""Columns that are blind indexes inside data tables, and what a backup holds instead."""


def tables_of(kind: TableClass, present: Iterable[str]) -> list[str]:
    """Give the tables of a class among those present, or say which one has no class."""
    names = sorted(present)
    strangers = [name for name in names if name not in CLASSES]
    if strangers:
        raise ConfigurationError(
            f"no backup knows what to do with {', '.join(strangers)}",
            remedy="Name the table in backup/classes.py; nothing is backed up until then.",
        )
    return [name for name in names if CLASSES[name] is kind]
