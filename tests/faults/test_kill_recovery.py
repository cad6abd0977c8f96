"""kill -9 in a recovery: whoever runs it again has every member back, and nobody erased."""

import contextlib
import random
import signal
import subprocess
from pathlib import Path

import pytest

from kernel import ConfigurationError
from service.recovering import recover
from tests.faults.test_kill import registry  # noqa: F401 (a fixture)
from tests.support.serving import COMMAND, environment
from tests.support.world import App, open_world

pytestmark = pytest.mark.anyio
MEMBERS, ERASED = 60, 10
SHORT, LONG = 3, 40
START_SECONDS, LONGEST_SECONDS = 0.6, 3.0


async def fill(settings):
    async with open_world(settings) as world:
        crm = await world.app()
        members = [await crm.register(phone=f"081-555-{at:04}") for at in range(MEMBERS)]
        await world.runtime.ring_backups.refresh()
        for member in members[:ERASED]:
            await world.erase(member)
    return crm, members


def run_and_kill(settings, kit: Path, seconds: float) -> bool:
    """Let a recovery work for so long and kill it; True when it had ended before."""
    url = {"YINYOM_DATABASE__URL": settings.database.url} if settings.database.url else {}
    child = subprocess.Popen(
        [
            *(*COMMAND, "--data-dir", str(settings.data_dir)),
            *("vault", "recovery-kit", "--recover", str(kit), "--json"),
        ],
        env={**environment(), **url},
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return child.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGKILL)
        child.wait()
        return False


async def go_through_kills(settings, rounds: int) -> None:
    crm, members = await fill(settings)
    kit = settings.data_dir / "recovery-kit.txt"
    moments = random.Random(4)
    (settings.keys_dir / "kms-root").unlink()
    for _ in range(rounds):
        if run_and_kill(settings, kit, moments.uniform(START_SECONDS, LONGEST_SECONDS)):
            break
    else:
        # Killed in the midst of sweeping up, a recovery has nothing left to do and says so.
        with contextlib.suppress(ConfigurationError):
            await recover(
                settings,
                kit,
                ring_folder_at=None,
                accept_loss=False,
                progress=lambda _done, _total: None,
            )
    assert not (settings.keys_dir / "recovering").exists()
    async with open_world(settings) as world:
        app = App(world, world.http, {"client_id": crm.id, "client_secret": crm.secret})
        await app.sign_in()
        for member in members[ERASED:]:
            assert (await app.view(member)).status_code == 200
        for member in members[:ERASED]:
            assert (await app.view(member)).status_code != 200
        assert len(await world.events("vault.recover")) == 1


async def test_a_killed_recovery_is_ended_by_the_next_one(registry):  # noqa: F811
    await go_through_kills(registry, SHORT)


@pytest.mark.long
async def test_a_recovery_killed_many_times_is_ended_by_the_next_one(registry):  # noqa: F811
    await go_through_kills(registry, LONG)
