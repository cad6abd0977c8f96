"""What the command line can ask about consent: a receipt, and the key it is signed with."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from consent import ReceiptFormat
from kernel import InvalidRequestError
from service.runtime import Runtime
from service.tasks import system_caller

Progress = Callable[[int, int], None]
Command = Callable[..., Awaitable[dict[str, Any]]]


async def consents_receipt(
    runtime: Runtime, _progress: Progress, *, consent: str, form: str
) -> dict[str, Any]:
    """Write the receipt of a decision, with the log's proof, and put that on record."""
    try:
        chosen = ReceiptFormat(form)
    except ValueError:
        known = ", ".join(one.value for one in ReceiptFormat)
        raise InvalidRequestError(f"no such format; use one of {known}", reason="format") from None
    await runtime.sequencer.drain()
    async with runtime.database.unit_of_work() as work:
        event = await runtime.consent.event(work, consent)
        await runtime.audit.record(
            work, system_caller("cli"), "consent.receipt", resource=f"consent:{event.id}"
        )
        written = await runtime.receipt_forms.write(
            work,
            event,
            chosen,
            principal="self",
            jurisdiction=await runtime.members.jurisdiction_of(work, event.member_id),
        )
    return {
        "id": event.id,
        "format": chosen.value,
        "media_type": written.media_type,
        "content": written.content.decode(),
        "key": runtime.receipts.public_key(),
    }


async def consents_key(runtime: Runtime, _progress: Progress) -> dict[str, Any]:
    """Give the key that verifies receipts."""
    return {"key": runtime.receipts.public_key(), "jwk": runtime.receipts.jwk()}


CONSENT_COMMANDS: Mapping[str, Command] = {
    "consents.receipt": consents_receipt,
    "consents.key": consents_key,
}
