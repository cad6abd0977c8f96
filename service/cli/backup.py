"""Commands of backups: agree on a store, make, list, verify, plan, restore, drill, status."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli.shell import (
    DONE,
    WRONG,
    Json,
    ask,
    fail,
    progress_bar,
    run,
    say,
    settings_here,
    show,
    table,
)

backup_app = typer.Typer(
    help="Backups that this machine cannot read, and restores that forget no right.",
    no_args_is_help=True,
)
Store = Annotated[
    str | None, typer.Option(help="folder:PATH or s3://BUCKET/PREFIX; the registry's by default.")
]
Kit = Annotated[
    Path | None, typer.Option(help="The recovery kit; the one in the data directory by default.")
]
Signer = Annotated[
    str | None, typer.Option(help="The key that signs the backups, as `backup init` printed it.")
]
Generation = Annotated[int | None, typer.Option(help="A generation; the newest by default.")]
Offline = Callable[..., Awaitable[dict[str, Any]]]
_DRILL = 3


@backup_app.command("init")
def backup_init(
    store: Annotated[str, typer.Option(help="folder:PATH or s3://BUCKET/PREFIX.")],
    recipient: Annotated[
        list[str] | None, typer.Option(help="An age1… public key; repeat for more.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Agree on where backups go and whose key opens them; the recovery kit's by default."""
    if store.startswith("folder:"):
        store = f"folder:{Path(store[7:]).expanduser().absolute()}"
    arguments = {"store": store, "recipients": recipient or []}
    answer = ask("backup.init", arguments, as_json=as_json)

    def text() -> None:
        say(f"{'taken up' if answer['taken_up'] else 'begun'}: {answer['store']}", DONE)
        for one in answer["recipients"]:
            say(f"  opened by   {one}")
        say(f"  signed by   {answer['signer']}")
        say("  Keep the line above with the recovery kit: a restore should be told it.")

    show(answer, as_json=as_json, text=text)


@backup_app.command("create")
def backup_create(as_json: Json = False) -> None:
    """Make a backup now."""
    answer = ask("backup.create", {}, as_json=as_json)

    def text() -> None:
        kilobytes = answer["written_bytes"] // 1024
        say(f"generation {answer['generation']}: {answer['rows']} rows", DONE)
        say(
            f"  {answer['written_objects']} new objects, {kilobytes} KiB, {answer['seconds']:.1f} s"
        )

    show(answer, as_json=as_json, text=text)


@backup_app.command("list")
def backup_list(store: Store = None, signer: Signer = None, as_json: Json = False) -> None:
    """List the backups of a store."""
    from service.restores import list_backups

    at = _where(store, signer, None, as_json=as_json)
    settings = settings_here(as_json=as_json)
    answer = run(lambda: list_backups(settings, at.store, at.kit, at.signer), as_json=as_json)
    rows = [
        [str(b["generation"]), b["created"], str(b["rows"]), str(b["stored_bytes"]), b["engine"]]
        for b in answer["backups"]
    ]
    columns = ["Generation", "Made", "Rows", "Bytes", "Engine"]

    def text() -> None:
        table(at.store, columns, rows, "No backup yet.")
        if not answer["trusted"]:
            say("nobody said whose signature this store must bear: believe none of it", WRONG)

    show(answer, as_json=as_json, text=text)


@backup_app.command("verify")
def backup_verify(
    level: Annotated[
        int, typer.Option(help="0 presence, 1 hashes, 2 contents, 3 drill.", min=0, max=3)
    ] = 1,
    store: Store = None,
    kit: Kit = None,
    signer: Signer = None,
    generation: Generation = None,
    as_json: Json = False,
) -> None:
    """Verify a backup; levels 0 and 1 need no secret, 2 and 3 need the recovery kit."""
    if level == _DRILL:
        _drill(store, kit, signer, as_json=as_json)
        return
    from service.restores import verify_backup

    at = _where(store, signer, kit, as_json=as_json)
    began = time.monotonic()
    answer = _offline(
        "verify",
        verify_backup,
        at,
        as_json=as_json,
        level=level,
        generation=generation,
    )
    if store is None and level > 0:
        _note(answer["generation"], level, time.monotonic() - began, as_json=as_json)
    show(
        answer,
        as_json=as_json,
        text=lambda: say(
            f"generation {answer['generation']} holds at level {level}: "
            f"{answer['objects']} objects",
            DONE,
        ),
    )


@backup_app.command("plan")
def backup_plan(
    store: Store = None,
    kit: Kit = None,
    signer: Signer = None,
    generation: Generation = None,
    allow_older: Annotated[bool, typer.Option("--allow-older", help="Mean it.")] = False,
    as_json: Json = False,
) -> None:
    """Say what a restore would do; changes nothing anywhere."""
    from service.restores import plan_restore

    at = _where(store, signer, kit, as_json=as_json)
    answer = _offline(
        "plan",
        plan_restore,
        at,
        as_json=as_json,
        generation=generation,
        allow_older=allow_older,
    )
    rows = [[key, str(value)] for key, value in answer.items()]
    show(
        answer,
        as_json=as_json,
        text=lambda: table("A restore would", ["What", "How much"], rows, ""),
    )


