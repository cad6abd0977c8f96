"""For which reasons a member's data may be read in full in an emergency, and how long why is kept.

A reason is a word that stands in the trail for good and in words on the member's own page. Whoever
would write a story, a name or a number where the word belongs is kept out by the list.
"""

import re
from collections.abc import Mapping
from datetime import date, timedelta
from types import MappingProxyType

from policies.jurisdictions import period_end
from policies.model import LocalText, PolicyPack
from policies.reading import PackReader
from policies.trail import last_day

EMERGENCY_FILE = "emergency.toml"
_REASON = re.compile(r"[a-z][a-z_]{0,39}")


def read_emergency(reader: PackReader) -> Mapping[str, LocalText]:
    """Read the reasons with their words; every fault becomes a finding."""
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
    file.close()
    return MappingProxyType(reasons)


def detail_kept_until(pack: PolicyPack, month: str) -> date:
    """Give the first day (UTC) on which the details of events of a month (`YYYY-MM`) may go."""
    return period_end(pack.detail_lifetime, last_day(month)) + timedelta(days=1)
