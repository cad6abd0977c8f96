"""Background work: jobs that come round, keys whose day has come, minors who grow up, the watch."""

import asyncio
from datetime import date

import pytest

from kernel import UnavailableError, Urgency, YinyomError, enqueue_job, put_message, to_date
from service.health import readiness
from service.outbox import STUCK_AFTER
from service.tasks import AGE_TIERS, HOUSEKEEPING, RETRIES, Worker, system_caller
from service.watch import Watch
from tests.support.world import DAY_US, JumpingClock, open_world

pytestmark = pytest.mark.anyio

YEAR_US = 366 * DAY_US


@pytest.fixture
async def world(settings):
    """A registry whose background is the test, under a clock that can jump."""
    async with open_world(settings, clock=JumpingClock(), background=False) as opened:
        yield opened


def born(years_ago: int, clock) -> str:
    today = to_date(clock.now_us())
    return date(today.year - years_ago, 1, 1).isoformat()


async def tiers(world) -> list[str]:
    rows = await world.fetch("SELECT age_tier FROM member_gate ORDER BY member_id")
    return [row["age_tier"] for row in rows]


async def register_born(world, app, years_ago: int):
    return await app.register(birth_date=born(years_ago, world.runtime.clock))


class TestGrowingUp:
    async def test_a_minor_becomes_adult_on_the_day_and_may_then_allow_marketing(self, world):
        app = await world.app()
        member = await register_born(world, app, 19)
        assert await tiers(world) == ["minor_with_guardian"]
        refused = await app.post(
            f"/v1/members/{member.id}/consents", {"consents": [world.decision("marketing", "sms")]}
        )
        assert refused.status_code == 403
        world.runtime.clock.jump_us = YEAR_US
        assert await world.runtime.housekeeping.grow_up() == 1
        assert await tiers(world) == ["adult"]
        await app.sign_in()
        given = await app.post(
            f"/v1/members/{member.id}/consents", {"consents": [world.decision("marketing", "sms")]}
        )
        assert given.status_code == 201

    async def test_each_opened_birth_date_has_an_event_and_adults_are_not_opened(self, world):
        app = await world.app()
        await register_born(world, app, 40)
        await register_born(world, app, 15)
        await world.runtime.housekeeping.grow_up()
        checks = await world.events("member.age_check")
        assert len(checks) == 1
        assert checks[0]["fields"] == ["birth_date"]

    async def test_an_erased_minor_is_left_alone(self, world):
        app = await world.app()
        member = await register_born(world, app, 15)
        await world.erase(member)
        assert await world.runtime.housekeeping.grow_up() == 0
        assert await world.events("member.age_check") == []


class TestHousekeeping:
    async def test_the_pseudonym_key_of_an_erased_member_dies_on_its_day_and_not_before(
        self, world
    ):
        app = await world.app()
        await world.erase(await app.register())
        days = world.runtime.pack.pseudonym_key_lifetime.value
        world.runtime.clock.jump_us = (days - 1) * DAY_US
        assert (await world.runtime.housekeeping.sweep()).keys_destroyed == 0
        world.runtime.clock.jump_us = days * DAY_US
        assert (await world.runtime.housekeeping.sweep()).keys_destroyed == 1
        assert await world.fetch("SELECT owner_id FROM vault_key") == []
        assert await world.fetch("SELECT id FROM pairwise_id") == []
        destroyed = await world.events("key.destroy")
        assert [event["count"] for event in destroyed] == [1]

    async def test_what_has_run_out_is_forgotten(self, world):
        app = await world.app()
        await app.register()
        async with world.runtime.database.unit_of_work() as work:
            await put_message(work, "nobody.listens", {}, now_us=world.runtime.clock.now_us())
        await world.runtime.courier.deliver()
        world.runtime.clock.jump_us = 8 * DAY_US
        await world.runtime.housekeeping.sweep()
        for table in ("access_token", "outbox", "idempotency"):
            assert await world.fetch(f"SELECT * FROM {table}") == []


