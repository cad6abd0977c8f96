"""Handing the log over from one signing key to the next, as one event and one overlap checkpoint.

The event names both keys, stands as the last leaf under the checkpoint that both keys sign, and is
committed with it: so a stranger who trusts the old key can follow it to the new one, and whoever
has stolen the old one cannot make a later head that anybody takes for the log's.
"""

import asyncio
from typing import Any

from audit.log_key import KEY_ROTATED, KeyRotation, short_digest, vkey_digest
from audit.note import Signer
from audit.sequencer import Sequencer
from audit.service import AuditLog
from kernel import Caller, UnavailableError

_ATTEMPTS = 400
_WAIT_SECONDS = 0.02


async def hand_over(
    sequencer: Sequencer, audit: AuditLog, new: Signer, caller: Caller
) -> KeyRotation | None:
    """Sign the log with another key from now on (`Sequencer.rekey`); None where it does already.

    Raises:
        LogDamagedError: the log may not be signed, or goes on under a key that is not here.
        UnavailableError: another sequencer does not let go of the head.
    """
    old = audit.vkey

    def describe(_size: int, _root: bytes) -> dict[str, Any]:
        """Make the event of it."""
        event = audit.draft(
            caller,
            KEY_ROTATED,
            resource=vkey_digest(new.vkey),
            before={"log_key": short_digest(old)},
            decision="allow",
        )
        return AuditLog.checked_row(event)

    for _ in range(_ATTEMPTS):
        try:
            return await sequencer.rekey(new, describe)
        except UnavailableError:  # another sequencer has the head for a moment
            await asyncio.sleep(_WAIT_SECONDS)
    raise UnavailableError("another sequencer is at work", reason="audit_unavailable")
