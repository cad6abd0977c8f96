"""The probe: what readiness must know and no read of a table tells, asked at most so often.

It appends an event and takes it back, sees whether the database is still the one that this
process was started for, and whether the key ring lies where the next start looks for it. All who
ask in the same seconds share one answer, so that asking costs nobody anything.
"""

import asyncio
import os
import time
from collections.abc import Mapping

from sqlalchemy import column, select
from sqlalchemy import table as a_table

from audit import try_trail
from kernel import Clock, Database, Statement, UnavailableError, fact
from service.facts import FACT_POLICY, FACT_RING
from service.kms import ring_file
from service.schema import HEAD
from service.settings import Settings

_FRESH_SECONDS = 5.0
_SOON_SECONDS = 0.5
_ANSWER_SECONDS = 3.0
_REVISION = Statement(select(column("version_num")).select_from(a_table("alembic_version")))


class Probe:
    """Asks for one process; `ring` and `policy` name what it was started with."""

    def __init__(
        self, settings: Settings, database: Database, clock: Clock, ring: str, policy: str
    ) -> None:
        self._database = database
        self._clock = clock
        self._ring_file = ring_file(settings)
        self._told = {FACT_RING: (ring, "other_ring"), FACT_POLICY: (policy, "policy_changed")}
        self._answer: Mapping[str, str] = {}
        self._until = 0.0
        self._asking = asyncio.Lock()

    async def look(self) -> Mapping[str, str]:
        """Give `trail`, `configuration` and `keys`, each `ok` or a word for what is wrong."""
        async with self._asking:
            if time.monotonic() >= self._until:
                self._answer = {
                    "trail": await try_trail(self._database, self._clock) or "ok",
                    "configuration": await self._configuration(),
                    "keys": "ok" if os.access(self._ring_file, os.R_OK) else "missing",
                }
                well = set(self._answer.values()) == {"ok"}
                self._until = time.monotonic() + (_FRESH_SECONDS if well else _SOON_SECONDS)
            return self._answer

    async def _configuration(self) -> str:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS), self._database.read() as session:
                row = await session.first(_REVISION)
                if row is None or row["version_num"] != HEAD:
                    return "other_schema"
                for name, (known, wrong) in self._told.items():
                    if await fact(session, name) != known:
                        return wrong
        except (UnavailableError, TimeoutError):
            return "unknown"
        return "ok"
