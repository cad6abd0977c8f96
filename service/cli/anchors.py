"""Commands that change how the log is vouched for: anchors, another name, another key."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli.audit import audit_app
from service.cli.shell import DONE, FAILED_CHECK, WRONG, Json, ask, say, show, table

__all__ = ["audit_app"]
_Operator = Annotated[
    str | None, typer.Option(help="The stf_ id of who decides it; it stands in the event.")
]
_Yes = Annotated[bool, typer.Option("--yes", help="Ask nothing.")]


@audit_app.command("anchors")
def audit_anchors(as_json: Json = False) -> None:
    """Tell the log's anchors of its newest head now, and show what each holds."""
    answer = ask("audit.anchors", {}, as_json=as_json)

    def text() -> None:
        rows = [
            [
                row["sink"],
                "" if row["size"] is None else str(row["size"]),
                row["at"] or "never",
                str(row["behind"]),
                row["last_answer"] or "",
                {True: "yes", False: "no", None: ""}[row["locked"]],
            ]
            for row in answer["anchors"]
        ]
        names = ["anchor", "events", "since", "behind", "last answer", "locked"]
        table("Anchors", names, rows, "No anchor is configured (audit.anchors).")
        if answer["alarm"]:
            say("an anchor knows another history: keep database and anchors as they are", WRONG)

    show(answer, as_json=as_json, text=text)
    if answer["alarm"]:
        sys.exit(FAILED_CHECK)


@audit_app.command("new-origin")
def audit_new_origin(
    operator: _Operator = None,
    yes: _Yes = False,
    as_json: Json = False,
) -> None:
    """Go on under another name, where a restored log is older than its anchors and must stop."""
    asked: dict[str, Any] = {"operator": operator}
    answer = ask("audit.new_origin", asked | {"confirmed": yes}, as_json=as_json)
    if not answer["done"] and not as_json:
        say(f"{answer['old']} may not be signed any more: {answer['why']}", WRONG)
        say(f"  it has {answer['size']} events here, root {answer['root'] or 'none'}")
        say("  What came after them is lost. If a newer database or backup exists, use that.")
        say(f"  From here the log would go on as {answer['new']}; witnesses must be told its key.")
        typer.confirm("Begin the new name?", abort=True)
        answer = ask("audit.new_origin", asked | {"confirmed": True}, as_json=as_json)

    def text() -> None:
        say(f"the log goes on as {answer['new']} from event {answer['size']} on", DONE)
        say(f"  its key: {answer['vkey']}")
        say(f"  the old one stays verifiable with {answer['old_vkey']}:")
        say(f"    yinyom audit export-ended {answer['old']} --out PATH")
        say("  next: start the service again, and `yinyom backup init` with a new store")

    show(answer, as_json=as_json, text=text)
    if not answer["done"]:
        sys.exit(FAILED_CHECK)


@audit_app.command("rotate-key")
def audit_rotate_key(
    operator: _Operator = None,
    yes: _Yes = False,
    as_json: Json = False,
) -> None:
    """Sign the log with a new key from now on; run again to go on with one that was cut short."""
    asked: dict[str, Any] = {"operator": operator}
    answer = ask("audit.rotate_key", asked | {"confirmed": yes}, as_json=as_json)
    if not answer["done"] and not as_json:
        say(f"{answer['origin']} is signed with {answer['old_vkey']}")
        say(f"  its next key is made, and in the ring backup: {answer['vkey']}")
        say("  Tell it now to whoever witnesses the log, beside the old one:")
        say("    yinyom audit witness FOLDER --log OLD --log NEW")
        typer.confirm("Sign with the new key from now on?", abort=True)
        answer = ask("audit.rotate_key", asked | {"confirmed": True}, as_json=as_json)

    def text() -> None:
        if answer["size"] is None:
            say(f"an earlier rotation is finished: {answer['destroyed']} old seeds destroyed", DONE)
        else:
            say(f"the log is signed with {answer['vkey']}", DONE)
            say(f"  both keys signed its first {answer['size']} events; the old seed is destroyed")
        say("  an export leads whoever has an earlier key to this one")

    show(answer, as_json=as_json, text=text)
    if not answer["done"]:
        sys.exit(FAILED_CHECK)


@audit_app.command("export-ended")
def audit_export_ended(
    origin: Annotated[str, typer.Argument(help="The earlier name of the log.")],
    out: Annotated[Path, typer.Option(help="A new folder, or a name ending in .zip.")],
    as_json: Json = False,
) -> None:
    """Export the log as it was when it ended under an earlier name."""
    arguments = {"out": str(out.resolve()), "origin": origin}
    answer = ask("audit.export_ended", arguments, as_json=as_json)

    def text() -> None:
        say(f"{answer['events']} events in {out}", DONE)
        say(f"  verify with: yinyom audit verify {out} --key {answer['vkey']}")

    show(answer | {"path": str(out)}, as_json=as_json, text=text)
