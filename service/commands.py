"""Everything the command line can ask of an open registry.

Each command is a coroutine over a runtime with arguments and an answer that are plain JSON, so
the same code runs inside the command line's own process or, when a server has the SQLite
registry open, inside the server, asked over its control socket.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from audit import verify_stored_log
from consent import consent_counts
from kernel import FieldProblem, InvalidRequestError, MemberId, NotFoundError, is_id, rfc3339
from members import PROFILES, ImportReport, Profile
from service.audit_commands import AUDIT_COMMANDS
from service.backup_commands import BACKUP_COMMANDS
from service.consent_commands import CONSENT_COMMANDS
from service.database_roles import role_opinion
from service.health import readiness
from service.key_places import key_places, shared_places
from service.members_commands import MEMBERS_COMMANDS
from service.retention_commands import RETENTION_COMMANDS
from service.reviews import REVIEW_COMMANDS
from service.rights_commands import RIGHTS_COMMANDS
from service.runtime import Runtime
from service.search.opinion import search_opinion
from service.settings import NAME_PATTERN
from service.staff_commands import STAFF_COMMANDS
from service.tasks import system_caller
from service.vault_commands import VAULT_COMMANDS
from service.vault_doctor import check, vault_checks

Progress = Callable[[int, int], None]
Command = Callable[..., Awaitable[dict[str, Any]]]
_GRAVITY = {"jobs": "warn"}  # it has ended, and the log line says what; the rest goes on


async def clients_add(
    runtime: Runtime,
    _progress: Progress,
    *,
    name: str,
    scopes: list[str],
    brand: str,
    person: str | None = None,
    members_a_day: int | None = None,
) -> dict[str, Any]:
    """Register an internal app."""
    check_brand(brand)
    caller = system_caller("cli", brand)
    return await runtime.clients.add(
        caller, name, scopes, brand=brand, person=person, members_a_day=members_a_day
    )


async def clients_add_agent(
    runtime: Runtime, _progress: Progress, *, name: str, public_key: str, brand: str
) -> dict[str, Any]:
    """Register an authorised agent."""
    check_brand(brand)
    caller = system_caller("cli", brand)
    return await runtime.clients.add_agent(caller, name, public_key, brand=brand)


async def clients_list(runtime: Runtime, _progress: Progress) -> dict[str, Any]:
    """Describe every internal app."""
    return {"clients": await runtime.clients.list()}


async def clients_rotate(runtime: Runtime, _progress: Progress, *, client: str) -> dict[str, Any]:
    """Give an internal app a new secret."""
    return await runtime.clients.rotate(system_caller("cli"), client)


async def clients_revoke(runtime: Runtime, _progress: Progress, *, client: str) -> dict[str, Any]:
    """Revoke an internal app."""
    return await runtime.clients.revoke(system_caller("cli"), client)


async def members_import(
    runtime: Runtime,
    progress: Progress,
    *,
    path: str,
    brand: str,
    profile: str | None,
    region: str | None,
    dates: str | None,
    encoding: str | None,
    id_country: str | None,
    jurisdiction: str | None,
    columns: Mapping[str, str],
    dry_run: bool,
) -> dict[str, Any]:
    """Import a member file, or judge it without storing anything."""
    check_brand(brand)
    declared = _profile(profile).declare(
        phone_region=region,
        date_era=dates,
        encoding=encoding,
        id_country=id_country,
        columns=columns,
    )
    law = _jurisdiction(runtime, jurisdiction, declared.phone_region)
    began_us = runtime.clock.now_us()
    file = Path(path)
    error_file: str | None = None
    if dry_run:
        report = await asyncio.to_thread(runtime.imports.look, file, declared)
    else:
        caller = system_caller("cli", brand)
        report = await runtime.imports.run(
            caller, file, declared, brand=brand, jurisdiction=law, progress=progress
        )
        if report.quarantined:
            target = runtime.settings.data_dir / "imports" / f"{report.import_id}.error.csv"
            await runtime.imports.write_error_file(caller, report.import_id, target)
            error_file = str(target)
    seconds = (runtime.clock.now_us() - began_us) / 1_000_000
    return _import_answer(path, report, law, error_file, seconds) | {"dry_run": dry_run}


def check_brand(brand: str) -> None:
    """Refuse a brand that no client and no request could name."""
    if not re.fullmatch(NAME_PATTERN, brand):
        detail = "a brand is up to 41 of a-z, 0-9 and -, and begins with a letter or digit"
        raise InvalidRequestError(errors=[FieldProblem("/brand", "brand", detail)])


def _profile(name: str | None) -> Profile:
    if name is None:
        return PROFILES["plain"]
    if name not in PROFILES:
        known = ", ".join(sorted(PROFILES))
        raise InvalidRequestError(f"there is no such profile; known are {known}")
    return PROFILES[name]


def _jurisdiction(runtime: Runtime, named: str | None, region: str | None) -> str:
    known = set(runtime.pack.jurisdictions)
    if named is not None:
        if named not in known:
            raise InvalidRequestError(
                f"the policy pack has no such jurisdiction; it has {', '.join(sorted(known))}"
            )
        return named
    return region if region in known else runtime.settings.jurisdiction


def _import_answer(
    path: str, report: ImportReport, law: str, error_file: str | None, seconds: float
) -> dict[str, Any]:
    return {
        "file": path,
        "rows": report.rows,
        "accepted": report.accepted,
        "quarantined": report.quarantined,
        "exact_repeats": report.exact_repeats,
        "issues": dict(report.issues),
        "expires_at": _ends(report),
        "error_file": error_file,
        "seconds": round(seconds, 3),
        "import_id": report.import_id or None,
        "jurisdiction": law,
        "unknown_columns": list(report.unknown_columns),
    }


def _ends(report: ImportReport) -> str | None:
    """Say when what an import set aside is destroyed, where it set anything aside."""
    until_us = report.quarantine_until_us if report.quarantined else None
    return None if until_us is None else rfc3339(until_us)


async def members_erase(runtime: Runtime, _progress: Progress, *, member: str) -> dict[str, Any]:
    """Erase one member, named by its staff id."""
    if not is_id("mem", member):
        raise NotFoundError("members are erased by their mem_ id", reason="member_unknown")
    now_us = runtime.clock.now_us()
    async with runtime.database.unit_of_work() as work:
        erased = await runtime.members.erase(
            work, system_caller("cli"), MemberId(member), now_us=now_us
        )
    return {"keys_destroyed": erased.keys_destroyed, "audit_id": erased.audit_id}


async def members_find(
    runtime: Runtime, _progress: Progress, *, client: str, pairwise: str
) -> dict[str, Any]:
    """Give the staff id of what a client calls a member; written to the trail."""
    found = await runtime.clients.find(client)
    caller = system_caller("cli", found.brand)
    async with runtime.database.unit_of_work() as work:
        member_id = await runtime.members.resolve_for(work, pairwise, found.id, found.brand)
        await runtime.audit.record(
            work,
            caller,
            "member.find",
            subject=await runtime.members.pseudonym(work, member_id),
            resource=f"client:{found.id}",
        )
    return {"member": member_id}


async def doctor(runtime: Runtime, _progress: Progress) -> dict[str, Any]:
    """Ask every part whether it is well; states are `ok`, `warn` or `bad`."""
    settings = runtime.settings
    ready = await readiness(runtime)
    checks = [
        {
            "check": name,
            "state": "ok" if state == "ok" else _GRAVITY.get(name, "bad"),
            "says": state,
        }
        for name, state in ready["checks"].items()
        if name != "anchors" and (name != "sequencer" or state != "stopped")
    ]
    checks += [
        *await vault_checks(runtime),
        check("policy_pack", "ok", runtime.pack.digest),
        check("schema", "ok", "up to date"),
    ]
    checks.append(check("search", *await search_opinion(runtime)))
    backups = await runtime.backups.status()
    checks.append(check("backup", "warn" if backups["state"] != "ok" else "ok", backups["says"]))
    shared = shared_places(key_places(settings, backups.get("store")))
    checks += [check("key_places", place.state, place.says) for place in shared]
    report, misleading = await verify_stored_log(runtime.database, runtime.audit)
    sound = report.ok and not misleading
    checks.append(
        check("log", "ok" if sound else "bad", f"{report.size} events" if sound else "damaged")
    )
    if runtime.witnesses:
        await runtime.witnesses.ask()
        checks.append(check("witnesses", *await runtime.witnesses.opinion()))
    if runtime.anchors:
        await runtime.anchors.anchor()
        checks.append(check("anchors", *await runtime.anchors.opinion()))
    if settings.on_postgres:
        checks.append(check("database_role", *await role_opinion(settings)))
    async with runtime.database.read() as session:
        consents = await consent_counts(session)
    return {
        "ok": all(check["state"] != "bad" for check in checks),
        "checks": checks,
        "consents": [
            {"purpose": p, "channel": c or None, "status": s.value, "members": n}
            for p, c, s, n in consents
        ],
    }


COMMANDS: Mapping[str, Command] = {
    **AUDIT_COMMANDS,
    **BACKUP_COMMANDS,
    "clients.add": clients_add,
    "clients.add_agent": clients_add_agent,
    "clients.list": clients_list,
    "clients.rotate": clients_rotate,
    "clients.revoke": clients_revoke,
    "members.import": members_import,
    "members.erase": members_erase,
    "members.find": members_find,
    "doctor": doctor,
    **CONSENT_COMMANDS,
    **MEMBERS_COMMANDS,
    **RETENTION_COMMANDS,
    **REVIEW_COMMANDS,
    **RIGHTS_COMMANDS,
    **STAFF_COMMANDS,
    **VAULT_COMMANDS,
}
