"""The memory of a process that holds keys is dumped nowhere and shown to nobody."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service import shield
from tests.support.serving import environment, serving

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be asked")

NOBODY = 65534
CHILD = """
import ctypes, os, resource, sys
from service.shield import shield_process
if os.getuid() == 0:
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
    except ValueError:
        pass  # whoever runs the tests gave the right to raise it away
    os.setgid({nobody}); os.setuid({nobody})
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # as every program begins; a changed user ends it
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
if sys.argv[1] == "shielded":
    print(shield_process(), flush=True)
else:
    print("bare", flush=True)
sys.stdin.readline()
os.abort()
"""


def child(kind, folder):
    folder.chmod(0o777)
    return subprocess.Popen(
        [sys.executable, "-c", CHILD.format(nobody=NOBODY), kind],
        env=environment(),
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def test_another_program_of_the_same_user_cannot_read_its_memory(tmp_path):
    """What is not dumpable belongs to root in /proc, whoever runs it."""
    owners = {}
    for kind in ("shielded", "bare"):
        with child(kind, tmp_path) as process:
            assert process.stdout.readline()
            owners[kind] = Path(f"/proc/{process.pid}/mem").stat().st_uid
            process.kill()
    user = NOBODY if os.getuid() == 0 else os.getuid()
    assert owners == {"shielded": 0, "bare": user}


def test_a_crash_leaves_no_core(tmp_path):
    dumped = {}
    for kind in ("shielded", "bare"):
        process = child(kind, tmp_path)
        process.stdout.readline()
        process.stdin.write(b"\n")
        process.stdin.close()
        _, status = os.waitpid(process.pid, 0)
        process.returncode = 0
        process.stdout.close()
        assert os.WIFSIGNALED(status)
        assert os.WTERMSIG(status) == signal.SIGABRT
        dumped[kind] = os.WCOREDUMP(status)
    assert dumped["shielded"] is False
    if not dumped["bare"]:
        pytest.skip("this machine writes no core for anybody: nothing to compare with")


def test_it_says_what_it_could_not_have(monkeypatch, tmp_path):
    swaps = tmp_path / "swaps"
    swaps.write_text("Filename Type Size Used Priority\n/swapfile file 1 0 -2\n")
    monkeypatch.setattr(shield, "_SWAPS", swaps)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (65_536, 65_536))
    assert shield.shield_process() == ["swap"]
    swaps.write_text("Filename Type Size Used Priority\n")
    assert shield.shield_process() == []


@pytest.mark.slow
def test_a_served_registry_is_shielded_and_forgets_its_bucket_keys_when_told(sqlite_settings):
    with serving(sqlite_settings) as server:
        limits = Path(f"/proc/{server.process.pid}/limits").read_text()
        (core,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
        assert core.split()[4:6] == ["0", "0"]
        assert Path(f"/proc/{server.process.pid}/mem").stat().st_uid == 0
        server.process.send_signal(signal.SIGUSR1)
        time.sleep(0.2)
        assert server.process.poll() is None
