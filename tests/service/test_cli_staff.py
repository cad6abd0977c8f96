"""Staff accounts from the command line, alone and through the server that has the registry."""

import json
import sqlite3

import pytest

from service.cli.main import app
from service.settings import Settings
from tests.support.world import _copy

typer_testing = pytest.importorskip("typer.testing")


@pytest.fixture
def cli(installed_sqlite, tmp_path):
    settings = Settings(data_dir=_copy(installed_sqlite, tmp_path))

    def run(*arguments):
        runner = typer_testing.CliRunner()
        return runner.invoke(app, ["--data-dir", str(settings.data_dir), "staff", *arguments])

    run.settings = settings
    return run


def test_an_account_goes_its_whole_way_without_a_server(cli):
    made = json.loads(cli("add", "kanya", "--role", "dpo", "--person", "p1", "--json").stdout)
    assert made["staff_id"].startswith("stf_")
    assert len(made["password"]) == 20
    listed = json.loads(cli("list", "--json").stdout)["staff"]
    assert [(one["name"], one["role"], one["must_change"]) for one in listed] == [
        ("kanya", "dpo", True)
    ]
    assert "password" not in listed[0]
    assert json.loads(cli("role", "kanya", "--role", "clerk", "--json").stdout)["role"] == "clerk"
    assert json.loads(cli("reset", "kanya", "--json").stdout)["password"] != made["password"]
    assert json.loads(cli("disable", "kanya", "--json").stdout)["state"] == "disabled"


def test_the_password_is_printed_once_and_stored_nowhere(cli):
    made = json.loads(cli("add", "kanya", "--role", "dpo", "--json").stdout)
    with sqlite3.connect(cli.settings.database_file) as file:
        everything = "\n".join(file.iterdump())
    assert made["password"] not in everything


def test_an_unknown_role_and_a_taken_name_are_told_apart(cli):
    assert cli("add", "kanya", "--role", "boss", "--json").exit_code == 2
    assert cli("add", "kanya", "--role", "dpo", "--json").exit_code == 0
    taken = cli("add", "kanya", "--role", "dpo", "--json")
    assert (taken.exit_code, json.loads(taken.stdout)["reason"]) == (1, "staff_exists")


def test_the_list_is_a_table_for_people(cli):
    assert "No staff account yet" in cli("list").stdout
    cli("add", "kanya", "--role", "dpo")
    assert "kanya" in cli("list").stdout


def test_a_served_registry_takes_the_same_commands(sqlite_registry):
    data_dir = str(sqlite_registry.server.settings.data_dir)
    runner = typer_testing.CliRunner()
    arguments = ["--data-dir", data_dir, "staff", "add", "anan", "--role", "auditor", "--json"]
    made = runner.invoke(app, arguments)
    assert made.exit_code == 0, made.output
    listed = runner.invoke(app, ["--data-dir", data_dir, "staff", "list", "--json"])
    assert [one["name"] for one in json.loads(listed.stdout)["staff"]] == ["anan"]
