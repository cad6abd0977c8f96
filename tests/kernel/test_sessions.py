"""What every engine promises a room: one commit or nothing, and no value in an error."""

import pytest
from sqlalchemy import bindparam, delete, insert, literal, select, update

from kernel import IntegrityError, Statement, bump_epoch, fact, read_epoch, set_fact
from kernel.db import Compiled
from kernel.tables import epoch, registry_fact

pytestmark = pytest.mark.anyio

CANARY = "สมหญิง-0812345678"

PUT = Statement(insert(registry_fact).values(name=bindparam("name"), value=bindparam("value")))
SET = Statement(
    update(registry_fact).where(registry_fact.c.name.like(bindparam("like"))).values(value="set")
)
DROP = Statement(delete(registry_fact))
ALL = Statement(select(registry_fact.c.name, registry_fact.c.value).order_by("name"))
MIXED = Statement(
    select(
        literal("x").label("first"),
        bindparam("second", type_=registry_fact.c.name.type).label("second"),
        literal(b"\x00\xff").label("third"),
    )
)


async def names(database):
    async with database.read() as session:
        return [row["name"] for row in await session.all(ALL)]


async def test_a_unit_of_work_that_fails_leaves_nothing_behind(database):
    with pytest.raises(LookupError):
        async with database.unit_of_work() as work:
            await work.run(PUT, name="a", value="1")
            await bump_epoch(work, "policy")
            raise LookupError
    assert await names(database) == []
    async with database.read() as session:
        assert await read_epoch(session, "policy") == 0


async def test_a_refused_row_is_an_integrity_error_without_its_values(database):
    async with database.unit_of_work() as work:
        await work.run(PUT, name=CANARY, value="1")
    with pytest.raises(IntegrityError) as caught:
        async with database.unit_of_work() as work:
            await work.run(PUT, name=CANARY, value="2")
    assert CANARY not in str(caught.value)


async def test_a_batch_of_rows_with_one_refused_leaves_none_of_them(database):
    with pytest.raises(IntegrityError):
        async with database.unit_of_work() as work:
            rows = [{"name": name, "value": "1"} for name in ("a", "b", "a")]
            await work.run_many(PUT, rows)
    assert await names(database) == []


async def test_a_null_where_none_is_allowed_is_refused(database):
    with pytest.raises(IntegrityError):
        async with database.unit_of_work() as work:
            await work.run(PUT, name="a", value=None)


async def test_a_read_session_has_no_way_to_write(database):
    async with database.read() as session:
        assert await session.first(ALL) is None
        if database.dialect == "sqlite":
            with pytest.raises(Exception, match="SQLITE_READONLY"):
                await session.all(DROP)


async def test_nobody_sees_a_unit_of_work_before_its_commit(database):
    async with database.unit_of_work() as work:
        await work.run(PUT, name="a", value="1")
        assert await names(database) == []
        assert (await work.first(ALL))["name"] == "a"  # it sees itself
    assert await names(database) == ["a"]


async def test_what_a_unit_of_work_wrote_is_there_when_it_has_ended(database):
    async with database.unit_of_work() as work:
        assert await work.run(PUT, name="a", value="1") == 1
        await work.run_many(PUT, [{"name": name, "value": "1"} for name in ("b1", "b2")])
        assert await work.run(SET, like="b%") == 2
        assert await work.run(SET, like="c%") == 0
    async with database.read() as session:
        rows = [(row["name"], row["value"]) for row in await session.all(ALL)]
    assert rows == [("a", "1"), ("b1", "set"), ("b2", "set")]


async def test_each_statement_on_its_own_is_durable_when_the_block_has_ended(database):
    async with database.each_on_its_own() as work:
        await bump_epoch(work, "a")
    async with database.read() as session:
        assert await read_epoch(session, "a") == 1


async def test_a_reaction_runs_after_the_commit_and_in_order(database):
    seen = []
    async with database.unit_of_work() as work:
        work.after_commit(lambda: seen.append("first"))
        work.after_commit(lambda: seen.append("second"))
        await work.run(PUT, name="a", value="1")
        assert seen == []
    assert seen == ["first", "second"]


async def test_a_rolled_back_unit_of_work_causes_no_reaction(database):
    seen = []
    with pytest.raises(LookupError):
        async with database.unit_of_work() as work:
            work.after_commit(lambda: seen.append("never"))
            raise LookupError
    await names(database)
    assert seen == []


async def test_a_fact_is_the_last_value_written(database):
    async with database.unit_of_work() as work:
        assert await fact(work, "tenant") is None
        await set_fact(work, "tenant", "one")
        await set_fact(work, "tenant", "two")
    async with database.read() as session:
        assert await fact(session, "tenant") == "two"


async def test_an_epoch_counts_from_nothing_and_only_up(database):
    values = []
    for _ in range(3):
        async with database.unit_of_work() as work:
            values.append(await read_epoch(work, "policy"))
            await bump_epoch(work, "policy")
            await bump_epoch(work, "auth")
    assert values == [0, 1, 2]
    async with database.read() as session:
        assert await read_epoch(session, "auth") == 3


async def test_a_forgotten_parameter_is_an_error_and_not_a_null(database):
    with pytest.raises(KeyError, match="value"):
        async with database.unit_of_work() as work:
            await work.run(PUT, name="a")


async def test_literals_and_parameters_keep_their_places(database):
    async with database.read() as session:
        row = await session.first(MIXED, second="y")
    assert (row["first"], row["second"], bytes(row["third"])) == ("x", "y", b"\x00\xff")


def test_only_data_statements_are_compiled():
    with pytest.raises(TypeError, match="data statements"):
        Compiled(epoch.c.value.type, "sqlite")