class TestWorker:
    def worker(self, world) -> Worker:
        runtime = world.runtime
        return Worker(runtime.database, runtime.housekeeping, world.runtime.clock)

    async def test_every_kind_of_work_is_scheduled_once_and_comes_round(self, world):
        worker = self.worker(world)
        await worker._schedule()
        await worker._schedule()
        kinds = await world.fetch("SELECT kind FROM job ORDER BY kind")
        assert [row["kind"] for row in kinds] == [AGE_TIERS, HOUSEKEEPING]
        while await worker.run_one():
            pass
        world.runtime.clock.jump_us = 2 * DAY_US
        await worker._schedule()
        states = await world.fetch("SELECT state FROM job ORDER BY state")
        assert [row["state"] for row in states] == ["done", "done", "due", "due"]

    async def test_a_job_that_keeps_failing_is_put_aside_with_a_code(self, world, monkeypatch):
        async def fails(_caller):
            raise YinyomError("สมหญิง")

        monkeypatch.setattr(world.runtime.housekeeping._age_tiers, "refresh", fails)
        worker = self.worker(world)
        async with world.runtime.database.unit_of_work() as work:
            await enqueue_job(work, AGE_TIERS, {}, now_us=world.runtime.clock.now_us())
        attempts = 0
        while await worker.run_one():
            attempts += 1
            world.runtime.clock.jump_us += DAY_US
        assert attempts == 5
        rows = await world.fetch("SELECT state, failure FROM job")
        assert rows == [{"state": "failed", "failure": "internal"}]
        assert (await readiness(world.runtime))["checks"]["jobs"] == "failing"

    async def test_what_a_person_waits_for_is_tried_until_it_is_done(self, world):
        worker = self.worker(world)
        tries = []

        async def fails_for_long(_payload):
            tries.append(len(tries))
            if len(tries) < 9:
                raise UnavailableError

        worker.on("copy", fails_for_long)
        now_us = world.runtime.clock.now_us()
        async with world.runtime.database.unit_of_work() as work:
            await enqueue_job(work, "copy", {}, now_us=now_us, urgency=Urgency.WAITED_FOR)
        for failures in range(9):
            checks = (await readiness(world.runtime))["checks"]
            assert checks["jobs"] == ("failing" if failures >= RETRIES else "ok")
            assert await worker.run_one()
            world.runtime.clock.jump_us += DAY_US
        assert await world.fetch("SELECT state, attempts FROM job") == [
            {"state": "done", "attempts": 9}
        ]
        assert (await readiness(world.runtime))["checks"]["jobs"] == "ok"

    async def test_what_a_person_waits_for_never_waits_for_a_job_under_way(self, world):
        worker = self.worker(world)
        begun, may_end, carried_out = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def takes_hours(_payload):
            begun.set()
            await may_end.wait()

        async def at_once(_payload):
            carried_out.set()

        worker.on("import", takes_hours)
        worker.on("copy", at_once)
        now_us = world.runtime.clock.now_us()
        async with world.runtime.database.unit_of_work() as work:
            await enqueue_job(work, "import", {}, now_us=now_us, run_at_us=1)
        worker.start()
        await asyncio.wait_for(begun.wait(), 30)
        async with world.runtime.database.unit_of_work() as work:
            await enqueue_job(work, "copy", {}, now_us=now_us, urgency=Urgency.WAITED_FOR)
        await asyncio.wait_for(carried_out.wait(), 30)
        may_end.set()
        await worker.stop()

    async def test_stopping_finishes_the_job_at_hand_and_leaves_the_queue(self, world):
        worker = self.worker(world)
        ran = []

        async def stops(payload):
            ran.append(payload["n"])
            worker._stop.set()

        worker.on("bulk", stops)
        now_us = world.runtime.clock.now_us()
        async with world.runtime.database.unit_of_work() as work:
            for n in range(5):
                await enqueue_job(work, "bulk", {"n": n}, now_us=now_us, run_at_us=n + 1)
        await worker.run()
        assert ran == [0]

    async def test_rounds_are_scheduled_while_a_long_queue_is_worked_off(self, world):
        worker = self.worker(world)
        scheduled = []

        async def looks(_payload):
            world.runtime.clock.jump_us += DAY_US
            rows = await world.fetch("SELECT kind FROM job WHERE kind = 'housekeeping'")
            scheduled.append(len(rows))
            if len(scheduled) == 3:
                worker._stop.set()

        worker.on("ordinary", looks)
        now_us = world.runtime.clock.now_us()
        async with world.runtime.database.unit_of_work() as work:
            for n in range(3):
                await enqueue_job(work, "ordinary", {}, now_us=now_us, run_at_us=n + 1)
        await worker.run()
        assert scheduled == [1, 2, 3]

    async def test_a_job_of_a_newer_version_is_not_lost(self, world):
        worker = self.worker(world)
        async with world.runtime.database.unit_of_work() as work:
            await enqueue_job(work, "from.the.future", {}, now_us=world.runtime.clock.now_us())
        assert await worker.run_one()
        rows = await world.fetch("SELECT kind, state FROM job")
        assert rows == [{"kind": "from.the.future", "state": "due"}]


