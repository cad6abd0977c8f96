"""`yinyom vault reindex` and `vault lint`: with a server and without, in JSON and with exit codes."""

import pytest

from tests.support.serving import serving, settings_environment, yinyom

OK, FAILED_CHECK, USAGE = 0, 1, 2


@pytest.fixture(params=["alone", "beside a server"])
def registry(request, sqlite_settings):
    """The command line on a registry that nobody has open, and on one that a server has open."""
    if request.param == "alone":
        env = settings_environment(sqlite_settings)

        def run(*arguments):
            return yinyom(*arguments, data_dir=sqlite_settings.data_dir, **env)

        yield run
    else:
        with serving(sqlite_settings) as server:
            yield server.cli


def answer_of(run, code=OK):
    assert run.code == code, run.err
    return run.answer


@pytest.mark.slow
def test_a_re_index_and_what_the_indexes_leak(registry, tmp_path):
    done = answer_of(registry("vault", "reindex", "--kind", "phone", "--json"))
    assert (done["kinds"], done["version"], done["resumed"]) == (["phone"], 2, False)
    assert answer_of(registry("vault", "reindex", "--json"))["version"] == 3

    status = answer_of(registry("vault", "status", "--json"))
    assert {(one["version"], one["state"]) for one in status["indexes"]} == {(3, "live")}
    assert "reindex" not in status["under_way"]
    assert "phone v3 (live)" in registry("vault", "status").said

    assert answer_of(registry("vault", "lint", "--json"))["ok"] is True
    pack = tmp_path / "pack"
    pack.mkdir()
    (pack / "fields.toml").write_text('[fields.birth_date]\ncoarse_index = "month"\n')
    leaky = answer_of(registry("vault", "lint", f"--pack={pack}", "--json"), FAILED_CHECK)
    assert [finding["field"] for finding in leaky["findings"]] == ["birth_date"]

    told = registry("vault", "lint")
    assert told.code == OK
    assert "phone v3" in told.said
    refused = registry("vault", "reindex", "--kind", "gender")
    assert refused.code not in {OK, FAILED_CHECK}
