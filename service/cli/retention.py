"""Commands of the trail's retention: prune what is due, hold what must stay."""

import re
from typing import Annotated

import typer

from service.cli.shell import DONE, Json, ask, say, show, table

_MONTH = r"^\d{4}-(0[1-9]|1[0-2])$"
hold_app = typer.Typer(help="Legal holds upon the trail.", no_args_is_help=True)


def _month(text: str | None) -> str | None:
    if text is not None and not re.fullmatch(_MONTH, text):
        raise typer.BadParameter("write a month as YYYY-MM")
    return text


def audit_prune(
    before: Annotated[
        str | None, typer.Option(help="Leave this month (YYYY-MM) and later ones.", callback=_month)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: Json = False,
) -> None:
    """Delete what events said whose time has come by the policy; the log's proofs stay."""
    answer = ask("audit.prune", {"before": before, "dry_run": dry_run}, as_json=as_json)

    def text() -> None:
        rows = [
            [row["month"], row["rule"], str(row["bodies"]), str(row["held"])]
            for row in answer["months"]
        ]
        table("Trail", ["month", "rule", "bodies", "held"], rows, "Nothing is due.")
        say(f"{answer['bodies']} bodies {'would go' if dry_run else 'went'}", DONE)

    show(answer, as_json=as_json, text=text)


@hold_app.command("add")
def hold_add(
    reason: Annotated[str, typer.Option(help="litigation, investigation or authority_order.")],
    from_month: Annotated[
        str | None, typer.Option("--from", help="First month, YYYY-MM.", callback=_month)
    ] = None,
    to_month: Annotated[
        str | None, typer.Option("--to", help="Last month, YYYY-MM.", callback=_month)
    ] = None,
    action: Annotated[str | None, typer.Option(help="Events of this action only.")] = None,
    member: Annotated[str | None, typer.Option(help="A member's mem_ id.")] = None,
    as_json: Json = False,
) -> None:
    """Keep events although their time comes; all that is named must fit, nothing named is all."""
    asked = {
        "reason": reason,
        "from_month": from_month,
        "to_month": to_month,
        "action": action,
        "member": member,
    }
    answer = ask("audit.hold_add", asked, as_json=as_json)
    show(answer, as_json=as_json, text=lambda: say(f"{answer['id']} is in force", DONE))


@hold_app.command("list")
def hold_list(as_json: Json = False) -> None:
    """Show every hold, those that have ended as well."""
    answer = ask("audit.hold_list", {}, as_json=as_json)

    def text() -> None:
        rows = [
            [
                row["id"],
                row["reason"],
                (row["from"] or "")[:7],
                (row["until"] or "")[:10],
                row["action"] or "",
                "a member" if row["of_a_member"] else "",
                row["placed"][:10],
                (row["released"] or "")[:10],
            ]
            for row in answer["holds"]
        ]
        heads = ["hold", "reason", "from", "before", "action", "whom", "placed", "released"]
        table("Holds", heads, rows, "No hold was ever placed.")

    show(answer, as_json=as_json, text=text)


@hold_app.command("release")
def hold_release(
    hold: Annotated[str, typer.Argument(help="The hold's hld_ id.", metavar="ID")],
    as_json: Json = False,
) -> None:
    """End a hold; what it covered and is due goes with the next run."""
    answer = ask("audit.hold_release", {"hold": hold}, as_json=as_json)
    show(answer, as_json=as_json, text=lambda: say(f"{hold} has ended", DONE))
