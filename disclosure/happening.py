"""What happened to a member, as other systems may be told of it: a type, a purpose, a moment.

Read from the outbox's messages, which hold ids and nothing personal. The same happening goes
into the change feed and into webhooks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from consent import ConsentService
from kernel import Message, ReadSession, id_moment_us

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


async def happening(session: ReadSession, consent: ConsentService, message: Message) -> Happening:
    """Read a happening from a message of the outbox."""
    payload = message.payload
    if message.topic in CONSENT_TYPES:
        event = await consent.event(session, payload["event_id"])
        return Happening(
            message.id,
            message.topic,
            payload["member_id"],
            event.purpose,
            event.channel or None,
            event.at_us,
        )
    return Happening(
        message.id,
        message.topic,
        payload["member_id"],
        payload.get("purpose") or None,
        payload.get("channel") or None,
        id_moment_us(message.id),
    )
