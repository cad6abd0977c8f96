"""The command line in the hands of somebody who mistypes: what, where, what is safe, what next."""

import json
import subprocess
import sys

import pytest

from tests.support.serving import environment, serving, yinyom

OK, FAILED_CHECK, USAGE, CONFIGURATION = 0, 1, 2, 3
TORN = "\udcff"  # how Python hands on a byte that is no character


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["clients", "nope"],
        ["clients", "add"],
        ["clients", "add", "crm"],
        ["clients", "list", "--nope"],
        ["members", "import", "/nowhere.csv"],
        ["members", "import", "/"],
        ["audit", "verify"],
        ["audit", "verify", "/", "--key", "nope"],
        ["policies", "check", "/nowhere"],
        ["serve", "--port", "99999"],
        ["serve", "--port", "-1"],
        ["serve", "--workers", "0"],
        ["clients", "revoke", TORN],
        ["clients", "add", f"a{TORN}", "--scope", "members:write"],
    ],
)
def test_a_mistyped_command_ends_with_2_in_words_or_as_a_problem(tmp_path, arguments):
    said = yinyom(*arguments, data_dir=tmp_path / "none", seconds=30)
    assert said.code == USAGE
    assert said.out == ""
    assert "Traceback" not in said.err
    assert "--help" in said.err
    asked = yinyom(*arguments, "--json", data_dir=tmp_path / "none", seconds=30)
    assert asked.code == USAGE
    assert asked.err == ""
    problem = asked.answer
    assert problem["type"].endswith("/invalid-request")
    assert problem["reason"] == "usage"
    assert problem["detail"]
    assert "--help" in problem["next"]
    assert not (tmp_path / "none").exists(), "nothing was done"


@pytest.mark.parametrize(
    "arguments",
    [
        ["clients", "list"],
        ["members", "erase", "mem_x", "--yes"],
        ["audit", "verify", "--db"],
        ["vault", "doctor"],
        ["policies", "activate"],
    ],
)
def test_every_command_says_that_there_is_no_registry_and_how_to_make_one(tmp_path, arguments):
    asked = yinyom(*arguments, "--json", data_dir=tmp_path / "none")
    assert asked.code == CONFIGURATION
    assert asked.err == ""
    problem = asked.answer
    assert (problem["status"], bool(problem["detail"]), bool(problem["next"])) == (503, True, True)
    assert not (tmp_path / "none").exists()


def test_a_brand_that_no_request_could_name_is_refused(sqlite_settings, tmp_path):
    file = tmp_path / "members.csv"
    file.write_text("phone\n081-234-5678\n")
    added = ["clients", "add", "crm", "--scope", "members:write"]
    imported = ["members", "import", file]
    with serving(sqlite_settings) as server:
        for brand in ("Main", "main street", "-main", "ร้าน", "a" * 42, "main\n"):
            ran = server.cli(*added, f"--brand={brand}", "--json")
            assert (ran.code, ran.answer["errors"][0]["code"]) == (USAGE, "brand")
        ran = server.cli(*imported, "--brand=Main", "--json")
        assert (ran.code, ran.answer["errors"][0]["code"]) == (USAGE, "brand")
        assert server.cli(*added, "--brand=", "--json").code == OK, "the installation's own"


