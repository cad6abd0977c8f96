"""`yinyom demo`: the story is told by real calls, ends well, and can be told again."""

import contextlib
import json
import re
import signal
import stat
import subprocess
import time

import httpx2
import pytest

from tests.support.serving import COMMAND, environment, free_port, yinyom

STEPS = [
    "Five internal apps",
    "Somying joins",
    "She proves that the phone is hers",
    "The message sender reads her",
    "The till tries the same purpose",
    "She withdraws",
    "The old membership list comes in",
    "Twelve friends join",
    "The till posts a day of purchases",
    "A birthday campaign",
    "Malee withdraws",
    "Who read my data?",
    "Somying asks for a copy of everything",
    "She asks to be erased",
    "A backup that this machine itself cannot read",
    "After the backup, Preeya withdraws and Kitti is erased",
    "Disaster: the machine is lost",
    "The trail, checked as a stranger would",
]
OUTCOMES = [
    "phone verified: True",
    "+66812345678",
    "not_in_purpose",
    "403 scope_missing",
    "403 consent_withdrawn",
    "every row is stored, set aside with its reason, or a known repeat",
    "12 accepted, 1 set aside by name",
    "the same batch again: 12 known repeats, no point twice",
    "platinum: fewer than 10, so no number is told",
    "webhook, signature verified: consent.withdrawn",
    "the second download: 404, the copy is gone",
    "webhook, signature verified: member.erased",
    "404 member_unknown",
    "certificate, checked offline",
    "the 2 erased stay erased: 404",
    "the withdrawn stay denied: 403 consent_withdrawn",
    "who allowed it is read as before, by the same id",
    "audit verify OK",
    "audit verify names it",
]


def tell(data_dir, **env):
    return yinyom("demo", "--no-serve", data_dir=data_dir, seconds=120, **env)


def told_whole(ran):
    assert ran.code == 0, ran.said[-2000:]
    places = [ran.out.index(step) for step in STEPS]
    assert places == sorted(places)
    for outcome in OUTCOMES:
        assert outcome in ran.said
    assert "Traceback" not in ran.said


def is_private(file) -> bool:
    return stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_story_ends_well_and_is_told_again_in_the_same_place(tmp_path):
    data_dir = tmp_path / "data"
    told_whole(tell(data_dir))
    credentials = json.loads((data_dir / "demo-credentials.json").read_text())
    told_whole(tell(data_dir))
    again = json.loads((data_dir / "demo-credentials.json").read_text())
    assert again["clients"] == credentials["clients"]


def test_credentials_and_codes_are_for_their_owner_only(tmp_path):
    data_dir = tmp_path / "data"
    ran = tell(data_dir.relative_to("/"))  # seen from where the command runs
    file = data_dir / "demo-credentials.json"
    credentials = json.loads(file.read_text())
    assert is_private(file)
    assert set(credentials) == {"base_url", "clients", "staff", "outbox"}
    assert set(credentials["clients"]) == {"crm", "till", "sender", "cdp", "desk"}
    for client in credentials["clients"].values():
        assert set(client) == {"client_id", "client_secret", "scopes"}
        assert client["client_secret"] not in ran.out + ran.err
    outbox = data_dir / "outbox.jsonl"
    assert credentials["outbox"] == str(outbox)
    assert is_private(outbox)
    for line in outbox.read_text().splitlines():
        assert set(json.loads(line)) == {"at", "channel", "contact_point", "code"}


@pytest.mark.postgres
def test_the_story_on_postgres(tmp_path, postgres_database_url):
    told_whole(tell(tmp_path / "data", YINYOM_DATABASE__URL=postgres_database_url))


def test_a_registry_that_is_no_demo_is_left_alone(sqlite_settings):
    before = (sqlite_settings.data_dir / "registry.db").read_bytes()
    ran = tell(sqlite_settings.data_dir)
    assert ran.code == 1
    assert "not a demo" in ran.said
    assert (sqlite_settings.data_dir / "registry.db").read_bytes() == before


def test_after_the_story_it_serves_until_it_is_told_to_stop(tmp_path):
    port = free_port()
    data_dir = tmp_path / "data"
    with (tmp_path / "demo.log").open("wb") as log:
        demo = subprocess.Popen(
            [*COMMAND, "--data-dir", str(data_dir), "demo", "--port", str(port)],
            env=environment(),
            cwd="/",
            stdout=log,
            stderr=log,
        )
    try:
        base = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 180
        while "Serving on" not in (tmp_path / "demo.log").read_text():
            assert demo.poll() is None, (tmp_path / "demo.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        for path in ("/readyz", "/th/", "/en/", "/zh-Hant/", "/docs", "/openapi.json"):
            assert httpx2.get(base + path, follow_redirects=True).status_code == 200
        credentials = json.loads((data_dir / "demo-credentials.json").read_text())
        assert credentials["base_url"] == base
        till = credentials["clients"]["till"]
        token = httpx2.post(
            f"{base}/oauth/token",
            data={"grant_type": "client_credentials"},
            auth=(till["client_id"], till["client_secret"]),
        )
        assert token.status_code == 200
        demo.send_signal(signal.SIGINT)
        assert demo.wait(120) == 0
        said = (tmp_path / "demo.log").read_text()
        assert re.search(r"portal http://127\.0\.0\.1:\d+/th/", said)
        assert "Traceback" not in said
    finally:
        with contextlib.suppress(ProcessLookupError):
            demo.kill()
        demo.wait()
