"""Honest logs, whatever their histories: not one false alarm from any check that there is."""

import random

import pytest

from audit import (
    Cosigner,
    Sequencer,
    Signer,
    Witness,
    ask_witness,
    export_log,
    log_head,
    verify_stored_log,
)
from audit.export import write_bundle
from audit.verify import verify_bundle
from kernel import SystemClock
from tests.support.trail import write_event
from tests.support.world import (  # noqa: F401 (fixtures)
    installed_sqlite,
    open_world,
    postgres_settings,
    settings,
    sqlite_settings,
)

pytestmark = pytest.mark.anyio

WITNESS = Cosigner.from_seed("witness.example/honest", bytes(range(32)))


class Pair:
    """A witness next door."""

    def __init__(self, log, folder):
        self.witness = Witness(WITNESS, [log], folder / "witness.db", SystemClock())

    async def post(self, body):
        reply = self.witness.add_checkpoint(body)
        return reply.status, reply.text


@pytest.mark.parametrize("runs", [25, pytest.param(500, marks=pytest.mark.long)])
def test_no_honest_export_raises_an_alarm(make_log, vkey, tmp_path, runs):
    """Logs of random sizes, grown in random steps, exported either way, held to older heads."""
    for run in range(runs):
        rng = random.Random(run)
        log = make_log(0)
        heads = [log.checkpoint_note()]
        for _ in range(rng.randrange(1, 8)):
            step = rng.choice([0, 1, 2, 255, 256, 257, rng.randrange(700)])
            log.append([b'{"id":"%032x"}' % rng.getrandbits(128) for _ in range(step)])
            heads.append(log.checkpoint_note())
        path = tmp_path / f"bundle-{run}{rng.choice(['', '.zip'])}"
        write_bundle(path, log)
        report = verify_bundle(path, vkey, rng.choice(heads))
        assert (report.ok, report.findings, report.size) == (True, (), log.size), run


@pytest.mark.parametrize("runs", [25, pytest.param(500, marks=pytest.mark.long)])
async def test_no_honest_registry_raises_an_alarm(settings, tmp_path, runs):  # noqa: F811
    """Events in random portions, sequencers that come and go with random batches, a witness."""
    rng = random.Random(runs)
    async with open_world(settings, background=False) as world:
        runtime = world.runtime
        database, audit = runtime.database, runtime.audit
        signer = Signer.from_seed(audit.origin, runtime.vault.log_seeds()[1])
        witness = Pair(signer.verifier, tmp_path)
        heads = []
        for run in range(runs):
            async with database.unit_of_work() as work:
                for at in range(rng.choice([0, 1, 3, rng.randrange(60)])):
                    await write_event(audit, work, world.operator, at)
            size = rng.choice([3, 17, 256, 5_000])
            await Sequencer(database, signer, runtime.clock, batch_size=size).drain()
            if rng.random() < 0.6:
                asked = await ask_witness(database, runtime.clock, WITNESS.verifier, witness.post)
                assert asked.verdict.value == "cosigned", run
            report, misleading = await verify_stored_log(database, audit)
            assert (report.findings, misleading) == ((), []), run
            async with database.read() as session:
                heads.append((await log_head(session))[2])
            if run % 5 == 0:
                path = tmp_path / f"bundle-{run}{rng.choice(['', '.zip'])}"
                await export_log(database, path)
                report = verify_bundle(path, audit.vkey, rng.choice(heads))
                assert report.findings == (), run