class TestCourier:
    async def test_a_message_that_always_fails_holds_up_none_behind_it_and_is_shown(self, world):
        told, broken = [], True

        async def reaction(_work, message):
            if broken and message.payload["n"] == 3:
                raise LookupError("สมหญิง")
            told.append(message.payload["n"])

        courier, clock = world.runtime.courier, world.runtime.clock
        courier.subscribe("probe", reaction)
        async with world.runtime.database.unit_of_work() as work:
            for n in range(60):
                await put_message(work, "probe", {"n": n}, now_us=clock.now_us() + n)
        for _ in range(STUCK_AFTER):
            assert (await readiness(world.runtime))["checks"]["outbox"] == "ok"
            await courier.deliver()
            clock.jump_us += DAY_US
        assert sorted(set(told)) == [n for n in range(60) if n != 3]
        waiting = await world.fetch("SELECT topic FROM outbox WHERE delivered_us IS NULL")
        assert waiting == [{"topic": "probe"}]
        assert (await readiness(world.runtime))["checks"]["outbox"] == "stuck"
        broken = False
        await courier.deliver()
        assert 3 in told
        assert (await readiness(world.runtime))["checks"]["outbox"] == "ok"

    async def test_what_a_failed_reaction_wrote_is_not_there(self, world):
        async def first(work, _message):
            await put_message(work, "trace", {}, now_us=world.runtime.clock.now_us())

        async def second(_work, _message):
            raise LookupError

        courier = world.runtime.courier
        courier.subscribe("probe", first)
        courier.subscribe("probe", second)
        async with world.runtime.database.unit_of_work() as work:
            await put_message(work, "probe", {}, now_us=world.runtime.clock.now_us())
        assert await courier.deliver() == 0
        assert await world.fetch("SELECT 1 FROM outbox WHERE topic = 'trace'") == []

    async def test_a_sending_that_fails_takes_none_of_the_others_with_it(self, world):
        sent = []

        async def reaction(_work, message):
            def send():
                if message.payload["n"] == 0:
                    raise OSError
                sent.append(message.payload["n"])

            return send

        courier = world.runtime.courier
        courier.subscribe("probe", reaction)
        async with world.runtime.database.unit_of_work() as work:
            for n in range(3):
                await put_message(work, "probe", {"n": n}, now_us=world.runtime.clock.now_us() + n)
        assert await courier.deliver() == 3
        assert sent == [1, 2]


class TestWatch:
    async def test_reads_stop_while_events_wait_too_long_and_go_on_after(self, world):
        app = await world.app()
        member = await app.register()
        watch = Watch(world.runtime)
        assert await watch.look() == "audit_stopped"
        refused = await app.view(member)
        assert refused.status_code == 503
        assert refused.json()["reason"] == "audit_stopped"
        assert "data" not in refused.json()
        await world.runtime.sequencer.start()
        assert await watch.look() is None
        assert (await app.view(member)).status_code == 200

    async def test_nothing_can_be_changed_while_the_trail_is_blocked(self, world):
        app = await world.app()
        world.runtime.audit.block("audit_behind")
        before = await world.fetch("SELECT id FROM member")
        refused = await app.request("POST", "/v1/members", json=world_body(world))
        assert refused.status_code == 503
        assert await world.fetch("SELECT id FROM member") == before
        with pytest.raises(YinyomError):
            world.runtime.audit.draft(system_caller("cli"), "member.view")

    async def test_readiness_says_which_part_is_not_well(self, world):
        answer = await readiness(world.runtime)
        assert answer["ready"] is False
        assert answer["checks"]["sequencer"] == "stopped"


def world_body(world):
    return {
        "brand": "main",
        "jurisdiction": "TH",
        "formats": {"phone_region": "TH"},
        "fields": {"phone": "081-234-5678"},
    }
