"""Setting an installation up: keys, recovery kit, database, policy pack. Safe to run again.

Each step finds what an interrupted run left and goes on from there; nothing that exists is
overwritten, least of all a key.
"""

from dataclasses import dataclass
from pathlib import Path

from audit import AuditLog, RightsLedger, Signer
from consent import ConsentService
from disclosure import AUTH_EPOCH, POLICY_EPOCH
from kernel import (
    Clock,
    ConfigurationError,
    SystemClock,
    bump_epoch,
    fact,
    set_fact,
)
from policies import PackError, PolicyPack, check_succession, load_pack
from service.backups import kit_remark
from service.facts import FACT_ORIGIN, FACT_POLICY, FACT_RING, FACT_TENANT
from service.files import RECOVERY_KIT_FILE
from service.kms import make_ring, open_ring
from service.lock import DataDirLock
from service.log_key import log_signer
from service.ring_backups import recovery_kits, wire_ring_backups
from service.runtime import open_database
from service.schema import migrate
from service.settings import Settings
from service.tasks import system_caller
from vault import (
    KeyRing,
    Vault,
    write_recovery_kit,
)


@dataclass(frozen=True, slots=True)
class Setup:
    """What `init` made or found."""

    data_dir: Path
    recovery_kit: Path
    kit_is_new: bool
    policy_digest: str
    vkey: str
    engine: str


async def set_up(settings: Settings, *, clock: Clock | None = None) -> Setup:
    """Make keys, recovery kit, database and policy, or finish making them."""
    clock = clock or SystemClock()
    _make_data_dir(settings)
    lock = DataDirLock(settings.data_dir)
    if not settings.on_postgres and not lock.acquire():
        raise ConfigurationError(
            "another process has this registry open", remedy="Stop it first, then run init again."
        )
    try:
        pack = load_pack(settings.policies.pack_dir)
        ring = make_ring(settings)
        kit = settings.data_dir / RECOVERY_KIT_FILE
        kits = recovery_kits(settings)
        # One that was never tried was shown to nobody; a restored registry has its kit elsewhere.
        tried = any(known.proven_us is not None for known in kits.all())
        kit_is_new = not tried and (kit.exists() or not kits.all())
        if kit_is_new:
            made = write_recovery_kit(kit, ring.tenant, ring.id, kit_remark(ring))
            kits.add(made, clock.now_us())
        await migrate(settings)
        signer = await _log_signer(settings, ring)
        await _record(settings, ring, pack, AuditLog(signer, clock, pack.digest))
        # Last: an interrupted run must meet the kit that nobody was told of once more.
        await _prove(settings, ring, kit, clock)
    finally:
        lock.release()
    return Setup(
        settings.data_dir,
        kit,
        kit_is_new,
        pack.digest,
        signer.vkey,
        "postgresql" if settings.on_postgres else "sqlite",
    )


async def activate_policies(
    settings: Settings, active: PolicyPack | None = None, *, clock: Clock | None = None
) -> str:
    """Make the pack on disk the active one, with an event; gives its digest.

    Published wordings stay as they are: a pack that changes one is refused.
    """
    pack = load_pack(settings.policies.pack_dir)
    if active is not None and (findings := check_succession(active, pack)):
        raise PackError(findings)
    ring = open_ring(settings)
    signer = await _log_signer(settings, ring)
    await _record(settings, ring, pack, AuditLog(signer, clock or SystemClock(), pack.digest))
    return pack.digest


async def _log_signer(settings: Settings, ring: KeyRing) -> Signer:
    """Give the signer of the log under the configured name."""
    database = open_database(settings)
    try:
        async with database.read() as session:
            return await log_signer(session, ring.log_seeds(), settings.audit.origin)
    finally:
        await database.close()


def _make_data_dir(settings: Settings) -> None:
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings.keys_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            "the data directory cannot be made",
            remedy="Choose another with --data-dir, or make its parent writable.",
        ) from error


async def _record(settings: Settings, ring: KeyRing, pack: PolicyPack, audit: AuditLog) -> None:
    """Write down which ring, log and policy this database belongs to."""
    database = open_database(settings)
    try:
        async with database.unit_of_work() as work:
            known = await fact(work, FACT_RING)
            if known is not None and known != ring.id:
                raise ConfigurationError(
                    "this database belongs to another key ring",
                    remedy="Put back the keys directory that was made with this database.",
                )
            origin = await fact(work, FACT_ORIGIN)
            if origin is not None and origin != audit.origin:
                raise ConfigurationError(
                    "audit.origin is not the name under which this log was begun",
                    remedy="Set audit.origin back; a log keeps its name.",
                )
            if known is None:
                await set_fact(work, FACT_RING, ring.id)
                await set_fact(work, FACT_TENANT, ring.tenant)
                await set_fact(work, FACT_ORIGIN, audit.origin)
                await bump_epoch(work, AUTH_EPOCH)
            if await fact(work, FACT_POLICY) != pack.digest:
                await set_fact(work, FACT_POLICY, pack.digest)
                await bump_epoch(work, POLICY_EPOCH)
                rights = RightsLedger(ring.secret("ledger-tag"), SystemClock())
                consent = ConsentService(pack, audit, rights, Vault(ring, pads=pack.pads))
                await consent.publish_notices(work)
                await audit.record(work, system_caller("cli"), "policy.activate")
        await database.drain()
    finally:
        await database.close()


async def _prove(settings: Settings, ring: KeyRing, kit: Path, clock: Clock) -> None:
    """Make a ring backup unless there is one, and open it with the kit, read from its file."""
    database = open_database(settings)
    try:
        vault = Vault(ring, bucket_bits=settings.vault.bucket_bits)
        backups = wire_ring_backups(settings, database, vault, clock)
        if (await backups.state()).newest is None:
            await backups.refresh()
        if _is_here(kit):
            await backups.prove(kit)
    finally:
        await database.close()


def _is_here(kit: Path) -> bool:
    return kit.exists()
