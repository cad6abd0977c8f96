"""What happened to a member, as other systems may be told of it: a type, a purpose, a moment.

Read from the outbox's messages, which hold ids and nothing personal. The same happening goes
into the change feed and into webhooks.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType

from consent import ConsentService
from kernel import Message, NotFoundError, ReadSession, id_moment_us

CONSENT_TYPES = frozenset(
    {"consent.given", "consent.refused", "consent.withdrawn", "consent.expired"}
)
FEED_TYPES = CONSENT_TYPES | {
    "member.rectified",
    "member.restricted",
    "member.erased",
    "member.merged",
    "objection.recorded",
    "suppression.added",
}
WEBHOOK_TYPES = FEED_TYPES | {"member.created", "rights_request.updated"}
# Whoever only reads for a purpose need not learn that somebody exercises a right.
SCOPE_OF_TYPE: Mapping[str, str] = MappingProxyType(
    {"rights_request.updated": "rights-requests:handle"}
)


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened to one member; `at_us` is in microseconds since the epoch."""

    message_id: str
    type: str
    member_id: str
    purpose: str | None
    channel: str | None
    at_us: int


async def happening(
    session: ReadSession, consent: ConsentService, message: Message
) -> Happening | None:
    """Read a happening from a message of the outbox; None when it is about no member.

    A consent event that is not there any more is told without its purpose: a receiver then asks
    again, and the outbox goes on.
    """
    payload = message.payload
    member_id = payload.get("member_id")
    if member_id is None:
        return None
    purpose, channel = payload.get("purpose"), payload.get("channel")
    at_us = id_moment_us(message.id)
    if message.topic in CONSENT_TYPES:
        with suppress(NotFoundError):
            event = await consent.event(session, payload["event_id"])
            purpose, channel, at_us = event.purpose, event.channel, event.at_us
    return Happening(message.id, message.topic, member_id, purpose or None, channel or None, at_us)
