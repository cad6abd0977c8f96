"""`yinyom dsar …`: the queue, the copy, the erasure, the certificate; exit codes for programs."""

import io
import stat
import zipfile

import pytest

from tests.support.serving import yinyom

PATH = "/v1/rights-requests"


@pytest.fixture
def registry(sqlite_registry):
    """One engine will do: what differs between engines lies below the command line."""
    return sqlite_registry


def proven(registry, right, **details):
    """A request of a new member whose code was answered."""
    crm = registry.crm
    member = crm.register(crm.decision())
    body = {"member": member["id"], "right": right, "details": details}
    request = crm.post(PATH, body).json()
    point = request["contact_points"][0]["id"]
    answer(registry, request["id"], point)
    return request["id"], point


def answer(registry, request_id, point):
    crm = registry.crm
    path = f"{PATH}/{request_id}:verify"
    assert crm.post(path, {"contact_point": point}).status_code == 200
    body = {"contact_point": point, "code": registry.code_for(point)}
    assert crm.post(path, body).status_code == 200


def test_an_erasure_is_planned_done_certified_and_checked_offline(registry, tmp_path):
    request_id, _ = proven(registry, "erasure", ground="no_longer_needed")
    cli = registry.server.cli
    planned = cli("dsar", "erase", request_id, "--dry-run", "--json")
    assert planned.answer["state"] == "verified"
    assert {one["result"] for one in planned.answer["plan"]} >= {"erased", "retained"}
    early = cli("dsar", "certificate", request_id, "--out", tmp_path / "c.txt")
    assert early.code == 1
    done = cli("dsar", "erase", request_id, "--json")
    assert (done.code, done.answer["state"]) == (0, "fulfilled")
    assert cli("dsar", "erase", request_id, "--json").code == 1
    out = tmp_path / "certificate.txt"
    made = cli("dsar", "certificate", request_id, "--out", out, "--json")
    key = made.answer["vkey"]
    checked = yinyom("dsar", "verify", out, "--key", key, "--json", cwd=tmp_path)
    assert (checked.code, checked.answer["ok"]) == (0, True)
    said = yinyom("dsar", "verify", out, "--key", key, cwd=tmp_path).said
    assert "erasure fulfilled" in said
    out.write_bytes(out.read_bytes().replace(b'"fulfilled"', b'"refused"', 1))
    changed = yinyom("dsar", "verify", out, "--key", key, "--json", cwd=tmp_path)
    assert (changed.code, changed.answer["ok"]) == (1, False)
    assert yinyom("dsar", "verify", tmp_path / "none", "--key", key).code == 2


def test_a_copy_is_written_once_to_a_file_of_its_own(registry, tmp_path):
    request_id, point = proven(registry, "access", lang="en")
    registry.crm.post(f"{PATH}/{request_id}:fulfil")
    for _ in range(200):
        found = registry.server.cli("dsar", "show", request_id, "--json").answer
        if found["state"] == "fulfilled":
            break
    assert found["state"] == "fulfilled"
    answer(registry, request_id, point)
    cli = registry.server.cli
    lost = cli("dsar", "export", request_id, "--out", tmp_path / "no" / "copy.zip", "--json")
    assert lost.code == 2
    out = tmp_path / "copy.zip"
    made = cli("dsar", "export", request_id, "--out", out, "--json")
    assert made.code == 0, made.said
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    with zipfile.ZipFile(io.BytesIO(out.read_bytes())) as archive:
        assert "index.html" in archive.namelist()
    again = tmp_path / "again.zip"
    assert cli("dsar", "export", request_id, "--out", again, "--json").code == 1
    assert not again.exists()


def test_the_queue_is_listed_by_state(registry):
    request_id, _ = proven(registry, "access")
    listed = registry.server.cli("dsar", "list", "--state", "verified", "--json").answer
    assert request_id in {one["id"] for one in listed["requests"]}
    assert registry.server.cli("dsar", "list", "--state", "lost").code == 2
    assert registry.server.cli("dsar", "show", "rr_nobody").code == 1
    assert request_id in registry.server.cli("dsar", "list").said
