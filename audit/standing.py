"""How far an event's proof has come: waiting, signed, kept elsewhere, signed by somebody else.

Each step is worth more than the one before it. A signed head can be signed anew by whoever holds
the key; a copy of it in a place that cannot be rewritten, and a stranger's signature, cannot.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from audit import repository, search_repository
from kernel import ReadSession


class Standing(StrEnum):
    """The furthest step that an event's proof has reached."""

    WAITING = "waiting"
    SIGNED = "signed"
    ANCHORED = "anchored"
    WITNESSED = "witnessed"


@dataclass(frozen=True, slots=True)
class Reach:
    """Up to which size the log is signed, anchored and witnessed; 0 where nothing is."""

    signed: int
    anchored: int = 0
    witnessed: int = 0

    def of(self, index: int | None) -> Standing:
        """Say how far the event with a place in the log has come; None has no place yet."""
        if index is None or index >= self.signed:
            return Standing.WAITING
        if index < self.witnessed:
            return Standing.WITNESSED
        return Standing.ANCHORED if index < self.anchored else Standing.SIGNED


async def standing_of(
    session: ReadSession, events: Sequence[str], *, witnessed: int, anchored: int = 0
) -> Mapping[str, Standing]:
    """Say of events how far their proofs have come.

    `witnessed` and `anchored` are the sizes that enough witnesses have signed and that is kept
    elsewhere, 0 for none.
    """
    last = await repository.last_checkpoint(session)
    reach = Reach(0 if last is None else last[0], anchored, witnessed)
    places = await search_repository.places_of(session, events)
    return {event: reach.of(places.get(event)) for event in events}
