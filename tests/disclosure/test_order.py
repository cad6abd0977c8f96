"""The order of a disclosure: on record, durably, before any key opens a cell."""

import asyncio
import concurrent.futures

import pytest

from tests.support.world import fetch
from vault import Vault

pytestmark = pytest.mark.anyio


async def test_the_event_is_durable_before_a_cell_is_opened(world, monkeypatch):
    app = await world.app()
    member = await app.register(family_name="ใจดี")
    looked = []
    genuine = Vault.open_many

    def look_first(vault, table, rows):
        """Look from outside, on a connection of its own, as a second process would."""
        ((ticket, *_),) = rows
        query = "SELECT decision FROM audit_event WHERE id = :id"
        with concurrent.futures.ThreadPoolExecutor(1) as outside:
            found = outside.submit(
                lambda: asyncio.run(fetch(world.settings, query, id=ticket.event_id))
            ).result(10)
        looked.append(found)
        return genuine(vault, table, rows)

    monkeypatch.setattr(Vault, "open_many", look_first)
    seen = await app.view(member)
    assert seen.json()["data"]["family_name"] == "ใจดี"
    batch = await app.post("/v1/members:view", {"ids": [member.id], "purpose": "membership"})
    assert batch.json()["results"][0]["data"]["family_name"] == "ใจดี"
    assert looked == [[{"decision": "allow"}]] * 2
