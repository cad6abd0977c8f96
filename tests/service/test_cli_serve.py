"""`yinyom serve` and `yinyom worker` as processes: where they listen, how many, how they end."""

import json
import signal
import socket
import subprocess
import threading
import time

import pytest

from service.settings import Settings
from tests.support.serving import (
    COMMAND,
    Client,
    add_clients,
    environment,
    free_port,
    serving,
    settings_environment,
    yinyom,
)

CONFIGURATION = 3
EVERYTHING = ("members:write", "purpose:membership", "purpose:marketing")


def test_it_says_where_it_listens(sqlite_settings):
    with serving(sqlite_settings) as server:
        said = [json.loads(line) for line in server.logged().splitlines()]
    (where,) = [line for line in said if line["event"] == "serving"]
    assert (where["host"], where["port"]) == ("127.0.0.1", server.port)


def test_it_finds_a_port_by_itself_when_told_to(sqlite_settings, tmp_path):
    log = tmp_path / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*COMMAND, "--data-dir", str(sqlite_settings.data_dir), "serve", "--port", "0"],
            env=environment(),
            cwd="/",
            stderr=stream,
        )
    try:
        deadline = time.monotonic() + 120
        while "serving" not in log.read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        said = map(json.loads, log.read_text().splitlines())
        port = next(line["port"] for line in said if line["event"] == "serving")
        assert port > 0
        socket.create_connection(("127.0.0.1", port), 5).close()
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_well_when_told_to_and_leaves_no_socket(sqlite_settings, number):
    with serving(sqlite_settings) as server:
        server.process.send_signal(number)
        assert server.process.wait(120) == 0
    assert not (sqlite_settings.data_dir / "control.sock").exists()
    assert "Traceback" not in server.logged()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_address_that_is_taken_is_named(sqlite_settings, host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as taken:
        port = taken.getsockname()[1]
        ran = yinyom(
            *("serve", "--host", host, "--port", port),
            data_dir=sqlite_settings.data_dir,
            seconds=30,
        )
    assert ran.code == CONFIGURATION
    assert f"cannot listen on {host} port {port}" in ran.said
    assert "--port" in ran.said
    assert yinyom("clients", "list", data_dir=sqlite_settings.data_dir).code == 0


@pytest.mark.parametrize("host", ["256.1.1.1", "192.0.2.1", "no.such.host.invalid"])
def test_an_address_that_is_not_ours_is_named(sqlite_settings, host):
    ran = yinyom("serve", "--host", host, data_dir=sqlite_settings.data_dir, seconds=60)
    assert ran.code == CONFIGURATION
    assert f"cannot listen on {host}" in ran.said


def test_the_demo_wants_its_port_before_it_makes_anything(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = yinyom("demo", "--port", port, data_dir=tmp_path / "data", seconds=60)
    assert ran.code == CONFIGURATION
    assert f"port {port}" in ran.said
    assert not (tmp_path / "data").exists()


@pytest.mark.postgres
class TestSeveralWorkers:
    @pytest.mark.slow
    def test_they_serve_together_and_end_together(self, postgres_settings):
        made = add_clients(postgres_settings, {"crm": EVERYTHING})["crm"]
        with serving(postgres_settings, "--workers", "2") as server:
            client = Client(server.base_url, made).sign_in()
            member = client.register(client.decision())
            path = f"/v1/members/{member['id']}/view?purpose=marketing&channel=sms"
            answers: list[int] = []

            def read() -> None:
                with Client(server.base_url, made).http as line:
                    headers = {"Authorization": f"Bearer {client.token}"}
                    answers.extend(line.get(path, headers=headers).status_code for _ in range(20))

            readers = [threading.Thread(target=read) for _ in range(6)]
            for reader in readers:
                reader.start()
            for reader in readers:
                reader.join()
            assert answers == [200] * 120
            withdrawn = client.post(
                f"/v1/members/{member['id']}/consents:withdraw", {"purpose": "marketing"}
            )
            assert withdrawn.status_code == 200
            assert {client.get(path).status_code for _ in range(20)} == {403}
            client.http.close()
            assert server.end() == 0
        env = settings_environment(postgres_settings)
        checked = yinyom(
            "audit", "verify", "--db", "--json", data_dir=postgres_settings.data_dir, **env
        )
        assert checked.answer["ok"] is True

    def test_what_is_unfit_is_said_once_and_none_is_started(self, postgres_settings):
        (postgres_settings.data_dir / "keys" / "kms-root").write_text("00" * 32)
        ran = yinyom(
            *("serve", "--workers", "2", "--port", free_port()),
            data_dir=postgres_settings.data_dir,
            seconds=60,
            **settings_environment(postgres_settings),
        )
        assert ran.code == CONFIGURATION
        assert ran.said.count("does not open this key ring") == 1
        assert "Traceback" not in ran.said

    def test_a_port_that_is_taken_is_said_once(self, postgres_settings):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            ran = yinyom(
                *("serve", "--workers", "2", "--port", taken.getsockname()[1]),
                data_dir=postgres_settings.data_dir,
                seconds=60,
                **settings_environment(postgres_settings),
            )
        assert ran.code == CONFIGURATION
        assert ran.said.count("cannot listen on") == 1


@pytest.mark.postgres
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_ends_well_when_told_to(postgres_settings, tmp_path, number):
    log = tmp_path / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*COMMAND, "--data-dir", str(postgres_settings.data_dir), "worker"],
            env=environment(**settings_environment(postgres_settings)),
            cwd="/",
            stderr=stream,
        )
    deadline = time.monotonic() + 120
    while "started" not in log.read_text() and time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(120) == 0
    assert "Traceback" not in log.read_text()


@pytest.mark.slow
def test_an_unreachable_database_is_a_refusal_whatever_is_wrong_with_its_address(tmp_path):
    data_dir = Settings(data_dir=tmp_path / "data").data_dir
    assert yinyom("init", "--yes", data_dir=data_dir).code == 0
    for url in ("postgresql://h:notaport/db", "postgresql://[bad", "sqlite:///x"):
        for command in (["serve"], ["init", "--yes"]):
            ran = yinyom(*command, data_dir=data_dir, YINYOM_DATABASE__URL=url, seconds=30)
            assert ran.code == CONFIGURATION, (url, command, ran.said)
            assert "Next:" in ran.said
