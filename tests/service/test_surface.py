"""The shapes that other tools rely on, one test per line that was promised, as it is printed.

Each command runs as a child process and each request goes over the network, in the embedded
profile: names of options, keys of answers and exit codes are the promise, so they stand here
literally and are not taken from the code.
"""

import base64
import json
import os
import zipfile

import pytest

from benchmarks.report import Bound, Target, targets_table
from tests.support.serving import serving, yinyom

pytestmark = pytest.mark.slow

RIGHTS = "/v1/rights-requests"


@pytest.fixture
def registry(sqlite_registry):
    return sqlite_registry


@pytest.fixture
def cli(registry):
    return registry.server.cli


def agent_key(alphabet=base64.b64encode):
    return alphabet(os.urandom(32)).decode()


# --- the installation -----------------------------------------------------------------


def test_init_asks_nothing_and_leaves_everything_in_the_data_directory(tmp_path):
    made = yinyom("init", "--yes", cwd=tmp_path)
    assert made.code == 0, made.said
    assert [entry.name for entry in tmp_path.iterdir()] == ["yinyom-data"]
    assert "recovery-kit.txt" in made.said
    assert (tmp_path / "yinyom-data" / "recovery-kit.txt").exists()
    other = tmp_path / "other"
    again = yinyom("init", "--yes", "--json", data_dir=other, cwd=tmp_path)
    assert again.answer["recovery_kit"] == str(other / "recovery-kit.txt")


def test_serve_listens_where_it_is_told(sqlite_settings):
    with serving(sqlite_settings, "--host", "127.0.0.1") as server:
        assert server.cli("clients", "list", "--json").code == 0
        assert server.end() == 0


# --- clients --------------------------------------------------------------------------


def test_clients_add_by_scope(cli):
    made = cli("clients", "add", "a", "--scope", "purpose:membership",
               "--scope", "members:write", "--json")  # fmt: skip
    assert made.code == 0
    assert set(made.answer) == {"client_id", "client_secret", "scopes"}
    assert made.answer["scopes"] == ["members:write", "purpose:membership"]


def test_clients_add_by_the_key_of_an_authorised_agent(registry, cli):
    key = agent_key()
    made = cli("clients", "add", "agent", "--drp-public-key", key, "--json")
    assert made.code == 0
    assert made.answer == {
        "client_id": made.answer["client_id"],
        "scopes": [],
        "business_id": "main",
        "drp_public_key": key,
    }
    listed = {one["client_id"]: one for one in cli("clients", "list", "--json").answer["clients"]}
    agent = listed[made.answer["client_id"]]
    assert (agent["business_id"], agent["drp_public_key"]) == ("main", key)
    assert "drp_public_key" not in listed[registry.crm.id]
    for secret in ("", key, "None"):
        answer = registry.http.post(
            "/oauth/token",
            data={"grant_type": "client_credentials"},
            auth=(made.answer["client_id"], secret),
        )
        assert (answer.status_code, answer.json()) == (401, {"error": "invalid_client"})
    rotated = cli("clients", "rotate", "agent", "--json")
    assert (rotated.code, rotated.answer["reason"]) == (1, "client_has_no_secret")
    assert cli("clients", "revoke", "agent", "--json").answer["state"] == "revoked"


def test_an_agent_needs_one_good_key_and_no_scope(cli):
    for bad in ("", "abc", base64.b64encode(b"x" * 31).decode(), "é" * 44):
        refused = cli("clients", "add", "bad", f"--drp-public-key={bad}", "--json")
        assert refused.code == 2
        assert refused.answer["errors"][0]["pointer"] == "/drp_public_key"
    both = ("--scope", "members:write", "--drp-public-key", agent_key())
    assert cli("clients", "add", "both", *both, "--json").code == 2
    assert cli("clients", "add", "neither", "--json").code == 2
    written = agent_key(base64.urlsafe_b64encode)
    assert cli("clients", "add", "url", f"--drp-public-key={written}", "--json").code == 0


