"""Commands on the members of a brand as a whole."""

from typing import Annotated

import typer

from service.cli.shell import DONE, Json, ask, say, settings_here, show


def members_dedupe(
    brand: Annotated[
        str | None, typer.Option(help="The brand; the installation's own by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Look for members who may be one person; pairs wait in the queue, nothing is merged."""
    brand = brand or settings_here(as_json=as_json).brand
    answer = ask("members.dedupe", {"brand": brand}, as_json=as_json)

    def text() -> None:
        say(f"{answer['members']} members compared in {answer['seconds']} s", DONE)
        say(f"  ○ likely pairs     {answer['pairs']}")
        say(f"  ○ new in the queue {answer['new']}")
        say(f"  ○ waiting in all   {answer['open']}")

    show(answer, as_json=as_json, text=text)
