"""A process that works on a registry until it is killed, and tells what was answered.

`child.py KIND DATA_DIR [URL]`. Each line on its output is a change that had returned when the line
was written: what a caller was told has happened must be there after the kill.
"""

import asyncio
import itertools
import json
import sys
from pathlib import Path

from sqlalchemy import bindparam, select

from dsar import Right
from kernel import Caller, RequestId, Statement, new_id
from kernel.logging import configure_logging
from members import PROFILES
from members.repository import propose_pair
from members.tables import duplicate
from service.settings import AuditSettings, DatabaseSettings, LogSettings, Settings
from tests.support.requests import Desk, staff
from tests.support.world import App, World, open_world, recorded

POLL_MS = 5
OFFICER = Caller("stf_one", "dpo", "console", "main", RequestId("req_01m834me8bfjwbgnk89sr02kdz"))
PAIR_OF = Statement(
    select(duplicate.c.id).where(
        duplicate.c.first_id == bindparam("first"), duplicate.c.second_id == bindparam("second")
    )
)


def settings_of(data_dir: str, url: str) -> Settings:
    """Settings that make the sequencer work in many small batches."""
    return Settings(
        data_dir=Path(data_dir),
        database=DatabaseSettings(url=url),
        audit=AuditSettings(poll_ms=POLL_MS, batch_size=3),
        log=LogSettings(requests=False),
    )


def tell(**what: object) -> None:
    print(json.dumps(what), flush=True)


async def register(world: World, crm: App) -> None:
    for at in itertools.count():
        member = await crm.register(
            {"given_name": f"คน{at}", "phone": f"08{at % 10**8:08}"}, consents={"marketing": "sms"}
        )
        tell(registered=member.id)


async def withdraw(world: World, crm: App) -> None:
    member = await crm.register(phone="081-234-5678")
    tell(member=member.id)
    decision = {"consents": [world.decision("marketing", "sms")]}
    for at in itertools.count():
        answer = await crm.post(f"/v1/members/{member.id}/consents", decision)
        assert answer.status_code == 201, answer.text
        tell(member=member.id, status="given", at=at)
        answer = await crm.withdraw(member, channel="sms")
        assert answer.status_code == 200, answer.text
        tell(member=member.id, status="withdrawn", at=at)


async def erase(world: World, crm: App) -> None:
    for at in itertools.count():
        member = await crm.register(
            {"given_name": f"คน{at}", "phone": f"08{at % 10**8:08}"}, consents={"marketing": "sms"}
        )
        tell(registered=member.id)
        await crm.view(member, "marketing", "sms")
        await world.erase(member)
        tell(erased=member.id)


async def fulfil(world: World, crm: App) -> None:
    """Erase on request: identity by a code, then request, member and copy end together."""
    desk = Desk(world)
    for at in itertools.count():
        member = await crm.register({"given_name": f"คน{at}", "phone": f"08{at % 10**8:08}"})
        member_id = await world.member_id(member)
        tell(registered=member.id)
        copy = await desk.open(member_id, Right.ACCESS)
        await desk.do("fulfil", staff(), copy.id)
        await desk.carry_out(copy)
        request = await desk.open(member_id, Right.ERASURE)
        await desk.prove(request)
        await desk.do("fulfil", staff(), request.id)
        tell(erased=member.id, request=request.id, copy=copy.id)


async def load(world: World, crm: App) -> None:
    tell(began=True)
    await world.runtime.imports.run(
        world.operator,
        world.settings.data_dir / "members.csv",
        PROFILES["th"],
        brand="main",
        jurisdiction="TH",
        progress=lambda done, _total: tell(rows=done),
    )
    tell(finished=True)
    await asyncio.sleep(60)


async def merge(world: World, crm: App) -> None:
    """Two records become one and two again, over and over; each answer is told."""
    for at in itertools.count():
        phone = f"08{at % 10**8:08}"
        old = await crm.register({"given_name": f"คน{at}", "phone": phone})
        new = await crm.register(
            {"given_name": f"คน{at}", "phone": phone, "email": f"m{at}@example.com"},
            consents={"marketing": "sms"},
        )
        now_us = world.runtime.clock.now_us()
        pair = new_id("dup", now_us)
        ids = await world.member_id(old), await world.member_id(new)
        async with recorded(world.runtime.database) as work:
            # A comparison in the background may have been first with this pair.
            await propose_pair(work, pair, "main", ids, 90, ["phone"], now_us=now_us)
            row = await work.first(PAIR_OF, first=min(ids), second=max(ids))
        merged = await world.runtime.duplicates.merge(OFFICER, row["id"])
        tell(merged=merged.merge_id)
        if at % 2:
            await world.runtime.duplicates.undo(OFFICER, merged.merge_id)
            tell(undone=merged.merge_id)


async def sequence(world: World, crm: App) -> None:
    member = await crm.register(phone="081-234-5678")

    async def read() -> None:
        while True:
            answer = await crm.view(member)
            tell(read=answer.json()["audit_id"])

    await asyncio.gather(*(read() for _ in range(4)))


KINDS = {
    "register": register,
    "withdraw": withdraw,
    "erase": erase,
    "fulfil": fulfil,
    "load": load,
    "merge": merge,
    "sequence": sequence,
}


async def main(kind: str, data_dir: str, url: str = "") -> None:
    configure_logging("error")
    async with open_world(settings_of(data_dir, url)) as world:
        made = await world.runtime.clients.list()
        # No `duplicates:read`: a client of that scope comes to know members it did not register.
        scopes = ("members:write", "purpose:membership", "purpose:marketing")
        crm = await world.app(f"crm-{len(made)}", *scopes)
        tell(client=crm.id)
        await KINDS[kind](world, crm)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
