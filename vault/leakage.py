"""What a stored tag gives away: pure arithmetic, checked against simulated attacks.

Whoever steals the database has the tags and not their keys. Equal values have equal tags, so the
thief sees how often each value occurs and holds that against what is known of people: the most
frequent tag is the most frequent surname. For identifiers that next to nobody shares that leads
nowhere; for months of birth it names most members. Whoever holds the keys as well can try every
value there is, which takes seconds for telephone numbers.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

FEWEST_VALUES = 16
"""CipherSweet's planner refuses a blind index over fewer values."""
_EXACT_TAGS = 48
_APART = 200
_GROWTH = 0.1
_SURE = 6.0
_STEPS = 20
_REACH = 4.0
# Points of a normal variable in deviations, each with its weight, for means over one.
_NORMAL = tuple(
    (offset, math.exp(-offset * offset / 2) * _REACH / _STEPS / math.sqrt(2 * math.pi))
    for offset in (step * _REACH / _STEPS for step in range(-_STEPS, _STEPS + 1))
)


# --- guessing by frequency ------------------------------------------------------------


def recovery_from_histogram(histogram: Mapping[int, int]) -> float:
    """Give the share of owners whose value a thief names who knows how many share each value.

    `histogram` maps a number of owners to how many tags have so many. Tags of one number cannot
    be told apart, so of each number the thief gets one tag right on average: exact, not a model.
    """
    owners = sum(shared * tags for shared, tags in histogram.items())
    return sum(shared for shared, tags in histogram.items() if tags) / owners if owners else 0.0


def recovery_from_shares(shares: Sequence[float], members: int, partitions: int = 1) -> float:
    """Predict the share of members whose value rank matching names.

    The thief knows what share of people has each value, orders the values by it and the tags by
    how often they occur, and lays one on the other. With `partitions` each value has so many
    tags, by a part of the members each, and so many tags in order are laid on one value. The
    counts are taken for independent normal variables: within five points of a simulation.
    """
    total = math.fsum(shares)
    values = sorted((share / total for share in shares if share > 0), reverse=True)
    tags = [_Tags(at, 1, share, members, partitions) for at, share in enumerate(values)]
    if len(tags) * partitions <= _EXACT_TAGS:
        return math.fsum(one.share * _named_exactly(one, tags, partitions) for one in tags)
    groups = list(_grouped(values, members, partitions))
    return math.fsum(one.share * one.values * _named(one, groups, partitions) for one in groups)


class _Tags:
    """The tags of like values: how many values, the place of their middle, mean and deviation."""

    __slots__ = ("behind", "deviation", "mean", "place", "share", "values")

    def __init__(
        self, place: float, values: int, share: float, members: int, partitions: int
    ) -> None:
        self.place, self.values, self.share = place, values, share
        self.behind = int(place + (values - 1) / 2) + 1
        self.mean = members * share / partitions
        # Poisson, and not binomial: what matters is how far two counts lie apart, and the counts
        # of one population pull at each other.
        self.deviation = math.sqrt(max(self.mean, 1e-9))

    def exceeds(self, count: float) -> float:
        """Give the probability that one of these tags occurs more often."""
        return 0.5 * math.erfc((count - self.mean) / self.deviation / math.sqrt(2))


def _grouped(values: Sequence[float], members: int, partitions: int) -> Iterator[_Tags]:
    """Take the most frequent values one by one, and more and more of the rarer ones together."""
    at = 0
    while at < len(values):
        many = 1 if at < _APART else max(1, int(at * _GROWTH))
        part = values[at : at + many]
        middle = at + (len(part) - 1) / 2
        yield _Tags(middle, len(part), math.fsum(part) / len(part), members, partitions)
        at += many


