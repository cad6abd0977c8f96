"""Rows that an import set aside: by whom they may be, and what an erasure does about them.

Such a row has no column that identifies anybody, or no columns at all, so nobody can say for sure
whose it is. What reads like an address anywhere in it leaves a keyed mark, and an erasure of a
member with that address takes the row along; a row with a name alone cannot be matched with
anybody, and ends on the day of its import.
"""

from collections.abc import Sequence

from kernel import UnitOfWork, to_date
from members import repository
from members.identifiers import identifier
from members.importing.columns import IDENTIFIERS
from members.normalise import Formats, Normal, normalise
from members.participants import Forgotten
from members.registration import normaliser_of
from members.repository import MemberRow
from policies import PolicyPack
from vault import Vault

UNMATCHED = "import_quarantine"
NOT_MATCHABLE = "not_matchable"
"""Kept until a day by no law: nobody can say whose it is."""
_LABEL = "import-mark"


def marks_of(
    pack: PolicyPack, vault: Vault, cells: Sequence[str], formats: Formats
) -> tuple[bytes, ...]:
    """Give the marks of everything in a row that reads like an address or a number of somebody.

    A value that has no form of its own, such as a card number, leaves none: a name reads like one,
    and names are never tagged.
    """
    found: set[bytes] = set()
    for entry in pack.fields.values():
        if entry.index is None or entry.key not in IDENTIFIERS:
            continue
        for cell in cells:
            answer = normalise(normaliser_of(entry), cell, formats) if cell.strip() else None
            if isinstance(answer, Normal):
                tag = vault.tags.suppression_tag(identifier(entry.index.value, answer.value))
                found.add(vault.keyed_digest(_LABEL, tag))
    return tuple(sorted(found))


async def forget_set_aside(work: UnitOfWork, vault: Vault, row: MemberRow) -> tuple[Forgotten, ...]:
    """Forget rows that bear a member's addresses, and name what nobody can match and when it ends.

    Belongs before the member's keys and tags go: the marks are made of them.
    """
    for _, tag in await vault.suppression_tags(work, row.id):
        await repository.drop_marked(work, row.brand, vault.keyed_digest(_LABEL, tag))
    until_us = await repository.set_aside_until(work, row.brand)
    return () if until_us is None else (Forgotten(UNMATCHED, to_date(until_us), NOT_MATCHABLE),)
