"""The change feed and the suppression list: what apps must hear of, and whom to leave alone.

A client sees changes of the members it knows and of its own purposes, by its own ids. Its
cursor is sealed to it: another client's cursor is refused, and no cursor says how much is going
on in the registry besides.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from audit import CHANGE_READ, SUPPRESSION_READ, AuditLog
from consent import ConsentService, GateState, Status
from disclosure import audience_repository, feed_repository
from disclosure.cursors import SealedCursors
from disclosure.decision import Denied, Refusal, Snapshot, decide
from disclosure.errors import CursorExpiredError
from disclosure.happening import happening
from disclosure.service import Question
from disclosure.telling import record_told
from kernel import (
    Caller,
    Clock,
    Database,
    Message,
    Row,
    UnitOfWork,
    rfc3339,
    to_date,
)
from policies import AccessSnapshot, AgeTier, PolicyPack, period_end
from vault import Vault

PURPOSE_PREFIX = "purpose:"
_CURSOR_LABEL = "change-cursor"
_POSITION_BYTES = 8
_DAY_US = 86_400_000_000
_SCANNED_AT_A_TIME = 500
_MOST_SCANNED = 10_000


@dataclass(frozen=True, slots=True)
class Page:
    """Rows for a client, and the cursor from which the next page goes on, if there is one."""

    rows: tuple[dict[str, Any], ...]
    next_cursor: str | None


class Feed:
    """Tells apps what has changed for the members they know, and whom they must not contact."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        audit: AuditLog,
        pack: PolicyPack,
        access: AccessSnapshot,
        consent: ConsentService,
        clock: Clock,
    ) -> None:
        self._database = database
        self._vault = vault
        self._audit = audit
        self._pack = pack
        self._access = access
        self._consent = consent
        self._clock = clock
        self._cursors = SealedCursors(
            vault, _CURSOR_LABEL, _POSITION_BYTES, pointer="/query/cursor"
        )

    async def react(self, work: UnitOfWork, message: Message) -> Callable[[], None] | None:
        """Note a message of the outbox as a change, in the courier's own transaction."""
        happened = await happening(work, self._consent, message)
        if happened is not None:
            await feed_repository.note(work, happened, now_us=self._clock.now_us())
        return None

    async def changes(self, caller: Caller, cursor: str | None, *, most: int) -> Page:
        """Give the changes behind a cursor, the oldest first, on record with a row for each member.

        An empty page is no event, and its cursor is the one that was given. Changes of purposes
        that the client does not read for are left out, and so are members it does not know.

        Raises:
            InvalidRequestError: the cursor was not made for this client.
            CursorExpiredError: retention took changes away that the client has not seen, or
                the registry was put back to a moment before the cursor.
        """
        after = 0 if cursor is None else int.from_bytes(self._cursors.open(caller.id, cursor))
        purposes = _purposes(caller)
        async with self._database.unit_of_work() as work:
            dropped, head = await feed_repository.bounds(work)
            if cursor is not None and not dropped <= after <= head:
                raise CursorExpiredError(reason="cursor_expired")
            found = await feed_repository.page(work, caller.id, purposes, after=after, most=most)
            by_purpose: dict[str, list[tuple[Row, str]]] = {}
            for row in found:
                by_purpose.setdefault(row["purpose"] or "", []).append((row, row["type"]))
            for purpose, told in sorted(by_purpose.items()):
                await record_told(
                    self._audit,
                    self._vault,
                    work,
                    caller,
                    CHANGE_READ,
                    told,
                    purpose=purpose or None,
                )
        rows = tuple(self._told(caller.id, row) for row in found)
        at = rows[-1]["cursor"] if rows else cursor or self._sealed(caller.id, dropped)
        return Page(rows, at)

    async def suppressions(
        self, caller: Caller, question: Question, after: str | None, *, most: int
    ) -> Page:
        """Give members that the client knows and must not contact, each with the reason.

        Everybody is listed of whom `decide` does not allow the purpose and channel now, silence
        included. A page may be short though more follow: `next_cursor` says so. Each page is on
        record, with a row for each member in it.
        """
        found: list[tuple[Row, str]] = []
        last = after or ""
        scanned = 0
        more = True
        async with self._database.unit_of_work() as work:
            while more and len(found) < most and scanned < _MOST_SCANNED:
                rows = await audience_repository.known_members(
                    work,
                    caller.id,
                    question.purpose.key,
                    question.channel or "",
                    after=last,
                    most=_SCANNED_AT_A_TIME,
                )
                for row in rows:
                    last = row["pairwise_id"]
                    scanned += 1
                    reason = self._reason(caller, question, row)
                    if reason is not None:
                        found.append((row, reason))
                    if len(found) == most:
                        break
                else:
                    more = len(rows) == _SCANNED_AT_A_TIME
            await record_told(
                self._audit,
                self._vault,
                work,
                caller,
                SUPPRESSION_READ,
                found,
                purpose=question.purpose.key,
                channel=question.channel,
            )
        told = tuple({"id": row["pairwise_id"], "reason": reason} for row, reason in found)
        return Page(told, last if more and last else None)

    async def sweep(self) -> bool:
        """Forget changes as old as the pseudonymous remainder of an erased member may become."""
        now_us = self._clock.now_us()
        before_us = now_us - kept_us(self._pack, now_us)
        async with self._database.unit_of_work() as work:
            return await feed_repository.drop_before(work, before_us)

    def _reason(self, caller: Caller, question: Question, row: Row) -> str | None:
        decision = decide(
            self._pack,
            self._access,
            caller,
            question.purpose,
            question.channel,
            (),
            snapshot_without_fields(row, self._clock.now_us()),
        )
        if not isinstance(decision, Denied) or decision.reason is Refusal.OTHER_BRAND:
            return None
        if row["gate_state"] == GateState.MERGED.value:
            return GateState.MERGED.value
        return decision.reason.value.removeprefix("consent_").removeprefix("member_")

    def _told(self, client_id: str, row: Row) -> dict[str, Any]:
        return {
            "cursor": self._sealed(client_id, row["position"]),
            "id": row["pairwise_id"],
            "type": row["type"],
            "at": rfc3339(row["at_us"]),
            "purpose": row["purpose"],
            "channel": row["channel"],
        }

    def _sealed(self, client_id: str, position: int) -> str:
        return self._cursors.seal(client_id, position.to_bytes(_POSITION_BYTES))


