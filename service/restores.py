"""Reading a store without a registry: listing, verifying, planning, restoring, drilling.

All a new machine needs is the store's address and the recovery kit; the key that signs the
backups comes from the kit, or from the registry while there is one.
"""

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from audit import AuditLog, DetailLinks, RightsLedger, Signer
from backup import (
    Chosen,
    Identities,
    MayBeSigned,
    Progress,
    Replay,
    Restore,
    Restored,
    Shelf,
    check_hashes,
    check_presence,
    check_schema,
    find_log,
    log_portions,
    read_ledger,
    read_newest_ring,
    read_rows,
)
from consent import ConsentService
from dsar import Desk, Forgetting, RightsReplay
from kernel import Database, SystemClock, rfc3339
from loyalty import Loyalty
from members import EraseParticipant, Members
from policies import compile_access, load_pack
from service.anchors import Anchors
from service.auth.replay import replay_client
from service.backups import (
    DrillStaging,
    PostgresStaging,
    SqliteStaging,
    open_shelf,
    pinned_key,
    trusted_key,
)
from service.claims import Claims
from service.rights import rules_of
from service.schema import HEAD
from service.settings import Settings
from service.staff import TwoPersons, replay_staff
from service.tasks import system_caller
from vault import Vault

_SPREAD = 6
"""A restored registry takes at most so many times the stored bytes, indexes included."""


async def list_backups(
    settings: Settings, address: str, kit: Path | None, signer: str | None
) -> dict[str, Any]:
    """Name every backup of a store, the newest first; `trusted` says whether a key was known."""
    expected = signer or pinned_key(kit)
    shelf = await open_shelf(settings, address, expected)
    return {
        "trusted": expected is not None,
        "store": address,
        "store_id": shelf.store_id,
        "signer": shelf.vkey,
        "backups": [
            {
                "generation": m.generation,
                "set": m.id,
                "created": rfc3339(m.created_us),
                "rows": m.rows,
                "stored_bytes": m.stored_bytes,
                "engine": m.engine,
                "schema": m.schema,
                "audit_size": m.audit_size,
                "rights_position": m.rights_position,
                "recipients": list(m.recipients),
            }
            for m in reversed(shelf.manifests)
        ],
    }


async def verify_backup(
    settings: Settings,
    address: str,
    *,
    level: int,
    generation: int | None,
    kit: Path | None,
    signer: str | None,
    progress: Progress,
    known: int = 0,
) -> dict[str, Any]:
    """Verify a backup: 0 signatures and presence, 1 hashes, 2 contents; 3 is `drill_backup`.

    `known` is the newest generation that the registry remembers, here and below.
    """
    shelf = await open_shelf(settings, address, trusted_key(_kit(kit), signer))
    manifest = shelf.generation(generation, allow_older=True, known=known)
    answer: dict[str, Any] = {
        "ok": True,
        "level": level,
        "generation": manifest.generation,
        "set": manifest.id,
        "manifests": len(shelf.backups),
        "objects": await check_presence(shelf, manifest, progress),
    }
    if level > 0:
        answer["bytes"] = await check_hashes(shelf, manifest, progress)
    if level > 1:
        identities = Identities.of_kit(_kit(kit))
        answer |= await _check_contents(Chosen(shelf, manifest, identities), progress)
    return answer


async def _check_contents(chosen: Chosen, progress: Progress) -> dict[str, Any]:
    shelf, manifest, identities = chosen.shelf, chosen.manifest, chosen.identities
    rows = 0
    for table, objects in manifest.tables.items():
        for index in range(len(objects)):
            _, found = await read_rows(shelf, manifest, identities, table, index)
            rows += len(found)
            progress(rows, manifest.rows)
    ring = await read_newest_ring(shelf, identities)
    ledger = await read_ledger(shelf.store, identities, shelf.vkey, shelf.newest)
    log = await find_log(shelf, identities)
    events = 0
    async for portion in log_portions(shelf, identities, log):
        events += len(portion)
    return {
        "rows": rows,
        "keys": len(ring),
        "ledger_entries": len(ledger.placed) + len(ledger.unplaced),
        "events": events,
    }


