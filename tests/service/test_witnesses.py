"""A registry and its witnesses: real ones in processes of their own, and ones that attack."""

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

from audit import Cosigner, Verifier, ask_witness, open_note
from service.audit_commands import audit_export, audit_new_origin
from service.commands import doctor
from service.settings import AuditSettings, WitnessSettings
from service.witnesses import Witnesses, WitnessPoster
from tests.support.serving import COMMAND, environment, free_port, yinyom
from tests.support.world import open_world

pytestmark = pytest.mark.anyio


@contextlib.contextmanager
def witness(folder, vkey, port):
    """`yinyom audit witness` as a process; gives what it said of itself."""
    process = subprocess.Popen(
        [*COMMAND, "audit", "witness", str(folder), "--log", vkey, "--port", str(port), "--json"],
        env=environment(),
        cwd="/",
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        said = json.loads(process.stdout.readline())
        for _ in range(1_500):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.02)
        yield said, process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(120)
        process.stdout.close()


def watched(world, *said, quorum=1):
    """Give a world witnesses, as its settings would."""
    settings = AuditSettings(
        witnesses=tuple(WitnessSettings(url=one["url"], vkey=one["vkey"]) for one in said),
        witness_quorum=quorum,
    )
    return Witnesses(settings, world.runtime.database, world.runtime.clock)


async def an_event(world):
    async with world.runtime.database.unit_of_work() as work:
        await world.runtime.audit.record(work, world.operator, "test.event")
    await world.runtime.sequencer.drain()


@pytest.fixture
async def quiet(settings):
    async with open_world(settings, background=False) as world:
        await an_event(world)
        yield world


@pytest.mark.slow
async def test_an_export_bears_what_its_witness_signed_and_an_old_database_is_caught(
    sqlite_settings, tmp_path
):
    port = free_port()
    async with open_world(sqlite_settings, background=False) as world:
        await an_event(world)
        vkey = world.runtime.audit.vkey
    old = tmp_path / "old"
    shutil.copytree(sqlite_settings.data_dir, old)
    with witness(tmp_path / "w1", vkey, port) as (said, process):
        async with open_world(sqlite_settings, background=False) as world:
            for _ in range(3):
                await an_event(world)
                (answer,) = await watched(world, said).ask()
                assert (answer.verdict, answer.size) == (
                    "cosigned",
                    world.runtime.sequencer.state.size,
                )
            world.runtime.witnesses = watched(world, said)
            bundle = tmp_path / "bundle"
            made = await audit_export(world.runtime, lambda *_: None, out=str(bundle))
            status = await world.runtime.witnesses.status()
            assert status["verified_size"] == made["events"]
            assert not status["alarm"]
            served = (await world.http.get("/v1/audit/checkpoint")).text
            assert len(open_note(served, verifiers(vkey, said["vkey"])).signed_by) == 2
        ran = yinyom("audit", "verify", bundle, "--key", vkey, "--witness", said["vkey"], "--json")
        assert (ran.code, ran.answer["ok"]) == (0, True)
        other = "witness.example/w9+" + said["vkey"].partition("+")[2]
        assert yinyom("audit", "verify", bundle, "--key", vkey, "--witness", other).code == 2

        shutil.rmtree(sqlite_settings.data_dir)
        shutil.copytree(old, sqlite_settings.data_dir)
        async with open_world(sqlite_settings, background=False) as world:
            (answer,) = await watched(world, said).ask()
            assert answer.verdict == "witness_ahead"
            for _ in range(9):
                await an_event(world)
            (answer,) = await watched(world, said).ask()
            assert answer.verdict == "witness_disagrees"
            assert answer.verdict.alarming
            world.runtime.witnesses = watched(world, said)
            told = await doctor(world.runtime, lambda *_: None)
            (check,) = [one for one in told["checks"] if one["check"] == "witnesses"]
            assert (told["ok"], check["state"]) == (False, "bad")
            made = await audit_new_origin(
                world.runtime, lambda *_: None, confirmed=True, operator=None
            )
            assert (made["why"], made["new"]) == ("witness_disagrees", made["old"] + "/2")
        process.kill()
        process.wait(120)
    with witness(tmp_path / "w1", vkey, port) as (again, _):
        assert again["vkey"] == said["vkey"]


