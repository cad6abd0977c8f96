"""The control socket: the command line's way into a running server, and nobody else's."""

import asyncio
import contextlib
import csv
import json
import os
import socket
import sqlite3
import stat
import subprocess
import threading
import time

import pytest

from service.commands import COMMANDS
from service.control import ControlServer, ask
from tests.support.serving import COMMAND, environment, serving, yinyom
from tests.support.world import open_world

SOCKET = "control.sock"


@pytest.fixture
def server(sqlite_settings):
    with serving(sqlite_settings) as running:
        yield running


@pytest.fixture(scope="module")
def one_server(module_settings):
    """One for every test that leaves it as it was."""
    with serving(module_settings("sqlite")) as running:
        yield running


@pytest.fixture
async def control(sqlite_settings):
    """A control server in this process, on a registry that is open here."""
    async with open_world(sqlite_settings) as world:
        listening = ControlServer(world.runtime)
        await listening.start()
        yield world
        await listening.stop()


def say_raw(server, data: bytes) -> bytes:
    """Send bytes past the command line, and give what comes back."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(20)
        line.connect(str(server.data_dir / SOCKET))
        answer = b""
        with contextlib.suppress(ConnectionError):  # it does not listen to the end of nonsense
            line.sendall(data)
            line.shutdown(socket.SHUT_WR)
            while piece := line.recv(65_536):
                answer += piece
    return answer


def member_file(folder, rows):
    file = folder / "members.csv"
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["first name", "mobile"])
        writer.writerows([["สมหญิง", f"081{number:07d}"] for number in range(rows)])
    return file


# --- who may come in ------------------------------------------------------------------


def test_the_socket_is_its_owners_alone(one_server):
    mode = (one_server.data_dir / SOCKET).lstat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert stat.S_IMODE(one_server.data_dir.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming somebody else needs root")
def test_another_user_of_the_machine_is_kept_out(server):
    code = (
        "import os, socket, sys\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "socket.socket(socket.AF_UNIX).connect(sys.argv[1])\n"
    )
    # Even where somebody opened the folder to others, the socket itself stays shut.
    server.data_dir.chmod(0o755)
    for folder in server.data_dir.parents:
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    ended = subprocess.run(
        ["/usr/bin/env", "python3", "-c", code, server.data_dir / SOCKET],
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
    )
    assert "PermissionError" in ended.stderr


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"{\n",
        b"[]\n",
        b"null\n",
        b'{"command": 5, "arguments": {}}\n',
        b'{"command": "vault.open", "arguments": {}}\n',
        b'{"command": "clients.list"}\n',
        b'{"command": "clients.list", "arguments": []}\n',
        b'{"command": "clients.list", "arguments": {"extra": 1}}\n',
        b'{"command": "__class__", "arguments": {}}\n',
        b"\xff\xfe\n",
        b"x" * 5_000_000,
        b"[" * 100_000 + b"\n",
    ],
)
def test_whatever_is_said_to_it_the_server_lives_on_and_repeats_nothing(one_server, data):
    answer = say_raw(one_server, data)
    assert answer == b"" or set(json.loads(answer)) == {"error"}
    assert b"Traceback" not in answer
    listed = json.loads(say_raw(one_server, b'{"command":"clients.list","arguments":{}}\n'))
    assert listed == {"result": {"clients": []}}
    assert "Traceback" not in one_server.logged()


def test_a_command_of_another_version_is_refused_in_words(one_server):
    answer = json.loads(say_raw(one_server, b'{"command": "vault.open", "arguments": {}}\n'))
    assert answer["error"]["slug"] == "configuration"
    assert "another version" in answer["error"]["detail"]


# --- commands at the same time --------------------------------------------------------


def test_many_commands_at_once_each_get_their_own_answer(server):
    names = [f"app-{number}" for number in range(4)]
    answers = {}

    def add(name):
        ran = server.cli("clients", "add", name, "--scope", "members:write", "--json")
        answers[name] = ran.answer["client_id"]

    threads = [threading.Thread(target=add, args=[name]) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    listed = server.cli("clients", "list", "--json").answer["clients"]
    assert {one["name"]: one["client_id"] for one in listed} == answers


def importing(file, **more):
    """The arguments of an import, as the command line sends them."""
    unset = ("profile", "dates", "encoding", "id_country", "jurisdiction")
    return {
        **dict.fromkeys(unset),
        "path": str(file),
        "brand": "main",
        "region": "TH",
        "columns": {},
        "dry_run": False,
        **more,
    }


def test_who_hangs_up_stops_the_import_between_two_steps_and_can_finish_it_later(server, tmp_path):
    file = member_file(tmp_path, 3_000)
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(server.data_dir / SOCKET))
        asked = {"command": "members.import", "arguments": importing(file)}
        line.sendall(json.dumps(asked).encode() + b"\n")
        assert line.recv(100).startswith(b'{"progress":')
    deadline = time.monotonic() + 120
    while '"error_type":"ConnectionResetError"' not in server.logged():
        assert time.monotonic() < deadline, server.logged()
    stored = server.cli("vault", "status", "--json").answer["members"]
    assert 0 < stored < 3_000
    ran = server.cli("members", "import", file, "--region", "TH", "--json")
    assert (ran.answer["rows"], ran.answer["accepted"]) == (3_000, 3_000)
    assert server.cli("vault", "status", "--json").answer["members"] == 3_000
    assert "Traceback" not in server.logged()


@pytest.mark.anyio
async def test_progress_is_told_on_the_way(control, tmp_path):
    seen = []
    arguments = importing(member_file(tmp_path, 250))
    data_dir = control.settings.data_dir
    answer = await ask(data_dir, "members.import", arguments, lambda *now: seen.append(now))
    assert answer["accepted"] == 250
    assert seen[-1] == (250, 250)
    assert len(seen) > 1


@pytest.mark.anyio
async def test_a_file_is_judged_while_the_server_goes_on_answering(control, tmp_path, monkeypatch):
    answered = threading.Event()
    look = control.runtime.imports.look

    def look_once_answered(*asked):
        assert answered.wait(90), "the loop stood still while the file was judged"
        return look(*asked)

    monkeypatch.setattr(control.runtime.imports, "look", look_once_answered)
    asyncio.get_running_loop().call_later(0.02, answered.set)
    judged = await COMMANDS["members.import"](
        control.runtime, lambda *_: None, **importing(member_file(tmp_path, 10), dry_run=True)
    )
    assert judged["accepted"] == 10


def wait_until_rows_are_stored(server):
    """Look at the file itself: a command would have to wait for its turn."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.closing(sqlite3.connect(server.settings.database_file)) as database:
            if database.execute("SELECT count(*) FROM import_row").fetchone()[0]:
                return
        time.sleep(0.05)
    raise AssertionError("no row was stored")


def test_a_server_that_is_stopped_does_not_wait_for_a_command(server, tmp_path):
    file = member_file(tmp_path, 4_000)
    with (tmp_path / "out").open("wb") as out:
        child = subprocess.Popen(
            [
                *(*COMMAND, "--data-dir", str(server.data_dir)),
                *("members", "import", str(file), "--region", "TH", "--json"),
            ],
            env=environment(),
            cwd="/",
            stdout=out,
            stderr=out,
        )
    wait_until_rows_are_stored(server)
    assert server.end() == 0
    assert child.wait(120) == 3
    problem = json.loads((tmp_path / "out").read_text())
    assert "stopped before it answered" in problem["detail"]
    assert "Traceback" not in server.logged()
    again = yinyom(
        "members", "import", file, "--region", "TH", "--json", data_dir=server.data_dir
    ).answer
    assert (again["rows"], again["accepted"]) == (4_000, 4_000)
    assert yinyom("vault", "status", "--json", data_dir=server.data_dir).answer["members"] == 4_000
