"""What a page of a feed tells of members, on record before it leaves: a row for each of them.

A feed discloses no field, but that somebody withdrew, or may not be written to, is personal as
well. Each member told of finds it among those who read their data, and it is proven like an export.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from audit import CHANGE_READ, SUPPRESSION_READ, AuditLog, Shown, draft_bulk, record_bulk
from kernel import Caller, Row, UnitOfWork
from vault import PSEUDONYM, Vault, key_from_row

PSEUDONYM_LABEL = "pseudonym"
_PREFIXES: Mapping[str, str] = {CHANGE_READ: "change.", SUPPRESSION_READ: "suppression."}


async def record_told(
    audit: AuditLog,
    vault: Vault,
    work: UnitOfWork,
    caller: Caller,
    action: str,
    told: Iterable[tuple[Row, str]],
    **details: Any,
) -> None:
    """Put on record of whom a page tells what; nothing of it may leave before `work` commits.

    `told` are rows with `member_id` and the columns of a pseudonym key, each with the kind of
    change or the reason told; a member who is told of twice has one row. Members whose key is
    destroyed have no token any more: an event without rows counts them.
    """
    words: dict[str, set[str]] = {}
    rows: dict[str, Row] = {}
    for row, word in told:
        rows[row["member_id"]] = row
        words.setdefault(row["member_id"], set()).add(_PREFIXES[action] + word)
    shown: list[Shown] = []
    for member_id, row in rows.items():
        wrapped = key_from_row(row, member_id, PSEUDONYM, PSEUDONYM_LABEL)
        if wrapped is not None:
            key = vault.unwrap(await vault.ensure_bucket(work, wrapped))
            shown.append(Shown(member_id, key, tuple(sorted(words[member_id]))))
    if shown:
        for bulk in draft_bulk(audit, caller, action, shown, **details):
            await record_bulk(audit, work, bulk)
    nameless = len(rows) - len(shown)
    if nameless or not rows:
        await audit.record(work, caller, action, decision="allow", count=nameless, **details)


def told_words(action: str, fields: Iterable[str]) -> list[str]:
    """Give what a feed told of a member as the feed says it; empty for what is no feed."""
    prefix = _PREFIXES.get(action)
    return [] if prefix is None else [word.removeprefix(prefix) for word in fields]
