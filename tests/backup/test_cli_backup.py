"""`yinyom backup`: from init to a restored registry, with JSON shapes and exit codes."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pyrage
import pytest

from service.settings import Settings
from tests.support.serving import COMMAND, environment, yinyom
from tests.support.stores import kit_of


def run(settings, *arguments, code=0):
    ran = yinyom(*arguments, "--json", data_dir=settings.data_dir)
    assert ran.code == code, ran.out + ran.err
    return json.loads(ran.out.splitlines()[-1])


@pytest.fixture
def begun(sqlite_settings, tmp_path):
    store = f"folder:{tmp_path / 'store'}"
    answer = run(sqlite_settings, "backup", "init", "--store", store)
    assert answer["store"] == store
    assert answer["recipients"][0].startswith("age1")
    return sqlite_settings


def test_from_init_to_a_restored_registry(begun, tmp_path):
    assert run(begun, "backup", "status")["generation"] is None
    made = run(begun, "backup", "create")
    assert (made["generation"], made["objects"] > 2) == (1, True)
    assert [b["generation"] for b in run(begun, "backup", "list")["backups"]] == [1]
    for level in ("0", "1", "2"):
        assert run(begun, "backup", "verify", "--level", level)["ok"]
    drilled = run(begun, "backup", "drill")
    assert drilled["ok"]
    status = run(begun, "backup", "status")
    assert status["state"] == "ok"
    assert status["last_drill"]
    assert len(status["erasure_final_on"]) == len("2026-11-23")
    target = tmp_path / "restored"
    store = status["store"]
    kit = str(kit_of(begun))
    nowhere = Settings(data_dir=tmp_path / "a-new-machine")
    told = run(
        *(nowhere, "backup", "restore", "--store", store, "--kit", kit),
        *("--into", str(target), "--signer", status["signer"]),
    )
    assert told["generation"] == 1
    assert run(Settings(data_dir=target), "audit", "verify", "--db")["ok"]
    assert run(Settings(data_dir=target), "backup", "status")["configured"] is False


def test_exit_codes_say_what_is_wrong(begun, tmp_path):
    run(begun, "backup", "verify", code=10)
    run(begun, "backup", "create")
    folder = tmp_path / "store"
    kit = tmp_path / "kit.txt"
    kit.write_text(f"{pyrage.x25519.Identity.generate()}\n")
    into = str(tmp_path / "restored")
    run(begun, "backup", "restore", "--kit", str(kit), "--into", into, code=14)
    run(begun, "backup", "restore", "--into", str(begun.data_dir), code=16)
    run(begun, "backup", "verify", "--generation", "7", code=10)
    chunk = max((folder / "c").iterdir())
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    run(begun, "backup", "restore", "--into", into, code=13)
    chunk.unlink()
    run(begun, "backup", "verify", "--level", "0", code=12)
    chunk.write_bytes(whole)
    manifest = folder / "m/00000001.json"
    text = manifest.read_bytes()
    manifest.write_bytes(text.replace(b'"engine":"sqlite"', b'"engine":"oracle"'))
    run(begun, "backup", "verify", "--level", "0", code=11)
    manifest.write_bytes(text[:200])
    run(begun, "backup", "verify", "--level", "0", code=15)
    manifest.write_bytes(text)
    assert not Path(into).exists()


@pytest.mark.parametrize("seconds", [1.2, pytest.param(0.8, marks=pytest.mark.long), 2.0])
def test_a_killed_backup_is_no_backup_and_a_killed_restore_leaves_nothing(begun, tmp_path, seconds):
    into = tmp_path / "restored"

    def killed(*arguments):
        with subprocess.Popen(
            [*COMMAND, "--data-dir", str(begun.data_dir), "backup", *arguments, "--json"],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as child:
            time.sleep(seconds)
            child.send_signal(signal.SIGKILL)

    killed("create")
    there = len(list((tmp_path / "store" / "m").glob("*.json")))
    assert there in {0, 1}
    if there:
        assert run(begun, "backup", "verify", "--level", "2")["generation"] == 1
    assert run(begun, "backup", "create")["generation"] == there + 1
    assert run(begun, "backup", "verify", "--level", "2")["ok"]
    killed("restore", "--into", str(into))
    if into.exists():  # it had come to its end
        assert run(Settings(data_dir=into), "audit", "verify", "--db")["ok"]
    else:
        assert run(begun, "backup", "restore", "--into", str(into))["generation"] == there + 1
    assert not list(tmp_path.glob(".restored.*"))
