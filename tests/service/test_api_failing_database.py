"""The database fails while the service answers: no answer without its event, and all well after."""

import os
import shutil
import subprocess
import time

import pytest

from service.settings import Settings
from tests.support.serving import served_registry

PROBLEM = "application/problem+json"


def unavailable(answer):
    assert answer.status_code == 503, answer.text
    assert answer.headers["content-type"] == PROBLEM
    assert answer.headers["retry-after"]
    problem = answer.json()
    assert problem["type"].endswith("/unavailable")
    assert "somchai" not in answer.text.lower()


def eventually(ask, status, seconds=90):
    """Ask until the status comes; gives the last answer."""
    deadline = time.monotonic() + seconds
    while (answer := ask()).status_code != status and time.monotonic() < deadline:
        time.sleep(0.2)
    assert answer.status_code == status, answer.text
    return answer


def named(registry, check, word, seconds=90):
    """Wait until readiness says a word of a check; what it says of the trail is seconds old."""
    deadline = time.monotonic() + seconds
    while (said := registry.http.get("/readyz").json()["checks"])[check] != word:
        assert time.monotonic() < deadline, said
        time.sleep(0.2)


@pytest.fixture
def small_disk(tmp_path, installed_sqlite):
    """A registry on a disk of its own, of a few megabytes."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m,mode=0700", "tmpfs", disk],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("this machine does not let root mount a tmpfs")
    shutil.copytree(installed_sqlite, disk / "data")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def fill(disk):
    """Leave no room for another page."""
    with (disk / "filler").open("wb", buffering=0) as filler:
        for size in (65_536, 4_096, 512, 1):
            while True:
                try:
                    filler.write(b"x" * size)
                except OSError:
                    break


def test_on_a_full_disk_nothing_is_disclosed_and_nothing_half_stored(small_disk):
    with served_registry(Settings(data_dir=small_disk / "data")) as registry:
        crm = registry.crm
        member = crm.register(crm.decision(), given_name="Somchai", phone="081-234-5678")
        path = f"/v1/members/{member['id']}/view?purpose=membership&fields=given_name"
        assert crm.get(path).status_code == 200

        fill(small_disk)
        eventually(lambda: crm.get(path), 503)
        for _ in range(3):
            unavailable(crm.get(path))
            unavailable(crm.post("/v1/members", crm.registration(phone="089-111-2222")))
            unavailable(
                crm.post(f"/v1/members/{member['id']}/consents:withdraw", {"purpose": "marketing"})
            )
            unavailable(crm.get("/v1/audit/events"))
        eventually(lambda: registry.http.get("/readyz"), 503)
        named(registry, "trail", "disk_full")
        assert registry.http.get("/livez").status_code == 200
        assert registry.http.get("/v1/purposes").status_code == 200, (
            "what nobody owns needs no disk"
        )

        (small_disk / "filler").unlink()
        read = eventually(lambda: crm.get(path), 200)
        assert read.json()["data"] == {"given_name": "Somchai"}
        consents = eventually(lambda: crm.get(f"/v1/members/{member['id']}/consents"), 200)
        states = [state["status"] for state in consents.json()["consents"]]
        assert states == ["given"], "the withdrawal was refused"
        asked = {"kind": "phone", "value": "089-111-2222", "region": "TH", "purpose": "membership"}
        # Until what waited has its place in the log, the watch may close the registry once more.
        eventually(lambda: registry.http.get("/readyz"), 200)
        eventually(lambda: crm.post("/v1/members:lookup", asked), 404)
        withdrawal = f"/v1/members/{member['id']}/consents:withdraw"
        eventually(lambda: crm.post(withdrawal, {"purpose": "marketing"}), 200)
        checked = registry.server.cli("audit", "verify", "--db", "--json")
        assert checked.answer["ok"] is True
        log = registry.server.logged()
        assert "Traceback" not in log
        assert "Somchai" not in log


@pytest.mark.postgres
def test_when_postgres_cuts_every_line_the_service_asks_again(postgres_settings, postgres_server):
    with served_registry(postgres_settings) as registry:
        crm = registry.crm
        member = crm.register(given_name="Somchai", phone="081-234-5678")
        path = f"/v1/members/{member['id']}/view?purpose=membership&fields=given_name"
        name = postgres_settings.database.url.rpartition("/")[2]
        for _ in range(3):
            assert crm.get(path).status_code == 200
            postgres_server.run_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                f"WHERE datname = '{name}' AND pid <> pg_backend_pid()"
            )
            statuses = {crm.get(path).status_code for _ in range(12)}
            assert statuses <= {200, 503}
            eventually(lambda: crm.get(path), 200)
        eventually(lambda: registry.http.get("/readyz"), 200)
        assert registry.server.cli("audit", "verify", "--db", "--json").answer["ok"] is True
        assert "Traceback" not in registry.server.logged()


@pytest.mark.postgres
def test_while_postgres_takes_nobody_in_nothing_is_answered(postgres_settings, postgres_server):
    name = postgres_settings.database.url.rpartition("/")[2]
    with served_registry(postgres_settings) as registry:
        crm = registry.crm
        member = crm.register(crm.decision(), given_name="Somchai", phone="081-234-5678")
        path = f"/v1/members/{member['id']}/view?purpose=membership&fields=given_name"
        postgres_server.run_sql(
            f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false; '
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{name}' AND pid <> pg_backend_pid()"
        )
        try:
            eventually(lambda: crm.get(path), 503)
            for _ in range(5):
                unavailable(crm.get(path))
                unavailable(crm.post("/v1/members", crm.registration(phone="089-111-2222")))
            unready = eventually(lambda: registry.http.get("/readyz"), 503).json()
            assert (unready["ready"], unready["checks"]["database"]) == (False, "unavailable")
            assert registry.http.get("/livez").status_code == 200
        finally:
            postgres_server.run_sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        read = eventually(lambda: crm.get(path), 200)
        assert read.json()["data"] == {"given_name": "Somchai"}
        eventually(lambda: registry.http.get("/readyz"), 200)
        asked = {"kind": "phone", "value": "089-111-2222", "region": "TH", "purpose": "membership"}
        assert crm.post("/v1/members:lookup", asked).status_code == 404
        assert "Traceback" not in registry.server.logged()
