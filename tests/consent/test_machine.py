"""Consent as a machine: whatever is decided, in whatever order, under whatever clock.

The stored state, the replay of the events and a plain dictionary must agree at every step, for
now and for every moment before; and each step moves the gate on.
"""

import asyncio

import pytest
from hypothesis import HealthCheck, strategies
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from consent import ConsentRequest, Status
from kernel import MemberId
from tests.support.world import JumpingClock, open_world

MINUTE_US = 60_000_000
PLACES = [
    ("marketing", "sms"),
    ("marketing", "email"),
    ("marketing", "push"),
    ("profiling", ""),
    ("analytics", ""),
]
CHANNELS = {"marketing": ["sms", "email", "line", "push"], "profiling": [""], "analytics": [""]}
QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck)}


class Worlds:
    """One open world on a loop of its own, for a machine that knows no `await`."""

    def __init__(self, settings):
        self.clock = JumpingClock()
        self._runner = asyncio.Runner()
        self._opening = open_world(settings, clock=self.clock, background=False)
        self.world = self.run(self._opening.__aenter__())
        self.app = self.run(self.world.app())

    def run(self, coroutine):
        return self._runner.run(coroutine)

    def close(self):
        self.run(self._opening.__aexit__(None, None, None))
        self._runner.close()


def machine_over(worlds):
    """A machine class over an open world; each example has a member of its own."""

    class Consent(RuleBasedStateMachine):
        @initialize()
        def register(self):
            self.world = worlds.world
            self.consent = worlds.world.runtime.consent
            self.caller = worlds.world.caller(worlds.app)
            known = worlds.run(worlds.app.register(phone="081-234-5678"))
            self.member = worlds.run(worlds.world.member_id(known))
            self.model = {}
            self.history = []
            self.gate = self.gate_version()

        def teardown(self):
            worlds.clock.jump_us = 0

        def gate_version(self):
            return worlds.run(self.reading(self.consent.gate)).version

        async def reading(self, ask, *details):
            async with self.world.runtime.database.read() as session:
                return await ask(session, self.member, *details)

        def decide(self, act):
            async def whole():
                async with self.world.runtime.database.unit_of_work() as work:
                    pseudonym = await self.world.runtime.members.pseudonym(work, self.member)
                    return await act(work, pseudonym)

            events = worlds.run(whole())
            for event in events:
                self.model[event.purpose, event.channel] = event.status
                self.history.append((event.at_us, (event.purpose, event.channel), event.status))
            gate = self.gate_version()
            assert gate > self.gate, "a decision that leaves the gate where it was"
            self.gate = gate
            return events

        @rule(
            place=strategies.sampled_from(PLACES),
            status=strategies.sampled_from([Status.GIVEN, Status.REFUSED]),
            lang=strategies.sampled_from(["th", "en", "zh-Hant"]),
        )
        def record(self, place, status, lang):
            purpose, channel = place
            revision = self.world.revision(purpose, lang)
            request = ConsentRequest(purpose, channel, status, revision, lang, {})

            async def act(work, pseudonym):
                return await self.consent.record(
                    work,
                    self.caller,
                    self.member,
                    pseudonym,
                    [request],
                    now_us=worlds.clock.now_us(),
                )

            (event,) = self.decide(act)
            assert (event.status, event.notice_revision, event.lang) == (status, revision, lang)

        @rule(place=strategies.sampled_from(PLACES), everywhere=strategies.booleans())
        def withdraw(self, place, everywhere):
            purpose, channel = place
            chosen = None if everywhere or not channel else channel

            async def act(work, pseudonym):
                return await self.consent.withdraw(
                    work,
                    self.caller,
                    self.member,
                    pseudonym,
                    purpose,
                    chosen,
                    now_us=worlds.clock.now_us(),
                )

            events = self.decide(act)
            wanted = CHANNELS[purpose] if chosen is None else [channel]
            assert [event.channel for event in events] == wanted

        @rule(minutes=strategies.integers(-600, 600))
        def the_clock_jumps(self, minutes):
            worlds.clock.jump_us += minutes * MINUTE_US

        @rule(position=strategies.integers(0, 60), before=strategies.integers(0, 1))
        def look_back(self, position, before):
            if not self.history:
                return
            moment = self.history[position % len(self.history)][0] - before
            assert self.as_of(moment) == {
                place: status for at_us, place, status in self.history if at_us <= moment
            }

        def as_of(self, moment):
            states = worlds.run(self.reading(self.consent.states_as_of, moment))
            return {(s.purpose, s.channel): s.status for s in states}

        @invariant()
        def state_and_replay_are_what_was_decided(self):
            states = worlds.run(self.reading(self.consent.states))
            assert {(s.purpose, s.channel): s.status for s in states} == self.model
            assert self.as_of(2**62) == self.model

        @invariant()
        def moments_grow(self):
            moments = [at_us for at_us, _, _ in self.history]
            assert moments == sorted(moments)

    return Consent


def run_machine(settings, **more):
    worlds = Worlds(settings)
    try:
        run_state_machine_as_test(
            machine_over(worlds), settings=hypothesis_settings(**QUIET, **more)
        )
    finally:
        worlds.close()


def test_state_replay_and_model_agree_on_sqlite(sqlite_settings):
    run_machine(sqlite_settings, max_examples=25, stateful_step_count=25, derandomize=True)


@pytest.mark.postgres
def test_state_replay_and_model_agree_on_postgresql(postgres_settings):
    run_machine(postgres_settings, max_examples=6, stateful_step_count=20, derandomize=True)


@pytest.mark.long
def test_state_replay_and_model_agree_for_long(settings):
    run_machine(settings, max_examples=400, stateful_step_count=50)


async def decide(world, app, member_id: MemberId, status, now_us):
    async with world.runtime.database.unit_of_work() as work:
        pseudonym = await world.runtime.members.pseudonym(work, member_id)
        revision = world.revision("marketing") if status is not Status.WITHDRAWN else None
        return await world.runtime.consent.record(
            work,
            world.caller(app),
            member_id,
            pseudonym,
            [ConsentRequest("marketing", "sms", status, revision, "th", {})],
            now_us=now_us,
        )


@pytest.mark.anyio
@pytest.mark.parametrize("step_back_us", [0, 1, 3_600_000_000])
async def test_the_later_decision_wins_the_replay_even_if_its_clock_is_behind(world, step_back_us):
    """It may have waited for a lock, or another machine's clock may be ahead."""
    app = await world.app()
    member_id = await world.member_id(await app.register(phone="081-234-5678"))
    now_us = world.runtime.clock.now_us()
    await decide(world, app, member_id, Status.GIVEN, now_us)
    await decide(world, app, member_id, Status.WITHDRAWN, now_us - step_back_us)
    async with world.runtime.database.read() as session:
        (stored,) = await world.runtime.consent.states(session, member_id)
        (replayed,) = await world.runtime.consent.states_as_of(session, member_id, 2**62)
    assert stored == replayed
    assert stored.status is Status.WITHDRAWN