@backup_app.command("restore")
def backup_restore(
    into: Annotated[Path, typer.Option(help="A folder that does not exist yet, or is empty.")],
    database_url: Annotated[
        str, typer.Option(help="An empty PostgreSQL database; SQLite without it.")
    ] = "",
    store: Store = None,
    kit: Kit = None,
    signer: Signer = None,
    generation: Generation = None,
    allow_older: Annotated[bool, typer.Option("--allow-older", help="Mean it.")] = False,
    as_json: Json = False,
) -> None:
    """Restore into an empty place: whole, with every right replayed, or not at all."""
    from service.restores import restore_backup

    at = _where(store, signer, kit, as_json=as_json)
    answer = _offline(
        "restore",
        restore_backup,
        at,
        as_json=as_json,
        into=into.expanduser().absolute(),
        database_url=database_url,
        generation=generation,
        allow_older=allow_older,
    )

    def text() -> None:
        say(f"generation {answer['generation']} of {answer['created']} in {into}", DONE)
        say(f"  {answer['rows']} rows, {answer['findable']} members findable")
        say(f"  erased again {answer['erased_again']}, replayed {answer['replayed'] or 'nothing'}")
        for kind, count in answer["to_look_at"].items():
            say(f"  not replayed: {count} of {kind}")
        if answer["log_refused"]:
            say(f"the log may not be signed: {answer['log_refused']}", WRONG)
            say(f"  its anchors know more; yinyom --data-dir {into} audit new-origin")
        if answer["policy_differs"]:
            say("the policy pack is another one: look, then `yinyom policies activate`", WRONG)
        say(f"  next: yinyom --data-dir {into} doctor, then `backup init` again")

    show(answer, as_json=as_json, text=text)


@backup_app.command("drill")
def backup_drill(
    store: Store = None, kit: Kit = None, signer: Signer = None, as_json: Json = False
) -> None:
    """Restore the newest backup into a throw-away place, check it, and say how long it took."""
    _drill(store, kit, signer, as_json=as_json)


@backup_app.command("status")
def backup_status(as_json: Json = False) -> None:
    """Say how backups stand, and when an erasure asked for now is final in all of them."""
    answer = ask("backup.status", {}, as_json=as_json)

    def text() -> None:
        say(answer["says"], DONE if answer["state"] == "ok" else WRONG)
        for key in ("store", "last_created", "last_verified", "last_drill", "drill_seconds"):
            if answer.get(key) is not None:
                say(f"  {key.replace('_', ' '):<14} {answer[key]}")
        if answer.get("erasure_final_on"):
            day = answer["erasure_final_on"]
            say(f"  an erasure requested now is final in all backups on {day}")

    show(answer, as_json=as_json, text=text)


# --- what they share ------------------------------------------------------------------


def _drill(store: str | None, kit: Path | None, signer: str | None, *, as_json: bool) -> None:
    from service.restores import drill_backup

    at = _where(store, signer, kit, as_json=as_json)
    answer = _offline("drill", drill_backup, at, as_json=as_json)
    if store is None:
        _note(answer["generation"], _DRILL, answer["seconds"], as_json=as_json)
    show(
        answer,
        as_json=as_json,
        text=lambda: say(
            f"generation {answer['generation']} restored and checked in {answer['seconds']} s: "
            f"{answer['rows']} rows, {answer['erased_again']} erased again",
            DONE,
        ),
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """A store, what opens it, whose signature it bears, and its newest known generation."""

    store: str
    signer: str | None
    kit: Path | None
    known: int


def _offline(name: str, act: Offline, at: _Place, *, as_json: bool, **options: Any) -> Any:
    """Run what needs no registry, with a bar on a terminal."""
    settings = settings_here(as_json=as_json)
    options |= {"kit": at.kit, "signer": at.signer, "known": at.known}
    with progress_bar(f"backup {name}", as_json=as_json) as progress:
        return run(lambda: act(settings, at.store, progress=progress, **options), as_json=as_json)


def _where(store: str | None, signer: str | None, kit: Path | None, *, as_json: bool) -> _Place:
    """Give store, signing key and kit: as said, or as the registry here knows them."""
    if kit is None:
        from service.files import RECOVERY_KIT_FILE

        here = settings_here(as_json=as_json).data_dir / RECOVERY_KIT_FILE
        kit = here if here.exists() else None
    if store is not None:
        return _Place(store, signer, kit, 0)
    answer = ask("backup.status", {}, as_json=as_json)
    if not answer["configured"]:
        from backup import StoreError

        fail(StoreError("no backup store is configured"), as_json=as_json)
    return _Place(answer["store"], signer or answer["signer"], kit, answer["generation"] or 0)


def _note(generation: int, level: int, seconds: float, *, as_json: bool) -> None:
    arguments = {"generation": generation, "level": level, "seconds": seconds}
    ask("backup.note", arguments, as_json=as_json)
