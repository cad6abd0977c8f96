"""Holding a write of the trail in its midst on PostgreSQL, for as long as a test needs.

A trigger that sleeps is a race against a busy machine: the test may come too late to see it, or
its other half too slow to be done in time. Here the event waits for a lock that the test has, so
what comes before what is decided and not hoped for.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg

from tests.support.world import World

LOCK = 4_711
SECONDS = 90.0
_HOLD = """
CREATE FUNCTION held_up() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_advisory_xact_lock_shared({lock}); RETURN NEW; END $$;
CREATE TRIGGER held_up BEFORE INSERT ON audit_event
FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION held_up()
"""
_HELD = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'advisory'
"""
_BEHIND = f"""
SELECT 1 FROM pg_stat_activity
WHERE datname = current_database() AND pg_blocking_pids(pid) && ARRAY({_HELD})
"""


class Held:
    """Whoever writes such an event waits, until it is let go."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def until_held(self) -> None:
        """Wait until somebody has come as far as the event."""
        await self._until(_HELD)

    async def until_done_or_behind(self, task: "asyncio.Task[Any]") -> bool:
        """Wait until a task is done, or waits for the one who is held; say whether it is done."""
        await self._until(_BEHIND, task)
        return task.done()

    async def let_go(self) -> None:
        """Let everybody write from now on."""
        await self._connection.execute("SELECT pg_advisory_unlock_all()")

    async def _until(self, sql: str, task: "asyncio.Task[Any] | None" = None) -> None:
        deadline = time.monotonic() + SECONDS
        while not (task is not None and task.done()) and not await self._connection.fetch(sql):
            assert time.monotonic() < deadline, "nobody came"
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def held_events(world: World, when: str) -> AsyncIterator[Held]:
    """Hold events of which `when` is true (SQL over `NEW`) until the block lets them go or ends."""
    connection = await asyncpg.connect(world.settings.database.url)
    try:
        await connection.execute(f"SELECT pg_advisory_lock({LOCK})")
        await connection.execute(_HOLD.format(lock=LOCK, when=when))
        yield Held(connection)
    finally:
        await connection.close()