# --- members --------------------------------------------------------------------------


@pytest.mark.parametrize("more", [(), ("--dry-run",), ("--profile", "th")])
def test_members_import(cli, tmp_path, more):
    file = tmp_path / "members.csv"
    file.write_text(
        "first name,mobile,date of birth\nสมหญิง,081-234-5678,12/03/2535\nไม่มีเบอร์,,\n",
        encoding="utf-8",
    )
    options = ("--brand", "main", "--region", "TH", "--dates", "be-or-iso", "--encoding", "auto")
    done = cli("members", "import", file, *options, *more, "--json")
    assert done.code == 0, done.said
    report = done.answer
    assert set(report) >= {
        "file", "rows", "accepted", "quarantined", "exact_repeats", "issues", "error_file",
        "seconds",
    }  # fmt: skip
    assert report["file"] == str(file)
    assert (report["rows"], report["accepted"] + report["exact_repeats"]) == (2, 1)
    assert (report["quarantined"], report["issues"]) == (1, {"row.no_identifier": 1})
    assert (report["error_file"] is None) == (more == ("--dry-run",))
    assert report["seconds"] >= 0


# --- the trail ------------------------------------------------------------------------


def test_audit_export_and_verify_with_the_key_of_the_api(registry, cli, tmp_path):
    answer = registry.http.get("/v1/audit/key")
    assert answer.headers["content-type"].startswith("text/plain")
    for out in (tmp_path / "bundle", tmp_path / "bundle.zip"):
        assert cli("audit", "export", "--out", out, "--json").code == 0
        checked = yinyom("audit", "verify", out, "--key", answer.text, "--json", cwd=tmp_path)
        assert (checked.code, checked.answer["ok"]) == (0, True)
    with zipfile.ZipFile(tmp_path / "bundle.zip") as archive:
        names = archive.namelist()
    for part in ("checkpoint", "tile/0/", "tile/entries/", "events.ndjson", "README.md"):
        assert any(name.rpartition("bundle/")[2].startswith(part) for name in names), names
    stranger = "nobody.example/log" + answer.text[answer.text.index("+") :]
    assert yinyom("audit", "verify", tmp_path / "bundle", "--key", stranger).code == 2


def test_one_event_is_proven_over_http_and_on_the_command_line(registry, cli, tmp_path):
    crm = registry.crm
    event = crm.register(crm.decision())["audit_id"]
    path = f"/v1/audit/events/{event}/proof"
    while (answer := crm.get(path)).status_code == 409:
        assert answer.json()["reason"] == "event_waits"
    proof = answer.json()
    assert set(proof) == {"id", "index", "event", "hashes", "checkpoint"}
    assert json.loads(base64.b64decode(proof["event"]))["id"] == event
    file = tmp_path / "proof.json"
    file.write_text(answer.text, encoding="utf-8")
    key = registry.http.get("/v1/audit/key").text
    held = yinyom("audit", "verify-proof", file, "--key", key, "--json", cwd=tmp_path)
    assert (held.code, held.answer["ok"], held.answer["event"]["id"]) == (0, True, event)
    made = cli("audit", "prove", event, "--out", file, "--json")
    assert made.code == 0
    assert yinyom("audit", "verify-proof", file, "--key", key).code == 0
    newest = crm.get("/v1/audit/events").json()["events"]
    assert {"api", "cli"} <= {
        one["actor"]["via"]
        for one in newest
        if (one["action"], one.get("resource")) == ("audit.prove", event)
    }
    assert registry.till.get(path).status_code == 403
    assert registry.http.get(path).status_code == 401
    nobody = crm.get(f"/v1/audit/events/evt_{'0' * 26}/proof")
    assert (nobody.status_code, nobody.json()["reason"]) == (404, "event_unknown")
    assert crm.get("/v1/audit/events/evt_x/proof").status_code == 422
    assert cli("audit", "prove", "evt_x", "--json").code == 1


# --- rights ---------------------------------------------------------------------------


