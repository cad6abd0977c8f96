"""What officers do to rights requests: open at the counter, check, extend, fulfil, refuse, certify.

A refusal needs a second person, who may not be the proposer under another account either, and
goes on the register. A request is opened at the counter from the page that found the member.
"""

from collections.abc import Awaitable, Callable, Mapping

from fastapi import APIRouter, Request, Response

from dsar import (
    CHECKS,
    RESTRICTION_GROUNDS,
    RequestStateError,
    Right,
    RightsRequest,
    SecondPersonError,
    Via,
)
from kernel import InvalidRequestError, MemberId, NotFoundError, UnitOfWork, is_id
from kernel.http import digest
from service.console.desk import HOME, Console, Desk, go_to
from service.staff import ApprovalKind, ApprovalRefusedError, Approvals, TwoPersons

_PLACE = "requests"
_COUNTER_RIGHTS = (Right.ACCESS, Right.PORTABILITY, Right.ERASURE, Right.OBJECTION)
OPENED_AT_COUNTER = "opened:"
Step = Callable[[UnitOfWork, Desk, RightsRequest, Mapping[str, str]], Awaitable[object]]


def routes(console: Console) -> APIRouter:
    """Make the routes of the steps."""
    handling = APIRouter()
    runtime = console.runtime
    rights = runtime.rights_requests
    steps = _Steps(console)

    @handling.post("/requests/open")
    async def open_at_counter(request: Request) -> Response:
        desk, fields = await console.act(request)
        if not console.may(desk, "rights_request", "open"):
            await console.refuse(desk, _PLACE)
        member, checked = fields.get("member", ""), fields.get("checked", "")
        right, _, ground = fields.get("right", "").partition(":")
        if not is_id("mem", member) or right not in set(Right) or checked not in CHECKS:
            raise InvalidRequestError(reason="form")
        details = {"checked": checked} | ({"ground": ground} if ground else {})
        async with runtime.database.unit_of_work() as work:
            opened = await rights.open(
                work,
                desk.caller,
                MemberId(member),
                Right(right),
                via=Via.COUNTER,
                details=details,
                now_us=runtime.clock.now_us(),
            )
        if console.may(desk, "rights_request", "read"):
            return go_to(f"{HOME}requests/{opened.id}")
        await console.sessions.leave_note(desk.session, OPENED_AT_COUNTER + opened.id)
        return go_to(f"{HOME}members")

    @handling.post("/requests/{rights_request}")
    async def step(request: Request, rights_request: str) -> Response:
        desk, fields = await console.act(request, _PLACE)
        if not console.may(desk, "rights_request", "handle"):
            await console.refuse(desk, _PLACE)
        act = steps.of(fields.get("step", ""))
        try:
            async with runtime.database.unit_of_work() as work:
                found = await rights.read(work, rights_request, desk.account.brand)
                await act(work, desk, found, fields)
        except (ApprovalRefusedError, OwnRefusalError) as error:
            await console.refuse_answer(desk, f"rights_request:{rights_request}", error)
        return go_to(f"{HOME}requests/{rights_request}")

    @handling.get("/requests/{rights_request}/certificate")
    async def certificate(request: Request, rights_request: str) -> Response:
        desk = await console.enter(request, _PLACE)
        await runtime.sequencer.drain()
        text = await rights.certificate(rights_request, desk.account.brand)
        async with runtime.database.unit_of_work() as work:
            await runtime.audit.record(
                work,
                desk.caller,
                "rights_request.certificate",
                resource=f"rights_request:{rights_request}",
            )
        name = f'attachment; filename="{rights_request}.txt"'
        return console.file(text, "text/plain; charset=utf-8", name)

    return handling


class OwnRefusalError(RequestStateError):
    """The proposer of a refusal would be its second person too."""


