"""What the programme says of a member: points, tier, activity class, and when to look again.

Pure: rules of the pack and numbers in, words of the pack out; the clock is an argument. All
moments and lengths of time are in microseconds.
"""

from collections.abc import Sequence

from policies import ActivityClass, LoyaltyRules

DAY_US = 86_400_000_000


def points_for(rules: LoyaltyRules, currency: str, amount_milli: int) -> int:
    """Give the points that a purchase earns; none in a currency the programme does not name."""
    rule = rules.earning.get(currency)
    return 0 if rule is None else amount_milli // rule.amount_milli * rule.points


def tier_of(rules: LoyaltyRules, earned: int) -> str:
    """Give the highest tier that so many points, earned within the window, lead to."""
    return next(tier.key for tier in reversed(rules.tiers) if earned >= tier.from_points)


def activity_of(
    rules: LoyaltyRules, purchases: int, last_us: int | None, now_us: int
) -> str | None:
    """Give the activity class; `None` for who never bought.

    A bound belongs to its class: exactly `within_days` ago is still within.
    """
    found = None if last_us is None else _class(rules.activity, purchases, now_us - last_us)
    return None if found is None else found.key


def review_at(
    rules: LoyaltyRules,
    purchases: int,
    last_us: int | None,
    oldest_earned_us: int | None,
    now_us: int,
) -> int | None:
    """Give the moment from which tier or class may be others though nothing happens.

    `oldest_earned_us` is the oldest earning that still counts for the tier.
    """
    moments: list[int] = []
    if oldest_earned_us is not None:
        moments.append(oldest_earned_us + rules.window_days * DAY_US)
    if last_us is not None:
        found = _class(rules.activity, purchases, now_us - last_us)
        if found.within_days is not None:
            moments.append(last_us + found.within_days * DAY_US + 1)
    return min(moments, default=None)


def window_start(rules: LoyaltyRules, now_us: int) -> int:
    """Give the moment after which earned points count for the tier."""
    return now_us - rules.window_days * DAY_US


def _class(classes: Sequence[ActivityClass], purchases: int, age_us: int) -> ActivityClass:
    for entry in classes:
        recent = entry.within_days is None or age_us <= entry.within_days * DAY_US
        few = entry.at_most_purchases is None or purchases <= entry.at_most_purchases
        if recent and few:
            return entry
    raise ValueError("the pack ends with a class for everybody")