def verifiers(*vkeys):
    return [Verifier.from_vkey(vkey) for vkey in vkeys]


# --- witnesses that attack, or are not there ------------------------------------------

VKEY = Cosigner.from_seed("witness.example/w1", bytes(range(32, 64))).vkey


@contextlib.contextmanager
def impostor(*answers):
    """Something that answers every connection with the next of these bytes, then hangs up."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(30)

    def answer():
        for data in answers:
            with contextlib.suppress(OSError):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(65_536)
                    connection.sendall(data)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield {"url": f"http://127.0.0.1:{listening.getsockname()[1]}", "vkey": VKEY}
    finally:
        listening.close()


def http(status, body=b"", more=b""):
    head = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n%s\r\n" % (status, len(body), more)
    return head + body


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        ([http(200, b"")], "refused"),
        ([http(200, "— witness.example/w1 AAAAAAAAAAAA\n".encode())], "refused"),
        ([http(200, b"\xff\xfe")], "unreachable"),
        ([http(302, b"", b"Location: http://127.0.0.1:1/\r\n")], "refused"),
        ([http(500, b"oops")], "refused"),
        ([http(403)], "refused"),
        ([http(409, b"many\n")], "refused"),
        ([http(409, b"1" * 40)], "refused"),
        ([http(409, b"0\n")], "witness_disagrees"),
        ([http(409, b"999999\n")], "witness_ahead"),
        ([http(422)], "witness_disagrees"),
        ([http(200, b"x" * 200_000)], "unreachable"),
        ([b"not http at all\r\n\r\n"], "unreachable"),
        ([b""], "unreachable"),
    ],
)
async def test_no_answer_of_an_impostor_counts_or_does_harm(quiet, answers, verdict):
    with impostor(*answers) as said:
        witnesses = watched(quiet, said)
        (answer,) = await witnesses.ask()
    assert answer.verdict == verdict
    assert await quiet.fetch("SELECT * FROM audit_cosignature") == []
    assert (await witnesses.status())["verified_size"] is None


async def test_a_witness_that_names_one_size_after_another_is_asked_twice_only(quiet):
    await an_event(quiet)
    with impostor(http(409, b"1\n"), http(409, b"2\n"), http(409, b"1\n")) as said:
        (answer,) = await watched(quiet, said).ask()
    assert answer.verdict == "refused"


async def test_a_witness_that_is_away_holds_nothing_up(quiet):
    away = {"url": f"http://127.0.0.1:{free_port()}", "vkey": VKEY}
    (answer,) = await watched(quiet, away).ask()
    assert answer.verdict == "unreachable"
    assert not answer.verdict.alarming
    crm = await quiet.app()
    assert (await crm.view(await crm.register())).status_code == 200


async def test_a_signature_by_another_key_is_not_kept(quiet):
    async def post(_body):
        return 200, (await quiet.http.get("/v1/audit/checkpoint")).text.rpartition("\n\n")[2]

    asked = await ask_witness(
        quiet.runtime.database, quiet.runtime.clock, Verifier.from_vkey(VKEY), post
    )
    assert asked.verdict == "refused"


def test_the_way_to_a_witness_is_https_or_stays_on_this_machine():
    assert WitnessSettings(url="https://witness.example/w1", vkey=VKEY)
    assert WitnessSettings(url="http://127.0.0.1:8421", vkey=VKEY)
    for url in (
        "http://witness.example",
        "http://127.0.0.1.example",
        "http://localhost@witness.example",
        "file:///etc/passwd",
        "",
    ):
        with pytest.raises(ValueError, match="url"):
            WitnessSettings(url=url, vkey=VKEY)


def test_the_request_goes_to_add_checkpoint_below_the_prefix():
    assert WitnessPoster("https://w.example/x/")._url == "https://w.example/x/add-checkpoint"
