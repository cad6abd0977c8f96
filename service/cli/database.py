"""Commands of the database itself: its roles."""

from typing import Annotated

import typer

from service.cli.shell import DONE, Json, run, say, settings_here, show

database_app = typer.Typer(help="The database: its roles.", no_args_is_help=True)


@database_app.callback()
def _options() -> None:
    """Keep `roles` a subcommand although it is the only one."""


@database_app.command("roles")
def database_roles(
    apply: Annotated[
        bool, typer.Option("--apply", help="Run them, as database.owner_url.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the grants that the roles at work need, and nothing beyond; or apply them."""
    from kernel.errors import YinyomError
    from service.cli.shell import fail
    from service.database_roles import all_grants, apply_grants, working_role

    settings = settings_here(as_json=as_json)
    try:
        role = working_role(settings)
        lines = all_grants(settings)
    except YinyomError as error:
        fail(error, as_json=as_json)
    if apply:
        lines = run(lambda: apply_grants(settings), as_json=as_json)

    def text() -> None:
        if apply:
            say(f"{role} has {len(lines)} grants", DONE)
            return
        say(f"-- CREATE ROLE {role} LOGIN PASSWORD '...';")
        for line in lines:
            say(f"{line};")

    show({"role": role, "applied": apply, "statements": lines}, as_json=as_json, text=text)
