"""What the command line can ask about rights requests; each command as in `service.commands`."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from dsar import (
    FieldResult,
    IdentityNotProvenError,
    RequestState,
    RequestStateError,
    Right,
    RightsRequest,
)
from kernel import InvalidRequestError, NotFoundError, is_id, rfc3339
from service.runtime import Runtime
from service.tasks import system_caller

Progress = Callable[[int, int], None]
_MOST = 200


async def rights_list(
    runtime: Runtime, _progress: Progress, *, brand: str, state: str | None
) -> dict[str, Any]:
    """List requests of a brand, the newest first."""
    if state is not None and state not in {one.value for one in RequestState}:
        known = ", ".join(one.value for one in RequestState)
        raise InvalidRequestError(f"there is no such state; known are {known}")
    wanted = None if state is None else RequestState(state)
    async with runtime.database.read() as session:
        found = await runtime.rights_requests.queue(session, brand, state=wanted, most=_MOST)
    return {"requests": [_told(one) for one in found]}


async def rights_show(runtime: Runtime, _progress: Progress, *, request: str) -> dict[str, Any]:
    """Tell where one request stands; for an erasure, what it will do."""
    async with runtime.database.read() as session:
        found = await runtime.rights_requests.read(session, _known(request))
        told = _told(found) | {"results": [one.as_dict() for one in found.results]}
        if found.right is Right.ERASURE and not found.state.final and found.identity_proven:
            plan = await runtime.rights_requests.plan(session, found, now_us=runtime.clock.now_us())
            told["plan"] = [one.as_dict() for one in _all(plan.fields, plan.beside)]
    return told


async def rights_export(
    runtime: Runtime, _progress: Progress, *, request: str, out: str
) -> dict[str, Any]:
    """Write the copy of a fulfilled request to a new file that only its owner can read."""
    # The file first: a copy is handed out once, and must not be lost to a folder that is not there.
    try:
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:
        raise InvalidRequestError("--out is not a new file that can be written") from None
    with os.fdopen(handle, "wb") as file:
        try:
            archive = await runtime.rights_requests.export(system_caller("cli"), _known(request))
        except BaseException:
            os.unlink(out)  # noqa: PTH108 (the loop may touch no pathlib, and need not)
            raise
        file.write(archive)
    return {"id": request, "path": out, "bytes": len(archive)}


async def rights_erase(
    runtime: Runtime, _progress: Progress, *, request: str, dry_run: bool
) -> dict[str, Any]:
    """Fulfil an erasure, or say what it would do."""
    if dry_run:
        return await rights_show(runtime, _progress, request=request)
    caller = system_caller("cli")
    async with runtime.database.unit_of_work() as work:
        found = await runtime.rights_requests.read(work, _known(request))
        if found.right is not Right.ERASURE:
            raise RequestStateError("this request asks for something else", reason="not_erasure")
        if not found.identity_proven:
            raise IdentityNotProvenError(reason="identity_not_proven")
        done = await runtime.rights_requests.fulfil(
            work, caller, found.id, now_us=runtime.clock.now_us()
        )
    return _told(done) | {"results": [one.as_dict() for one in done.results]}


async def rights_certificate(
    runtime: Runtime, _progress: Progress, *, request: str
) -> dict[str, Any]:
    """Give the signed certificate of an ended request."""
    await runtime.sequencer.drain()
    note = await runtime.rights_requests.certificate(_known(request))
    return {"id": request, "certificate": note, "vkey": runtime.audit.vkey}


def _known(request: str) -> str:
    if not is_id("rr", request):
        raise NotFoundError("requests are named by their rr_ id", reason="request_unknown")
    return request


def _all(*parts: tuple[FieldResult, ...]) -> tuple[FieldResult, ...]:
    return tuple(one for part in parts for one in part)


def _told(request: RightsRequest) -> dict[str, Any]:
    return {
        "id": request.id,
        "right": request.right.value,
        "state": request.state.value,
        "jurisdiction": request.jurisdiction,
        "via": request.via.value,
        "received_at": rfc3339(request.received_us),
        "identity": request.verified_by,
        "target": request.target.isoformat(),
        "safe_due": request.safe_due.isoformat(),
        "legal_due": request.legal_due.isoformat(),
        "flagged": request.flagged,
        "reason": request.reason,
        "law": request.law,
    }


RIGHTS_COMMANDS: Mapping[str, Any] = {
    "dsar.list": rights_list,
    "dsar.show": rights_show,
    "dsar.export": rights_export,
    "dsar.erase": rights_erase,
    "dsar.certificate": rights_certificate,
}
