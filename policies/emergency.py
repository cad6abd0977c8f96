"""For which reasons data may be read in full in an emergency, and what is done about it afterwards.

A reason is a word that stands in the trail for good and in words on the member's own page. Whoever
would write a story, a name or a number where the word belongs is kept out by the list.
"""

import re
from collections.abc import Mapping
from datetime import date, timedelta
from types import MappingProxyType

from policies.jurisdictions import period_end
from policies.model import Fact, LocalText, PolicyPack
from policies.reading import PackReader
from policies.trail import last_day

EMERGENCY_FILE = "emergency.toml"
_REASON = re.compile(r"[a-z][a-z_]{0,39}")


def read_emergency(reader: PackReader) -> tuple[Mapping[str, LocalText], Fact]:
    """Read the reasons with their words, and within what time a second person looks at a read.

    Every fault becomes a finding.
    """
    file = reader.file(EMERGENCY_FILE)
    table = file.table("reasons")
    reasons: dict[str, LocalText] = {}
    for key in table.keys():  # noqa: SIM118 - Table is no mapping
        if not _REASON.fullmatch(key):
            table.fault(key, "is not a word", "Use up to 40 of a-z and _")
        reasons[key] = table.local_text(key)
    if not reasons:
        file.fault("reasons", "is empty", "Name the emergencies that there can be")
    table.close()
    review = file.fact("review")
    file.close()
    return MappingProxyType(reasons), review


def detail_kept_until(pack: PolicyPack, month: str) -> date:
    """Give the first day (UTC) on which the details of events of a month (`YYYY-MM`) may go."""
    return period_end(pack.detail_lifetime, last_day(month)) + timedelta(days=1)


def review_overdue_from(pack: PolicyPack, read_on: date) -> date:
    """Give the first day (UTC) on which an emergency read of a day should have been reviewed."""
    return period_end(pack.emergency_review, read_on) + timedelta(days=1)