def snapshot_without_fields(row: Row, now_us: int) -> Snapshot:
    """Give what a decision needs of a member when no field is asked for."""
    status = row["consent_status"]
    return Snapshot(
        member_id=row["member_id"],
        brand=row["brand"],
        jurisdiction=row["jurisdiction"],
        gate_version=row["gate_version"],
        gate_state=GateState(row["gate_state"]),
        age_tier=AgeTier(row["gate_age_tier"]),
        status=None if status is None else Status(status),
        consent_id=row["consent_event_id"],
        notice_revision=row["consent_notice_revision"],
        guardian_id=row["consent_guardian_id"],
        at_us=now_us,
        held=frozenset(),
        verified=frozenset(),
    )


def kept_us(pack: PolicyPack, now_us: int) -> int:
    """Give how long (µs) changes and deliveries are kept: as long as an erased member's key.

    Whatever is told of a member is then gone when nobody can any longer say who it was.
    """
    today = to_date(now_us)
    return (period_end(pack.pseudonym_key_lifetime, today) - today).days * _DAY_US


def _purposes(caller: Caller) -> Sequence[str]:
    named = (s for s in caller.scopes if s.startswith(PURPOSE_PREFIX))
    return sorted(scope.removeprefix(PURPOSE_PREFIX) for scope in named)
