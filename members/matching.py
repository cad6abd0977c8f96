"""How likely two records are one person: a score that people can follow, and its reasons.

Pure. Points speak for one person or against; a family that shares a phone, twins and a number
that changed hands must stay under the line, because a wrong merge harms two people. The weights
are set by hand and measured on labelled files (see docs/duplicates.md), not learnt.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations

from rapidfuzz import fuzz

from members.normalise.names import name_key

LINE = 60
"""From this score on a pair is shown to people."""
MOST_IN_BLOCK = 50
"""More members than this under one key say that the key means nothing."""

_SHARED = {"national_id": 60, "line_uid": 35, "email": 30, "card_no": 30, "phone": 20}
_ONE_HOLDER = "national_id"
_SAME_NAME, _LIKE_NAME, _OTHER_NAME = 92.0, 82.0, 70.0
_NAME, _ALIKE, _OTHER_GIVEN = 40, 20, -30
_BIRTH, _NEAR_BIRTH, _OTHER_BIRTH = 30, 15, -35
_POSTCODE = 5
_MOST = 100


@dataclass(frozen=True, slots=True)
class Profile:
    """What is compared of a member; names, dates and tags never leave the comparison."""

    member_id: str
    given_name: str = field(repr=False)
    family_name: str = field(repr=False)
    birth_date: str = field(repr=False)
    postcode: str = field(repr=False)
    tags: Mapping[str, frozenset[bytes]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Match:
    """A score from 0 to 100, and the names of the fields that speak for it."""

    score: int
    reasons: tuple[str, ...]


def profile(
    member_id: str, values: Mapping[str, str], tags: Mapping[str, frozenset[bytes]]
) -> Profile:
    """Bring opened values to the forms under which they are compared."""
    return Profile(
        member_id,
        name_key(values.get("given_name", "")),
        name_key(values.get("family_name", "")),
        values.get("birth_date", ""),
        values.get("postcode", ""),
        tags,
    )


def compare(one: Profile, other: Profile) -> Match:
    """Score two records; what one of them lacks says nothing."""
    points = 0
    reasons: list[str] = []
    for kind, worth in _SHARED.items():
        mine, theirs = one.tags.get(kind), other.tags.get(kind)
        if not mine or not theirs:
            continue
        if mine & theirs:
            points += worth
            reasons.append(kind)
        elif kind == _ONE_HOLDER:
            return Match(0, ())
    for found, names in (_names(one, other), _birth(one, other)):
        points += found
        if found > 0:
            reasons.extend(names)
    if one.postcode and one.postcode == other.postcode:
        points += _POSTCODE
        reasons.append("postcode")
    return Match(max(0, min(points, _MOST)), tuple(reasons))


def _names(one: Profile, other: Profile) -> tuple[int, tuple[str, ...]]:
    if not one.given_name or not other.given_name:
        return 0, ()
    whole = bool(one.family_name and other.family_name)
    given = fuzz.ratio(one.given_name, other.given_name)
    if not whole:
        same = given >= _SAME_NAME
        return (_ALIKE, ("given_name",)) if same else (_given_apart(given), ())
    # Sorted, so that a given and a family name in each other's place still agree.
    full = fuzz.token_sort_ratio(
        f"{one.given_name} {one.family_name}", f"{other.given_name} {other.family_name}"
    )
    family = fuzz.ratio(one.family_name, other.family_name)
    fields = ("given_name", "family_name")
    if full >= _SAME_NAME and (given >= _OTHER_NAME or family < _OTHER_NAME):
        return _NAME, fields
    if given < _OTHER_NAME and family >= _OTHER_NAME:
        return _OTHER_GIVEN, ()
    if full >= _LIKE_NAME:
        return _ALIKE, fields
    return _given_apart(given), ()


def _given_apart(given: float) -> int:
    return _OTHER_GIVEN if given < _OTHER_NAME else 0


def _birth(one: Profile, other: Profile) -> tuple[int, tuple[str, ...]]:
    mine, theirs = one.birth_date, other.birth_date
    if not mine or not theirs:
        return 0, ()
    if mine == theirs:
        return _BIRTH, ("birth_date",)
    swapped = mine[:4] == theirs[:4] and mine[5:7] == theirs[8:] and mine[8:] == theirs[5:7]
    one_digit = sum(a != b for a, b in zip(mine, theirs, strict=False)) == 1
    return (_NEAR_BIRTH, ("birth_date",)) if swapped or one_digit else (_OTHER_BIRTH, ())


def block_keys(record: Profile) -> Iterator[tuple[str, ...]]:
    """Give the keys under which a record may meet another that shares no identifier with it.

    Each holds a birth date or a postcode beside the name: a name alone brings strangers together.
    """
    name = " ".join(sorted(f"{record.given_name} {record.family_name}".split()))
    if record.birth_date and name:
        yield "name", name, record.birth_date
    if record.birth_date and record.postcode:
        yield "place", record.postcode, record.birth_date
    if record.birth_date and record.family_name:
        yield "family", record.family_name, record.birth_date
    if record.postcode and name:
        yield "near", name, record.postcode
    for kind, tags in record.tags.items():
        for tag in tags:
            yield kind, tag.hex()


def pairs_in_blocks(records: Iterable[Profile]) -> Iterator[tuple[Profile, Profile]]:
    """Give each pair that shares a key once; keys that too many share are left out."""
    blocks: dict[tuple[str, ...], list[Profile]] = {}
    for record in records:
        for key in block_keys(record):
            block = blocks.setdefault(key, [])
            if len(block) <= MOST_IN_BLOCK:
                block.append(record)
    seen: set[tuple[str, str]] = set()
    for block in blocks.values():
        if len(block) > MOST_IN_BLOCK:
            continue
        for one, other in combinations(block, 2):
            pair = one.member_id, other.member_id
            if pair not in seen:
                seen.add(pair)
                yield one, other
