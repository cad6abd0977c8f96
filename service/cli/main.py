"""The tree of commands. Each reads its options, asks, and shows the answer."""

import gc
import sys
from pathlib import Path
from typing import Annotated

import typer

from service.cli.anchors import audit_app
from service.cli.backup import backup_app
from service.cli.consents import consents_app
from service.cli.database import database_app
from service.cli.dsar import dsar_app
from service.cli.members import members_dedupe
from service.cli.retention import audit_prune, hold_app
from service.cli.search import search_worker
from service.cli.shell import (
    DONE,
    FAILED_CHECK,
    PLACE,
    WRONG,
    Json,
    ask,
    fail,
    report_crash,
    report_usage,
    run,
    say,
    settings_here,
    show,
    table,
)
from service.cli.staff import staff_app
from service.cli.vault import show_health, vault_app

app = typer.Typer(
    name="yinyom",
    help="A privacy-first member registry: consent, decisions, encryption, a verifiable trail.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
clients_app = typer.Typer(help="Internal apps: ids, secrets, scopes.", no_args_is_help=True)
members_app = typer.Typer(help="Members: import, find, erase.", no_args_is_help=True)
policies_app = typer.Typer(help="The policy pack.", no_args_is_help=True)
app.add_typer(clients_app, name="clients")
app.add_typer(staff_app, name="staff")
app.add_typer(members_app, name="members")
members_app.command("dedupe")(members_dedupe)
app.add_typer(audit_app, name="audit")
audit_app.command("prune")(audit_prune)
audit_app.add_typer(hold_app, name="hold")
app.add_typer(dsar_app, name="dsar")
app.add_typer(backup_app, name="backup")
app.add_typer(consents_app, name="consents")
app.add_typer(policies_app, name="policies")
app.add_typer(vault_app, name="vault")
app.add_typer(database_app, name="database")

Brand = Annotated[str | None, typer.Option(help="The brand; the installation's own by default.")]


@app.callback()
def _options(
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Where the installation is (./yinyom-data).", envvar="YINYOM_DATA_DIR"),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A yinyom.toml elsewhere.")] = None,
) -> None:
    PLACE.data_dir = data_dir
    PLACE.config = config


# --- the installation -----------------------------------------------------------------


