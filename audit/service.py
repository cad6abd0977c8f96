"""The trail as the other rooms use it: record an event, and get the ticket that opens cells.

An event is appended in the transaction of the change it speaks of. For a disclosure the event
comes first: `ticket` is given out only for an event that is durable, and the vault opens
nothing without it. Nothing here takes a value of a field, only names, codes and digests.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson

from audit import log_key_repository, repository
from audit.errors import EventError, EventPrunedError
from audit.event import (
    Actor,
    AuditEvent,
    Decision,
    Outcome,
    canonical_bytes,
    check,
    epochs,
    subject_token,
    subject_tokens,
)
from audit.log_key import LogKey
from audit.note import Signer, sign_note
from audit.proof import (
    InclusionProof,
    check_inclusion,
    proof_document,
    prove_inclusion,
    prove_row,
)
from audit.retention import Pruned
from audit.retention_repository import leaf_of, pruned_until, pruning_of
from audit.search import EVERY_BRAND, EventFilter, FoundEvents, search_events, told_of
from audit.search_repository import AT_ONCE, events_of_many, events_that_fit
from audit.sequencer import REFUSALS, LogDamagedError, LogRekeyedError
from audit.views import BREAK_GLASS, CLIENT_READS, FEED_READS
from kernel import (
    AuditEventId,
    Caller,
    Clock,
    ConflictError,
    NotFoundError,
    ReadSession,
    UnavailableError,
    UnitOfWork,
    new_id,
)
from vault import AccessTicket, OwnerKey

_NONCE_BYTES = 16
DISCLOSURES = (*CLIENT_READS, *FEED_READS, BREAK_GLASS)
"""Actions by which somebody else than the member was shown their data, or told of them."""
_MOST_MONTHS = 60
_EXPLAINED: Mapping[str, type[LogDamagedError]] = {
    **REFUSALS,
    LogRekeyedError.slug: LogRekeyedError,
}
_MONTH_US = 31 * 24 * 3600 * 1_000_000


class AuditLog:
    """Writes events for one installation under one policy digest."""

    def __init__(self, key: Signer | LogKey, clock: Clock, policy_digest: str) -> None:
        self._key = LogKey.of(key)
        self._clock = clock
        self._policy = policy_digest
        self._blocked: str | None = None
        self._announced: frozenset[str] = frozenset()
        self._announce: Callable[[], None] | None = None

    def announce(self, actions: Iterable[str], act: Callable[[], None]) -> None:
        """Call `act` after each commit of an event of these actions, recorded one by one."""
        self._announced, self._announce = frozenset(actions), act

    def block(self, reason: str) -> None:
        """Refuse every further event, and so every disclosure and change: the log is not sound."""
        self._blocked = reason

    def unblock(self) -> None:
        """Take events again."""
        self._blocked = None

    def now_us(self) -> int:
        """Give the moment (µs) that an event drafted now bears, for what is decided beside it."""
        return self._clock.now_us()

    @property
    def vkey(self) -> str:
        """The verifier key text that strangers check the log with."""
        return self._key.vkey

    @property
    def origin(self) -> str:
        """The name of the log."""
        return self._key.signer.name

    async def follow(self, session: ReadSession) -> bool:
        """Take the key that the log is signed with now; False where this process has not got it."""
        vkey = await log_key_repository.signed_by(session)
        return vkey is None or self._key.adopt(vkey)

    async def vkeys(self, session: ReadSession) -> list[str]:
        """Give the verifier key texts that ever signed the log, this one first."""
        verifier = self._key.signer.verifier
        return (await log_key_repository.known_keys(session, verifier)).vkeys()

    def draft(
        self,
        caller: Caller,
        action: str,
        *,
        subject: OwnerKey | None = None,
        purpose: str | None = None,
        channel: str | None = None,
        fields: tuple[str, ...] = (),
        decision: Decision | None = None,
        reason: str | None = None,
        legal_basis: str | None = None,
        resource: str | None = None,
        count: int | None = None,
        outcome: Outcome = "ok",
        before: Mapping[str, str] | None = None,
        after: Mapping[str, str] | None = None,
        pruned: Pruned | None = None,
    ) -> AuditEvent:
        """Make an event of this moment; `subject` is the member's pseudonym key.

        `UnavailableError` while the trail is blocked: what cannot be put on record does not
        happen (fail closed).
        """
        if self._blocked is not None:
            refusal = _EXPLAINED.get(self._blocked.removeprefix("audit_"))
            raise UnavailableError(
                "the trail takes no events now" if refusal is None else refusal.title,
                reason=self._blocked,
                remedy=None if refusal is None else refusal.remedy,
            )
        now_us = self._clock.now_us()
        return AuditEvent(
            id=new_id("evt", now_us),
            ts=now_us,
            nonce=os.urandom(_NONCE_BYTES),
            actor=Actor(caller.id, caller.role, caller.via),
            action=action,
            outcome=outcome,
            purpose=purpose,
            channel=channel,
            legal_basis=legal_basis,
            resource=resource,
            subject=None if subject is None else subject_token(subject.secret, now_us),
            fields=fields,
            decision=decision,
            reason=reason,
            policy=self._policy,
            request_id=caller.request_id,
            count=count,
            before=before,
            after=after,
            brand=None if caller.brand == EVERY_BRAND else caller.brand,
            pruned=pruned,
        )

    @staticmethod
    def row(event: AuditEvent) -> dict[str, Any]:
        """Give the event as the parameters of the appending statements, as it is (see `check`)."""
        return _row(event, canonical_bytes(event))

    @staticmethod
    def checked_row(event: AuditEvent) -> dict[str, Any]:
        """Give the event as `row` does; `EventError` when it has not the shapes of the format."""
        return _row(event, check(event))

    async def record(
        self,
        work: UnitOfWork,
        caller: Caller,
        action: str,
        *,
        subject: OwnerKey | None = None,
        **details: Any,
    ) -> AuditEventId:
        """Append an event to the unit of work of the change it speaks of (see `draft`)."""
        event = self.draft(caller, action, subject=subject, **details)
        await repository.append_event(work, self.checked_row(event))
        if self._announce is not None and action in self._announced:
            work.after_commit(self._announce)
        return AuditEventId(event.id)

    async def record_many(self, work: UnitOfWork, events: Iterable[AuditEvent]) -> None:
        """Append many drafted events to one unit of work."""
        await repository.append_events(work, [self.row(event) for event in events])

    @staticmethod
    def ticket(event: AuditEvent, owner_id: str) -> AccessTicket:
        """Give the ticket of an event that allowed a disclosure and HAS COMMITTED.

        The caller must have left the unit of work of the event before it asks. Another event
        than one that allows is a defect of the calling code: `EventError`.
        """
        if event.decision != "allow":
            raise EventError("decision: only an event that allows opens anything")
        return AccessTicket(event.id, owner_id, frozenset(event.fields))

    # --- proving ----------------------------------------------------------------------

    def sign(self, statement: str) -> str:
        """Sign a text with the log's key, as a note that the log's verifier key opens.

        The text names its own format in its first line, which is never the log's name: no
        statement can be taken for a checkpoint.
        """
        if statement.partition("\n")[0] == self.origin:
            raise EventError("statement: its first line is the name of the log")
        return sign_note(statement, self._key.signer)

    async def entry(self, session: ReadSession, event_id: str) -> bytes:
        """Give an event's stored bytes, whose hash is its leaf (see `stored_bytes`)."""
        return await self.stored_bytes(session, event_id)

    # --- reading ----------------------------------------------------------------------

    async def disclosures(
        self,
        session: ReadSession,
        subject: OwnerKey,
        *,
        since_us: int,
        before: str | None = None,
        most: int = 50,
        actions: Sequence[str] = DISCLOSURES,
    ) -> list[dict[str, Any]]:
        """Give the readings of one member, the newest first; bodies as they are in the log.

        Of one that is told in a manifest the member's own row stands beside (`told_of`).
        """
        rows = await events_that_fit(
            session,
            {},
            self.tokens(subject, since_us=since_us),
            actions,
            before=before or repository.AFTER_EVERY_ID,
            oldest="",
            most=most,
        )
        return [body for body in map(told_of, rows) if body is not None]

    def tokens(self, subject: OwnerKey, *, since_us: int) -> tuple[str, ...]:
        """Give the monthly tokens of a member since a moment, at most five years back."""
        now_us = self._clock.now_us()
        oldest = max(since_us, now_us - _MOST_MONTHS * _MONTH_US)
        months: Sequence[str] = epochs(oldest, now_us)[-_MOST_MONTHS:]
        return tuple(subject_tokens(subject.secret, months))

    async def changes(
        self,
        session: ReadSession,
        subjects: Mapping[str, tuple[OwnerKey, int]],
        actions: Sequence[str],
    ) -> AsyncIterator[tuple[str, str, Mapping[str, str]]]:
        """Give (member, event id, `after`) of events of some actions, in no order.

        `subjects` has for each member the pseudonym key and the moment (µs) to look from.
        """
        now_us = self._clock.now_us()
        named: dict[str, str] = {}
        for member_id, (key, since_us) in subjects.items():
            months = epochs(min(since_us, now_us), now_us)
            named.update(dict.fromkeys(subject_tokens(key.secret, months), member_id))
        tokens = list(named)
        for at in range(0, len(tokens), AT_ONCE):
            for row in await events_of_many(session, tokens[at : at + AT_ONCE], actions):
                body = orjson.loads(row["body"])
                yield named[row["subject"]], row["id"], body.get("after") or {}

    async def record_search(
        self,
        work: UnitOfWork,
        caller: Caller,
        wanted: EventFilter,
        *,
        subject: OwnerKey | None = None,
    ) -> AuditEventId:
        """Put on record that somebody searches: by what, in words, and for which member.

        No value that was asked for is in it, but the member's own token if one was asked for:
        whoever reads somebody's trail stands in it.
        """
        return await self.record(
            work,
            caller,
            "audit.search",
            subject=subject,
            decision="allow",
            fields=wanted.words,
            count=len(wanted.words),
            resource=None if wanted.view is None else f"view/{wanted.view.key}",
        )

    async def search(
        self,
        session: ReadSession,
        wanted: EventFilter,
        *,
        before: str | None = None,
        most: int = 50,
    ) -> FoundEvents:
        """Give events that fit, the newest first; the caller puts the search on record."""
        return await search_events(
            session, wanted, before=before, most=most, now_us=self._clock.now_us()
        )

    async def latest(
        self, session: ReadSession, *, before: str | None = None, most: int = 50
    ) -> list[dict[str, Any]]:
        """Give events of the whole trail, the newest first."""
        rows = await repository.latest_events(
            session, before=before or repository.AFTER_EVERY_ID, most=most
        )
        return [orjson.loads(row["body"]) for row in rows]

    async def event(self, session: ReadSession, event_id: str) -> dict[str, Any]:
        """Give one event of the trail (see `stored_bytes`)."""
        body: dict[str, Any] = orjson.loads(await self.stored_bytes(session, event_id))
        return body

    async def stored_bytes(self, session: ReadSession, event_id: str) -> bytes:
        """Give an event as it is stored and hashed.

        `NotFoundError` for an unknown event, `EventPrunedError` for one whose time has come.
        """
        row = await repository.event_by_id(session, event_id)
        if row is not None:
            return bytes(row["body"])
        leaf = await leaf_of(session, event_id)
        told = None if leaf is None else await pruning_of(session, leaf[0])
        if told is not None:
            raise EventPrunedError(f"{told} tells of it", reason="event_pruned")
        raise NotFoundError("no such event", reason="event_unknown")

    async def pruned_until(self, session: ReadSession, *, since_us: int = 0) -> int | None:
        """Give the end (µs) of the newest month of which events were deleted when it was time.

        None when there is no such month after `since_us`: then all since is there.
        """
        until_us = await pruned_until(session)
        return None if until_us is None or until_us <= since_us else until_us

    async def prove(self, session: ReadSession, event_id: str) -> InclusionProof | None:
        """Prove that an event is in the signed log; None while it waits for a checkpoint.

        What is signed beside the proof bears the key that signed its checkpoint: where the key was
        replaced a moment ago, this process takes the new one first.
        """
        await self.follow(session)
        found = await prove_inclusion(session, event_id)
        if found is not None and not self._key.has_signed(found.note):
            await self.follow(session)
            found = await prove_inclusion(session, event_id)
        return found

    async def proof(
        self, session: ReadSession, event_id: str, row_of: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Give an event with its proof as plain JSON, for whoever has the log's key.

        With the tokens of a member in `row_of`, also that member's row of its manifest, and no
        other. For an event that was deleted by rule, its leaf hash is proven instead.
        `NotFoundError` for an unknown event or row, `ConflictError` while it waits for a
        checkpoint.
        """
        leaf: bytes | None = None
        try:
            body: bytes | None = await self.stored_bytes(session, event_id)
        except EventPrunedError:
            placed = await leaf_of(session, event_id)
            body, leaf = None, None if placed is None else placed[1]
        found = await prove_inclusion(session, event_id)
        if found is None:
            raise ConflictError(
                "the event waits for its checkpoint",
                reason="event_waits",
                remedy="Ask again in a moment.",
            )
        document = proof_document(event_id, body, found, leaf=leaf)
        if row_of:
            row = await prove_row(session, event_id, row_of)
            if row is None:
                raise NotFoundError("the event has no such row", reason="row_unknown")
            document["row"] = row.document()
        return document

    async def verify(self, session: ReadSession, event_id: str) -> InclusionProof | None:
        """Prove an event and check the proof on its stored bytes with the log's own key.

        None while the event waits. `AuditError` says that the log does not hold.
        """
        body = await self.stored_bytes(session, event_id)
        proof = await self.prove(session, event_id)
        if proof is not None:
            check_inclusion(body, proof, self.vkey)
        return proof


def _row(event: AuditEvent, body: bytes) -> dict[str, Any]:
    return {
        "id": event.id,
        "recorded_us": event.ts,
        "subject": None if event.subject is None else event.subject.token,
        "actor": event.actor.id,
        "action": event.action,
        "purpose": event.purpose,
        "decision": event.decision,
        "request_id": event.request_id,
        "body": body,
    }
