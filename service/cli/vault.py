"""Commands of the vault: what keys there are, and whether they are well."""

import sys
from typing import Annotated

import typer

from service.cli.shell import DONE, FAILED_CHECK, Json, ask, say, show, table

vault_app = typer.Typer(help="Keys.", no_args_is_help=True)


@vault_app.command("status")
def vault_status(as_json: Json = False) -> None:
    """Count keys by kind and version."""
    answer = ask("vault.status", {}, as_json=as_json)

    def text() -> None:
        say(f"tenant {answer['tenant']}, key ring {answer['key_ring']} v{answer['ring_version']}")
        say(f"{answer['members']} members, {answer['bucket_keys']} bucket keys")
        table(
            "Keys",
            ["Kind", "Version", "Keys"],
            [[k["kind"], str(k["version"]), str(k["count"])] for k in answer["keys"]],
            "No key yet.",
        )

    show(answer, as_json=as_json, text=text)


@vault_app.command("doctor")
def vault_doctor(as_json: Json = False) -> None:
    """Check keys, recovery kit and everything else."""
    show_health(as_json=as_json)


@vault_app.command("reindex")
def vault_reindex(
    kind: Annotated[
        list[str] | None,
        typer.Option(help="phone, email, line_uid, national_id or card_no; all without it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Give blind indexes a new key and their newest normal form while the registry is used."""
    answer = ask("vault.reindex", {"kinds": kind or []}, as_json=as_json)

    def text() -> None:
        kinds = ", ".join(answer["kinds"])
        say(f"{kinds}: version {answer['version']} in {answer['seconds']} s", DONE)
        say(f"  ○ members looked at {answer['members']}")
        if answer["resumed"]:
            say("  An earlier re-index was cut short; this ended it. Run again for another.")

    show(answer, as_json=as_json, text=text)


def show_health(*, as_json: bool) -> None:
    """Show what `doctor` found; ends the process with code 1 when something is bad."""
    answer = ask("doctor", {}, as_json=as_json)
    marks = {"ok": "✓ ok", "warn": "! look", "bad": "✗ bad"}
    rows = [[c["check"], marks[c["state"]], c["says"]] for c in answer["checks"]]
    show(
        answer,
        as_json=as_json,
        text=lambda: table("Checked", ["Part", "State", "Says"], rows, "nothing to check"),
    )
    if not answer["ok"]:
        sys.exit(FAILED_CHECK)
