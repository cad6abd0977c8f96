"""What somebody at the console asks the trail: the words of the form, read and checked.

A word that is none is not looked for and not shown again: somebody may have typed a person's
number into the wrong field.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from audit import EventFilter, SavedView
from audit.search import ACTOR, DIGEST, REQUEST_ID, WORD
from kernel import MemberId, NotFoundError
from service.console.desk import Console, Desk
from service.evidence import key_of_member
from vault import OwnerKey

_SHAPES = {
    "actor": re.compile(ACTOR),
    "request": re.compile(REQUEST_ID),
    "policy": re.compile(DIGEST),
    **dict.fromkeys(("action", "purpose", "decision", "field"), re.compile(WORD)),
}
TYPED = (
    *("actor", "action", "purpose", "decision", "field", "view", "request", "policy"),
    *("from", "until"),
)


async def member_key(console: Console, desk: Desk, member: str) -> tuple[OwnerKey, tuple[str, ...]]:
    """Give key and monthly tokens of a member of the reader's brand, if they may look members up.

    Raises:
        NotAllowedError: They may not; an event says so.
        NotFoundError: There is no such member in their brand.
    """
    if not console.may(desk, "member", "lookup"):
        await console.refuse(desk, "members")
    key, tokens = await key_of_member(console.runtime, member)
    async with console.runtime.database.read() as session:
        row = await console.runtime.members.read(session, MemberId(member))
    if row.brand != desk.account.brand:
        raise NotFoundError(reason="member_unknown")
    return key, tokens


def read_question(
    desk: Desk, typed: Mapping[str, str], views: Mapping[str, SavedView]
) -> EventFilter | None:
    """Read what was asked for; None when a word is none, so that nothing odd is looked for."""
    words = {name: typed[name] or None for name in _SHAPES}
    if any(word is not None and not _SHAPES[name].match(word) for name, word in words.items()):
        return None
    if typed["view"] and typed["view"] not in views:
        return None
    try:
        since = _day_us(desk, typed["from"], 0)
        until = _day_us(desk, typed["until"], 1)
    except (ValueError, OverflowError):  # a year that no clock has
        return None
    return EventFilter(
        actor=words["actor"],
        action=words["action"],
        purpose=words["purpose"],
        decision=words["decision"],
        field=words["field"],
        request_id=words["request"],
        policy=words["policy"],
        view=views.get(typed["view"]),
        from_us=since,
        until_us=until,
    )


def _day_us(desk: Desk, text: str, days: int) -> int | None:
    """Give the first moment of a day, as the reader's clock has it, some days on."""
    if not text:
        return None
    day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=desk.zone) + timedelta(days=days)
    return max(0, int(day.astimezone(UTC).timestamp()) * 1_000_000)
