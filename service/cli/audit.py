"""Commands of the trail: export, verify, key."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli.shell import DONE, FAILED_CHECK, WRONG, Json, ask, say, show

audit_app = typer.Typer(help="The trail: export, verify.", no_args_is_help=True)


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


@audit_app.command("verify")
def audit_verify(
    path: Annotated[Path | None, typer.Argument(help="An exported folder or .zip.")] = None,
    key: Annotated[str | None, typer.Option(help="The verifier key text of the log.")] = None,
    old: Annotated[Path | None, typer.Option(help="An earlier checkpoint to grow from.")] = None,
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
        answer = _verify_bundle(path, key, old, witness or [])

    def text() -> None:
        if answer["ok"]:
            say(f"{answer['size']} events, root {answer['root']}", DONE)
        else:
            say("the log does not verify", WRONG)
            for finding in answer["findings"]:
                say(f"  {finding}")

    show(answer, as_json=as_json, text=text)
    if not answer["ok"]:
        sys.exit(FAILED_CHECK)


def _verify_bundle(path: Path, key: str, old: Path | None, witness: list[str]) -> dict[str, Any]:
    from audit.verify import BadKeyError, verify_bundle

    if not path.exists():
        raise typer.BadParameter("there is nothing at PATH")
    try:
        earlier = None if old is None else old.read_text(encoding="utf-8")
        report = verify_bundle(path, key.strip(), earlier, witness)
    except BadKeyError as error:
        raise typer.BadParameter(f"--key or --witness: {error}") from None
    except (OSError, UnicodeDecodeError):
        raise typer.BadParameter("--old cannot be read") from None
    return {
        "ok": report.ok,
        "size": report.size,
        "root": report.root,
        "origin": report.origin,
        "first_bad_index": report.first_bad_index,
        "findings": [str(finding) for finding in report.findings],
    }


@audit_app.command("key")
def audit_key(as_json: Json = False) -> None:
    """Print the key that verifies the log."""
    answer = ask("audit.key", {}, as_json=as_json)
    show(answer, as_json=as_json, text=lambda: say(answer["vkey"]))
