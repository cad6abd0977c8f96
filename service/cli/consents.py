"""Commands of consent: write a receipt, verify one without a registry."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from service.cli.shell import DONE, FAILED_CHECK, WRONG, Json, ask, say, show

consents_app = typer.Typer(help="Consent: receipts.", no_args_is_help=True)


@consents_app.command("receipt")
def consents_receipt(
    consent: Annotated[str, typer.Argument(help="The id of the decision: con_…", metavar="ID")],
    form: Annotated[
        str, typer.Option("--format", help="yinyom, iso27560, kantara-1.1 or html.")
    ] = "yinyom",
    out: Annotated[Path | None, typer.Option(help="A file to write it to.")] = None,
    as_json: Json = False,
) -> None:
    """Write the signed receipt of a decision."""
    answer = ask("consents.receipt", {"consent": consent, "form": form}, as_json=as_json)
    if out is not None:
        out.write_text(answer["content"], encoding="utf-8")

    def text() -> None:
        if out is None:
            typer.echo(answer["content"])
            return
        say(f"the receipt of {answer['id']} is in {out}", DONE)
        say(f"  verify with: yinyom consents verify {out} --key={answer['key']}")

    show(answer, as_json=as_json, text=text)


@consents_app.command("key")
def consents_key(as_json: Json = False) -> None:
    """Print the key that verifies receipts."""
    answer = ask("consents.key", {}, as_json=as_json)
    show(answer, as_json=as_json, text=lambda: typer.echo(answer["key"]))


@consents_app.command("verify")
def consents_verify(
    file: Annotated[Path, typer.Argument(help="A receipt: JSON of any format, or the page.")],
    key: Annotated[str, typer.Option(help="The receipt key, or a file with its JWK.")],
    log_key: Annotated[
        str | None, typer.Option(help="The log's verifier key, instead of the one it names.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify a receipt with a key of your own choosing; needs no registry and no network."""
    from consent.verify import BadKeyError, key_text, verify_file

    try:
        report = verify_file(file.read_bytes(), key_text(key), log_key)
    except OSError:
        raise typer.BadParameter("FILE cannot be read") from None
    except BadKeyError as error:
        raise typer.BadParameter(f"--key: {error}") from None
    answer = {
        "ok": report.ok,
        "finding": report.finding,
        "proof": report.proof,
        "receipt": report.receipt,
    }

    def text() -> None:
        if not report.ok:
            say(f"the receipt does not hold: {report.finding}", WRONG)
            return
        proven = "in the log, proven" if report.proof == "verified" else "no proof came along"
        say(f"the receipt holds; {proven}", DONE)

    show(answer, as_json=as_json, text=text)
    if not report.ok:
        sys.exit(FAILED_CHECK)
