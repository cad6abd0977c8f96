"""The service makes no connection that was not configured: it works where there is no network.

pytest-socket sees neither uvloop nor UDP nor child processes, so the service runs in a network
namespace of its own, in which only loopback exists, and its sockets are looked at there.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap

import pytest

from tests.support.serving import (
    COMMAND,
    REPOSITORY,
    Client,
    add_clients,
    environment,
    serving,
)

INSIDE = """
import json, pathlib, subprocess, sys, time, urllib.error, urllib.request

data_dir, command = sys.argv[1], sys.argv[2:]
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
base = "http://127.0.0.1:8421"
server = subprocess.Popen([*command, "--data-dir", data_dir, "serve", "--port", "8421"])
pid = server.pid


def call(method, path, body=None, token=None, form=None):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = None
    if body is not None:
        data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
    if form is not None:
        data = form.encode()
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    request = urllib.request.Request(base + path, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def peers():
    found = []
    for name in ("tcp", "tcp6", "udp", "udp6", "raw"):
        file = pathlib.Path(f"/proc/{pid}/net/{name}")
        for line in file.read_text().splitlines()[1:]:
            found.append([name, *line.split()[1:4]])
    return found


try:
    for _ in range(1_000):
        try:
            ready = call("GET", "/readyz")
            break
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    made = json.loads(
        subprocess.run(
            [*command, "--data-dir", data_dir, "clients", "add", "crm", "--json",
             "--scope", "members:write", "--scope", "purpose:membership"],
            check=True, capture_output=True,
        ).stdout
    )
    token = call(
        "POST", "/oauth/token",
        form=f"grant_type=client_credentials&client_id={made['client_id']}"
             f"&client_secret={made['client_secret']}",
    )["access_token"]
    member = call(
        "POST", "/v1/members", token=token,
        body={"brand": "main", "jurisdiction": "TH", "formats": {"phone_region": "TH"},
              "fields": {"given_name": "สมหญิง", "phone": "081-234-5678",
                         "email": "somying@example.org"}},
    )
    seen = call("GET", f"/v1/members/{member['id']}/view?purpose=membership", token=token)
    time.sleep(1.5)
    print(json.dumps({"ready": ready["ready"], "data": seen["data"], "sockets": peers()}))
finally:
    server.terminate()
    server.wait(20)
"""


@pytest.fixture
def lone_network():
    """The command that runs another one where there is no network."""
    for tool in ("unshare", "ip"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not there; install util-linux and iproute2")
    prefix = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives no network namespace")
    return prefix


def test_the_running_service_needs_and_seeks_no_network(lone_network, sqlite_settings, tmp_path):
    script = tmp_path / "inside.py"
    script.write_text(textwrap.dedent(INSIDE), encoding="utf-8")
    ended = subprocess.run(
        [*lone_network, sys.executable, script, sqlite_settings.data_dir, *COMMAND],
        env=environment(PYTHONPATH=str(REPOSITORY)),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found["ready"] is True
    assert found["data"]["given_name"] == "สมหญิง"
    assert "Network is unreachable" not in ended.stderr
    assert "Traceback" not in ended.stderr
    strangers = [entry for entry in found["sockets"] if not is_loopback(entry)]
    assert strangers == []
    assert found["sockets"], "the listening socket was not seen, so the look proves nothing"


def is_loopback(entry: list[str]) -> bool:
    """Both ends of the socket are loopback, or the far end is nobody (a listening socket)."""
    _, local, remote, _ = entry
    return local.startswith("0100007F:") and (
        remote.startswith("0100007F:") or remote == "00000000:0000"
    )


# --- every call to the kernel that could reach out ------------------------------------

CALL = re.compile(
    r"(?P<name>connect|sendto|sendmsg|bind)\(\d+, .*?sa_family=(?P<family>AF_\w+)"
    r"(?:.*?inet_addr\(\"(?P<v4>[^\"]+)\"\)|.*?inet_pton\(AF_INET6, \"(?P<v6>[^\"]+)\")?"
)


@pytest.fixture
def traced():
    """The command that writes down every network call of another one and of its children."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not there; install the package strace")
    prefix = ["strace", "-D", "-f", "-qq", "-e", "trace=%network", "-e", "signal=none", "-o"]
    if subprocess.run([*prefix, "/dev/null", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody trace a process")
    return prefix


def strangers_in(trace: str) -> set[str]:
    """Addresses that were called or bound, other than loopback and Unix sockets."""
    found = set()
    for call in CALL.finditer(trace):
        address = call["v4"] or call["v6"] or call["family"]
        if address not in {"AF_UNIX", "AF_UNSPEC", "127.0.0.1", "::1"}:
            found.add(f"{call['name']} {address}")
    return found


def test_a_stranger_in_a_trace_would_be_seen():
    trace = (
        'connect(5, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("1.1.1.1")}, 16)\n'
        'sendto(6, "x", 1, 0, {sa_family=AF_INET6, sin6_port=htons(53), sin6_flowinfo=htonl(0), '
        'inet_pton(AF_INET6, "2606:4700::1111", &sin6_addr), sin6_scope_id=0}, 28) = 1\n'
        'connect(5, {sa_family=AF_UNIX, sun_path="/run/x"}, 110) = 0\n'
        'bind(7, {sa_family=AF_INET, sin_port=htons(8420), sin_addr=inet_addr("127.0.0.1")}, 16)\n'
    )
    assert strangers_in(trace) == {"connect 1.1.1.1", "sendto 2606:4700::1111"}


@pytest.mark.slow
def test_no_call_to_the_kernel_goes_past_loopback(traced, settings, tmp_path):
    trace = tmp_path / "trace"
    made = add_clients(settings, {"crm": ("members:write", "purpose:membership")})["crm"]
    with serving(settings, prefix=[*traced, str(trace)]) as server:
        client = Client(server.base_url, made).sign_in()
        member = client.register(
            phone="081-234-5678", email="somying@example.org", given_name="สมหญิง"
        )
        assert client.get(f"/v1/members/{member['id']}/view?purpose=membership").status_code == 200
        for path in ("/th/", "/docs", "/openapi.json", "/v1/purposes", "/v1/audit/checkpoint"):
            assert client.http.get(path, follow_redirects=True).status_code == 200, path
        client.http.close()
        assert server.cli("doctor").code == 0
        assert server.end() == 0
    calls = trace.read_text(encoding="utf-8", errors="replace")
    assert "bind(" in calls, "the listening socket was not seen, so the look proves nothing"
    assert strangers_in(calls) == set()
