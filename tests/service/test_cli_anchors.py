"""The anchors from the command line: told, asked, and what to do when they know more."""

# ruff: noqa: F811 (fixtures are asked for by name)

import json
import shutil

from tests.support.serving import yinyom
from tests.support.world import installed_sqlite, sqlite_settings  # noqa: F401 (fixtures)


def test_from_a_database_put_back_to_the_log_under_another_name(sqlite_settings, tmp_path):
    data_dir, anchors = sqlite_settings.data_dir, tmp_path / "anchors"
    anchors.mkdir()

    def run(*arguments, **more):
        setting = json.dumps([f"folder:{anchors}"])
        return yinyom(*arguments, data_dir=data_dir, YINYOM_AUDIT__ANCHORS=setting, **more)

    old = tmp_path / "old"
    shutil.copytree(data_dir, old)
    assert run("clients", "add", "crm", "--scope", "purpose:membership").code == 0
    told = run("audit", "anchors", "--json")
    assert told.code == 0, told.said
    (row,) = told.answer["anchors"]
    assert (row["behind"], row["last_answer"]) == (0, "held")
    assert str(row["size"]) in run("audit", "anchors").said
    refused = run("audit", "new-origin", "--yes")
    assert refused.code != 0
    assert "needs no other name" in refused.said

    shutil.rmtree(data_dir)
    shutil.copytree(old, data_dir)
    doctor = run("doctor")
    assert doctor.code == 1
    assert "log-older-than-anchor" in doctor.said
    denied = run("clients", "add", "till", "--scope", "purpose:membership")
    assert denied.code != 0
    assert "older than its newest anchor" in denied.said
    assert "new-origin" in denied.said
    assert run("audit", "anchors", "--json").code == 1
    assert run("audit", "verify", "--db").code == 1
    only_said = run("audit", "new-origin", "--json")
    assert (only_said.code, only_said.answer["done"]) == (1, False)
    assert run("audit", "new-origin", stdin="n\n").code == 1
    begun = run("audit", "new-origin", stdin="y\n")
    assert begun.code == 0, begun.said
    assert f"{only_said.answer['old']}/2" in begun.said
    assert run("doctor").code == 0
    bundle = tmp_path / "ended"
    exported = run("audit", "export-ended", only_said.answer["old"], "--out", bundle, "--json")
    assert exported.answer["events"] == only_said.answer["size"]
    verified = run("audit", "verify", bundle, "--key", exported.answer["vkey"])
    assert verified.code == 0, verified.said
    assert run("clients", "add", "till", "--scope", "purpose:membership").code == 0
    assert run("audit", "verify", "--db").code == 0


def test_a_new_key_for_the_log_from_the_command_line(sqlite_settings, tmp_path):
    def run(*arguments, **more):
        return yinyom(*arguments, data_dir=sqlite_settings.data_dir, **more)

    old = run("audit", "key", "--json").answer["vkey"]
    told = run("audit", "rotate-key", "--json")
    assert (told.code, told.answer["done"], told.answer["old_vkey"]) == (1, False, old)
    assert run("audit", "rotate-key", stdin="n\n").code == 1
    assert run("audit", "key", "--json").answer["vkey"] == old
    assert "its next one is made" in run("vault", "doctor").said
    done = run("audit", "rotate-key", stdin="y\n")
    assert done.code == 0, done.said
    assert told.answer["vkey"] in done.said
    assert run("audit", "key", "--json").answer["vkey"] == told.answer["vkey"]
    out = tmp_path / "log.zip"
    assert run("audit", "export", "--out", out).code == 0
    by_old = run("audit", "verify", out, "--key", old)
    assert by_old.code == 0, by_old.said
    assert "key was replaced" in by_old.said
    assert run("audit", "verify", out, "--key", told.answer["vkey"]).code == 0
    assert run("audit", "verify", "--db").code == 0
    assert run("audit", "rotate-key", "--operator", "stf_" + "0" * 26, "--yes").code != 0