async def plan_restore(
    settings: Settings,
    address: str,
    *,
    generation: int | None,
    allow_older: bool,
    kit: Path | None,
    signer: str | None,
    progress: Progress,
    known: int = 0,
) -> dict[str, Any]:
    """Say what a restore would do, having checked all that can be checked without a target."""
    chosen = await _choose(
        settings, address, generation, kit, signer, allow_older=allow_older, known=known
    )
    manifest = chosen.manifest
    check_schema(manifest, HEAD)
    objects = await check_presence(chosen.shelf, manifest, progress)
    ring = await read_newest_ring(chosen.shelf, chosen.identities)
    ledger = await read_ledger(
        chosen.shelf.store, chosen.identities, chosen.shelf.vkey, chosen.shelf.newest
    )
    since = [p.entry for p in ledger.placed if p.position > manifest.rights_position]
    kinds = [entry.kind for entry in (*since, *ledger.unplaced)]
    log = await find_log(chosen.shelf, chosen.identities)
    return {
        "generation": manifest.generation,
        "set": manifest.id,
        "created": rfc3339(manifest.created_us),
        "schema": manifest.schema,
        "rows": manifest.rows,
        "bytes": manifest.stored_bytes,
        "objects": objects,
        "keys": len(ring),
        "recipients": list(manifest.recipients),
        "rights_to_replay": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
        "log_grows_from": manifest.audit_size,
        "log_grows_to": log.size,
        "needs_free_bytes": manifest.stored_bytes * _SPREAD,
    }


async def restore_backup(
    settings: Settings,
    address: str,
    *,
    into: Path,
    database_url: str,
    generation: int | None,
    allow_older: bool,
    kit: Path | None,
    signer: str | None,
    progress: Progress,
    known: int = 0,
) -> dict[str, Any]:
    """Restore into an empty folder, or into an empty PostgreSQL database with keys in one."""
    chosen = await _choose(
        settings, address, generation, kit, signer, allow_older=allow_older, known=known
    )
    needed = chosen.manifest.stored_bytes * _SPREAD
    staging = (
        PostgresStaging(settings, database_url, into, needed)
        if database_url
        else SqliteStaging(settings, into, needed)
    )
    restored = await _restore(settings, chosen, _may_be_signed(settings)).run(staging, progress)
    return _told(restored) | {"into": str(into), "origin": chosen.manifest.origin}


async def drill_backup(
    settings: Settings,
    address: str,
    *,
    kit: Path | None,
    signer: str | None,
    progress: Progress,
    known: int = 0,
) -> dict[str, Any]:
    """Restore the newest backup into a throw-away place, check it, and measure how long it took."""
    began = time.monotonic()
    chosen = await _choose(settings, address, None, kit, signer, known=known)
    folder = Path(tempfile.mkdtemp(prefix="yinyom-drill-"))
    try:
        needed = chosen.manifest.stored_bytes * _SPREAD
        staging = DrillStaging(settings, folder / "restored", needed)
        restored = await _restore(settings, chosen).run(staging, progress)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _told(restored) | {"ok": True, "seconds": round(time.monotonic() - began, 3)}


async def _choose(
    settings: Settings,
    address: str,
    generation: int | None,
    kit: Path | None,
    signer: str | None,
    *,
    allow_older: bool = False,
    known: int,
) -> Chosen:
    identities = Identities.of_kit(_kit(kit))
    shelf: Shelf = await open_shelf(settings, address, trusted_key(_kit(kit), signer))
    manifest = shelf.generation(generation, allow_older=allow_older, known=known)
    return Chosen(shelf, manifest, identities)


def _may_be_signed(settings: Settings) -> MayBeSigned | None:
    """Give how the anchors are asked about the rebuilt log; None where there are none."""
    if not settings.audit.anchors:
        return None

    async def ask(database: Database, signer: Signer) -> str | None:
        return await Anchors(settings, database, signer.verifier, SystemClock()).certain()

    return ask


def _restore(
    settings: Settings, chosen: Chosen, may_be_signed: MayBeSigned | None = None
) -> Restore:
    clock = SystemClock()
    pack = load_pack(settings.policies.pack_dir)

    def participants(
        database: Database, vault: Vault, audit: AuditLog, consent: ConsentService
    ) -> Sequence[EraseParticipant]:
        # Everybody who takes part in an erasure (service/runtime.py), or it is not one.
        loyalty = Loyalty(database, pack, vault, audit, consent, clock)
        return (loyalty, Forgetting(), Claims(database, vault, audit, clock), DetailLinks())

    def replays(
        vault: Vault, audit: AuditLog, consent: ConsentService, rights: RightsLedger
    ) -> Sequence[Replay]:
        members = Members(pack, compile_access(pack), vault, audit, consent, rights)
        rules = rules_of(settings.rights)
        desk = Desk(pack, vault, audit, consent, members, rights, rules, TwoPersons())
        return (RightsReplay(desk, system_caller("cli"), clock), replay_client, replay_staff)

    return Restore(
        chosen,
        pack,
        clock,
        system_caller("cli"),
        participants,
        replays,
        bucket_bits=settings.vault.bucket_bits,
        schema=HEAD,
        may_be_signed=may_be_signed,
    )


def _kit(kit: Path | None) -> Path:
    return Path("recovery-kit.txt") if kit is None else kit


def _told(restored: Restored) -> dict[str, Any]:
    told = asdict(restored)
    created_us = told.pop("created_us")
    return told | {"created": rfc3339(created_us)}
