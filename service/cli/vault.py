"""Commands of the vault: what keys there are, and whether they are well."""

import sys
from typing import Annotated

import typer

from service.cli.shell import DONE, FAILED_CHECK, WRONG, Json, ask, say, show, table
from service.cli.vault_lint import vault_lint

vault_app = typer.Typer(help="Keys.", no_args_is_help=True)
vault_app.command("lint")(vault_lint)


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


@vault_app.command("verify")
def vault_verify(
    after: Annotated[
        str, typer.Option(help="Go on after this member, where an earlier run was ended.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Hold each member's sealed row against the trail; names whose was changed behind it.

    Opens no cell. Exit 1 when a row is older than the trail, changed, or not on record.
    """
    answer = ask("vault.verify", {"after": after}, as_json=as_json)
    rows = [
        [n["member"], n["finding"], str(n["version"]), str(n["recorded_version"]), str(n["event"])]
        for n in answer["named"]
    ]

    def text() -> None:
        say(
            f"{answer['members']} rows held against the trail, {answer['deviating']} deviate",
            DONE if not answer["deviating"] else WRONG,
        )
        if answer["erased"]:
            say(f"  {answer['erased']} erased members have no key left and were skipped")
        if rows:
            columns = ["Member", "Finding", "Version", "On record", "Event"]
            table("Changed behind the trail", columns, rows, "")
            say("  Put the rows back from the newest backup; find out who can write here.")
        if not answer["log_ok"]:
            say("the log itself is damaged: run `yinyom audit verify-db`", WRONG)

    show(answer, as_json=as_json, text=text)
    if not answer["ok"]:
        sys.exit(FAILED_CHECK)


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
