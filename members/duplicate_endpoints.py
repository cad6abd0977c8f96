"""The duplicates queue over HTTP: look, merge, dismiss, undo.

A decision makes units of work of its own, so what an Idempotency-Key stores is written by the
last of them. Clients know both members by ids of their own.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request

from kernel import Caller, Clock, Database, FieldProblem, MemberId, UnitOfWork
from kernel.http import decode_id_cursor, encode_cursor
from kernel.schemas import problems
from kernel.web import Gatekeeper, JSONBytes, OnceMade, earlier_answer, idempotency_key, replayed
from members.duplicates import Decided, Duplicates
from members.errors import MemberDataError
from members.merging import Merged
from members.parting import Parted
from members.repository import DuplicatePair, PairState
from members.schemas import (
    DismissAnswer,
    DuplicatesAnswer,
    MergeAnswer,
    MergeBody,
    UndoAnswer,
)
from members.service import Members

_PAGE = 50
_DupId = Annotated[str, Path(max_length=40, examples=["dup_01m834me8bfjwbgnk89sr02kdz"])]
_MrgId = Annotated[str, Path(max_length=40, examples=["mrg_01m834me8bfjwbgnk89sr02kdz"])]
_State = Annotated[PairState, Query(examples=["open"])]
_Cursor = Annotated[str | None, Query(max_length=200)]


def router(
    database: Database,
    members: Members,
    duplicates: Duplicates,
    gatekeeper: Gatekeeper,
    clock: Clock,
) -> APIRouter:
    """Make the routes of the queue."""
    routes = APIRouter(prefix="/v1", tags=["Registry"])

    async def named(work: UnitOfWork, caller: Caller, member_id: MemberId) -> str:
        return await members.pairwise_for(work, caller.id, member_id, now_us=clock.now_us())

    async def described(work: UnitOfWork, caller: Caller, pair: DuplicatePair) -> dict[str, Any]:
        return {
            "id": pair.id,
            "members": [await named(work, caller, one) for one in (pair.first_id, pair.second_id)],
            "score": pair.score,
            "reasons": list(pair.reasons),
            "state": pair.state.value,
            "merge_id": pair.merge_id,
        }

    @routes.get(
        "/duplicates",
        response_model=DuplicatesAnswer,
        responses=problems(401, 403, 422),
        summary="List pairs of members who may be one person",
    )
    async def queue(
        request: Request, state: _State = PairState.OPEN, cursor: _Cursor = None
    ) -> JSONBytes:
        caller = await gatekeeper.require(request, "duplicates", "read")
        after = decode_id_cursor("dup", cursor) or ""
        async with database.unit_of_work() as work:
            pairs = await duplicates.queue(work, caller, state, after=after, most=_PAGE)
            listed = [await described(work, caller, pair) for pair in pairs]
        more = encode_cursor(pairs[-1].id) if len(pairs) == _PAGE else None
        return JSONBytes({"duplicates": listed, "cursor": more})

    @routes.post(
        "/duplicates/{duplicate}:merge",
        response_model=MergeAnswer,
        responses=problems(401, 403, 404, 409, 422),
        summary="Make one member of the two",
    )
    async def merge(request: Request, duplicate: _DupId, body: MergeBody) -> JSONBytes:
        caller = await gatekeeper.require(request, "duplicates", "resolve")
        key = await idempotency_key(request, caller, "POST /v1/duplicates/{id}:merge")
        earlier = await earlier_answer(database, key, clock)
        if earlier is not None:
            return JSONBytes(earlier, headers=replayed(replay=True))
        async with database.read() as session:
            pair = await duplicates.read(session, caller, duplicate)
            survivor = None
            if body.survivor is not None:
                survivor = await members.resolve(session, body.survivor, caller)
        if survivor not in {None, pair.first_id, pair.second_id}:
            raise MemberDataError(errors=[FieldProblem("/survivor", "not_in_pair")])

        async def answered(work: UnitOfWork, merged: Merged) -> dict[str, Any]:
            return {
                "merge_id": merged.merge_id,
                "id": await named(work, caller, merged.survivor_id),
                "undo_until_us": merged.undo_until_us,
                "audit_id": merged.audit_id,
            }

        done = OnceMade(key, clock, answered)
        await duplicates.merge(caller, duplicate, survivor, then=done)
        return JSONBytes(done.answer)

    @routes.post(
        "/duplicates/{duplicate}:dismiss",
        response_model=DismissAnswer,
        responses=problems(401, 403, 404, 409, 422),
        summary="Say that the two are two people",
    )
    async def dismiss(request: Request, duplicate: _DupId) -> JSONBytes:
        caller = await gatekeeper.require(request, "duplicates", "resolve")
        key = await idempotency_key(request, caller, "POST /v1/duplicates/{id}:dismiss")
        earlier = await earlier_answer(database, key, clock)
        if earlier is not None:
            return JSONBytes(earlier, headers=replayed(replay=True))

        async def answered(_work: UnitOfWork, decided: Decided) -> dict[str, Any]:
            return {"id": decided.duplicate_id, "audit_id": decided.audit_id}

        done = OnceMade(key, clock, answered)
        await duplicates.dismiss(caller, duplicate, then=done)
        return JSONBytes(done.answer)

    @routes.post(
        "/merges/{merge}:undo",
        response_model=UndoAnswer,
        responses=problems(401, 403, 404, 409, 422),
        summary="Make two members of one again",
    )
    async def undo(request: Request, merge: _MrgId) -> JSONBytes:
        caller = await gatekeeper.require(request, "duplicates", "resolve")
        key = await idempotency_key(request, caller, "POST /v1/merges/{id}:undo")
        earlier = await earlier_answer(database, key, clock)
        if earlier is not None:
            return JSONBytes(earlier, headers=replayed(replay=True))

        async def answered(work: UnitOfWork, parted: Parted) -> dict[str, Any]:
            both = (parted.survivor_id, parted.merged_id)
            return {
                "merge_id": merge,
                "members": [await named(work, caller, one) for one in both],
                "audit_id": parted.audit_id,
            }

        done = OnceMade(key, clock, answered)
        await duplicates.undo(caller, merge, then=done)
        return JSONBytes(done.answer)

    return routes
