"""The names of a log: what it is called now, and beginning it under another name.

Where a database has been put back to an older day and what came after is lost, the old name must
never sign a second history. The log then goes on under `NAME/2`: the same tree, so that every event
that is left stays provable, and as the first event of the new name one that says how many events
the old one had here, under which root, and who decided it. The old log ends with its last head,
which is kept and can be exported and verified with the old key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from audit import lease_repository, log_key_repository, repository
from audit.anchoring import AnchorSink, anchor_folder, root_at
from audit.errors import NoteError
from audit.log_key import KnownKeys
from audit.note import Checkpoint, Signer, Verifier, open_checkpoint
from audit.sequencer import Sequencer
from audit.service import AuditLog
from kernel import Caller, Clock, ConfigurationError, ReadSession

ACTION = "audit.new_origin"


@dataclass(frozen=True, slots=True)
class NewOrigin:
    """What a log was called, how far it went, and what it is called now."""

    old: str
    old_vkey: str
    size: int
    root: bytes
    new: str
    new_vkey: str
    event_id: str


@dataclass(frozen=True, slots=True)
class EndedLog:
    """An earlier name of the log, with the last head that was signed under it."""

    origin: str
    vkey: str
    size: int
    note: str
    event_id: str
    closed_us: int


async def log_name(session: ReadSession, configured: str) -> str:
    """Give the name under which the log in this database is signed.

    Raises:
        ConfigurationError: it is neither the configured one nor one that continues it.
    """
    head = await repository.head(session)
    if head is None or head[0] == configured:
        return configured
    number = head[0].removeprefix(f"{configured}/")
    if head[0] == number or not number.isdecimal():
        raise ConfigurationError(
            "audit.origin is not the name under which this log was begun",
            remedy="Set audit.origin back; a log keeps its name.",
        )
    return head[0]


async def refusal(session: ReadSession) -> str | None:
    """Give the code why this log may not be signed any more; None when it may."""
    row = await lease_repository.head_row(session)
    return None if row is None else row["refused"]


async def ended_logs(session: ReadSession) -> list[EndedLog]:
    """Give the earlier names of the log, the oldest first."""
    return [
        EndedLog(
            row["origin"],
            row["vkey"],
            int(row["size"]),
            row["note"],
            row["event_id"],
            int(row["closed_us"]),
        )
        for row in await lease_repository.origins(session)
    ]


async def check_ended(session: ReadSession, key: Verifier) -> list[str]:
    """Hold the last head of each earlier name against the tree and the keys of the log."""
    found = []
    known = await log_key_repository.known_keys(session, key)
    for ended in await ended_logs(session):
        head = _last_head(ended, known)
        if head is None:
            found.append(f"origin: the last head of {ended.origin} is not signed by this log's key")
        elif head.size != ended.size:
            found.append(f"origin: size of {ended.origin} is not what was signed")
        elif await root_at(session, head.size) != head.root:
            found.append(f"origin: the first {head.size} events are not those of {ended.origin}")
    return found


def _last_head(ended: EndedLog, known: KnownKeys) -> Checkpoint | None:
    """Open the last head under an earlier name, if one of the log's keys signed it."""
    try:
        verifier = Verifier.from_vkey(ended.vkey)
        head = open_checkpoint(ended.note, verifier)
    except NoteError:
        return None
    is_ours = verifier.name == ended.origin and verifier.public in known.publics
    return head if is_ours else None


async def free_name(
    session: ReadSession, configured: str, current: str, sinks: Sequence[AnchorSink]
) -> str:
    """Give the next name that no anchor knows: a database put back twice must not take one twice.

    Raises:
        UnavailableError: a sink does not answer.
    """
    number = 1 if current == configured else int(current.removeprefix(f"{configured}/"))
    number = max(number, await lease_repository.count_origins(session)) + 1
    while True:
        name = f"{configured}/{number}"
        taken = [await sink.names(anchor_folder(name)) for sink in sinks]
        if not any(taken):
            return name
        number += 1


async def begin_new_origin(
    sequencer: Sequencer, old: Signer, new: Signer, clock: Clock, policy: str, caller: Caller
) -> NewOrigin:
    """End the log under one name and go on under another (see `Sequencer.rename`)."""
    event_id = ""

    def describe(size: int, root: bytes) -> dict[str, Any]:
        """Make the event with which the new name begins; the old log's own trail is blocked."""
        nonlocal event_id
        event = AuditLog(new, clock, policy).draft(
            caller, ACTION, resource=f"sha256:{root.hex()}", count=size, decision="allow"
        )
        event_id = event.id
        return AuditLog.checked_row(event)

    size, root = await sequencer.rename(new, describe)
    return NewOrigin(old.name, old.vkey, size, root, new.name, new.vkey, event_id)
