"""One signature makes an event witnessed; until more than half have signed, everybody is told."""

import pytest

from audit import Cosigner, Signer, Verifier, ask_witness
from audit.note import split_note
from kernel import ConfigurationError
from service.commands import doctor
from service.settings import AuditSettings, WitnessSettings
from service.witnesses import Witnesses
from tests.support.console import office
from tests.support.world import JumpingClock, open_world

pytestmark = pytest.mark.anyio

COSIGNERS = [Cosigner.from_seed(f"witness.example/w{at}", bytes([at]) * 32) for at in (1, 2, 3)]
NOTICE = "more than half of the witnesses (2 of 3)"


async def signed_by(world, cosigner):
    """Have one witness sign the newest head."""

    async def post(body):
        note = body.decode().partition("\n\n")[2]
        return 200, cosigner.cosign(split_note(note)[0], 1_700_000_000)

    database, clock = world.runtime.database, world.runtime.clock
    asked = await ask_witness(database, clock, cosigner.verifier, post)
    assert asked.verdict == "cosigned"
    return asked.size


def witnesses_of(world, *vkeys, quorum=1):
    told = tuple(WitnessSettings(url="http://127.0.0.1:9", vkey=vkey) for vkey in vkeys)
    settings = AuditSettings(witnesses=told, witness_quorum=quorum)
    return Witnesses(settings, world.runtime.database, world.runtime.clock)


async def test_one_of_three_makes_it_witnessed_and_every_place_says_that_half_are_missing(settings):
    async with office(settings, clock=JumpingClock()) as at:
        await at.crm.view(at.member, "membership")
        runtime = at.world.runtime
        runtime.witnesses = witnesses_of(at.world, *(one.vkey for one in COSIGNERS))
        await runtime.sequencer.drain()
        size = await signed_by(at.world, COSIGNERS[0])
        told = await runtime.witnesses.status()
        assert (told["verified_size"], told["majority"], told["majority_size"]) == (size, 2, None)
        assert told["short_of_majority"]
        assert (await runtime.witnesses.opinion())[0] == "warn"
        checks = (await doctor(runtime, lambda *_: None))["checks"]
        assert [one["state"] for one in checks if one["check"] == "witnesses"] == ["warn"]

        browser = await at.sign_in("auditor")
        page = await browser.open("/console/trail", params={"action": "member.view"})
        assert "Witnessed" in page.text
        assert NOTICE in page.text
        (event,) = {link for link in page.links if link.startswith("/console/trail/evt_")}
        assert NOTICE in (await browser.open(event)).text
        newest = await browser.open("/console/trail", params={"action": "audit.search"})
        assert NOTICE not in newest.text, "what no witness signed bears no mark to be doubted"

        assert await signed_by(at.world, COSIGNERS[2]) >= size
        assert (await runtime.witnesses.status())["majority_size"] == size
        page = await browser.open("/console/trail", params={"action": "member.view"})
        assert "Witnessed" in page.text
        assert NOTICE not in page.text
        assert NOTICE not in (await browser.open(event)).text


@pytest.mark.parametrize(("witnesses", "majority"), [(1, 1), (2, 2), (3, 2)])
async def test_a_majority_is_more_than_half(sqlite_settings, witnesses, majority):
    async with open_world(sqlite_settings, background=False) as world:
        async with world.runtime.database.unit_of_work() as work:
            await world.runtime.audit.record(work, world.operator, "test.event")
        await world.runtime.sequencer.drain()
        chosen = COSIGNERS[:witnesses]
        asked = witnesses_of(world, *(one.vkey for one in chosen))
        for number, cosigner in enumerate(chosen, 1):
            size = await signed_by(world, cosigner)
            told = await asked.status()
            assert told["majority"] == majority
            assert told["majority_size"] == (size if number >= majority else None)
            assert told["short_of_majority"] == (number < majority)


async def test_a_registry_does_not_start_with_a_log_for_a_witness_or_one_key_twice(sqlite_settings):
    async with open_world(sqlite_settings, background=False) as world:
        one = COSIGNERS[0]
        again = Verifier("witness.example/other", 4, one.verifier.public).vkey
        log = Signer.from_seed("log.example/other", bytes(32)).vkey
        for vkeys in [(one.vkey, one.vkey), (one.vkey, again), (log,), (world.runtime.audit.vkey,)]:
            with pytest.raises(ConfigurationError, match=r"audit\.witnesses"):
                witnesses_of(world, *vkeys)
