"""A withdrawal that races a read: once it has returned, nothing more is put on record as allowed.

The reads are made slow on purpose, between their two statements and inside the second one, on
two workers of one PostgreSQL database and in the one process that SQLite allows. The measure is
what has been committed: the allowed readings at the moment the withdrawal returned are all
there will ever be. That the measure works is proven by taking the row lock out.
"""

import asyncio
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import BigInteger, Integer, Text, bindparam, select

from audit import append_while_held
from consent.tables import member_gate
from disclosure import repository
from kernel import epoch_value
from tests.support.holding import held_events
from tests.support.world import open_world

pytestmark = pytest.mark.anyio

ALLOWED = "NEW.action IN ('member.view', 'member.lookup') AND NEW.decision = 'allow'"


class PausingDatabase:
    """A database on which a chosen statement waits before it runs, as on a busy machine."""

    def __init__(self, database, statement):
        self._database = database
        self._statement = statement
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()

    def __getattr__(self, name):
        return getattr(self._database, name)

    @asynccontextmanager
    async def each_on_its_own(self):
        async with self._database.each_on_its_own() as session:
            yield PausingSession(session, self)

    async def pause(self, statement):
        if statement is self._statement and not self.go_on.is_set():
            self.reached.set()
            await self.go_on.wait()


class PausingSession:
    def __init__(self, session, database):
        self._session = session
        self._database = database

    def __getattr__(self, name):
        return getattr(self._session, name)

    async def first(self, statement, /, **parameters):
        await self._database.pause(statement)
        return await self._session.first(statement, **parameters)


async def allowed(world):
    """The committed readings that were allowed."""
    return {
        event["id"]
        for event in await world.events()
        if event["action"] in {"member.view", "member.lookup"} and event["decision"] == "allow"
    }


@asynccontextmanager
async def two_workers(settings):
    """A worker that reads and another that withdraws; SQLite has one process for both."""
    async with open_world(settings) as reading:
        if not settings.on_postgres:
            yield reading, reading
            return
        async with open_world(settings) as writing:
            yield reading, writing


@asynccontextmanager
async def a_consenting_member(settings):
    async with two_workers(settings) as (reading, writing):
        crm = await reading.app()
        member = await crm.register(phone="081-234-5678", consents={"marketing": "sms"})
        await crm.verify(member)
        yield reading, writing, crm, member


async def test_a_withdrawal_between_the_two_statements_of_a_read_is_seen_by_the_second(settings):
    async with a_consenting_member(settings) as (reading, writing, crm, member):
        slow = PausingDatabase(reading.runtime.database, repository.RECORD)
        reading.runtime.disclosure._database = slow
        read = asyncio.create_task(crm.view(member, "marketing", "sms"))
        await slow.reached.wait()
        withdrawal = asyncio.create_task(crm.through(writing).withdraw(member, channel="sms"))
        # PostgreSQL lets it through now. SQLite has given the read its turn: it comes after.
        await asyncio.wait([withdrawal], timeout=0.3)
        assert withdrawal.done() == settings.on_postgres
        if not withdrawal.done():
            slow.go_on.set()
        assert (await withdrawal).status_code == 200
        at_its_return = await allowed(reading)
        slow.go_on.set()
        answer = await read
        assert await allowed(reading) == at_its_return
        assert answer.status_code == (403 if settings.on_postgres else 200)
        after = await crm.view(member, "marketing", "sms")
        assert (after.status_code, after.json()["reason"]) == (403, "consent_withdrawn")


async def race(reading, asked, writing, changed):
    """Change while the event of a read is being written; gives both answers and what came too late.

    Where the change waits for the read it is done after it; otherwise it is done before.
    """
    async with held_events(reading, ALLOWED) as held:
        read = asyncio.create_task(asked)
        await held.until_held()
        change = asyncio.create_task(changed)
        if not await held.until_done_or_behind(change):
            await held.let_go()
        told = await change
        at_its_return = await allowed(writing)
        await held.let_go()
        answer = await read
    return answer, told, await allowed(writing) - at_its_return


