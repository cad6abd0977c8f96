"""The database roles of a PostgreSQL installation: one that owns, one or two that work.

Whoever owns a table can switch its guards off. So the tables belong to a role that only migrates
(`database.owner_url`), and the servers work under another one (`database.url`), which may add to
the trail and neither change nor delete what is in it, make no table and no trigger. A third one
(`database.sequencer_url`) may be the only one that sequences and prunes. Kept out is whoever steals
the password that lies on every server.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kernel import ConfigurationError
from service.settings import Settings

PRIVILEGES: Mapping[str, str] = {"s": "SELECT", "i": "INSERT", "u": "UPDATE", "d": "DELETE"}
# What a role may do with each table, as first letters: what some statement of ours needs (a lock of
# a row needs UPDATE), and nothing else. Triggers narrow it further: which checkpoint may be
# dropped, which body has had its time, which column of an entry may be filled.
SEQUENCES: Mapping[str, str] = {
    "alembic_version": "s",
    "audit_anchor": "si",
    "audit_checkpoint": "sid",
    "audit_cosignature": "siu",
    "audit_detail": "su",
    "audit_event": "si",
    "audit_head": "siu",
    "audit_hold": "s",
    "audit_hold_subject": "s",
    "audit_key": "si",
    "audit_leaf": "si",
    "audit_manifest": "s",
    "audit_manifest_token": "s",
    "audit_origin": "si",
    "audit_pending": "sd",
    "audit_pruned": "si",
    "audit_review": "s",
    "audit_tile": "siu",
}
"""What the role that sequences, anchors and prunes may do."""
SEQUENCER_FUNCTIONS = ("yinyom_prune(text)", "yinyom_stop_holds()")
# Closed since migration 0024, and open again after a dump that was read back without privileges.
_SHUT_FUNCTIONS = (*SEQUENCER_FUNCTIONS, "yinyom_queue_event()")
_READ_BY_ALL = dict.fromkeys(SEQUENCES, "s")
WORKS: Mapping[str, str] = _READ_BY_ALL | {
    "access_token": "sid",
    "approval": "siu",
    "audit_detail": "siu",
    "audit_event": "si",
    "audit_hold": "siu",
    "audit_hold_subject": "sid",
    "audit_manifest": "si",
    "audit_manifest_token": "si",
    "audit_review": "si",
    "backup_progress": "siu",
    "backup_set": "siud",
    "change": "sid",
    "change_head": "siu",
    "client": "siu",
    "consent_event": "si",
    "consent_state": "siu",
    "contact_claim": "siud",
    "contact_code": "siud",
    "contact_point": "siud",
    "coupon": "siud",
    "duplicate": "siud",
    "epoch": "siu",
    "guardian": "siu",
    "idempotency": "siud",
    "import_mark": "sid",
    "import_part": "sid",
    "import_row": "siu",
    "import_run": "siu",
    "import_upload": "siu",
    "job": "siud",
    "loyalty_account": "siud",
    "loyalty_merge": "siud",
    "member": "siu",
    "member_budget": "sid",
    "member_gate": "siu",
    "member_merge": "siud",
    "note_finding": "sid",
    "notice": "si",
    "outbox": "siud",
    "pairwise_id": "siud",
    "points_entry": "siu",
    "points_lot": "siud",
    "portal_session": "siud",
    "purchase": "siu",
    "registry_fact": "siu",
    "restriction": "siu",
    "rights_export": "sid",
    "rights_ledger": "siu",
    "rights_request": "siu",
    "staff": "siu",
    "staff_session": "siud",
    "suppression": "sid",
    "vault_bucket": "siud",
    "vault_destroyed": "siud",
    "vault_index": "siud",
    "vault_key": "siud",
    "vault_rekey": "siud",
    "vault_ring": "siu",
    "vault_rotation": "siu",
    "vault_tag": "sid",
    "vault_unbacked": "sid",
    "webhook": "siu",
    "webhook_delivery": "siud",
}
"""What the role of the servers may do, where another one sequences."""


def decided(settings: Settings) -> Mapping[str, str]:
    """Give what the role of `database.url` may do: it sequences as well, unless another does."""
    if sequenced_apart(settings):
        return WORKS
    return {
        table: "".join(one for one in PRIVILEGES if one in may + SEQUENCES.get(table, ""))
        for table, may in WORKS.items()
    }


def sequenced_apart(settings: Settings) -> bool:
    """Say whether another role than that of `database.url` sequences the log."""
    return bool(settings.database.sequencer_url) or settings.audit.sequencer == "elsewhere"


_NAME = re.compile(r"[a-z_][a-z0-9_$]{0,62}")
# Whoever owns the schema drops what is in it; who may make roles makes himself an owner.
_OWNED = """
SELECT (SELECT count(*) FROM pg_class
    WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'
    AND pg_has_role(current_user, relowner, 'MEMBER'))
