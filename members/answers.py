"""What the use cases on single members give back: ids, events and field names, never a value."""

from collections.abc import Sequence
from dataclasses import dataclass

from consent import ConsentEvent
from kernel import MemberId
from members.repository import ContactPoint


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Another member that shares identifying values, and in which fields."""

    member_id: MemberId
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Registered:
    """A member as just stored."""

    member_id: MemberId
    consents: Sequence[ConsentEvent]
    contact_points: Sequence[ContactPoint]
    duplicates: Sequence[Duplicate]
    audit_id: str


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a look-up: the member, if one may be told of, and the event of the answer."""

    member_id: MemberId | None
    audit_id: str
    reason: str | None