@pytest.mark.slow
def test_a_command_that_is_refused_by_a_server_says_the_same_as_without_one(sqlite_settings):
    data_dir = sqlite_settings.data_dir
    mistakes = [
        ["clients", "add", "x", "--scope", "purpose:fun"],
        ["clients", "add", "\x07", "--scope", "members:write"],
        ["clients", "revoke", "nobody"],
        ["members", "find", "sub_x", "--client", "nobody"],
        ["members", "erase", "mem_x", "--yes"],
        ["audit", "export", "--out", "/nowhere/log"],
    ]
    alone = [yinyom(*one, "--json", data_dir=data_dir) for one in mistakes]
    with serving(sqlite_settings) as server:
        beside = [server.cli(*one, "--json") for one in mistakes]
    assert [(ran.code, ran.answer) for ran in alone] == [(ran.code, ran.answer) for ran in beside]
    assert {ran.code for ran in alone} == {FAILED_CHECK, USAGE}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("", ""),
        ("postgresql://yinyom:hunter2@db.example:5432/registry", "postgresql://***@db.example:5432/registry"),
        ("postgresql+asyncpg://hunter2@db.example/registry", "postgresql+asyncpg://***@db.example/registry"),
        ("postgresql://db.example/registry", "postgresql://db.example/registry"),
        ("postgresql://yinyom:hunter2@[::1]:5432/registry", "postgresql://***@[::1]:5432/registry"),
        ("postgresql://yinyom:hun/ter2@db.example/registry", "***"),
        ("postgresql://yinyom:hunter2@x@db.example/registry", "***"),
        ("postgresql://yinyom:a?hunter2@db.example/registry", "***"),
        ("postgresql://db.example/registry?user=y&password=hunter2", "***"),
        ("hunter2", "***"),
    ],
)  # fmt: skip
def test_the_settings_in_force_are_shown_without_a_password(tmp_path, url, shown):
    ran = yinyom("doctor", "--settings", "--json", data_dir=tmp_path, YINYOM_DATABASE__URL=url)
    assert ran.code == OK
    assert ran.answer["database.url"] == shown
    assert "hunter2" not in ran.out


def test_a_secret_may_come_from_a_file_and_is_not_shown_either(tmp_path):
    secret = tmp_path / "url"
    secret.write_text("postgresql://yinyom:hunter2@db.example/registry\n")
    ran = yinyom("doctor", "--settings", data_dir=tmp_path, YINYOM_DATABASE__URL_FILE=str(secret))
    assert "***@db.example/registry" in ran.said
    assert "hunter2" not in ran.out


@pytest.mark.parametrize("name", ["100%41", "what? #1", "[bold]it's:ข้อมูล"])
def test_a_data_directory_may_have_any_name(tmp_path, name):
    data_dir = tmp_path / name
    made = yinyom("init", "--yes", data_dir=data_dir)
    assert made.code == OK, made.said
    assert str(data_dir) in made.out.replace("\n", "")
    assert yinyom("clients", "list", data_dir=data_dir).code == OK
    assert [file.name for file in tmp_path.iterdir()] == [name], "and no stranger beside it"


def test_an_error_that_nobody_meant_is_named_by_its_place_and_never_by_its_text():
    code = (
        "import sys, service.cli\n"
        "def app(**_): raise ValueError('081-234-5678 is no number')\n"
        "main = sys.modules['service.cli.main']\n"
        "main.app = app\n"
        "sys.argv = ['yinyom', *sys.argv[1:]]\n"
        "main.main()\n"
    )
    for arguments in ([], ["--json"]):
        ended = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=environment(),
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        said = ended.stdout + ended.stderr
        assert ended.returncode == FAILED_CHECK
        assert "ValueError in __main__:2" in said
        assert "081-234-5678" not in said
        assert "Traceback" not in said
    assert json.loads(ended.stdout)["type"].endswith("/internal")


def test_help_names_the_command_as_it_is_typed():
    assert yinyom("clients", "add", "--help").out.startswith("Usage: yinyom clients add")


@pytest.mark.slow
def test_an_answer_for_programs_is_one_line_and_nothing_beside_it(sqlite_settings, tmp_path):
    data_dir = sqlite_settings.data_dir
    for arguments in (
        ["init", "--yes"],
        ["clients", "add", "crm", "--scope", "members:write"],
        ["clients", "list"],
        ["audit", "key"],
        ["audit", "export", "--out", tmp_path / "log"],
        ["audit", "verify", "--db"],
        ["policies", "check"],
        ["policies", "activate"],
        ["vault", "status"],
        ["vault", "doctor"],
        ["doctor"],
        ["doctor", "--settings"],
    ):
        ran = yinyom(*arguments, "--json", data_dir=data_dir)
        assert (ran.code, ran.err) == (OK, ""), arguments
        assert isinstance(ran.answer, dict)