@app.command()
def init(
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Make keys, recovery kit, database and policy; safe to run again."""
    settings = settings_here(as_json=as_json)
    if not yes and not as_json:
        engine = "PostgreSQL" if settings.on_postgres else "SQLite"
        typer.confirm(
            f"Set up a registry for tenant '{settings.tenant}' in {settings.data_dir} on {engine}?",
            default=True,
            abort=True,
        )
    from service.setup import set_up

    made = run(lambda: set_up(settings), as_json=as_json)
    answer = {
        "data_dir": str(made.data_dir),
        "engine": made.engine,
        "recovery_kit": str(made.recovery_kit),
        "recovery_kit_is_new": made.kit_is_new,
        "policy": made.policy_digest,
        "vkey": made.vkey,
    }

    def text() -> None:
        say(f"registry in {made.data_dir} on {made.engine}", DONE)
        say(f"policy pack {made.policy_digest}", DONE)
        say(f"log key  {made.vkey}", DONE)
        if made.kit_is_new:
            say(f"recovery kit written and re-read: {made.recovery_kit}", DONE)
            say("  Move it off this machine: it brings the keys back when they are lost.")
        else:
            say(f"recovery kit was made before: {made.recovery_kit}", DONE)

    show(answer, as_json=as_json, text=text)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (127.0.0.1).")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on (8420).", min=0, max=65_535)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes; more than 1 on PostgreSQL.", min=1, max=64)
    ] = None,
) -> None:
    """Serve API and portal."""
    # A tenth of the time to readiness was the collector looking at modules being loaded.
    gc.disable()
    from kernel.errors import YinyomError
    from service.server import serve_forever

    settings = settings_here(as_json=False)
    try:
        serve_forever(
            settings,
            config=PLACE.config,
            host=host or settings.server.host,
            port=settings.server.port if port is None else port,
            workers=workers or settings.server.workers,
        )
    except YinyomError as error:
        fail(error, as_json=False)


app.command("search-worker")(search_worker)


@app.command()
def worker() -> None:
    """Run background jobs beside the servers of a PostgreSQL installation."""
    from service.server import work_forever

    settings = settings_here(as_json=False)
    run(lambda: work_forever(settings))


@app.command()
def demo(
    no_serve: Annotated[bool, typer.Option("--no-serve", help="End after the story.")] = False,
    port: Annotated[int, typer.Option(help="Port to serve on.", min=0, max=65_535)] = 8420,
) -> None:
    """Set up sample data and tell the main job step by step, each line a real call."""
    from kernel.errors import YinyomError
    from service.demo import tell

    settings = settings_here(as_json=False)
    try:
        ended = tell(settings, port=port, serve_on=not no_serve)
    except YinyomError as error:
        fail(error, as_json=False)
    sys.exit(ended)


@app.command()
def doctor(
    settings: Annotated[
        bool, typer.Option("--settings", help="Print the settings in force, redacted.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check everything, in one table."""
    if settings:
        from service.settings import redacted

        values = redacted(settings_here(as_json=as_json))
        show(
            values,
            as_json=as_json,
            text=lambda: table(
                "Settings in force",
                ["Setting", "Value"],
                [[k, str(v)] for k, v in values.items()],
                "",
            ),
        )
        return
    show_health(as_json=as_json)


# --- clients --------------------------------------------------------------------------


@clients_app.command("add")
def clients_add(
    name: Annotated[str, typer.Argument(help="A short name, unique in the brand.")],
    scope: Annotated[list[str] | None, typer.Option(help="A scope; repeat for more.")] = None,
    drp_public_key: Annotated[
        str | None,
        typer.Option(
            metavar="<base64>",
            help="Instead of scopes: the Ed25519 key of an authorised agent (DRP).",
        ),
    ] = None,
    person: Annotated[
        str | None,
        typer.Option(help="Who of the staff alone holds the secret, where two persons are needed."),
    ] = None,
    members_a_day: Annotated[
        int | None,
        typer.Option(min=1, help="Distinct members it may read in a day, if not the setting."),
    ] = None,
    brand: Brand = None,
    as_json: Json = False,
) -> None:
    """Register an internal app; its secret is shown once. Or an authorised agent, by its key."""
    if bool(scope) == (drp_public_key is not None):
        raise typer.BadParameter("give --scope for an internal app, or --drp-public-key")
    named = {"name": name, "brand": brand or settings_here(as_json=as_json).brand}
    if drp_public_key is None:
        app = {**named, "scopes": scope, "person": person, "members_a_day": members_a_day}
        answer = ask("clients.add", app, as_json=as_json)
    else:
        answer = ask("clients.add_agent", {**named, "public_key": drp_public_key}, as_json=as_json)

    def text() -> None:
        say(f"client_id      {answer['client_id']}")
        if drp_public_key is not None:
            say(f"business_id    {answer['business_id']}")
            say("an authorised agent: it has no secret and gets no token")
            return
        say(f"client_secret  {answer['client_secret']}   (shown once)")
        say(f"scopes         {' '.join(answer['scopes'])}")

    show(answer, as_json=as_json, text=text)


@clients_app.command("list")
def clients_list(as_json: Json = False) -> None:
    """List the internal apps."""
    answer = ask("clients.list", {}, as_json=as_json)
    rows = [
        [
            c["client_id"],
            c["name"],
            c["brand"],
            c["state"],
            "(authorised agent)" if "business_id" in c else " ".join(c["scopes"]),
        ]
        for c in answer["clients"]
    ]
    show(
        answer,
        as_json=as_json,
        text=lambda: table(
            "Internal apps",
            ["Id", "Name", "Brand", "State", "Scopes"],
            rows,
            "No internal app yet: yinyom clients add NAME --scope purpose:membership",
        ),
    )


@clients_app.command("rotate")
def clients_rotate(client: str, as_json: Json = False) -> None:
    """Give an internal app a new secret; the old one stops at once."""
    answer = ask("clients.rotate", {"client": client}, as_json=as_json)
    show(
        answer,
        as_json=as_json,
        text=lambda: say(f"client_secret  {answer['client_secret']}   (shown once)"),
    )


@clients_app.command("revoke")
def clients_revoke(client: str, as_json: Json = False) -> None:
    """Revoke an internal app; when this returns it reads nothing any more."""
    answer = ask("clients.revoke", {"client": client}, as_json=as_json)
    show(answer, as_json=as_json, text=lambda: say(f"{answer['client_id']} revoked", DONE))


# --- members --------------------------------------------------------------------------


@members_app.command("import")
def members_import(
    file: Annotated[Path, typer.Argument(help="A CSV or XLSX file.", exists=True, dir_okay=False)],
    brand: Brand = None,
    region: Annotated[
        str | None, typer.Option(help="Where its phone numbers ring: TH, TW …")
    ] = None,
    dates: Annotated[
        str | None, typer.Option(help="How its dates are written: be-or-iso …")
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="auto, utf-8, cp874, big5 …")] = None,
    id_country: Annotated[str | None, typer.Option(help="Whose identity numbers it holds.")] = None,
    profile: Annotated[str | None, typer.Option(help="Declarations by name: th, tw, en.")] = None,
    jurisdiction: Annotated[str | None, typer.Option(help="The law that applies.")] = None,
    column: Annotated[
        list[str] | None, typer.Option("--map", help="COLUMN=field; repeat for more.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge, store nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Import members; every row is stored, set aside with its reasons, or a known repeat."""
    columns: dict[str, str] = {}
    for mapping in column or []:
        name, separator, field = mapping.rpartition("=")
        if not separator:
            raise typer.BadParameter("--map takes COLUMN=field")
        columns[name] = field
    arguments = {
        "path": str(file.resolve()),
        "brand": brand or settings_here(as_json=as_json).brand,
        "profile": profile,
        "region": region,
        "dates": dates,
        "encoding": encoding,
        "id_country": id_country,
        "jurisdiction": jurisdiction,
        "columns": columns,
        "dry_run": dry_run,
    }
    answer = ask("members.import", arguments, as_json=as_json) | {"file": str(file)}

    def text() -> None:
        say(f"{answer['file']}  {answer['rows']} rows in {answer['seconds']} s")
        say(f"accepted       {answer['accepted']}", "  " + DONE)
        until = f"   until {answer['expires_at'][:10]}" if answer["expires_at"] else ""
        say(f"  ○ quarantined    {answer['quarantined']}{until}")
        say(f"  ○ exact repeats  {answer['exact_repeats']}")
        table(
            "What was wrong, by field and reason",
            ["Field and reason", "Values"],
            [[name, str(count)] for name, count in answer["issues"].items()],
            "  nothing was wrong with any value",
        )
        if answer["unknown_columns"]:
            say(f"  columns nobody knows: {', '.join(answer['unknown_columns'])}")
        if answer["error_file"]:
            say(f"  rows to mend: {answer['error_file']}  (personal data: delete it when done)")

    show(answer, as_json=as_json, text=text)
    if answer["accepted"] + answer["quarantined"] + answer["exact_repeats"] != answer["rows"]:
        sys.exit(FAILED_CHECK)


@members_app.command("find")
def members_find(
    pairwise: Annotated[str, typer.Argument(help="The sub_ id that a client gave.")],
    client: Annotated[str, typer.Option(help="That client's id or name.")],
    as_json: Json = False,
) -> None:
    """Give the staff id of what a client calls a member."""
    answer = ask("members.find", {"client": client, "pairwise": pairwise}, as_json=as_json)
    show(answer, as_json=as_json, text=lambda: say(answer["member"]))


@members_app.command("erase")
def members_erase(
    member: Annotated[str, typer.Argument(help="The member's mem_ id.")],
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Erase one member: keys, identifiers, values. Cannot be undone."""
    if not yes and not as_json:
        typer.confirm("Erase this member for good?", abort=True)
    answer = ask("members.erase", {"member": member}, as_json=as_json)
    show(
        answer,
        as_json=as_json,
        text=lambda: say(
            f"erased, {answer['keys_destroyed']} keys destroyed, {answer['audit_id']}", DONE
        ),
    )


# --- policies -------------------------------------------------------------------------


@policies_app.command("check")
def policies_check(
    directory: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="A folder laid over the packaged pack.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a policy pack; says where it is wrong and what to do."""
    from policies import check

    folder = directory or settings_here(as_json=as_json).policies.pack_dir
    if folder is not None and not folder.is_dir():
        raise typer.BadParameter("DIR is not a folder")
    findings = check(folder)
    answer = {
        "ok": not findings,
        "findings": [
            {"file": f.file, "key": f.key, "problem": f.problem, "remedy": f.remedy}
            for f in findings
        ],
    }

    def text() -> None:
        if not findings:
            say("the policy pack is whole", DONE)
        for finding in findings:
            say(str(finding), WRONG)

    show(answer, as_json=as_json, text=text)
    if findings:
        sys.exit(FAILED_CHECK)


@policies_app.command("activate")
def policies_activate(as_json: Json = False) -> None:
    """Make the pack on disk the active one; servers must be restarted."""
    from service.setup import activate_policies

    settings = settings_here(as_json=as_json)
    digest = run(lambda: activate_policies(settings), as_json=as_json)
    show(
        {"policy": digest},
        as_json=as_json,
        text=lambda: say(f"{digest} is active; restart the servers", DONE),
    )


def main() -> None:
    """Run the command line; what nobody meant to happen is named in one line, not in a trace."""
    as_json = "--json" in sys.argv
    if any(map(_is_torn, sys.argv)):
        report_usage("an argument is not text in UTF-8", as_json=as_json)
    try:
        sys.exit(app(prog_name="yinyom", standalone_mode=not as_json))
    except typer.Abort:
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 (the edge: nothing may get past it)
        explain = getattr(error, "format_message", None)
        if explain is not None:
            report_usage(explain(), as_json=as_json)
        report_crash(error, as_json=as_json)


def _is_torn(argument: str) -> bool:
    """Say whether an argument holds bytes that are no character."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return True
    return False