@pytest.mark.postgres
class TestSlowCommit:
    """The event of the read is held while it is written."""

    async def race(self, reading, crm, writing, member):
        """Withdraw while the event is being written; give the answer and what came too late."""
        asked = crm.view(member, "marketing", "sms")
        changed = crm.through(writing).withdraw(member, channel="sms")
        answer, withdrawal, late = await race(reading, asked, writing, changed)
        assert withdrawal.status_code == 200
        return answer, late

    async def test_a_withdrawal_waits_for_the_event_that_came_first(self, postgres_settings):
        async with a_consenting_member(postgres_settings) as (reading, writing, crm, member):
            answer, late = await self.race(reading, crm, writing, member)
            assert late == set()
            assert answer.status_code == 200
            assert (await crm.view(member, "marketing", "sms")).status_code == 403

    async def test_without_the_row_lock_a_withdrawn_read_is_put_on_record(
        self, postgres_settings, monkeypatch
    ):
        """The guard's proof: a plain look at the gate lets the reading through too late."""
        gate = select(member_gate.c.member_id).where(
            member_gate.c.member_id == bindparam("gate_member", type_=Text),
            member_gate.c.version == bindparam("gate_version", type_=Integer),
        )
        unlocked = append_while_held(
            gate,
            epoch_value(repository.AUTH_EPOCH) == bindparam("auth_epoch", type_=BigInteger),
            epoch_value(repository.POLICY_EPOCH) == bindparam("policy_epoch", type_=BigInteger),
        )
        monkeypatch.setattr(repository, "RECORD", unlocked)
        async with a_consenting_member(postgres_settings) as (reading, writing, crm, member):
            answer, late = await self.race(reading, crm, writing, member)
            assert answer.status_code == 200
            assert len(late) == 1

    async def test_an_erasure_waits_for_the_event_that_came_first(self, postgres_settings):
        async with a_consenting_member(postgres_settings) as (reading, writing, crm, member):
            asked = crm.view(member, "marketing", "sms")
            _, _, late = await race(reading, asked, writing, writing.erase(member))
            assert late == set()
            assert (await crm.view(member, "marketing", "sms")).status_code == 404

    async def test_a_lookup_for_a_withdrawn_purpose_is_not_told_too_late(self, postgres_settings):
        async with a_consenting_member(postgres_settings) as (reading, writing, crm, member):
            body = {
                "kind": "phone",
                "value": "081-234-5678",
                "region": "TH",
                "purpose": "marketing",
            }
            asked = crm.post("/v1/members:lookup", body)
            changed = crm.through(writing).withdraw(member, channel="sms")
            _, _, late = await race(reading, asked, writing, changed)
            assert late == set()
            assert (await crm.post("/v1/members:lookup", body)).status_code == 404


@pytest.mark.postgres
async def test_a_batch_that_waited_for_a_withdrawal_sees_it(postgres_settings):
    """The batch began while the withdrawal was uncommitted, and waited for its row lock.

    The row it then gets is the new one; everything joined to it must be as new.
    """
    async with a_consenting_member(postgres_settings) as (reading, writing, crm, member):
        untouched = await crm.register(phone="089-876-5432", consents={"marketing": "sms"})
        runtime, caller = writing.runtime, writing.caller(crm)
        member_id = await writing.member_id(member)
        body = {"ids": [member.id, untouched.id], "purpose": "marketing", "channel": "sms"}
        async with runtime.database.unit_of_work() as work:
            pseudonym = await runtime.members.pseudonym(work, member_id)
            await runtime.consent.withdraw(
                work,
                caller,
                member_id,
                pseudonym,
                "marketing",
                "sms",
                now_us=runtime.clock.now_us(),
            )
            batch = asyncio.create_task(crm.post("/v1/members:view", body))
            await reading.until_waiting_for_a_lock()
        withdrawn, other = (await batch).json()["results"]
        assert withdrawn["denied"] == "consent_withdrawn"
        assert other["data"]["given_name"] == "สมหญิง"


@pytest.mark.postgres
async def test_a_withdrawal_waits_for_a_batch_that_came_first(postgres_settings):
    async with a_consenting_member(postgres_settings) as (reading, writing, crm, member):
        body = {"ids": [member.id], "purpose": "marketing", "channel": "sms"}
        asked = crm.post("/v1/members:view", body)
        changed = crm.through(writing).withdraw(member, channel="sms")
        answer, _, late = await race(reading, asked, writing, changed)
        assert answer.json()["results"][0]["data"]["phone"] == "+66812345678"
        assert late == set()
        again = await crm.post("/v1/members:view", body)
        assert again.json()["results"][0]["denied"] == "consent_withdrawn"


async def test_many_reads_and_one_withdrawal_leave_no_allowed_reading_behind_it(settings):
    async with a_consenting_member(settings) as (_, writing, crm, member):
        answers = []
        under_way, refused = asyncio.Event(), asyncio.Event()

        async def keep_reading():
            while not refused.is_set():
                answers.append((await crm.view(member, "marketing", "sms")).status_code)
                if answers.count(200) >= 20:
                    under_way.set()
                if answers.count(403) >= 20:
                    refused.set()

        readers = [asyncio.create_task(keep_reading()) for _ in range(6)]
        await under_way.wait()
        await crm.through(writing).withdraw(member, channel="sms")
        at_its_return = await allowed(writing)
        await asyncio.gather(*readers)
        assert await allowed(writing) == at_its_return
        assert set(answers) == {200, 403}
        assert answers.count(200) == len(at_its_return)
