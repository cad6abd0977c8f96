"""A unit of work that ended well is stored, or its end raises: there is no third way."""

import contextlib

import pytest

from kernel import IntegrityError, UnavailableError, UnitOfWork, set_fact
from kernel.repository import _PUT_MESSAGE
from tests.support.world import open_world, recorded

pytestmark = pytest.mark.anyio

MESSAGE = {"id": "msg_once", "topic": "t", "payload": b"{}", "created_us": 1}


async def stumble(work: UnitOfWork) -> None:
    """Break a constraint and carry on as if nothing had happened."""
    await work.run(_PUT_MESSAGE, **MESSAGE)
    await set_fact(work, "before", "1")
    with contextlib.suppress(IntegrityError):
        await work.run(_PUT_MESSAGE, **MESSAGE)


@pytest.mark.postgres
async def test_a_commit_that_the_server_turns_into_a_rollback_is_not_taken_for_one(
    postgres_settings,
):
    """PostgreSQL answers COMMIT with ROLLBACK, and no error, once a statement has failed."""
    async with open_world(postgres_settings, background=False) as world:
        reactions = []
        with pytest.raises(UnavailableError, match="rolled the change back"):
            async with recorded(world.runtime.database) as work:
                work.after_commit(lambda: reactions.append("durable"))
                await stumble(work)
        assert reactions == []
        assert await world.fetch("SELECT id FROM outbox WHERE id = 'msg_once'") == []
        async with recorded(world.runtime.database) as work:
            await set_fact(work, "the connection", "is good")


async def test_on_sqlite_the_statement_alone_is_undone(sqlite_settings):
    async with open_world(sqlite_settings, background=False) as world:
        async with recorded(world.runtime.database) as work:
            await stumble(work)
        assert await world.fetch("SELECT value FROM registry_fact WHERE name = 'before'")
        assert len(await world.fetch("SELECT id FROM outbox WHERE id = 'msg_once'")) == 1
