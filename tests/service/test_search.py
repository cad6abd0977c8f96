"""Searching by a piece of a name, over HTTP and a real search process, on both engines."""

import asyncio
import contextlib

import pytest

from tests.support.world import EVERYTHING

pytestmark = pytest.mark.anyio

SCOPES = (*EVERYTHING, "members:search", "audiences:query", "audiences:export")


@contextlib.asynccontextmanager
async def searching(world):
    """Let the world's search process run, and wait until it is warm."""
    keeper = world.runtime.search_keeper
    keeper.start()
    await until_warm(world)
    try:
        yield keeper
    finally:
        await keeper.stop()


async def until_warm(world):
    for _ in range(500):
        state = await world.runtime.search_keeper.client.state()
        if state is not None and state["state"] == "warm":
            return state
        await asyncio.sleep(0.02)
    pytest.fail("the search never became warm")


async def search(app, name, purpose="membership", **more):
    return await app.post("/v1/members:search", {"purpose": purpose, "name_contains": name, **more})


async def test_a_member_is_found_by_a_piece_of_the_name(world):
    crm = await world.app("crm", *SCOPES)
    member = await crm.register(given_name="สมหญิง", family_name="ใจดี")
    async with searching(world):
        answer = await search(crm, "มหญ")
        assert answer.status_code == 200, answer.text
        found = answer.json()
    assert [one["id"] for one in found["results"]] == [member.id]
    assert found["results"][0]["data"]["given_name"] == "สมหญิง"
