"""Commands of rights requests: list, show, export, erase, certificate, verify."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli.shell import (
    DONE,
    FAILED_CHECK,
    WRONG,
    Json,
    ask,
    say,
    settings_here,
    show,
    table,
)

dsar_app = typer.Typer(help="Rights requests of members.", no_args_is_help=True)
RequestId = Annotated[str, typer.Argument(help="The request's rr_ id.", metavar="ID")]


@dsar_app.command("list")
def dsar_list(
    state: Annotated[str | None, typer.Option(help="Only requests in this state.")] = None,
    brand: Annotated[str | None, typer.Option(help="The brand; the own one by default.")] = None,
    as_json: Json = False,
) -> None:
    """List rights requests, the newest first."""
    named = brand or settings_here(as_json=as_json).brand
    answer = ask("dsar.list", {"brand": named, "state": state}, as_json=as_json)

    def text() -> None:
        columns = ["id", "right", "state", "safe until", "law's day", "flag"]
        rows = [
            [one["id"], one["right"], one["state"], one["safe_due"], one["legal_due"],
             one["flagged"] or ""]
            for one in answer["requests"]
        ]  # fmt: skip
        table("Rights requests", columns, rows, "There are no rights requests.")

    show(answer, as_json=as_json, text=text)


@dsar_app.command("show")
def dsar_show(request: RequestId, as_json: Json = False) -> None:
    """Show where a request stands; for an erasure, what it will do."""
    answer = ask("dsar.show", {"request": request}, as_json=as_json)
    show(answer, as_json=as_json, text=lambda: _tell(answer))


@dsar_app.command("export")
def dsar_export(
    request: RequestId,
    out: Annotated[Path, typer.Option(help="A new .zip file.")],
    as_json: Json = False,
) -> None:
    """Write the member's copy, once, right after a fresh code was answered."""
    arguments = {"request": request, "out": str(out.resolve())}
    answer = ask("dsar.export", arguments, as_json=as_json)

    def text() -> None:
        say(f"{answer['bytes']} bytes in {out}; it holds personal data", DONE)

    show(answer | {"path": str(out)}, as_json=as_json, text=text)


@dsar_app.command("erase")
def dsar_erase(
    request: RequestId,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would do.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Erase the member who asked for it, as planned."""
    if not dry_run and not yes and not as_json:
        typer.confirm("Erase this member for good?", abort=True)
    answer = ask("dsar.erase", {"request": request, "dry_run": dry_run}, as_json=as_json)
    show(answer, as_json=as_json, text=lambda: _tell(answer))


@dsar_app.command("certificate")
def dsar_certificate(
    request: RequestId,
    out: Annotated[Path, typer.Option(help="The file to write.")],
    as_json: Json = False,
) -> None:
    """Write the signed certificate of an ended request; it names nobody."""
    answer = ask("dsar.certificate", {"request": request}, as_json=as_json)
    out.write_text(answer["certificate"], encoding="utf-8", newline="")

    def text() -> None:
        say(f"certificate in {out}", DONE)
        say(f"  verify with: yinyom dsar verify {out} --key {answer['vkey']}")

    told = {"id": answer["id"], "path": str(out), "vkey": answer["vkey"]}
    show(told, as_json=as_json, text=text)


@dsar_app.command("verify")
def dsar_verify(
    file: Annotated[Path, typer.Argument(help="A certificate.", metavar="FILE")],
    key: Annotated[str, typer.Option(help="The verifier key text of the log.")],
    as_json: Json = False,
) -> None:
    """Check a certificate with a key of your own choosing, without any registry."""
    answer = _verify(file, key)

    def text() -> None:
        if not answer["ok"]:
            say(f"not a certificate of this log: {answer['finding']}", WRONG)
            return
        said = answer["certificate"]
        asked, decided = said["request"], said["decision"]
        say(f"{asked['right']} {decided['state']} on {decided['decided_at']}", DONE)
        say(f"  request {asked['id']}, {asked['jurisdiction']}")
        _results(said["results"])

    show(answer, as_json=as_json, text=text)
    if not answer["ok"]:
        sys.exit(FAILED_CHECK)


def _verify(file: Path, key: str) -> dict[str, Any]:
    from dsar import CertificateError, verify_certificate

    try:
        note = file.read_bytes().decode("utf-8")
    except OSError:
        raise typer.BadParameter("FILE cannot be read") from None
    except UnicodeDecodeError:
        return {"ok": False, "finding": "it is not text", "certificate": None}
    try:
        said = verify_certificate(note, key.strip())
    except CertificateError as error:
        return {"ok": False, "finding": str(error), "certificate": None}
    return {"ok": True, "finding": None, "certificate": said}


def _tell(answer: dict[str, Any]) -> None:
    say(f"{answer['id']}: {answer['right']}, {answer['state']}", DONE)
    say(f"  received {answer['received_at']}, safe until {answer['safe_due']}, "
        f"law's day {answer['legal_due']}")  # fmt: skip
    if answer["reason"] is not None:
        say(f"  reason {answer['reason']}, {answer['law']}")
    _results(answer.get("plan") or answer["results"])


def _results(results: list[dict[str, Any]]) -> None:
    rows = [[one["what"], one["result"], one["until"] or "", one["law"] or ""] for one in results]
    table("What becomes of it", ["what", "result", "until", "law"], rows, "Nothing yet.")
