"""What searching the trail needs of the house: its saved views, and whose token is whose."""

from collections.abc import Mapping
from datetime import tzinfo
from zoneinfo import ZoneInfo

from audit import OpeningHours, SavedView, saved_views
from audit.endpoints import FindSubject
from kernel import Caller, ReadSession
from service.portal.moments import zone_of
from service.runtime import Runtime
from service.settings import Settings
from vault import OwnerKey


def house_zone(settings: Settings) -> tzinfo:
    """Give the clock of the house: that of the settings, or else of its jurisdiction."""
    named = settings.audit.zone
    return ZoneInfo(named) if named else zone_of(settings.jurisdiction)


def trail_views(settings: Settings) -> Mapping[str, SavedView]:
    """Make the saved views of the trail by the hours and numbers of the settings."""
    told = settings.audit
    hours = OpeningHours.parse(told.hours, told.working_days, house_zone(settings))
    return saved_views(hours, told.members_a_day)


def finder(runtime: Runtime) -> FindSubject:
    """Give the way from a client's name for a member to the key of that member's tokens."""

    async def find(session: ReadSession, pairwise: str, caller: Caller) -> tuple[OwnerKey, int]:
        """Resolve inside the caller's brand, or raise that there is no such member."""
        member_id = await runtime.members.resolve(session, pairwise, caller)
        row = await runtime.members.read(session, member_id)
        return await runtime.members.pseudonym(session, member_id), row.created_us

    return find