+ (SELECT count(*) FROM pg_namespace
    WHERE oid = current_schema()::regnamespace AND pg_has_role(current_user, nspowner, 'MEMBER'))
+ (SELECT count(*) FROM pg_roles
    WHERE rolname = current_user AND (rolsuper OR rolcreaterole))
"""
_PRIVILEGES = """
SELECT relname, has_table_privilege(oid, 'SELECT') AS s, has_table_privilege(oid, 'INSERT') AS i,
    has_table_privilege(oid, 'UPDATE') AS u, has_table_privilege(oid, 'DELETE') AS d,
    has_table_privilege(oid, 'TRUNCATE') OR has_table_privilege(oid, 'TRIGGER')
    OR has_any_column_privilege(oid, 'UPDATE') AND NOT has_table_privilege(oid, 'UPDATE')
    OR has_any_column_privilege(oid, 'INSERT') AND NOT has_table_privilege(oid, 'INSERT') AS more
FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'
"""
_CALLABLE = """
SELECT proname FROM pg_proc
WHERE pronamespace = current_schema()::regnamespace AND proname LIKE 'yinyom\\_%'
AND has_function_privilege(oid, 'EXECUTE')
"""


def grants(role: str, may: Mapping[str, str], functions: Sequence[str] = ()) -> list[str]:
    """Write the statements that give a role what it needs, and take everything else away.

    A table that nobody has decided on is granted to nobody.
    """
    if _NAME.fullmatch(role) is None:
        raise ConfigurationError(
            "a role is named by up to 63 of a-z, 0-9 and _", reason="role_name"
        )
    lines = [
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC",
        f'REVOKE ALL ON SCHEMA public FROM "{role}"',
        f'REVOKE ALL ON ALL TABLES IN SCHEMA public FROM "{role}"',
        f'GRANT USAGE ON SCHEMA public TO "{role}"',
    ]
    lines += [f'REVOKE ALL ON FUNCTION {each} FROM PUBLIC, "{role}"' for each in _SHUT_FUNCTIONS]
    for table, letters in sorted(may.items()):
        privileges = ", ".join(PRIVILEGES[one] for one in letters)
        lines.append(f'GRANT {privileges} ON {table} TO "{role}"')
    lines += [f'GRANT EXECUTE ON FUNCTION {each} TO "{role}"' for each in functions]
    return lines


def all_grants(settings: Settings) -> list[str]:
    """Write the statements for every role that the settings name."""
    apart = sequenced_apart(settings)
    functions = () if apart else SEQUENCER_FUNCTIONS
    lines = grants(working_role(settings), decided(settings), functions)
    if settings.database.sequencer_url:
        role = _role_of(settings.database.sequencer_url, "database.sequencer_url")
        lines += grants(role, SEQUENCES, SEQUENCER_FUNCTIONS)
    return lines


def working_role(settings: Settings) -> str:
    """Give the role of `database.url`, or say that it has none of its own."""
    if not settings.on_postgres:
        raise ConfigurationError(
            "only PostgreSQL has roles", remedy="Set database.url to postgresql://…"
        )
    return _role_of(settings.database.url, "database.url")


def _role_of(url: str, setting: str) -> str:
    from sqlalchemy import make_url

    role = make_url(url).username
    if role is None:
        raise ConfigurationError(f"{setting} names no role", remedy="Write postgresql://ROLE@…")
    return role


async def apply_grants(settings: Settings) -> list[str]:
    """Give the roles at work their grants, as the owner; gives the statements.

    `ConfigurationError` without a `database.owner_url` of another role, or when it may not.
    """
    import asyncpg

    from kernel.postgres import driver_dsn

    role = working_role(settings)
    if not settings.database.owner_url:
        raise ConfigurationError(
            "there is no database.owner_url", remedy="Name the role that owns the tables there."
        )
    lines = all_grants(settings)
    roles = {role}
    if settings.database.sequencer_url:
        roles.add(_role_of(settings.database.sequencer_url, "database.sequencer_url"))
    try:
        connection = await asyncpg.connect(driver_dsn(settings.database.owner_url), timeout=10)
        try:
            if await connection.fetchval("SELECT current_user") in roles or (
                settings.database.sequencer_url and len(roles) == 1
            ):
                raise ConfigurationError(
                    "two addresses of [database] name the same role",
                    remedy=f"Make another: CREATE ROLE {role}_app LOGIN PASSWORD '…'.",
                )
            async with connection.transaction():
                for line in lines:
                    await connection.execute(line)
        finally:
            await connection.close()
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise ConfigurationError(
            f"the owner could not give the grants ({type(error).__name__})",
            remedy=f"Make the role first: CREATE ROLE {role} LOGIN PASSWORD '…'; "
            "then check database.owner_url.",
        ) from error
    return lines


@dataclass(frozen=True, slots=True)
class Rights:
    """What a role has: how much it owns, what it may beyond what was decided, what it lacks."""

    owned: int
    surplus: tuple[str, ...]
    lacking: tuple[str, ...]


async def rights_of(url: str, may: Mapping[str, str], functions: Sequence[str] = ()) -> Rights:
    """Ask the server what the role of an address may do, and hold it against what it should."""
    import asyncpg

    from kernel.postgres import driver_dsn

    try:
        connection = await asyncpg.connect(driver_dsn(url), timeout=10)
        try:
            owned = int(await connection.fetchval(_OWNED))
            rows = await connection.fetch(_PRIVILEGES)
            callable_now = {row["proname"] for row in await connection.fetch(_CALLABLE)}
        finally:
            await connection.close()
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise ConfigurationError(
            "the database cannot be reached",
            remedy="Check database.url and that PostgreSQL is running.",
        ) from error
    has = {row["relname"]: {one for one in PRIVILEGES if row[one]} for row in rows}
    wanted = {each.partition("(")[0] for each in functions}
    surplus = {row["relname"] for row in rows if row["more"]} | (callable_now - wanted)
    surplus |= {table for table, those in has.items() if those - set(may.get(table, ""))}
    lacking = {table for table, letters in may.items() if set(letters) - has.get(table, set())}
    lacking |= wanted - callable_now
    return Rights(owned, tuple(sorted(surplus)), tuple(sorted(lacking)))


async def check_role(settings: Settings) -> None:
    """Refuse to start under roles that cannot work, or that may more than a required one should."""
    if settings.audit.sequencer == "elsewhere" and not settings.on_postgres:
        raise ConfigurationError(
            'audit.sequencer is "elsewhere", and SQLite has one process',
            remedy="Set database.url to PostgreSQL, or take the setting back.",
        )
    if not settings.database.require_separate_role:
        return
    if not settings.on_postgres:
        raise ConfigurationError(
            "database.require_separate_role is set, and SQLite has no roles",
            remedy="Set database.url to PostgreSQL, or take the setting back.",
        )
    for setting, url, may, functions in _at_work(settings):
        rights = await rights_of(url, may, functions)
        if rights.owned:
            raise ConfigurationError(
                f"the role of {setting} owns the tables and could switch their guards off",
                reason="role_owns_tables",
                remedy="Make a role for the servers, name the owner in database.owner_url, "
                "and run `yinyom database roles --apply`.",
            )
        wrong = rights.surplus or rights.lacking
        if wrong:
            raise ConfigurationError(
                f"the role of {setting} has {'more' if rights.surplus else 'fewer'} rights than "
                f"decided, on {', '.join(wrong[:3])}",
                reason="role_rights",
                remedy="Run `yinyom database roles --apply` as the owner.",
            )


def _at_work(
    settings: Settings,
) -> list[tuple[str, str, Mapping[str, str], Sequence[str]]]:
    functions = () if sequenced_apart(settings) else SEQUENCER_FUNCTIONS
    found: list[tuple[str, str, Mapping[str, str], Sequence[str]]] = [
        ("database.url", settings.database.url, decided(settings), functions)
    ]
    apart = settings.database.sequencer_url
    if apart and settings.audit.sequencer == "here":
        found.append(("database.sequencer_url", apart, SEQUENCES, SEQUENCER_FUNCTIONS))
    return found


async def role_opinion(settings: Settings) -> tuple[str, str]:
    """Say for the doctor whether the roles at work could switch the guards off."""
    for setting, url, may, functions in _at_work(settings):
        rights = await rights_of(url, may, functions)
        if rights.owned:
            return "warn", "the run-time role owns the tables: the trail's guards are a speed bump"
        if rights.lacking:
            return "bad", f"{setting} lacks rights on {', '.join(rights.lacking[:3])}"
        if rights.surplus:
            return "warn", f"{setting} has more rights than it needs on {rights.surplus[0]}"
    return "ok", f"{working_role(settings)} owns no table"
