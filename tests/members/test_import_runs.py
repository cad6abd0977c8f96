"""An import accounts for every row, once, whoever interrupts it; and keeps nothing in the clear."""

# ruff: noqa: F811 (fixtures are asked for by name)

import asyncio

import pytest

from kernel import ConflictError, UnavailableError
from members import PROFILES
from members import imports as imports_module
from members.errors import MemberDataError
from tests.support.world import (  # noqa: F401 (fixtures)
    installed_sqlite,
    open_world,
    postgres_settings,
    settings,
    sqlite_settings,
    world,
)
from vault import UnreadableError

pytestmark = pytest.mark.anyio

HEADER = "รหัสสมาชิก,ชื่อ,นามสกุล,เบอร์โทรศัพท์,อีเมล,วันเกิด,ยินยอมรับข่าวสาร\n"


def member_row(at):
    return f"M{at:04},ชื่อ{at},นามสกุล{at},081{at:07},m{at}@example.com,12/05/2530,Y\n"


@pytest.fixture
def file(tmp_path):
    """240 members, 5 repeats, 4 rows without anything to find a member by, 1 of wrong width."""
    rows = [member_row(at) for at in range(240)]
    rows[50:50] = [member_row(at) for at in range(5)]
    rows[100:100] = [f"M9{at},ไม่มี,เบอร์,,,12/05/2530,Y\n" for at in range(4)]
    rows.append("M999,ขาด,คอลัมน์\n")
    path = tmp_path / "members.csv"
    path.write_text(HEADER + "".join(rows), encoding="utf-8")
    return path


async def run(world, file, *, brand="main", profile="th", jurisdiction="TH", progress=None):
    return await world.runtime.imports.run(
        world.operator,
        file,
        PROFILES[profile],
        brand=brand,
        jurisdiction=jurisdiction,
        progress=progress,
    )


def accounted(report):
    return (report.rows, report.accepted, report.quarantined, report.exact_repeats)


async def assert_exact(world, members=240, imports=1):
    assert len(await world.fetch("SELECT id FROM member")) == members
    rows = await world.fetch("SELECT row_no, outcome, member_id FROM import_row ORDER BY row_no")
    assert len(rows) == 250 * imports
    accepted = [row["member_id"] for row in rows if row["outcome"] == "accepted"]
    assert len(accepted) == len(set(accepted)) == members
    events = await world.events("member.import")
    assert len(events) == members
    assert len(await world.fetch("SELECT * FROM member_gate")) == members


async def test_every_row_is_accounted_for_and_a_second_run_changes_nothing(world, file):
    first = await run(world, file)
    assert accounted(first) == (250, 240, 5, 5)
    again = await run(world, file)
    assert again == first
    await assert_exact(world)
    assert len(await world.events("import.begin")) == len(await world.events("import.finish")) == 1


async def test_looking_at_a_file_says_the_same_and_stores_nothing(world, file):
    looked = world.runtime.imports.look(file, PROFILES["th"])
    assert accounted(looked) == (250, 240, 5, 5)
    assert await world.fetch("SELECT * FROM import_row") == []
    assert looked.issues == (await run(world, file)).issues


@pytest.mark.parametrize("chunk", [0, 1, 2])
async def test_an_interrupted_import_goes_on_where_it_stopped(world, file, chunk, monkeypatch):
    class StopError(Exception):
        pass

    def stop(done, _total):
        if done == (chunk + 1) * imports_module.CHUNK_ROWS or done == 250:
            raise StopError

    with pytest.raises(StopError):
        await run(world, file, progress=stop)
    assert accounted(await run(world, file)) == (250, 240, 5, 5)
    await assert_exact(world)


async def test_a_chunk_that_fails_in_its_middle_leaves_none_of_its_rows(world, file, monkeypatch):
    """The very first chunk: its bucket key is rolled back with it, and must not be used again."""
    genuine, calls = world.runtime.members.register, 0

    async def fail_later(*details, **more):
        nonlocal calls
        calls += 1
        if calls == 30:
            raise UnavailableError(reason="planted")
        return await genuine(*details, **more)

    monkeypatch.setattr(world.runtime.members, "register", fail_later)
    with pytest.raises(UnavailableError):
        await run(world, file)
    assert await world.fetch("SELECT id FROM member") == []
    assert accounted(await run(world, file)) == (250, 240, 5, 5)
    await assert_exact(world)
    world.runtime.vault.buckets.forget()  # as after a restart
    async with world.runtime.database.read() as session:
        for row in await world.fetch("SELECT id FROM member"):
            assert await world.runtime.vault.keys_of(session, row["id"])