def test_dsar_certificate_and_verify(registry, cli, tmp_path):
    crm = registry.crm
    member = crm.register(crm.decision())
    details = {"ground": "no_longer_needed"}
    asked = crm.post(RIGHTS, {"member": member["id"], "right": "erasure", "details": details})
    request, point = asked.json()["id"], asked.json()["contact_points"][0]["id"]
    crm.post(f"{RIGHTS}/{request}:verify", {"contact_point": point})
    code = {"contact_point": point, "code": registry.code_for(point)}
    assert crm.post(f"{RIGHTS}/{request}:verify", code).status_code == 200
    assert cli("dsar", "erase", request, "--yes", "--json").code == 0
    out = tmp_path / "certificate.txt"
    assert cli("dsar", "certificate", request, "--out", out, "--json").code == 0
    key = registry.http.get("/v1/audit/key").text
    checked = yinyom("dsar", "verify", out, "--key", key, "--json", cwd=tmp_path)
    assert (checked.code, checked.answer["ok"]) == (0, True)


# --- backups --------------------------------------------------------------------------


def test_backup_init_create_verify_restore_drill(registry, cli, tmp_path):
    def done(*arguments):
        ran = cli("backup", *arguments, "--json")
        assert ran.code == 0, ran.said
        return ran.answer

    done("init", "--store", f"folder:{tmp_path / 'store'}")
    made = done("create")
    for level in range(4):
        assert done("verify", "--level", level)["generation"] == made["generation"]
    assert [one["generation"] for one in done("list")["backups"]] == [made["generation"]]
    assert done("plan")["rows"] == made["rows"]
    assert done("restore", "--into", tmp_path / "restored")["rows"] == made["rows"]
    assert done("drill")["ok"] is True
    assert done("status")["last_drill"]
    assert cli("backup", "verify", "--level", 4, "--json").code == 2
    here = yinyom("doctor", "--json", data_dir=tmp_path / "restored", cwd=tmp_path)
    assert here.code == 0, here.said


# --- policies -------------------------------------------------------------------------


def test_policies_check_the_own_pack_and_a_folder(cli, tmp_path):
    assert cli("policies", "check").code == 0
    (tmp_path / "fields.toml").write_text("nonsense", encoding="utf-8")
    wrong = cli("policies", "check", tmp_path, "--json")
    assert (wrong.code, wrong.answer["ok"]) == (1, False)
    assert cli("policies", "check", tmp_path / "none", "--json").code == 2


# --- over HTTP ------------------------------------------------------------------------


def test_lookup_by_an_identifier_in_the_body(registry):
    crm = registry.crm
    crm.register(crm.decision(), given_name="ก", phone="082-345-6789")
    body = {"kind": "phone", "value": "082-345-6789", "region": "TH", "purpose": "membership"}
    found = crm.post("/v1/members:lookup", body)
    assert found.status_code == 200
    assert found.json()["id"].startswith("sub_")
    missing = crm.post("/v1/members:lookup", body | {"value": "082-345-0000"})
    assert missing.status_code == 404
    assert missing.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("lang", ["th", "en", "zh-Hant"])
def test_the_notice_in_force(registry, lang):
    answer = registry.http.get("/v1/notices/marketing", params={"lang": lang})
    assert answer.status_code == 200
    notice = answer.json()
    assert set(notice) >= {"key", "version", "lang", "text", "revision", "effective_from"}
    assert (notice["key"], notice["lang"]) == ("marketing", lang)
    assert notice["revision"].startswith("sha256:")


# --- benchmarks -----------------------------------------------------------------------


def test_a_benchmark_row_with_a_target_ends_with_its_verdict():
    rows = targets_table(
        [
            Target("fast", 1.0, Bound.AT_LEAST, 0.5, "ms"),
            Target("slow", 1.0, Bound.AT_LEAST, 2.0, "ms"),
        ]
    ).splitlines()
    assert rows[-2].endswith("| ok |")
    assert rows[-1].endswith("| miss |")