class _Steps:
    """What an officer can do to a request, each in the unit of work of its form."""

    def __init__(self, console: Console) -> None:
        self._rights = console.runtime.rights_requests
        self._approvals = console.runtime.approvals
        self._clock = console.runtime.clock
        self._by_name: Mapping[str, Step] = {
            "check": self._check,
            "take_up": self._take_up,
            "fulfil": self._fulfil,
            "extend": self._extend,
            "pause": self._pause,
            "resume": self._resume,
            "refuse": self._refuse,
        }

    def of(self, name: str) -> Step:
        """Find a step by the name its button has, or `NotFoundError`."""
        if name not in self._by_name:
            raise NotFoundError(reason="step_unknown")
        return self._by_name[name]

    async def _check(
        self, work: UnitOfWork, desk: Desk, found: RightsRequest, fields: Mapping[str, str]
    ) -> None:
        await self._rights.check_identity(
            work, desk.caller, found.id, fields.get("reason", ""), now_us=self._clock.now_us()
        )

    async def _take_up(
        self, work: UnitOfWork, desk: Desk, found: RightsRequest, _fields: Mapping[str, str]
    ) -> None:
        await self._rights.take_up(work, desk.caller, found.id, now_us=self._clock.now_us())

    async def _fulfil(
        self, work: UnitOfWork, desk: Desk, found: RightsRequest, _fields: Mapping[str, str]
    ) -> None:
        await self._rights.fulfil(work, desk.caller, found.id, now_us=self._clock.now_us())

    async def _extend(
        self, work: UnitOfWork, desk: Desk, found: RightsRequest, fields: Mapping[str, str]
    ) -> None:
        await self._rights.extend(
            work, desk.caller, found.id, fields.get("reason", ""), now_us=self._clock.now_us()
        )

    async def _pause(
        self, work: UnitOfWork, desk: Desk, found: RightsRequest, _fields: Mapping[str, str]
    ) -> None:
        await self._rights.pause(work, desk.caller, found.id, now_us=self._clock.now_us())

    async def _resume(
        self, work: UnitOfWork, desk: Desk, found: RightsRequest, _fields: Mapping[str, str]
    ) -> None:
        await self._rights.resume(work, desk.caller, found.id, now_us=self._clock.now_us())

    async def _refuse(
        self, work: UnitOfWork, desk: Desk, found: RightsRequest, fields: Mapping[str, str]
    ) -> None:
        """Propose a refusal with its approval, or approve the one proposed, hash and all."""
        now_us, reason = self._clock.now_us(), fields.get("reason", "")
        bound = refusal_hash(found.id, reason)
        about = f"rights_request:{found.id}"
        stands = await proposal_stands(self._approvals, work, found, desk.account.id, now_us=now_us)
        if found.proposed_by is not None and not stands:
            await self._rights.drop_proposal(work, desk.caller, found.id, now_us=now_us)
        if found.proposed_by is None or not stands:
            await self._approvals.request(
                work, desk.caller, ApprovalKind.REFUSAL, about, bound, now_us=now_us
            )
        elif found.proposed_by != desk.account.id and is_id("stf", found.proposed_by):
            await self._approvals.settle(
                work,
                desk.caller,
                ApprovalKind.REFUSAL,
                bound,
                found.proposed_by,
                now_us=now_us,
            )
        try:
            await self._rights.refuse(work, desk.caller, found.id, reason, now_us=now_us)
        except SecondPersonError:
            raise OwnRefusalError(reason="own_request") from None


async def proposal_stands(
    approvals: Approvals, work: UnitOfWork, found: RightsRequest, reader: str, *, now_us: int
) -> bool:
    """Say whether a refusal is proposed that may still be approved.

    A proposal of the console falls with its approval, declined or run out. One that came by the
    API has none: it stands for a reader who is known to be another person, and whoever is not
    proposes anew.
    """
    if found.proposed_by is None:
        return False
    if not is_id("stf", found.proposed_by):
        return await TwoPersons().apart(work, found.proposed_by, reader)
    bound = refusal_hash(found.id, found.reason or "")
    return await approvals.stands(
        work, ApprovalKind.REFUSAL, bound, found.proposed_by, now_us=now_us
    )


def refusal_hash(request_id: str, reason: str) -> bytes:
    """Give the hash that an approval of a refusal is bound to: this request, this reason."""
    return digest(b"refusal", request_id.encode(), reason.encode())


def counter_choices() -> list[str]:
    """List what can be asked for at the counter without typing values of fields."""
    grounds = [f"{Right.RESTRICTION.value}:{ground}" for ground in sorted(RESTRICTION_GROUNDS)]
    return [right.value for right in _COUNTER_RIGHTS] + grounds