def _named(one: _Tags, groups: Sequence[_Tags], partitions: int) -> float:
    """Give the probability that a tag is laid on its own value, its rank taken for normal."""
    first, last = one.place * partitions - 0.5, (one.place + 1) * partitions - 0.5

    def at_count(count: float) -> float:
        own = one.exceeds(count)
        rank, variance = -own, -own * (1 - own)
        # Groups stand in order of their mean: some surely occur more often, some surely less.
        surely = bisect_left(groups, -count, key=lambda g: _SURE * g.deviation - g.mean)
        rank += (groups[surely - 1].behind if surely else 0) * partitions
        for other in islice(groups, surely, None):
            if other.mean + _SURE * other.deviation < count:
                break
            more = other.exceeds(count)
            rank += other.values * partitions * more
            variance += other.values * partitions * more * (1 - more)
        deviation = math.sqrt(max(variance, 1e-9))
        return _below((last - rank) / deviation) - _below((first - rank) / deviation)

    return _mean(one, at_count)


def _named_exactly(one: _Tags, tags: Sequence[_Tags], partitions: int) -> float:
    """Give the same for few tags, with every rank's own probability."""
    first = int(one.place) * partitions

    def at_count(count: float) -> float:
        ranks = [1.0]
        for other in tags:
            more = other.exceeds(count)
            for _ in range(partitions - (other is one)):
                ranks = [
                    (ranks[at] * (1 - more) if at < len(ranks) else 0.0)
                    + (ranks[at - 1] * more if at else 0.0)
                    for at in range(len(ranks) + 1)
                ]
        return math.fsum(ranks[first : first + partitions])

    return _mean(one, at_count)


def _mean(one: _Tags, of_count: Callable[[float], float]) -> float:
    return math.fsum(
        weight * of_count(one.mean + offset * one.deviation) for offset, weight in _NORMAL
    )


def _below(deviations: float) -> float:
    return 0.5 * math.erfc(-deviations / math.sqrt(2))


# --- how values are spread ------------------------------------------------------------


def flat(values: int) -> list[float]:
    """Give equal shares, as the last digits of telephone numbers have."""
    return [1.0] * values


def zipf(values: int, exponent: float) -> list[float]:
    """Give shares that fall with the rank, as those of surnames do."""
    return [rank**-exponent for rank in range(1, values + 1)]


def seasonal(swing: float) -> list[float]:
    """Give twelve months of birth that swing around their mean by so much either way."""
    return [1 + swing * math.sin(2 * math.pi * (month + 0.25) / 12) for month in range(12)]


# --- what others allow ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Coincidences:
    """CipherSweet's rule: members a tag, to lie between 2 and the square root of all members."""

    members_a_tag: float
    most: float

    @property
    def within(self) -> bool:
        """Whether the rule holds."""
        return 2 <= self.members_a_tag <= self.most  # noqa: PLR2004 (the rule's own number)


def coincidences(members: int, tags: int) -> Coincidences:
    """Give what CipherSweet's planner would look at (paragonie/ciphersweet FieldIndexPlanner)."""
    return Coincidences(members / tags if tags else 0.0, math.sqrt(members))


def beacon_bits(values: int) -> tuple[int, int] | None:
    """Give the least and the most bits that AWS allows a beacon over so many values.

    2^bits must be under half of the values, so that two share a beacon, and over their square
    root (AWS Database Encryption SDK, "Choosing a beacon length"). None where no length fits.
    """
    least = math.floor(math.log2(math.sqrt(values))) + 1 if values else 0
    most = math.ceil(math.log2(values / 2)) - 1 if values > 1 else -1
    return (least, most) if least <= most else None


# --- trying every value ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Space:
    """The smallest set in which the values of a kind may be looked for; `size` None: no end."""

    name: str
    size: float | None


SPACES: Mapping[str, Space] = {
    "phone": Space("Thai mobile numbers (06, 08, 09 and eight digits)", 3e8),
    "national_id": Space("Taiwanese numbers (a letter, 1 or 2, seven digits)", 26 * 2e7),
    "email": Space("addresses, from lists only", None),
    "line_uid": Space("128 random bits", 2.0**128),
    "card_no": Space("card numbers of eight digits", 1e8),
}


def enumeration_seconds(space: Space, tags_a_second: float) -> float | None:
    """Give how long one core needs to tag every value; None where there is no end."""
    return None if space.size is None else space.size / tags_a_second
