"""The rights of a member: who read my data, and being erased."""

from kernel import MemberId
from service.demo.scene import Scene
from service.demo.stage import Api, expect, view_path
from service.tasks import system_caller


async def who_read(scene: Scene, crm: Api, member: str) -> None:
    """Show the member who read her data."""
    scene.stage.step("Who read my data?")
    answer = expect(await crm.call("GET", f"/v1/members/{member}/disclosures"), 200, "disclosures")
    names = {client["client_id"]: name for name, client in scene.clients.items()}
    scene.stage.table(
        ["when (UTC)", "who", "purpose", "fields", "decision"],
        [
            [
                reading["at"][:19],
                names.get(reading["by"]["id"], reading["by"]["role"]),
                reading["purpose"],
                ", ".join(reading["fields"]) or "—",
                reading["reason"] or reading["decision"],
            ]
            for reading in answer["disclosures"]
        ],
    )


async def erase(scene: Scene, crm: Api, sender: Api, member: str, known: str) -> None:
    """Erase her and show that nothing opens."""
    scene.stage.step("She asks to be erased; her keys are destroyed and nothing opens")
    runtime = scene.runtime
    caller = system_caller("cli")
    async with runtime.database.read() as session:
        found = await runtime.members.resolve_for(
            session, member, scene.clients["crm"]["client_id"], scene.settings.brand
        )
    async with runtime.database.unit_of_work() as work:
        erased = await runtime.members.erase(
            work, caller, MemberId(found), now_us=runtime.clock.now_us()
        )
    scene.stage.done(f"{erased.keys_destroyed} key destroyed, on record: {erased.audit_id}")
    async with runtime.database.read() as session:
        row = await runtime.members.read(session, MemberId(found))
        keys = await runtime.vault.keys_of(session, found)
    scene.stage.done(f"cells left: {len(row.cells)}; keys left that open cells: "
                     f"{sum(kind != 'pseudonym' for kind in keys)}")  # fmt: skip
    answer = expect(
        await sender.call("GET", view_path(known, "marketing", "sms")), 404, "read after erasure"
    )
    scene.stage.done(f"sender: 404 {answer['reason']}")
    answer = expect(
        await crm.call("GET", view_path(member, "membership", None)), 404, "read after erasure"
    )
    scene.stage.done(f"crm: 404 {answer['reason']}")
