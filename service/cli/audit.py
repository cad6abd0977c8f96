"""Commands of the trail: export, verify, prove one event, key."""

import base64
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.shell import DONE, FAILED_CHECK, WRONG, Json, ask, fail, run, say, show, table

if TYPE_CHECKING:
    from audit import WitnessApp

_EVENT = "evt_[0-9a-z]{26}"
audit_app = typer.Typer(help="The trail: export, verify, prove, witness.", no_args_is_help=True)


@audit_app.command("export")
def audit_export(
    out: Annotated[Path, typer.Option(help="A new folder, or a name ending in .zip.")],
    as_json: Json = False,
) -> None:
    """Export the log so that strangers can verify it."""
    answer = ask("audit.export", {"out": str(out.resolve())}, as_json=as_json)

    def text() -> None:
        say(f"{answer['events']} events in {out}", DONE)
        say(f"  verify with: yinyom audit verify {out} --key {answer['vkey']}")

    show(answer | {"path": str(out)}, as_json=as_json, text=text)


@audit_app.command("search")
def audit_search(
    actor: Annotated[str | None, typer.Option(help="Who did it: cli_…, stf_…, self.")] = None,
    action: Annotated[str | None, typer.Option(help="What was done, such as member.view.")] = None,
    purpose: Annotated[str | None, typer.Option(help="For what.")] = None,
    decision: Annotated[str | None, typer.Option(help="allow or deny.")] = None,
    field: Annotated[str | None, typer.Option(help="A field that it tells of.")] = None,
    request: Annotated[str | None, typer.Option(help="Events of one request, by its id.")] = None,
    view: Annotated[str | None, typer.Option(help="A saved view, such as bulk.")] = None,
    member: Annotated[str | None, typer.Option(help="Events about a member, by mem_ id.")] = None,
    since: Annotated[
        str | None, typer.Option("--from", help="From this day (YYYY-MM-DD) or moment on.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="Up to the end of this day, or to this moment.")
    ] = None,
    most: Annotated[int, typer.Option(min=1, max=1000, help="Stop when so many are found.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on where a search ended.")] = None,
    as_json: Json = False,
) -> None:
    """Find events of the trail, the newest first; a search is an event too."""
    wanted = {
        "actor": actor,
        "action": action,
        "purpose": purpose,
        "decision": decision,
        "field": field,
        "request": request,
        "view": view,
        "member": member,
        "since": since,
        "until": until,
        "cursor": cursor,
    }
    given: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    answer = ask("audit.search", {**given, "most": most}, as_json=as_json)

    def text() -> None:
        names = ("purpose", "decision", "reason")
        rows = [
            [one["id"], one["ts"], one["actor"]["id"], one["action"]]
            + [one.get(name, "") for name in names]
            for one in answer["events"]
        ]
        head = ["event", "time", "who", "did", *names]
        table("events", head, rows, "nothing found")
        if answer["next_cursor"] is not None:
            say(f"searched back to {answer['searched_to']}; go on with")
            say(f"  --cursor {answer['next_cursor']}")

    show(answer, as_json=as_json, text=text)


@audit_app.command("evidence")
def audit_evidence(
    out: Annotated[Path, typer.Option(help="A new .zip.")],
    since: Annotated[
        str | None, typer.Option("--from", help="From this day (YYYY-MM-DD) or moment on.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="Up to the end of this day, or to this moment.")
    ] = None,
    member: Annotated[str | None, typer.Option(help="Events about a member, by mem_ id.")] = None,
    request: Annotated[str | None, typer.Option(help="Events of one request, by its id.")] = None,
    as_json: Json = False,
) -> None:
    """Put chosen events with their proofs into a zip that a browser can check."""
    wanted = {"since": since, "until": until, "member": member, "request": request}
    given = {name: value for name, value in wanted.items() if value is not None}
    answer = ask("audit.evidence", {"out": str(out.resolve()), **given}, as_json=as_json)

    def text() -> None:
        say(f"{answer['events']} events with their proofs are in {out}", DONE)
        say("  check them: open verify.html from it in a browser, give it the zip and the key:")
        say(f"  {answer['vkey']}")

    show(answer | {"path": str(out)}, as_json=as_json, text=text)


@audit_app.command("verify")
def audit_verify(
    path: Annotated[Path | None, typer.Argument(help="An exported folder or .zip.")] = None,
    key: Annotated[str | None, typer.Option(help="The verifier key text of the log.")] = None,
    old: Annotated[
        list[Path] | None, typer.Option(help="An earlier checkpoint to grow from; repeatable.")
    ] = None,
    anchors: Annotated[
        Path | None, typer.Option(help="A folder of kept checkpoints (*.note) to grow from.")
    ] = None,
    witness: Annotated[list[str] | None, typer.Option(help="A witness's verifier key.")] = None,
    database: Annotated[bool, typer.Option("--db", help="Check the log where it lies.")] = False,
    as_json: Json = False,
) -> None:
    """Verify an export with a key of your own choosing, or the database's own log."""
    if database:
        answer = ask("audit.verify_db", {}, as_json=as_json)
    elif path is None or key is None:
        raise typer.BadParameter("give an exported PATH and --key VKEY, or --db")
    else:
        answer = _verify_bundle(path, key, (old or [], anchors), witness or [])

    def text() -> None:
        if answer["ok"]:
            _say_whole(answer)
        else:
            say("the log does not verify", WRONG)
            for finding in answer["findings"]:
                say(f"  {finding}")
            if answer.get("first_bad_index") is not None:
                say(f"  first bad event: {answer['first_bad_index']}")
            if answer.get("ring") is not None:
                say(f"  caught by ring {RINGS[answer['ring']]}")

        for sink in answer.get("silent", ()):
            say(f"not held against {sink}, which does not answer", WRONG)

    from audit.verify import RINGS

    show(answer, as_json=as_json, text=text)
    if not answer["ok"]:
        sys.exit(FAILED_CHECK)


def _say_whole(answer: dict[str, Any]) -> None:
    say(f"{answer['size']} events, root {answer['root']}", DONE)
    if len(answer.get("keys", ())) > 1:
        say(f"  the log's key was replaced: {', then '.join(answer['keys'])}")
    if answer["pruned"]:
        say(f"  {answer['pruned']} of them pruned by policy, as the log itself tells")
    if answer.get("anchors"):
        say(f"  it continues each of {answer['anchors']} anchored heads")


def _verify_bundle(
    path: Path, key: str, kept: tuple[list[Path], Path | None], witness: list[str]
) -> dict[str, Any]:
    from audit.verify import BadKeyError, read_checkpoints, verify_bundle

    if not path.exists():
        raise typer.BadParameter("there is nothing at PATH")
    try:
        report = verify_bundle(path, key.strip(), read_checkpoints(*kept), witness)
    except BadKeyError as error:
        raise typer.BadParameter(f"--key or --witness: {error}") from None
    except (OSError, UnicodeDecodeError):
        raise typer.BadParameter("--old or --anchors holds nothing that can be read") from None
    return {**report.as_json(), "findings": [str(finding) for finding in report.findings]}


@audit_app.command("prove")
def audit_prove(
    event: Annotated[str, typer.Argument(help="The event's evt_ id.", metavar="ID")],
    out: Annotated[Path | None, typer.Option(help="A file to write the proof to.")] = None,
    member: Annotated[
        str | None, typer.Option(help="Of an event about many, this member's row, by mem_ id.")
    ] = None,
    row: Annotated[
        str | None, typer.Option(help="The same, by the token that the row begins with.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Give one event with the proof that it is in the log."""
    if member is not None and row is not None:
        raise typer.BadParameter("give --member or --row")
    whose = {"member": member, "row": row}
    given = {name: value for name, value in whose.items() if value is not None}
    answer = ask("audit.prove", {"event": event, **given}, as_json=as_json)
    if out is not None:
        out.write_text(json.dumps(answer) + "\n", encoding="utf-8")

    def text() -> None:
        if out is None:
            typer.echo(json.dumps(answer))
            return
        say(f"event {answer['index']} of the log and its proof are in {out}", DONE)
        say(f"  verify with: yinyom audit verify-proof {out} --key VKEY")

    show(answer, as_json=as_json, text=text)


@audit_app.command("verify-proof")
def audit_verify_proof(
    file: Annotated[Path, typer.Argument(help="A proof, as `audit prove` gives it.")],
    key: Annotated[str, typer.Option(help="The verifier key text of the log.")],
    as_json: Json = False,
) -> None:
    """Verify the proof of one event with a key of your own choosing; needs no registry."""
    answer = _verify_proof(file, key)

    def text() -> None:
        if not answer["ok"]:
            say(f"the proof does not hold: {answer['finding']}", WRONG)
            return
        said = answer["event"]
        if said is None:
            say(f"event {answer['index']} is in the log of {answer['size']} events", DONE)
            say("  what it said was deleted by policy; its leaf hash is proven")
            return
        say(f"{said['id']} is in the log of {answer['size']} events", DONE)
        say(f"  {said['action']} at {said['ts']}")
        if "row" in said:
            own, many = said["row"], said["manifest"]["rows"]
            told = ", ".join(own["fields"]) or "no field"
            say(f"  row {own['place']} (from 0) of {many}: {own['token']}, {told}")

    show(answer, as_json=as_json, text=text)
    if not answer["ok"]:
        sys.exit(FAILED_CHECK)


def _verify_proof(file: Path, key: str) -> dict[str, Any]:
    import orjson

    from audit import NoteError, ProofError, Verifier, check_document

    try:
        Verifier.from_vkey(key.strip())
    except NoteError:
        raise typer.BadParameter("--key is not a verifier key") from None
    nothing = {"ok": False, "size": None, "root": None, "event": None}
    try:
        document = orjson.loads(file.read_bytes())
    except OSError:
        raise typer.BadParameter("FILE cannot be read") from None
    except ValueError:
        return nothing | {"finding": "it is not JSON"}
    try:
        event, head = check_document(document, key.strip())
    except (ProofError, NoteError) as error:
        return nothing | {"finding": error.detail or error.title}
    return {
        "ok": True,
        "finding": None,
        "index": document["index"],
        "size": head.size,
        "root": base64.b64encode(head.root).decode(),
        "event": event,
    }


def _keep(out: Path, note: str, *, as_json: bool) -> None:
    """Write a head to a new file: an earlier one that somebody kept is evidence."""
    from audit import ExportError

    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(note)
    except FileExistsError:
        fail(ExportError(f"{out.name} is there already"), as_json=as_json)
    except OSError as error:
        fail(ExportError(f"{out.name}: {error.strerror}"), as_json=as_json)


@audit_app.command("checkpoint")
def audit_checkpoint(
    out: Annotated[Path | None, typer.Option(help="A new file to keep the checkpoint in.")] = None,
    as_json: Json = False,
) -> None:
    """Give the log's newest signed head; kept elsewhere, it shows later that nothing is gone."""
    answer = ask("audit.checkpoint", {}, as_json=as_json)
    if out is not None:
        _keep(out, answer["checkpoint"], as_json=as_json)

    def text() -> None:
        if out is None:
            typer.echo(answer["checkpoint"], nl=False)
            return
        say(f"the head of {answer['size']} events is in {out}", DONE)
        say(f"  later: yinyom audit verify EXPORT --key VKEY --old {out}")

    show(answer, as_json=as_json, text=text)


@audit_app.command("witnesses")
def audit_witnesses(as_json: Json = False) -> None:
    """Ask the log's witnesses now, and show what each has signed."""
    answer = ask("audit.witnesses", {}, as_json=as_json)

    def text() -> None:
        rows = [
            [row["witness"], str(row["size"]), row["at"] or "", row["last_answer"] or ""]
            for row in answer["witnesses"]
        ]
        empty = "No witness is configured (audit.witnesses)."
        table("Witnesses", ["witness", "events signed", "at", "last answer"], rows, empty)
        if rows and answer["verified_size"] is None:
            say(f"fewer than {answer['quorum']} have signed anything", WRONG)
        elif answer["short_of_majority"]:
            say(
                f"fewer than {answer['majority']} have signed the newest of these: "
                "two audiences could be shown two histories",
                WRONG,
            )
        if answer["unfit"]:
            say("a witness bears a key of this log: nobody witnesses their own log", WRONG)
        if answer["alarm"]:
            say("a witness has seen another history of this log: do not delete anything", WRONG)

    show(answer, as_json=as_json, text=text)
    if answer["alarm"] or answer["unfit"]:
        sys.exit(FAILED_CHECK)


@audit_app.command("witness")
def audit_witness(
    folder: Annotated[Path, typer.Argument(help="Where this witness keeps key and memory.")],
    log: Annotated[list[str], typer.Option(help="The verifier key text of a log; repeatable.")],
    name: Annotated[str, typer.Option(help="The name it signs under.")] = "yinyom.local/witness",
    host: Annotated[str, typer.Option()] = "127.0.0.1",
    port: Annotated[int, typer.Option()] = 8421,
    as_json: Json = False,
) -> None:
    """Be a witness of somebody's log (C2SP tlog-witness): on another machine than the log's."""
    from service.witnessing import open_witness, witness_forever

    async def begin() -> tuple["WitnessApp", str]:
        """Open the folder; making its key is work for the loop like any command's."""
        return open_witness(folder, name, log)

    app, vkey = run(begin, as_json=as_json)
    url = f"http://{host}:{port}"

    def text() -> None:
        say(f"witness {name} on {url}", DONE)
        say("  Put this into the settings of the log's registry (yinyom.toml):")
        say("  [[audit.witnesses]]")
        say(f'  url = "{url}"')
        say(f'  vkey = "{vkey}"')

    show({"url": url, "name": name, "vkey": vkey}, as_json=as_json, text=text)
    witness_forever(app, host=host, port=port)


@audit_app.command("reviews")
def audit_reviews(
    after: Annotated[
        str | None, typer.Option(help="Go on behind this evt_ id (`next` of the last page).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show emergency reads that no second person has looked at; that is done at the console."""
    if after is not None and not re.fullmatch(_EVENT, after):
        raise typer.BadParameter("--after is the evt_ id that the last page ended with")
    answer = ask("audit.reviews", {"after": after}, as_json=as_json)

    def text() -> None:
        rows = [
            [
                row["event"],
                row["at"][:16],
                f"{row['actor']} ({row['role']})",
                row["reason"] or "",
                ", ".join(row["fields"]),
                f"{row['overdue_from'][:10]}{' overdue' if row['overdue'] else ''}",
            ]
            for row in answer["reviews"]
        ]
        heads = ["event", "at", "who read", "reason", "fields", "overdue from"]
        none = "No more wait." if after else "Every emergency read was reviewed."
        table("Emergency reads to review", heads, rows, none)
        if answer["overdue"]:
            say(f"{answer['overdue']} of these should have been reviewed by now", WRONG)
        if answer["next"]:
            say(f"  more: yinyom audit reviews --after {answer['next']}")

    show(answer, as_json=as_json, text=text)


@audit_app.command("key")
def audit_key(as_json: Json = False) -> None:
    """Print the key that verifies the log."""
    answer = ask("audit.key", {}, as_json=as_json)
    show(answer, as_json=as_json, text=lambda: say(answer["vkey"]))
