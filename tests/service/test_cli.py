"""The command line: shapes as SURFACE has them, with and without a server, and clear refusals."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from service.settings import Settings
from tests.support.serving import COMMAND, environment, serving, settings_environment, yinyom

OK, FAILED_CHECK, USAGE, CONFIGURATION, NOT_ALLOWED = 0, 1, 2, 3, 4
IMPORT_KEYS = {
    "file",
    "rows",
    "accepted",
    "quarantined",
    "exact_repeats",
    "issues",
    "error_file",
    "seconds",
}
HEADER = ["member no", "first name", "mobile", "e-mail", "date of birth"]


@pytest.fixture(
    params=["sqlite", pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.slow])]
)
def settings(request):
    """The engines; PostgreSQL is left to the whole suite, as each command is a process."""
    return request.getfixturevalue(f"{request.param}_settings")


@pytest.fixture(params=["alone", "beside a server"])
def registry(request, settings):
    """The command line on a registry that nobody has open, and on one that a server has open."""
    if request.param == "alone":
        env = settings_environment(settings)

        def run(*arguments, **details):
            return yinyom(*arguments, data_dir=settings.data_dir, **{**env, **details})

        yield run
    else:
        with serving(settings) as server:
            yield server.cli


def member_file(folder: Path, rows: list[list[str]], name: str = "members.csv") -> Path:
    file = folder / name
    with file.open("w", encoding="utf-8-sig", newline="") as stream:
        csv.writer(stream).writerows([HEADER, *rows])
    return file


ROWS = [
    ["1", "สมหญิง", "081-234-5678", "somying@example.org", "12/03/2535"],
    ["2", "สมชาย", "089 111 2222", "", "1990-01-31"],
    ["2", "สมชาย", "089 111 2222", "", "1990-01-31"],
    ["3", "ไม่มีเบอร์", "", "", ""],
    ["4", "เบอร์เสีย", "12", "sombat@example.org", "31/02/2530"],
]


class TestClients:
    def test_add_list_rotate_revoke(self, registry):
        made = registry("clients", "add", "crm", "--scope", "members:write", "--json").answer
        assert set(made) == {"client_id", "client_secret", "scopes"}
        assert made["scopes"] == ["members:write"]
        (listed,) = registry("clients", "list", "--json").answer["clients"]
        assert (listed["client_id"], listed["state"]) == (made["client_id"], "active")
        assert "client_secret" not in listed
        rotated = registry("clients", "rotate", "crm", "--json").answer
        assert rotated["client_id"] == made["client_id"]
        assert rotated["client_secret"] != made["client_secret"]
        assert registry("clients", "revoke", made["client_id"], "--json").code == OK
        (listed,) = registry("clients", "list", "--json").answer["clients"]
        assert listed["state"] == "revoked"

    def test_what_is_wrong_is_a_problem_and_an_exit_code(self, registry):
        unknown = registry("clients", "add", "x", "--scope", "purpose:fun", "--json")
        assert unknown.code == USAGE
        assert unknown.answer["errors"][0]["pointer"] == "/scopes/0"
        assert registry("clients", "add", "x").code == USAGE
        missing = registry("clients", "revoke", "nobody", "--json")
        assert missing.code == FAILED_CHECK
        assert missing.answer["reason"] == "client_unknown"
        assert registry("clients", "add", "x", "--scope", "members:write").code == OK
        again = registry("clients", "add", "x", "--scope", "members:write", "--json")
        assert again.code == FAILED_CHECK
        assert again.answer["reason"] == "client_exists"

    def test_an_empty_list_says_how_to_begin(self, registry):
        assert "yinyom clients add" in registry("clients", "list").said


class TestImport:
    def test_every_row_is_accounted_for_and_the_second_time_nothing_is_stored(
        self, registry, tmp_path
    ):
        file = member_file(tmp_path, ROWS)
        options = ("--brand", "main", "--region", "TH", "--dates", "be-or-iso")
        first = registry("members", "import", file, *options, "--encoding", "auto", "--json")
        assert first.code == OK
        report = first.answer
        assert set(report) >= IMPORT_KEYS
        assert (report["rows"], report["accepted"]) == (5, 3)
        assert (report["quarantined"], report["exact_repeats"]) == (1, 1)
        assert report["issues"] == {
            "birth_date.invalid": 1,
            "phone.invalid": 1,
            "row.no_identifier": 1,
        }
        again = registry("members", "import", file, *options, "--encoding", "auto", "--json")
        same = {key: report[key] for key in IMPORT_KEYS - {"seconds", "error_file"}}
        assert {key: again.answer[key] for key in same} == same
        assert registry("vault", "status", "--json").answer["members"] == 3

    def test_the_error_file_is_private_and_can_be_mended_and_sent_again(self, registry, tmp_path):
        file = member_file(tmp_path, ROWS)
        options = ("--region", "TH", "--dates", "be-or-iso", "--json")
        report = registry("members", "import", file, *options).answer
        errors = Path(report["error_file"])
        assert errors.stat().st_mode & 0o777 == 0o600
        with errors.open(encoding="utf-8-sig", newline="") as stream:
            header, row = csv.reader(stream)
        assert header == [*HEADER, "_row", "_errors"]
        assert row[-2:] == ["4", "row.no_identifier"]
        row[2] = "082-000-0001"
        mended = tmp_path / "mended.csv"
        with mended.open("w", encoding="utf-8-sig", newline="") as stream:
            csv.writer(stream).writerows([header, row])
        report = registry("members", "import", mended, *options).answer
        assert (report["rows"], report["accepted"]) == (1, 1)

    def test_a_dry_run_judges_and_stores_nothing(self, registry, tmp_path):
        file = member_file(tmp_path, ROWS)
        ran = registry("members", "import", file, "--region", "TH", "--dry-run", "--json")
        assert ran.code == OK
        assert ran.answer["accepted"] == 3
        assert ran.answer["error_file"] is None
        assert registry("vault", "status", "--json").answer["members"] == 0

    def test_a_file_that_is_none_is_refused_in_words(self, registry, tmp_path):
        bad = tmp_path / "bad.csv"
        bad.write_bytes(b"\x00\x01\x02PK\x03\x04 081-234-5678")
        ran = registry("members", "import", bad, "--json")
        assert ran.code != OK
        assert "081-234-5678" not in ran.out + ran.err
        assert "Traceback" not in ran.said
        assert registry("members", "import", tmp_path / "nothing.csv").code == USAGE

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "region", "dates"), [("th.csv", "TH", "be-or-iso"), ("tw.csv", "TW", "roc-or-iso")]
    )
    def test_untidy_exports_lose_no_row(self, registry, shared_dir, name, region, dates):
        file = shared_dir / "data" / "members" / name
        ran = registry(
            *("members", "import", file, "--brand", "main", "--region", region),
            *("--dates", dates, "--encoding", "auto", "--json"),
            seconds=300,
        )
        assert ran.code == OK, ran.said[-500:]
        report = ran.answer
        truth = json.loads((file.parent / "truth.json").read_text())[name]
        outcomes = [row["outcome"] for row in truth]
        assert report["accepted"] == outcomes.count("accepted")
        assert report["quarantined"] == outcomes.count("quarantined")
        accounted = report["accepted"] + report["quarantined"] + report["exact_repeats"]
        assert accounted == report["rows"] == len(truth)


class TestTrail:
    def test_an_export_verifies_with_the_key_and_a_changed_byte_does_not(self, registry, tmp_path):
        registry("clients", "add", "crm", "--scope", "members:write")
        key = registry("audit", "key", "--json").answer["vkey"]
        for out in (tmp_path / "log", tmp_path / "log.zip"):
            made = registry("audit", "export", "--out", out, "--json")
            assert made.code == OK
            good = yinyom("audit", "verify", out, "--key", key, "--json")
            assert (good.code, good.answer["ok"]) == (OK, True)
            assert good.answer["size"] == made.answer["events"] > 0
        entries = next(f for f in (tmp_path / "log/tile/entries").rglob("*") if f.is_file())
        entries.write_bytes(entries.read_bytes().replace(b'"outcome":"ok"', b'"outcome":"OK"', 1))
        bad = yinyom("audit", "verify", tmp_path / "log", "--key", key, "--json")
        assert bad.code == FAILED_CHECK
        assert bad.answer["first_bad_index"] == 0
        assert bad.answer["findings"]

    def test_evidence_is_made_of_what_was_asked_for_and_overwrites_nothing(
        self, registry, tmp_path
    ):
        registry("clients", "add", "crm", "--scope", "members:write")
        out = tmp_path / "pack.zip"
        made = registry("audit", "evidence", "--out", out, "--from", "2020-01-01", "--json")
        assert (made.code, made.answer["events"] > 0) == (OK, True)
        with zipfile.ZipFile(out) as archive:
            names = archive.namelist()
        assert {"README.md", "verify.html", "checkpoint", "events.csv"} <= set(names)
        assert sum(name.startswith("proofs/") for name in names) == made.answer["events"]
        assert registry("audit", "evidence", "--out", out, "--json").code == FAILED_CHECK
        found = registry("audit", "search", "--action", "audit.evidence", "--json")
        assert found.answer["events"][-1]["count"] == made.answer["events"]
        assert (found.answer["next_cursor"], found.answer["searched_to"]) == (None, None)
        assert registry("audit", "search", "--action", "081-234-5678").code == USAGE
        none = registry("audit", "evidence", "--out", tmp_path / "x.zip", "--to", "2020-01-01")
        assert none.code == FAILED_CHECK
        assert not (tmp_path / "x.zip").exists()

    def test_usage_is_said_before_anything_is_opened(self, tmp_path):
        assert yinyom("audit", "verify").code == USAGE
        assert yinyom("audit", "verify", tmp_path, "--key", "not a key").code == USAGE
        assert yinyom("audit", "verify", tmp_path / "nothing", "--key", "x").code == USAGE

    def test_an_export_overwrites_nothing(self, registry, tmp_path):
        (tmp_path / "log").mkdir()
        (tmp_path / "log" / "mine").write_text("mine")
        ran = registry("audit", "export", "--out", tmp_path / "log", "--json")
        assert ran.code == FAILED_CHECK
        assert [file.name for file in (tmp_path / "log").iterdir()] == ["mine"]

    def test_a_kept_head_is_never_overwritten(self, registry, tmp_path):
        kept = tmp_path / "head.note"
        assert registry("audit", "checkpoint", "--out", kept, "--json").code == OK
        head = kept.read_text()
        assert registry("audit", "checkpoint", "--out", kept, "--json").code == FAILED_CHECK
        assert kept.read_text() == head
        nowhere = registry("audit", "checkpoint", "--out", tmp_path / "no" / "head.note", "--json")
        assert (nowhere.code, nowhere.answer["status"]) == (FAILED_CHECK, 409)

    def test_nothing_is_due_in_a_young_trail_and_holds_come_and_go(self, registry):
        ran = registry("audit", "prune", "--dry-run", "--json")
        assert (ran.code, ran.answer["bodies"], ran.answer["months"]) == (OK, 0, [])
        assert registry("audit", "prune", "--before", "2026-13").code == USAGE
        made = registry(
            "audit", "hold", "add", "--reason", "litigation", "--to", "2026-12", "--json"
        )
        assert made.code == OK
        listed = registry("audit", "hold", "list", "--json").answer["holds"]
        assert [(one["id"], one["released"]) for one in listed] == [(made.answer["id"], None)]
        assert registry("audit", "hold", "add", "--reason", "because").code == USAGE
        assert registry("audit", "hold", "release", made.answer["id"]).code == OK
        assert registry("audit", "hold", "release", made.answer["id"]).code != OK

    def test_what_waits_for_a_second_person_is_listed(self, registry):
        ran = registry("audit", "reviews", "--json")
        assert (ran.code, ran.answer["reviews"], ran.answer["overdue"]) == (OK, [], 0)
        assert set(ran.answer) == {"reviews", "overdue", "next", "within"}
        assert registry("audit", "reviews", "--after", "yesterday").code == USAGE

    def test_the_log_is_checked_where_it_lies(self, registry):
        ran = registry("audit", "verify", "--db", "--json")
        assert (ran.code, ran.answer["ok"]) == (OK, True)


class TestPoliciesAndKeys:
    def test_the_packaged_pack_is_whole(self, registry):
        assert registry("policies", "check", "--json").answer == {"ok": True, "findings": []}

    def test_a_folder_is_checked_and_named_where_it_is_wrong(self, tmp_path):
        (tmp_path / "fields.toml").write_text('[fields.phone]\nindex = "guess"\n')
        ran = yinyom("policies", "check", tmp_path, "--json")
        assert ran.code == FAILED_CHECK
        assert ran.answer["ok"] is False
        assert any(f["file"] == "fields.toml" for f in ran.answer["findings"])

    def test_status_and_doctor(self, registry):
        status = registry("vault", "status", "--json").answer
        assert (status["members"], status["ring_version"]) == (0, 1)
        for command in (("doctor",), ("vault", "doctor")):
            ran = registry(*command, "--json")
            assert ran.code == OK, ran.said
            states = {check["check"]: check["state"] for check in ran.answer["checks"]}
            assert states["log"] == "ok"
            assert states["recovery_kit"] == "warn"

    def test_settings_are_shown_without_their_secrets(self, tmp_path):
        url = "postgresql://yinyom:hunter2@db.example/registry"
        shown = yinyom("doctor", "--settings", data_dir=tmp_path, YINYOM_DATABASE__URL=url)
        assert shown.code == OK
        assert "hunter2" not in shown.out
        assert "db.example/registry" in shown.said


class TestErase:
    def test_a_member_is_found_and_erased_by_the_staff_id(self, registry, tmp_path):
        member_file(tmp_path, ROWS[:1])
        registry("members", "import", tmp_path / "members.csv", "--region", "TH")
        unknown = registry("members", "erase", "mem_" + "0" * 26, "--yes", "--json")
        assert unknown.code == FAILED_CHECK
        assert unknown.answer["reason"] == "member_unknown"
        wrong = registry("members", "erase", "sub_" + "0" * 26, "--yes", "--json")
        assert wrong.answer["reason"] == "member_unknown"


class TestServerAndCommandLine:
    def test_a_server_that_was_killed_leaves_nothing_in_the_way(self, sqlite_settings):
        with serving(sqlite_settings) as server:
            server.kill()
            assert (sqlite_settings.data_dir / "control.sock").exists()
            ran = server.cli("clients", "list", "--json")
        assert ran.code == OK, ran.said
        assert ran.answer == {"clients": []}

    def test_a_server_that_hangs_is_said_to_be_there(self, sqlite_settings):
        with serving(sqlite_settings) as server:
            (sqlite_settings.data_dir / "control.sock").unlink()
            ran = server.cli("clients", "list", "--json")
        assert ran.code == CONFIGURATION
        assert ran.answer["reason"] == "locked"

    def test_the_socket_is_for_the_owner_only(self, sqlite_settings):
        with serving(sqlite_settings):
            mode = (sqlite_settings.data_dir / "control.sock").stat().st_mode
        assert mode & 0o077 == 0

    def test_a_data_directory_may_lie_deep(self, tmp_path):
        deep = tmp_path.joinpath(*["a-rather-long-folder-name"] * 8) / "data"
        assert yinyom("init", "--yes", data_dir=deep).code == OK
        with serving(Settings(data_dir=deep)) as server:
            assert server.cli("clients", "list").code == OK

    def test_an_import_that_was_killed_is_finished_the_next_time(self, sqlite_settings, tmp_path):
        rows = [[str(n), "สมหญิง", f"081{n:07d}", "", ""] for n in range(2_000)]
        file = member_file(tmp_path, rows)
        command = [*COMMAND, "--data-dir", str(sqlite_settings.data_dir)]
        arguments = ["members", "import", str(file), "--region", "TH", "--json"]
        child = subprocess.Popen(
            [*command, *arguments], env=environment(), cwd="/", stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 30
        wal = sqlite_settings.data_dir / "registry.db-wal"
        while time.monotonic() < deadline and child.poll() is None:
            with contextlib.suppress(FileNotFoundError):
                if wal.stat().st_size > 1_500_000:
                    break
            time.sleep(0.005)
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL, "the import ended before it could be killed"
        ran = yinyom(*arguments, data_dir=sqlite_settings.data_dir)
        report = ran.answer
        assert (report["rows"], report["accepted"]) == (2_000, 2_000)
        status = yinyom("vault", "status", "--json", data_dir=sqlite_settings.data_dir).answer
        assert status["members"] == 2_000
        checked = yinyom("audit", "verify", "--db", "--json", data_dir=sqlite_settings.data_dir)
        assert checked.answer["ok"] is True

    def test_init_twice_makes_no_second_kit(self, tmp_path):
        first = yinyom("init", "--yes", "--json", data_dir=tmp_path / "data").answer
        kit = Path(first["recovery_kit"]).read_bytes()
        second = yinyom("init", "--yes", "--json", data_dir=tmp_path / "data").answer
        assert (first["recovery_kit_is_new"], second["recovery_kit_is_new"]) == (True, False)
        assert Path(first["recovery_kit"]).read_bytes() == kit
        assert first["vkey"] == second["vkey"]


def test_the_command_line_imports_nothing_heavy():
    code = (
        "import sys, service.cli; "
        "heavy = {'sqlalchemy', 'fastapi', 'casbin', 'phonenumbers', 'alembic', 'asyncpg'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        cwd="/",
        check=True,
    )
    assert ended.stdout.strip() == "[]"


def test_dedupe_compares_a_brand_and_prints_counts(registry, tmp_path):
    person = ["สมหญิง", "0812345678", "", "1990-05-12"]
    file = member_file(
        tmp_path, [["1", *person], ["2", *person], ["3", "วิภา", "0899999999", "", ""]]
    )
    imported = registry("members", "import", str(file), "--region", "TH", "--json")
    assert imported.answer["accepted"] == 3
    told = registry("members", "dedupe", "--json")
    assert told.code == OK
    assert (told.answer["members"], told.answer["pairs"], told.answer["open"]) == (3, 1, 1)
    assert "3 members compared" in registry("members", "dedupe").out
