"""Opening the sealed fields of one member for a ticket, each under the kind of key it has."""

from collections.abc import Collection, Mapping

from members.errors import MemberNotFoundError
from members.repository import MemberRow
from members.retention import key_kind
from members.sources import MEMBER_TABLE
from policies import PolicyPack
from vault import AccessTicket, OwnerKey, Vault


def open_fields(
    pack: PolicyPack,
    vault: Vault,
    ticket: AccessTicket,
    keys: Mapping[str, OwnerKey],
    row: MemberRow,
    fields: Collection[str],
) -> dict[str, str]:
    """Open some fields of a row; `MemberNotFoundError` when a key of theirs is gone."""
    by_kind: dict[str, dict[str, bytes]] = {}
    for field in fields:
        by_kind.setdefault(key_kind(pack, field), {})[field] = row.cells[field]
    opened: dict[str, str] = {}
    for kind, cells in by_kind.items():
        if kind not in keys:
            raise MemberNotFoundError(reason="member_unknown")
        opened |= vault.open(ticket, keys[kind], MEMBER_TABLE, row.id, cells)
    return opened