async def test_the_same_file_for_another_brand_is_another_import(world, file):
    first, second = await run(world, file), await run(world, file, brand="other")
    assert first.import_id != second.import_id
    assert accounted(second) == accounted(first)
    brands = await world.fetch("SELECT brand, count(*) AS members FROM member GROUP BY brand")
    assert {row["brand"]: row["members"] for row in brands} == {"main": 240, "other": 240}


async def test_a_law_that_the_pack_does_not_know_is_refused_before_the_file_is_read(world, file):
    with pytest.raises(MemberDataError):
        await run(world, file, jurisdiction="XX")
    assert await world.fetch("SELECT * FROM import_run") == []


@pytest.mark.postgres
async def test_two_processes_importing_one_file_store_no_row_twice(postgres_settings, file):
    async with open_world(postgres_settings) as one, open_world(postgres_settings) as two:
        ended = await asyncio.gather(run(one, file), run(two, file), return_exceptions=True)
        failures = [each for each in ended if isinstance(each, Exception)]
        assert all(isinstance(each, ConflictError) for each in failures), failures
        assert len(failures) <= 1
        assert accounted(await run(one, file)) == (250, 240, 5, 5)
        await assert_exact(one)


# --- what is set aside ----------------------------------------------------------------


async def test_quarantined_rows_come_back_whole_and_only_after_an_event(world, file, tmp_path):
    report = await run(world, file)
    target = tmp_path / "errors.csv"
    written = await world.runtime.imports.write_error_file(world.operator, report.import_id, target)
    assert written == 5
    text = target.read_text(encoding="utf-8-sig")
    assert "M90,ไม่มี,เบอร์" in text
    assert "M999,ขาด,คอลัมน์" in text
    assert target.stat().st_mode & 0o777 == 0o600
    (event,) = await world.events("import.quarantine")
    assert event["decision"] == "allow"


async def test_two_quarantined_rows_that_changed_places_are_not_handed_out(world, file, tmp_path):
    report = await run(world, file)
    rows = await world.fetch(
        "SELECT row_no, cell FROM import_row WHERE outcome = 'quarantined' ORDER BY row_no"
    )
    for here, there in ((rows[0], rows[1]), (rows[1], rows[0])):
        await world.execute(
            "UPDATE import_row SET cell = :cell WHERE row_no = :row_no",
            cell=bytes(there["cell"]),
            row_no=here["row_no"],
        )
    with pytest.raises(UnreadableError):
        await world.runtime.imports.write_error_file(
            world.operator, report.import_id, tmp_path / "errors.csv"
        )
    assert not (tmp_path / "errors.csv").exists()


async def test_an_opt_in_column_is_no_consent(world, file):
    await run(world, file)
    assert await world.fetch("SELECT * FROM consent_event") == []


async def test_an_imported_member_who_is_erased_is_not_brought_back_by_the_same_file(world, file):
    await run(world, file)
    member_id = (await world.fetch("SELECT id FROM member ORDER BY id LIMIT 1"))[0]["id"]
    async with world.runtime.database.unit_of_work() as work:
        await world.runtime.members.erase(
            work, world.operator, member_id, now_us=world.runtime.clock.now_us()
        )
    rows = await world.fetch("SELECT cell FROM import_row WHERE member_id = :id", id=member_id)
    assert [row["cell"] for row in rows] == [None]
    assert accounted(await run(world, file)) == (250, 240, 5, 5)
    assert len(await world.fetch("SELECT id FROM member")) == 240


async def test_erasing_an_imported_member_leaves_no_tag_of_their_row_or_its_repeats(world, file):
    await run(world, file)
    tagged = "SELECT row_no FROM import_row WHERE row_tag <> :blank"
    before = len(await world.fetch(tagged, blank=b""))
    (first,) = await world.fetch("SELECT member_id FROM import_row WHERE row_no = 2")
    async with world.runtime.database.unit_of_work() as work:
        await world.runtime.members.erase(
            work, world.operator, first["member_id"], now_us=world.runtime.clock.now_us()
        )
    # The second data row stands in the file twice.
    assert len(await world.fetch(tagged, blank=b"")) == before - 2
    await run(world, file)
    await assert_exact(world)
