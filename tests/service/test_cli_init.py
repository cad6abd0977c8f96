"""`yinyom init`: interrupted anywhere, run again, it ends with keys that open and a kit that fits."""

import asyncio
import signal
import stat
import subprocess
import time

import pytest

import service.setup
import vault.kits
import vault.providers.versions
import vault.ring_file
import vault.ring_folder
from service.runtime import Runtime
from service.settings import Settings
from service.setup import set_up
from tests.support.serving import COMMAND, environment, yinyom
from vault import RingFolder, identities_of


class PowerCutError(BaseException):
    """Nothing catches it on its way out, as nothing catches a power cut."""


def cut_before_write(monkeypatch, number: int) -> None:
    """Cut the power before the n-th secret file is written."""
    real, written = vault.kits.write_private, []

    def write(path, data, *, replace=False):
        if len(written) == number:
            raise PowerCutError
        written.append(path.name)
        real(path, data, replace=replace)

    for module in (vault.providers.versions, vault.ring_file, vault.kits, vault.ring_folder):
        monkeypatch.setattr(module, "write_private", write)


def whole(settings: Settings) -> None:
    """What was made fits together: the registry opens, the kit opens the backup of its ring."""
    data_dir = settings.data_dir
    folder = RingFolder(settings.keys_dir / "ring-backup")
    backed_up = folder.open(folder.newest(), identities_of(data_dir / "recovery-kit.txt"))

    async def open_it() -> str:
        runtime = await Runtime.open(settings)
        try:
            return runtime.vault.ring_id
        finally:
            await runtime.close()

    assert asyncio.run(open_it()) == backed_up.id
    for file in (data_dir / "recovery-kit.txt", *settings.keys_dir.rglob("*")):
        mode = 0o700 if file.is_dir() else 0o600
        assert stat.S_IMODE(file.stat().st_mode) == mode, file.name
    for folder in (data_dir, settings.keys_dir):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder.name


@pytest.mark.parametrize("number", range(7))
def test_a_cut_before_any_secret_file_is_mended_by_the_next_init(tmp_path, monkeypatch, number):
    settings = Settings(data_dir=tmp_path / "data")
    with monkeypatch.context() as patched:
        cut_before_write(patched, number)
        with pytest.raises(PowerCutError):
            asyncio.run(set_up(settings))
    made = asyncio.run(set_up(settings))
    assert made.kit_is_new, "a kit that nobody was told of is no kit"
    whole(settings)


@pytest.mark.parametrize("step", ["migrate", "_record"])
def test_a_cut_while_the_database_is_made_is_mended_by_the_next_init(tmp_path, monkeypatch, step):
    settings = Settings(data_dir=tmp_path / "data")

    async def cut(*_args, **_more):
        raise PowerCutError

    with monkeypatch.context() as patched:
        patched.setattr(service.setup, step, cut)
        with pytest.raises(PowerCutError):
            asyncio.run(set_up(settings))
    asyncio.run(set_up(settings))
    whole(settings)


def test_a_kit_that_was_carried_away_is_not_made_anew(tmp_path):
    settings = Settings(data_dir=tmp_path / "data")
    first = asyncio.run(set_up(settings))
    kit = first.recovery_kit.read_bytes()
    first.recovery_kit.rename(tmp_path / "stick.txt")
    second = asyncio.run(set_up(settings))
    assert not second.kit_is_new
    assert not second.recovery_kit.exists()
    (tmp_path / "stick.txt").rename(second.recovery_kit)
    assert second.recovery_kit.read_bytes() == kit
    whole(settings)


def test_a_kit_of_another_registry_is_noticed(tmp_path):
    one, other = Settings(data_dir=tmp_path / "one"), Settings(data_dir=tmp_path / "other")
    asyncio.run(set_up(one))
    asyncio.run(set_up(other))
    (tmp_path / "other" / "recovery-kit.txt").replace(tmp_path / "one" / "recovery-kit.txt")
    ran = yinyom("init", "--yes", data_dir=one.data_dir)
    assert ran.code == 3
    assert "does not open" in ran.said


@pytest.mark.slow
@pytest.mark.parametrize(
    "milliseconds",
    [700, 1300, *(pytest.param(each, marks=pytest.mark.long) for each in (500, 900, 1100, 1500))],
)
def test_a_killed_init_is_mended_by_the_next_one(tmp_path, milliseconds):
    data_dir = tmp_path / "data"
    child = subprocess.Popen(
        [*COMMAND, "--data-dir", str(data_dir), "init", "--yes"],
        env=environment(),
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(milliseconds / 1000)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert yinyom("init", "--yes", data_dir=data_dir).code == 0
    whole(Settings(data_dir=data_dir))
