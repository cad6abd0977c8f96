"""What follows when members come in or change: the background work of the members room."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kernel import MemberId, Message, UnitOfWork, Urgency, enqueue_job
from members import IMPORT_WANTED, MATCH_WANTED, NOTES_WANTED
from service.tasks import DAY_US, HOUR_US, system_caller

if TYPE_CHECKING:
    from service.runtime import Runtime

MERGES_SETTLED = "merges_settled"
QUARANTINES_END = "quarantines_end"


def follow_members(runtime: "Runtime") -> None:
    """Let the worker and the courier of a runtime do what the members room needs done."""

    async def look_for_duplicates(work: UnitOfWork, message: Message) -> None:
        """Ask for a look at whom a changed member may be."""
        member_id = message.payload["member_id"]
        if await runtime.matching.is_wanted(work, member_id):
            await enqueue_job(
                work,
                MATCH_WANTED,
                {"member_id": member_id},
                now_us=runtime.clock.now_us(),
                urgency=Urgency.BULK,
            )

    async def look_into_notes(work: UnitOfWork, message: Message) -> None:
        """Ask for a scan of a changed member's notes."""
        member_id = message.payload["member_id"]
        if await runtime.notes.is_wanted(work, member_id):
            await enqueue_job(
                work,
                NOTES_WANTED,
                {"member_id": member_id},
                now_us=runtime.clock.now_us(),
                urgency=Urgency.BULK,
            )

    async def scan_notes(payload: Mapping[str, Any]) -> None:
        """Scan one member's notes for what does not belong there."""
        await runtime.notes.scan(system_caller("worker"), MemberId(payload["member_id"]))

    async def match(payload: Mapping[str, Any]) -> None:
        """Compare one member with those who look alike."""
        await runtime.matching.match_one(system_caller("worker"), MemberId(payload["member_id"]))

    for topic in ("member.created", "member.rectified", "member.merged"):
        runtime.courier.subscribe(topic, look_for_duplicates)
        runtime.courier.subscribe(topic, look_into_notes)
    runtime.worker.on(MATCH_WANTED, match)
    runtime.worker.on(NOTES_WANTED, scan_notes)

    async def import_file(payload: Mapping[str, Any]) -> None:
        """Import a file that came over HTTP."""
        await runtime.uploads.work_off(system_caller("worker"), payload["import_id"])

    runtime.worker.on(IMPORT_WANTED, import_file)

    async def settle(_payload: Mapping[str, Any]) -> None:
        """End merges whose time for undoing is over, and files nobody came back for."""
        await runtime.partings.settle_due(system_caller("worker"))
        await runtime.uploads.drop_stale(system_caller("worker"))

    runtime.worker.on(MERGES_SETTLED, settle, every_us=DAY_US)

    async def end_quarantines(_payload: Mapping[str, Any]) -> None:
        """Destroy the keys of imports whose day has come, with the rows they set aside."""
        await runtime.imports.end_quarantines(system_caller("worker"))

    runtime.worker.on(QUARANTINES_END, end_quarantines, every_us=HOUR_US)
