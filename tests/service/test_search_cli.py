"""The search process beside a real server: it starts, is told of, and never outlives it."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.serving import COMMAND, environment, serving, settings_environment, yinyom

SECONDS = 120


def until(found, what):
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
        time.sleep(0.05)
    pytest.fail(what)


def search_check(server):
    answer = server.cli("doctor", "--json").answer
    return next(check for check in answer["checks"] if check["check"] == "search")


def processes_of(folder: Path) -> list[int]:
    """The search processes that hold names of a data directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"service.search.process" in words and str(folder).encode() in words:
                found.append(int(entry.name))
    return found


def test_a_server_starts_it_and_doctor_says_how_large_it_is(settings):
    with serving(settings) as server:
        check = until(lambda: (c := search_check(server))["state"] == "ok" and c, "never warm")
        assert "0 members" in check["says"]
        assert "of 512 MiB" in check["says"]
        (pid,) = processes_of(settings.data_dir)
        assert server.end() == 0
    assert processes_of(settings.data_dir) == []
    assert not Path(f"/proc/{pid}").exists()


def test_it_ends_with_a_server_that_is_killed(sqlite_settings):
    with serving(sqlite_settings) as server:
        until(lambda: processes_of(sqlite_settings.data_dir), "never started")
        server.kill()
        until(lambda: not processes_of(sqlite_settings.data_dir), "it outlived its server")
    with serving(sqlite_settings) as server:
        until(lambda: search_check(server)["state"] == "ok", "not warm after a crash")


def test_no_server_starts_one_that_is_switched_off(sqlite_settings):
    with serving(sqlite_settings, YINYOM_SEARCH__ENABLED="false") as server:
        assert search_check(server) == {
            "check": "search", "state": "ok", "says": "off (search.enabled)",
        }  # fmt: skip
        assert processes_of(sqlite_settings.data_dir) == []
    ran = yinyom("search-worker", data_dir=sqlite_settings.data_dir, YINYOM_SEARCH__ENABLED="false")
    assert ran.code == 3
    assert "switched off" in ran.said


def test_an_operator_may_start_it_and_a_server_uses_that_one(sqlite_settings):
    folder = sqlite_settings.data_dir
    own = subprocess.Popen(
        [*COMMAND, "--data-dir", str(folder), "search-worker"],
        env=environment(**settings_environment(sqlite_settings)),
        cwd="/",
    )
    try:
        until((folder / "search.sock").exists, "it never listened")
        second = yinyom("search-worker", "--json", data_dir=folder)
        assert second.code == 3
        assert json.loads(second.out)["reason"] == "locked"
        with serving(sqlite_settings) as server:
            until(lambda: search_check(server)["state"] == "ok", "never warm")
            assert processes_of(folder) == []
        assert own.poll() is None, "it is the operator's"
    finally:
        own.send_signal(signal.SIGTERM)
        assert own.wait(SECONDS) == 0
    assert not (folder / "search.sock").exists()


def test_without_a_server_doctor_says_that_nobody_is_searched(sqlite_settings):
    answer = yinyom("doctor", "--json", data_dir=sqlite_settings.data_dir).answer
    (check,) = [one for one in answer["checks"] if one["check"] == "search"]
    assert check["state"] == "warn"
    assert "no search process" in check["says"]
    assert answer["ok"]
