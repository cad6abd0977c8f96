"""Commands of the vault: what keys there are, and whether they are well."""

import sys
from typing import Annotated

import typer

from service.cli.recovery_kit import vault_recovery_kit
from service.cli.shell import DONE, FAILED_CHECK, WRONG, Json, ask, say, show, table
from service.cli.vault_lint import vault_lint

vault_app = typer.Typer(help="Keys.", no_args_is_help=True)
vault_app.command("lint")(vault_lint)
vault_app.command("recovery-kit")(vault_recovery_kit)


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
        for root in answer["ring_roots"]:
            say(f"ring root v{root['version']}: {root['bucket_keys']} bucket keys")
        versions = (f"{i['kind']} v{i['version']} ({i['state']})" for i in answer["indexes"])
        say(f"indexes: {', '.join(versions)}")
        say(f"{answer['keys_under_old_versions']} member keys under a bucket key being replaced")
        say(
            f"{answer['destroyed_since_seal']} keys destroyed in "
            f"{answer['buckets_touched_since_seal']} buckets since the last seal"
        )
        for kind in ("seal", "rewrap", "ring", "kms"):
            say(f"last {kind}: {answer['last'].get(kind, 'never')}")
        for kind in answer["under_way"]:
            say(f"  a {kind} was begun and not ended: run it again, it goes on from there")

    show(answer, as_json=as_json, text=text)


@vault_app.command("rotate")
def vault_rotate(
    kms: Annotated[bool, typer.Option("--kms", help="A new root at the KMS.")] = False,
    ring: Annotated[bool, typer.Option("--ring", help="A new ring root.")] = False,
    members: Annotated[
        bool, typer.Option("--members", help="New bucket keys, as `rewrap` does.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Replace keys while everything goes on; no cell is rewritten. Give one of the options."""
    if [kms, ring, members].count(True) != 1:
        raise typer.BadParameter("give one of --kms, --ring and --members")
    if members:
        vault_rewrap(as_json=as_json)
        return
    answer = ask("vault.rotate_kms" if kms else "vault.rotate_ring", {}, as_json=as_json)

    def text() -> None:
        if kms:
            say(f"the key ring is under KMS root {answer['kms_version']}", DONE)
            return
        dropped = ", ".join(f"v{version}" for version in answer["dropped"])
        say(f"ring root v{answer['ring_version']} in {answer['seconds']} s", DONE)
        say(f"  ○ dropped {dropped or 'nothing'}")

    show(answer, as_json=as_json, text=text)


@vault_app.command("rewrap")
def vault_rewrap(as_json: Json = False) -> None:
    """Give every bucket a new key and move every member key to it; opens no cell."""
    answer = ask("vault.rewrap", {}, as_json=as_json)
    line = f"{answer['keys']} member keys in {answer['buckets']} buckets, {answer['seconds']} s"
    show(answer, as_json=as_json, text=lambda: say(line, DONE))


@vault_app.command("seal")
def vault_seal(as_json: Json = False) -> None:
    """Make what was erased unreadable in every copy: logs, replicas and dumps as well."""
    answer = ask("vault.seal", {}, as_json=as_json)

    def text() -> None:
        if not answer["sealed"]:
            say("nothing was destroyed since the last seal", DONE)
            return
        roots = ", ".join(f"v{version}" for version in answer["destroyed_roots"])
        say(f"{answer['erasures']} destroyed keys sealed in {answer['seconds']} s", DONE)
        say(f"  ○ buckets with a new key {answer['buckets']}")
        say(f"  ○ ring roots destroyed   {roots}; now v{answer['ring_version']}")

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
            say("the log itself is damaged: run `yinyom audit verify --db`", WRONG)

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
