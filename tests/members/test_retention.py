"""What a law retains: sealed under a key of its own, closed at erasure, gone on its day."""

import pytest

from kernel import MemberId
from service.settings import PolicySettings
from service.setup import set_up
from tests.support.world import (  # noqa: F401 (fixtures are asked for by name)
    DAY_US,
    JumpingClock,
    installed_sqlite,
    open_world,
    postgres_settings,
    settings,
    sqlite_settings,
)

pytestmark = pytest.mark.anyio

OVERLAY = '[fields.address]\nretention_class = "fiscal"\n'
ADDRESS = "99/1 ถนนสุขุมวิท"


@pytest.fixture
async def shop(settings, tmp_path):  # noqa: F811 (the fixture)
    """A registry whose own pack keeps addresses for the tax office."""
    folder = tmp_path / "pack"
    folder.mkdir()
    (folder / "fields.toml").write_text(OVERLAY, encoding="utf-8")
    kept = settings.model_copy(update={"policies": PolicySettings(pack_dir=folder)})
    await set_up(kept)
    async with open_world(kept, clock=JumpingClock(), background=False) as world:
        yield world


async def keys_of(world) -> list[str]:
    rows = await world.fetch("SELECT kind FROM vault_key ORDER BY kind")
    return [row["kind"] for row in rows]


async def test_a_retained_field_has_a_key_of_its_own_and_opens_like_any_other(shop):
    app = await shop.app()
    member = await app.register(address=ADDRESS)
    assert await keys_of(shop) == ["fiscal", "ordinary", "pseudonym"]
    seen = (await app.view(member, fields="given_name,address")).json()
    assert seen["data"] == {"given_name": "สมหญิง", "address": ADDRESS}


async def test_erasure_leaves_only_what_a_law_retains_and_closes_it(shop):
    app = await shop.app()
    member = await app.register(address=ADDRESS)
    member_id = await shop.erase(member)
    assert await keys_of(shop) == ["fiscal", "pseudonym"]
    async with shop.runtime.database.read() as session:
        row = await shop.runtime.members.read(session, MemberId(member_id))
    assert set(row.cells) == set(row.provenance) == {"address"}
    assert (await app.view(member, fields="address")).status_code == 404


async def test_the_retained_key_dies_on_the_day_the_law_lets_go(shop):
    app = await shop.app()
    await shop.erase(await app.register(address=ADDRESS))
    shop.runtime.clock.jump_us = (5 * 365 - 1) * DAY_US
    await shop.runtime.housekeeping.sweep()
    assert await keys_of(shop) == ["fiscal"]
    shop.runtime.clock.jump_us = (5 * 366 + 1) * DAY_US
    await shop.runtime.housekeeping.sweep()
    assert await keys_of(shop) == []
