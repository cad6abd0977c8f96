"""The search of a world: its process started and warm, and a look into that process's memory."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from members import search_form
from service.search.keeper import SearchKeeper
from service.search.letters import to_letters
from tests.support.world import App, World

TURNS = 4_000


@contextlib.asynccontextmanager
async def searching(world: World) -> AsyncIterator[SearchKeeper]:
    """Keep names in memory as a server does, from now on warm."""
    keeper = world.runtime.search_keeper
    keeper.start()
    try:
        await until_warm(world)
        yield keeper
    finally:
        await keeper.stop()


async def until_warm(world: World) -> dict[str, Any]:
    for _ in range(TURNS):
        state = await world.runtime.search_keeper.client.state()
        if state is not None and state["state"] == "warm" and not state["walking"]:
            return state
        await asyncio.sleep(0.02)
    pytest.fail("the search never became warm")


async def search(app: App, name: str, purpose: str = "membership", **more: Any) -> Any:
    return await app.post("/v1/members:search", {"purpose": purpose, "name_contains": name, **more})


async def found(app: App, name: str, purpose: str = "membership", **more: Any) -> list[str]:
    """The ids that a search gives."""
    answer = await search(app, name, purpose, **more)
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["results"]]


async def until_found(app: App, name: str, expected: list[str]) -> None:
    for _ in range(TURNS):
        if sorted(await found(app, name)) == sorted(expected):
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"it finds {await found(app, name)}")


async def until_held(world: World, count: int) -> None:
    """Wait until so many members are in memory."""
    for _ in range(TURNS):
        state = await world.runtime.search_keeper.client.state()
        if state is not None and state["members"] == count:
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"in memory are {state}")


def memory_of(pid: int) -> bytes:
    """Everything that a process can write to, as it is at this moment."""
    parts = []
    try:
        with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                span = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
                if span is not None:
                    start, end = int(span[1], 16), int(span[2], 16)
                    memory.seek(start)
                    with contextlib.suppress(OSError):  # pages that nothing can read
                        parts.append(memory.read(end - start))
    except PermissionError:
        pytest.skip("this user may not look into another process's memory")
    return b"\xff\xff".join(parts)


def written(name: str) -> bytes:
    """A name as the process holds it."""
    return to_letters(search_form(name))
