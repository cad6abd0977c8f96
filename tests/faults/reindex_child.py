"""A process that re-indexes a registry in use and is killed in it, at a step or at any moment.

`reindex_child.py STEP DATA_DIR [URL]`. It kills itself with SIGKILL at STEP, or never at
`whenever`: then it goes on until somebody else does. Each line on its output had been answered
when it was printed.
"""

import asyncio
import contextlib
import inspect
import itertools
import os
import signal
import sys
from typing import Any

from kernel import YinyomError
from kernel.logging import configure_logging
from members import Reindex
from tests.faults.child import settings_of, tell
from tests.support.world import App, Known, World, open_world
from vault import Tags

WHENEVER = "whenever"
STEPS: dict[str, tuple[type, str, str, int]] = {
    "the key is made": (Tags, "begin", "before", 1),
    "both versions are written": (Reindex, "_fill", "before", 1),
    "the first page is done": (Reindex, "_fill_page", "after", 1),
    "the second page is done": (Reindex, "_fill_page", "after", 2),
    "every page is done": (Reindex, "_switch", "before", 1),
    "look-ups ask the new version": (Reindex, "_switch", "after", 1),
    "some old tags are gone": (Tags, "drop_some", "before", 2),
    "all old tags are gone": (Reindex, "_end", "before", 1),
    "the old version is forgotten": (Tags, "forget_secrets", "before", 1),
}
MEMBERS, KEPT = 7, 3


def phone_of(at: int) -> str:
    return f"08{at % 10**8:08}"


def arm(place: type, name: str, when: str, call: int) -> None:
    """Kill this process at a call of a method."""
    whole = getattr(place, name)
    calls = itertools.count(1)

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if inspect.iscoroutinefunction(whole):

        async def armed(*arguments: Any, **named: Any) -> Any:
            mine = next(calls) == call
            if mine and when == "before":
                die()
            answer = await whole(*arguments, **named)
            if mine:
                die()
            return answer

        setattr(place, name, armed)
    else:

        def armed_call(*arguments: Any, **named: Any) -> Any:
            if next(calls) == call:
                die()
            return whole(*arguments, **named)

        setattr(place, name, armed_call)


async def register(crm: App, at: int) -> Known:
    member = await crm.register(phone=phone_of(at), consents={"marketing": "sms"})
    tell(registered=member.id, phone=phone_of(at))
    return member


async def erase(world: World, member: Known) -> None:
    await world.erase(member)
    tell(erased=member.id)


async def to_a_step(world: World, crm: App, step: str, first: int) -> None:
    """Fill a registry, then re-index it; beside the first pages one joins and one goes."""
    members = [await register(crm, first + at) for at in range(MEMBERS)]
    await crm.verify(members[0])
    tell(verified=members[0].id)
    answer = await crm.post(f"/v1/members/{members[1].id}/objections", {"purpose": "marketing"})
    tell(objected=members[1].id, status=answer.status_code)
    await erase(world, members.pop())
    whole, numbers = Reindex._fill_page, itertools.count(first + MEMBERS)

    async def page(*arguments: Any) -> None:
        if len(members) > KEPT:
            await register(crm, next(numbers))
            await erase(world, members.pop())
        await whole(*arguments)

    Reindex._fill_page = page  # type: ignore[method-assign,assignment]
    arm(*STEPS[step])
    await world.runtime.reindex.renew(world.operator, ["phone"])


async def for_ever(world: World, crm: App, first: int) -> None:
    """Re-index over and over while members join, prove their numbers and go."""

    async def live() -> None:
        for at in itertools.count(first):
            member = await register(crm, at)
            await crm.verify(member)
            tell(verified=member.id)
            if at % 3 == 0:
                await erase(world, member)

    async def renew() -> None:
        while True:
            # An erasure may hold a member at this moment; the next round goes on.
            with contextlib.suppress(YinyomError):
                done = await world.runtime.reindex.renew(world.operator, ["phone"])
                tell(version=done.version)
            await asyncio.sleep(0)

    await asyncio.gather(live(), renew())


async def main(step: str, data_dir: str, url: str = "") -> None:
    configure_logging("error")
    sys.modules["members.reindex"]._PAGE_ONLINE = 2  # type: ignore[attr-defined]
    sys.modules["vault.tags"]._DROPPED_AT_ONCE = 3  # type: ignore[attr-defined]
    async with open_world(settings_of(data_dir, url)) as world:
        made = await world.runtime.clients.list()
        crm = await world.app(
            f"crm-{len(made)}", "members:write", "purpose:membership", "purpose:marketing"
        )
        tell(client=crm.id)
        first = len(made) * 1_000_000
        if step == WHENEVER:
            await for_ever(world, crm, first)
        else:
            await to_a_step(world, crm, step, first)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
