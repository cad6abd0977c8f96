"""Commands of staff accounts: add, list, role, disable, reset."""

from typing import Annotated, Any

import typer

from service.cli.shell import DONE, Json, ask, say, settings_here, show, table

staff_app = typer.Typer(help="Staff accounts: one person, one role.", no_args_is_help=True)
Account = Annotated[str, typer.Argument(help="The name or the stf_ id of an account.")]
Role = Annotated[str, typer.Option(help="clerk, marketer, dpo, auditor, operator or admin.")]


def _password(answer: dict[str, Any]) -> None:
    say(f"staff_id  {answer['staff_id']}")
    say(f"name      {answer['name']}")
    say(f"password  {answer['password']}   (shown once; good for one sign-in within 72 hours)")


@staff_app.command("add")
def staff_add(
    name: Annotated[str, typer.Argument(help="A short name to sign in with.")],
    role: Role,
    brand: Annotated[
        str | None, typer.Option(help="The brand; the installation's own by default.")
    ] = None,
    person: Annotated[
        str | None,
        typer.Option(help="A handle of the human being, such as a payroll number."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a staff account; its one-time password is shown once."""
    brand = brand or settings_here(as_json=as_json).brand
    arguments = {"name": name, "role": role, "brand": brand, "person": person}
    answer = ask("staff.add", arguments, as_json=as_json)
    show(answer, as_json=as_json, text=lambda: _password(answer))


@staff_app.command("list")
def staff_list(as_json: Json = False) -> None:
    """List the staff accounts."""
    answer = ask("staff.list", {}, as_json=as_json)
    rows = [
        [s["staff_id"], s["name"], s["role"], s["brand"], s["state"], s["person"] or ""]
        for s in answer["staff"]
    ]
    show(
        answer,
        as_json=as_json,
        text=lambda: table(
            "Staff",
            ["Id", "Name", "Role", "Brand", "State", "Person"],
            rows,
            "No staff account yet: yinyom staff add NAME --role dpo",
        ),
    )


@staff_app.command("role")
def staff_role(staff: Account, role: Role, as_json: Json = False) -> None:
    """Give an account another role; its sessions end at once."""
    answer = ask("staff.role", {"staff": staff, "role": role}, as_json=as_json)
    text = f"{answer['staff_id']} is now {role}"
    show(answer, as_json=as_json, text=lambda: say(text, DONE))


@staff_app.command("disable")
def staff_disable(staff: Account, as_json: Json = False) -> None:
    """Disable an account; its sessions end at once."""
    answer = ask("staff.disable", {"staff": staff}, as_json=as_json)
    show(answer, as_json=as_json, text=lambda: say(f"{answer['staff_id']} disabled", DONE))


@staff_app.command("reset")
def staff_reset(staff: Account, as_json: Json = False) -> None:
    """Give an account a new one-time password; its sessions end at once."""
    answer = ask("staff.reset", {"staff": staff}, as_json=as_json)
    show(answer, as_json=as_json, text=lambda: _password(answer))
