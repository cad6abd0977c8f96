"""Rows that an import set aside end on their day, and an erasure reaches those it can."""

# ruff: noqa: F811 (fixtures are asked for by name)

import pytest

from dsar import Right
from kernel import rfc3339
from members import PROFILES
from members.errors import QuarantineEndedError
from service.tasks import system_caller
from tests.support.requests import Desk
from tests.support.world import (  # noqa: F401 (fixtures)
    DAY_US,
    JumpingClock,
    installed_sqlite,
    open_world,
    postgres_settings,
    settings,
    sqlite_settings,
)
from vault import ORDINARY

pytestmark = pytest.mark.anyio

HEADER = "ชื่อ,นามสกุล,เบอร์โทรศัพท์,อีเมล,วันเกิด\n"
NAMELESS = "ไม่มี,เบอร์,,,12/05/2530\n"
SHIFTED = "เกิน,ใจดี,ช่องเกิน,081-234-5678,,12/05/2530\n"
"""A column too many: nothing of it is read, but the number in it is somebody's."""


@pytest.fixture
async def world(settings):
    async with open_world(settings, clock=JumpingClock(), background=False) as opened:
        yield opened


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "members.csv"
    path.write_text(HEADER + NAMELESS + SHIFTED, encoding="utf-8")
    return path


async def imported(world, file, brand="main"):
    report = await world.runtime.imports.run(
        world.operator, file, PROFILES["th"], brand=brand, jurisdiction="TH"
    )
    assert report.quarantined == 2
    return report


async def rows(world, import_id):
    return await world.fetch(
        "SELECT * FROM import_row WHERE import_id = :i ORDER BY row_no", i=import_id
    )


async def kinds_of(world, import_id):
    found = await world.fetch("SELECT kind FROM vault_key WHERE owner_id = :i", i=import_id)
    return {row["kind"] for row in found}


async def test_what_an_import_set_aside_ends_on_its_day_key_first(world, file, tmp_path):
    report = await imported(world, file)
    imports, days = world.runtime.imports, world.settings.members.quarantine_days
    world.runtime.clock.jump_us = (days - 1) * DAY_US
    assert await imports.end_quarantines(system_caller("worker")) == 0
    assert await kinds_of(world, report.import_id) == {ORDINARY}
    world.runtime.clock.jump_us = days * DAY_US
    assert await imports.end_quarantines(system_caller("worker")) == 1
    assert await imports.end_quarantines(system_caller("worker")) == 0
    assert await kinds_of(world, report.import_id) == set()
    left = await rows(world, report.import_id)
    assert [(row["cell"], bytes(row["row_tag"])) for row in left] == [(None, b"")] * 2
    assert await world.fetch("SELECT * FROM import_mark") == []
    (event,) = await world.events("import.quarantine_end")
    assert event["count"] == 2
    with pytest.raises(QuarantineEndedError):
        await imports.write_error_file(world.operator, report.import_id, tmp_path / "errors.csv")
    with pytest.raises(QuarantineEndedError):  # the very same file once more
        await imports.run(world.operator, file, PROFILES["th"], brand="main", jurisdiction="TH")


async def test_the_end_comes_round_by_itself(world, file):
    report = await imported(world, file)
    world.runtime.clock.jump_us = 400 * DAY_US
    act = world.runtime.worker._acts["quarantines_end"]
    await act({})
    assert await kinds_of(world, report.import_id) == set()


async def test_the_end_is_told_beforehand(world, file):
    app = await world.app("loader", "imports:write")
    report = await imported(world, file)
    told = (await app.get(f"/v1/imports/{report.import_id}")).json()
    assert told["expires_at"] == rfc3339(report.quarantine_until_us)
    (run,) = await world.fetch("SELECT expires_us, created_us FROM import_run")
    days = world.settings.members.quarantine_days
    assert run["expires_us"] == run["created_us"] + days * DAY_US == report.quarantine_until_us


async def test_an_erasure_takes_rows_along_that_bear_an_address_of_the_member(world, file):
    report = await imported(world, file)
    elsewhere = await imported(world, file, brand="other")
    crm = await world.app()
    member = await crm.register(phone="+66 81 234 5678")
    stays = await crm.register(phone="082-345-6789")
    await world.erase(stays)
    assert all(row["cell"] is not None for row in await rows(world, report.import_id))
    await world.erase(member)
    nameless, shifted = await rows(world, report.import_id)
    assert nameless["cell"] is not None
    assert (shifted["cell"], bytes(shifted["row_tag"])) == (None, b"")
    assert all(row["cell"] is not None for row in await rows(world, elsewhere.import_id))
    marks = await world.fetch("SELECT import_id FROM import_mark")
    assert {row["import_id"] for row in marks} == {elsewhere.import_id}


async def test_marks_say_nothing_to_whoever_reads_the_database(world, file):
    await imported(world, file)
    (mark,) = await world.fetch("SELECT mark FROM import_mark")
    crm = await world.app()
    await crm.register(phone="081-234-5678")
    known = await world.fetch("SELECT tag FROM vault_tag")
    assert bytes(mark["mark"]) not in {bytes(row["tag"]) for row in known}


async def test_an_erasure_names_what_nobody_can_match_and_when_it_ends(world, file):
    crm, desk = await world.app(), Desk(world)
    member_id = await world.member_id(await crm.register(phone="082-345-6789"))
    await imported(world, file)
    (run,) = await world.fetch("SELECT expires_us FROM import_run")
    request = await desk.open(member_id, Right.ERASURE)
    await desk.prove(request)
    done = await desk.do("fulfil", desk.member, request.id)
    (named,) = [one for one in done.results if one.what == "import_quarantine"]
    assert (named.result, named.law) == ("not_matchable", None)
    assert named.until is not None
    assert run["expires_us"] > 0


async def test_without_rows_set_aside_an_erasure_names_none(world):
    crm, desk = await world.app(), Desk(world)
    member_id = await world.member_id(await crm.register(phone="082-345-6789"))
    request = await desk.open(member_id, Right.ERASURE)
    await desk.prove(request)
    done = await desk.do("fulfil", desk.member, request.id)
    assert [one for one in done.results if one.what == "import_quarantine"] == []
