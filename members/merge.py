"""Which of two records of one person wins, field by field, and what is left of their consents.

Pure: provenance and states in, choices out; no value is looked at. Two rules decide everything.
A value that was verified beats one that was not, and the newer beats the older. And a merge never
allows anything that either record forbade: consent is narrowed, never widened.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from consent import ConsentState, Status
from members.repository import ContactPoint, MemberRow, Provenance
from policies import AgeTier

_REFUSALS = {
    Status.OBJECTED: 4,
    Status.WITHDRAWN: 3,
    Status.REFUSED: 2,
    Status.EXPIRED: 1,
    Status.GIVEN: 0,
}
_GUARDED = {AgeTier.GUARDIAN_ONLY: 2, AgeTier.MINOR_WITH_GUARDIAN: 1, AgeTier.ADULT: 0}


@dataclass(frozen=True, slots=True)
class Narrowing:
    """A decision that a merge or its undoing writes down, so that consent is never widened."""

    purpose: str
    channel: str
    status: Status
    notice_revision: str | None


def survivor_of(
    one: tuple[MemberRow, Sequence[ContactPoint]], other: tuple[MemberRow, Sequence[ContactPoint]]
) -> MemberRow:
    """Choose who stays: more verified contact points, else the older record."""

    def worth(record: tuple[MemberRow, Sequence[ContactPoint]]) -> tuple[int, int, str]:
        row, points = record
        return -sum(p.verified_us is not None for p in points), row.created_us, row.id

    return min(one, other, key=worth)[0]


def taken_from_merged(
    survivor: Mapping[str, Provenance], merged: Mapping[str, Provenance]
) -> frozenset[str]:
    """Name the fields whose value comes from the merged record: verified first, then newest."""
    return frozenset(
        field
        for field, theirs in merged.items()
        if field not in survivor or _rank(theirs) > _rank(survivor[field])
    )


def _rank(known: Provenance) -> tuple[bool, int]:
    return known.verified_us is not None, known.verified_us or known.collected_us


def narrowed(
    survivor: Sequence[ConsentState], merged: Sequence[ConsentState]
) -> tuple[Narrowing, ...]:
    """Give what must be written on the survivor so that every no of the merged record holds.

    A yes of the merged record is not carried over: it stays in that record's history, and the
    survivor was never asked.
    """
    held = {(s.purpose, s.channel): s for s in survivor}
    return tuple(
        Narrowing(s.purpose, s.channel, s.status, s.notice_revision)
        for s in merged
        if s.status is not Status.GIVEN and _beats(s, held.get((s.purpose, s.channel)))
    )


def _beats(state: ConsentState, held: ConsentState | None) -> bool:
    return held is None or _REFUSALS[state.status] > _REFUSALS[held.status]


def age_tier_of_both(survivor: AgeTier, merged: AgeTier) -> AgeTier:
    """Give the more guarded of two known tiers; an unknown one says nothing."""
    known = [tier for tier in (survivor, merged) if tier in _GUARDED]
    return max(known, key=_GUARDED.__getitem__, default=AgeTier.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Parting:
    """What undoing a merge writes on the two records; see `parted`."""

    survivor: tuple[Narrowing, ...]
    merged: tuple[Narrowing, ...]


def parted(
    before: Sequence[ConsentState],
    written: frozenset[str],
    now: Sequence[ConsentState],
    merged: Sequence[ConsentState],
) -> Parting:
    """Say which decisions undoing a merge must write down.

    `before` is what the survivor had, `written` the ids of the events that the merge itself
    wrote on it, `now` what it has, `merged` what the other record kept. A narrowing that only
    the merge made is taken back, but for an objection: only its person lifts that, and for a
    yes that a guardian gave: only a guardian, or who came of age, gives it again. Any no said
    since binds both: nobody knows which of the two persons said it. A yes said since binds
    neither further than they were.
    """
    had = {(s.purpose, s.channel): s for s in before}
    theirs = {(s.purpose, s.channel): s for s in merged}
    on_survivor: list[Narrowing] = []
    on_merged: list[Narrowing] = []
    for state in now:
        place = state.purpose, state.channel
        earlier = had.get(place)
        if earlier is not None and earlier.event_id == state.event_id:
            continue
        if state.event_id in written:
            if earlier is not None and state.status is not Status.OBJECTED and not _led(earlier):
                on_survivor.append(Narrowing(*place, earlier.status, earlier.notice_revision))
            continue
        if state.status is Status.GIVEN:
            if earlier is None or earlier.status is not Status.GIVEN:
                no = Status.WITHDRAWN if earlier is None else earlier.status
                on_survivor.append(Narrowing(*place, no, state.notice_revision))
            continue
        if _beats(state, theirs.get(place)):
            on_merged.append(Narrowing(*place, state.status, state.notice_revision))
    return Parting(tuple(on_survivor), tuple(on_merged))


def _led(state: ConsentState) -> bool:
    return state.status is Status.GIVEN and state.guardian_id is not None


@dataclass(frozen=True, slots=True)
class Restored:
    """Fields of the survivor after undoing: those as they are, and those as they were."""

    kept: frozenset[str]
    returned: frozenset[str]


def restored(
    before: Mapping[str, bytes], after: Mapping[str, bytes], now: Mapping[str, bytes]
) -> Restored:
    """Tell fields that were changed since the merge, which stay, from those that return.

    `before` and `after` are the survivor's sealed fields around the merge, `now` those it has.
    A field that came with the merged record and was not touched since is in neither set: it
    goes back. Nor is one that was the survivor's all along and was removed since: it stays away.
    """
    kept = {
        field
        for field, cell in now.items()
        if cell == before.get(field) or cell != after.get(field)
    }
    removed = {
        field for field, cell in before.items() if field not in now and after.get(field) == cell
    }
    return Restored(frozenset(kept), frozenset(before.keys() - kept - removed))
