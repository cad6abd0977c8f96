"""The two database roles of a PostgreSQL installation: one that owns, one that works.

Whoever owns a table can switch its guards off. So the tables belong to a role that only migrates
(`database.owner_url`), and the servers work under another one (`database.url`), which may add to
the trail and neither change nor delete what is in it, make no table and no trigger. Kept out is
whoever steals the password that lies on every server.
"""

import re
from collections.abc import Mapping, Sequence

from kernel import ConfigurationError
from service.settings import Settings

EVERYTHING = ("SELECT", "INSERT", "UPDATE", "DELETE")
_ADDS = ("SELECT", "INSERT")
# What the role at work may do where it is not everything. Triggers narrow it further: which
# checkpoint may be dropped, which body has had its time, which column of an entry may be filled.
LESS: Mapping[str, Sequence[str]] = {
    "audit_event": _ADDS,
    "audit_pending": ("SELECT", "DELETE"),
    "audit_leaf": _ADDS,
    "audit_tile": ("SELECT", "INSERT", "UPDATE"),
    "audit_checkpoint": ("SELECT", "INSERT", "DELETE"),
    "audit_cosignature": ("SELECT", "INSERT", "UPDATE"),
    "audit_head": ("SELECT", "INSERT", "UPDATE"),
    "audit_anchor": _ADDS,
    "audit_origin": _ADDS,
    "audit_pruned": _ADDS,
    "audit_hold": ("SELECT", "INSERT", "UPDATE"),
    "audit_hold_subject": ("SELECT", "INSERT", "DELETE"),
    "rights_ledger": ("SELECT", "INSERT", "UPDATE"),
    "consent_event": _ADDS,
    "notice": _ADDS,
    "alembic_version": ("SELECT",),
}
_NAME = re.compile(r"[a-z_][a-z0-9_$]{0,62}")
_OWNED = """
SELECT count(*) FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'
AND pg_has_role(current_user, relowner, 'MEMBER')
"""


def grants(role: str) -> list[str]:
    """Write the statements that give a role what the servers need, and take the rest away."""
    if _NAME.fullmatch(role) is None:
        raise ConfigurationError(
            "a role is named by up to 63 of a-z, 0-9 and _", reason="role_name"
        )
    everything = ", ".join(EVERYTHING)
    lines = [
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        f'REVOKE ALL ON ALL TABLES IN SCHEMA public FROM "{role}"',
        f'GRANT USAGE ON SCHEMA public TO "{role}"',
        f'GRANT {everything} ON ALL TABLES IN SCHEMA public TO "{role}"',
    ]
    for table, may in sorted(LESS.items()):
        never = ", ".join(one for one in EVERYTHING if one not in may)
        lines.append(f'REVOKE {never} ON {table} FROM "{role}"')
    return lines


def working_role(settings: Settings) -> str:
    """Give the role of `database.url`, or say that it has none of its own."""
    from sqlalchemy import make_url

    if not settings.on_postgres:
        raise ConfigurationError(
            "only PostgreSQL has roles", remedy="Set database.url to postgresql://…"
        )
    role = make_url(settings.database.url).username
    if role is None:
        raise ConfigurationError("database.url names no role", remedy="Write postgresql://ROLE@…")
    return role


async def apply_grants(settings: Settings) -> list[str]:
    """Give the role of `database.url` its grants, as the owner; gives the statements.

    `ConfigurationError` without a `database.owner_url` of another role, or when it may not.
    """
    import asyncpg

    from kernel.postgres import driver_dsn

    role = working_role(settings)
    if not settings.database.owner_url:
        raise ConfigurationError(
            "there is no database.owner_url", remedy="Name the role that owns the tables there."
        )
    lines = grants(role)
    try:
        connection = await asyncpg.connect(driver_dsn(settings.database.owner_url), timeout=10)
        try:
            if await connection.fetchval("SELECT current_user") == role:
                raise ConfigurationError(
                    "database.url and database.owner_url name the same role",
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


async def owned_tables(settings: Settings) -> int:
    """Count the tables that the role at work owns, itself or through a role it belongs to."""
    import asyncpg

    from kernel.postgres import driver_dsn

    try:
        connection = await asyncpg.connect(driver_dsn(settings.database.url), timeout=10)
        try:
            return int(await connection.fetchval(_OWNED))
        finally:
            await connection.close()
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise ConfigurationError(
            "the database cannot be reached",
            remedy="Check database.url and that PostgreSQL is running.",
        ) from error


async def check_role(settings: Settings) -> None:
    """Refuse to start under a role that owns the tables, where a separate one is required."""
    if not settings.database.require_separate_role:
        return
    if not settings.on_postgres:
        raise ConfigurationError(
            "database.require_separate_role is set, and SQLite has no roles",
            remedy="Set database.url to PostgreSQL, or take the setting back.",
        )
    if await owned_tables(settings):
        raise ConfigurationError(
            "the role of database.url owns the tables and could switch their guards off",
            reason="role_owns_tables",
            remedy="Make a role for the servers, name the owner in database.owner_url, "
            "and run `yinyom database roles --apply`.",
        )


async def role_opinion(settings: Settings) -> tuple[str, str]:
    """Say for the doctor whether the role at work could switch the guards off."""
    if await owned_tables(settings):
        return "warn", "the run-time role owns the tables: the trail's guards are a speed bump"
    return "ok", f"{working_role(settings)} owns no table"
