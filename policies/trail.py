"""When what an event of the trail said has been kept long enough: pure answers from a pack's rule.

Whoever would have evidence vanish a day early is kept out by counting from the month's last day,
by waiting for the longest of all jurisdictions' periods, and by a day more for time zones.
"""

from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from policies.jurisdictions import period_end
from policies.model import Fact, JurisdictionCode, LocalText, PolicyPack

END_OF_YEAR = "end_of_calendar_year"


@dataclass(frozen=True, slots=True)
class TrailRule:
    """How long the trail keeps the bodies of events of some actions.

    `actions` are names of actions, or `name.*` for all that begin so; `period` gives a
    jurisdiction's period as a fact. While one has none, nothing of the rule's goes.
    """

    key: str
    title: LocalText
    actions: tuple[str, ...]
    period: Mapping[JurisdictionCode, Fact]


def kept_until(pack: PolicyPack, rule: TrailRule, month: str) -> date | None:
    """Give the first day (UTC) on which all that events of a month said may go.

    `month` is `YYYY-MM`. None when the rule has no period for a jurisdiction of the pack: then
    nobody can say, and everything stays.
    """
    if set(rule.period) != set(pack.jurisdictions):
        return None
    return max(_end(fact, month) for fact in rule.period.values()) + timedelta(days=1)


def _end(fact: Fact, month: str) -> date:
    return period_end(fact, last_day(f"{month[:4]}-12" if fact.start == END_OF_YEAR else month))


def last_day(month: str) -> date:
    """Give the last day of a month, `YYYY-MM`."""
    year, number = int(month[:4]), int(month[5:])
    return date(year, number, monthrange(year, number)[1])
