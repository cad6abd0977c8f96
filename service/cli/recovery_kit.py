"""`yinyom vault recovery-kit`: who opens ring backups, and whether they really do."""

from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli.shell import (
    DONE,
    WRONG,
    Json,
    ask,
    progress_bar,
    run,
    say,
    settings_here,
    show,
    table,
)

Check = Annotated[
    Path | None, typer.Option("--check", help="Open the newest ring backup with this kit.")
]
New = Annotated[Path | None, typer.Option("--new", help="Make one more kit, in this file.")]
Add = Annotated[
    list[str] | None,
    typer.Option("--add-recipient", help="An age1… public key that opens them too; repeatable."),
]
Drop = Annotated[
    list[str] | None,
    typer.Option("--drop-recipient", help="One that opens the next ones no more; repeatable."),
]
Recover = Annotated[
    Path | None,
    typer.Option("--recover", help="The KMS root is lost: bring members back with this kit."),
]
RingBackup = Annotated[
    Path | None, typer.Option("--ring-backup", help="A folder ring-backup/ from elsewhere.")
]
AcceptLoss = Annotated[
    bool, typer.Option("--accept-loss", help="Go on without members who are in no ring backup.")
]
Refresh = Annotated[bool, typer.Option("--refresh", help="Make a whole ring backup now.")]


def vault_recovery_kit(
    check: Check = None,
    new: New = None,
    add_recipient: Add = None,
    drop_recipient: Drop = None,
    refresh: Refresh = False,
    recover: Recover = None,
    ring_backup: RingBackup = None,
    accept_loss: AcceptLoss = False,
    as_json: Json = False,
) -> None:
    """Show who opens ring backups; try a kit, make another, add somebody, or recover with one."""
    if recover is not None:
        _recover(recover, ring_backup, accept_loss=accept_loss, as_json=as_json)
    elif check is not None:
        _check(check, as_json=as_json)
    elif new or add_recipient or drop_recipient:
        arguments = {
            "new": None if new is None else str(new.expanduser().absolute()),
            "add": add_recipient or [],
            "drop": drop_recipient or [],
        }
        _show(ask("vault.kit_issue", arguments, as_json=as_json), as_json=as_json)
        if new is not None and not as_json:
            say(f"{new.name} is the kit: shown nowhere else; move it off this machine", DONE)
    else:
        command = "vault.kit_refresh" if refresh else "vault.kits"
        _show(ask(command, {}, as_json=as_json), as_json=as_json)


def _recover(kit: Path, ring_backup: Path | None, *, accept_loss: bool, as_json: bool) -> None:
    """Run the recovery here: no server can have this registry open."""
    from service.recovering import recover

    settings = settings_here(as_json=as_json)
    with progress_bar("recover", as_json=as_json) as progress:
        answer = run(
            lambda: recover(
                settings,
                kit.expanduser().absolute(),
                ring_folder_at=ring_backup,
                accept_loss=accept_loss,
                progress=progress,
            ),
            as_json=as_json,
        )

    def text() -> None:
        say(f"{answer['keys']} keys are back, under ring root {answer['ring_version']}", DONE)
        if answer["lost"]:
            say(f"{answer['lost']} keys of {answer['members_lost']} members are lost", WRONG)
        if answer["erased"]:
            say(f"  {answer['erased']} keys of erased members were not brought back")
        if answer["webhooks"]:
            say(f"  {answer['webhooks']} webhooks lost their keys: apps register theirs again")
        say("  next: `yinyom vault doctor`, then `yinyom vault verify`, then start the server")

    show(answer, as_json=as_json, text=text)


def _check(kit: Path, *, as_json: bool) -> None:
    answer = ask("vault.kit_check", {"kit": str(kit.expanduser().absolute())}, as_json=as_json)

    def text() -> None:
        say(f"{kit.name} opens ring backup {answer['ring_backup']} of {answer['made']}", DONE)
        say(f"  {answer['keys']} keys, {answer['canaries']} of them compared with the living ones")
        say(f"  {answer['waiting']} members are in no ring backup yet")

    show(answer, as_json=as_json, text=text)


def _show(answer: dict[str, Any], *, as_json: bool) -> None:
    rows = [[k["recipient"], k["added"], k["proven"] or "never"] for k in answer["kits"]]

    def text() -> None:
        table("Recovery kits", ["Public half", "Since", "Last tried"], rows, "No kit is known.")
        if answer["ring_backup"] is None:
            say("there is no ring backup: run `yinyom init`", WRONG)
            return
        say(f"ring backup {answer['ring_backup']} of {answer['made']}, {answer['keys']} keys")
        say(f"  {answer['waiting']} members are in no ring backup yet")

    show(answer, as_json=as_json, text=text)
