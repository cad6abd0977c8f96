"""`yinyom vault recovery-kit --recover`: a registry whose KMS root is lost gets a new one.

Nothing else may have the registry open. The new root and ring are made in a folder beside the
key ring; the database follows, page by page; and only when it stands wholly under the new ring do
the files come to their places and a ring backup of them is made and read back. So a process that
dies is gone on with by the same command, with the same new ring, and there is no moment at which a
living key is under nothing.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from audit import AuditLog, RightsLedger, log_name
from disclosure import forget_webhooks
from kernel import Clock, ConfigurationError, Database, SystemClock, UnitOfWork, fact
from policies import load_pack
from service.facts import FACT_RING
from service.files import KEY_RING_FILE, KMS_ROOT_FILE
from service.kms import new_key_provider, open_ring
from service.lock import DataDirLock
from service.log_key import log_signer
from service.ring_backups import recovery_kits, ring_folder, wire_ring_backups
from service.rotations import key_steps
from service.runtime import open_database
from service.schema import check_schema
from service.settings import Settings
from service.tasks import system_caller
from vault import (
    KeyRing,
    KeyRingError,
    Recoverable,
    Recovered,
    Recovering,
    RingBackup,
    RingFolder,
    Vault,
    destroy_private,
    identities_of,
    log_seeds_in,
    newest_ring_root,
    open_key_ring,
    read_private,
    renew_key_ring,
    write_private,
)

_DRAFT = "recovering"
Progress = Callable[[int, int], None]


async def recover(
    settings: Settings,
    kit: Path,
    *,
    ring_folder_at: Path | None,
    accept_loss: bool,
    progress: Progress,
    clock: Clock | None = None,
) -> dict[str, Any]:
    """Bring members back with a kit and the newest ring backup; safe to run again.

    Raises:
        ConfigurationError: Something has the registry open, its key ring opens after all, the
            kit does not fit, or members would be lost and nobody said that this is accepted.
    """
    clock = clock or SystemClock()
    lock = DataDirLock(settings.data_dir)
    if not lock.acquire():
        raise ConfigurationError(
            "another process has this registry open", remedy="Stop it first, on every machine."
        )
    try:
        draft = settings.keys_dir / _DRAFT
        _refuse_if_it_opens(settings, draft)
        folder = RingFolder(ring_folder_at) if ring_folder_at else ring_folder(settings)
        newest = folder.newest()
        if newest is None:
            raise KeyRingError(
                f"there is no ring backup in {folder.path.name}/",
                remedy="Put the folder ring-backup/ of the keys back, or say where one is with "
                "--ring-backup; a backup store has one too: `yinyom backup restore`.",
            )
        identities = identities_of(kit)
        backup = await asyncio.to_thread(folder.open, newest, identities)
        await check_schema(settings)
        database = open_database(settings)
        try:
            return await _recover(
                settings,
                database,
                backup,
                [str(one.to_public()) for one in identities],
                kit,
                accept_loss=accept_loss,
                progress=progress,
                clock=clock,
            )
        finally:
            await database.close()
    finally:
        lock.release()


async def _recover(
    settings: Settings,
    database: Database,
    backup: RingBackup,
    recipients: list[str],
    kit: Path,
    *,
    accept_loss: bool,
    progress: Progress,
    clock: Clock,
) -> dict[str, Any]:
    async with database.read() as session:
        name = await log_name(session, settings.audit.origin)
        # A ring backup from before the log's key was rotated could sign nothing here.
        signer = await log_signer(session, log_seeds_in(backup.secrets()), name)
        if await fact(session, FACT_RING) != backup.id:
            raise KeyRingError("this ring backup is of another registry than the database")
        root = await newest_ring_root(session)
        rights = RightsLedger(backup.secret("ledger-tag"), clock)
        gone = await rights.erased(session)
    ring = _new_ring(settings, backup, root)
    pack = load_pack(settings.policies.pack_dir)
    audit = AuditLog(signer, clock, pack.digest)
    recovering = Recovering(
        database, ring, backup, lambda owner: rights.tag(owner) in gone, key_steps(audit)
    )
    found = await recovering.look()
    if found.lost and not accept_loss:
        raise _would_lose(found)
    webhooks = 0

    async def last(work: UnitOfWork, done: Recovered) -> None:
        nonlocal webhooks
        if done.again:
            return
        webhooks = await forget_webhooks(work)
        await audit.record(
            work,
            system_caller("cli"),
            "vault.recover",
            resource=f"ring-root:{ring.version}",
            count=done.keys,
            reason=f"lost:{done.lost}" if done.lost else None,
            decision="allow",
        )

    done = await recovering.run(progress, last)
    recovery_kits(settings).add(recipients, clock.now_us())
    _put_in_place(settings, ring.version)
    vault = Vault(open_ring(settings), bucket_bits=settings.vault.bucket_bits, pads=pack.pads)
    backups = wire_ring_backups(settings, database, vault, clock)
    await backups.refresh()
    proof = await backups.prove(kit)
    _sweep(settings.keys_dir / _DRAFT)
    return {
        "keys": done.keys,
        "lost": done.lost,
        "members_lost": found.owners_lost,
        "erased": done.erased,
        "ring_version": ring.version,
        "ring_backup": proof.number,
        "webhooks": webhooks,
        "vkey": signer.vkey,
    }


def _refuse_if_it_opens(settings: Settings, draft: Path) -> None:
    """A registry that opens has lost nothing: a recovery would only drop what is newer."""
    if (draft / KEY_RING_FILE).exists():
        return  # an earlier recovery was cut short
    try:
        open_ring(settings)
    except KeyRingError:
        return
    if draft.exists():  # one that had only the sweeping up left to do
        _sweep(draft)
    raise ConfigurationError(
        "the key ring opens: there is nothing to recover",
        remedy="To change the root of the KMS, run `yinyom vault rotate --kms`.",
    )


def _new_ring(settings: Settings, backup: RingBackup, root: int) -> KeyRing:
    """Make the new root and ring beside the lost one, or take up what a dead process made."""
    draft = settings.keys_dir / _DRAFT
    path = draft / KEY_RING_FILE
    kms = settings.kms.model_copy(update={"root_file": None})
    draft.mkdir(mode=0o700, exist_ok=True)
    provider = new_key_provider(kms, draft)
    if path.exists():
        return open_key_ring(path, provider, erasable_dir=kms.erasable_dir)
    version = max(root, backup.version) + 1
    return renew_key_ring(
        path,
        provider,
        backup.id,
        backup.tenant,
        version,
        backup.secrets(),
        erasable_dir=kms.erasable_dir,
    )


def _put_in_place(settings: Settings, version: int) -> None:
    """Copy the new keys to where the settings say, the ring itself last."""
    draft = settings.keys_dir / _DRAFT
    files = sorted(draft.iterdir(), key=lambda file: (file.name == KEY_RING_FILE, file.name))
    wanted = {_place(settings, file.name) for file in files}
    old_roots = _place(settings, KMS_ROOT_FILE)
    for file in files:
        write_private(
            _place(settings, file.name), read_private(file, "a recovered key"), replace=True
        )
    for left in old_roots.parent.glob(f"{old_roots.name}.*"):
        if left.suffix[1:].isdecimal() and left not in wanted:
            destroy_private(left)
    if open_ring(settings).version != version:
        raise KeyRingError("the recovered key ring did not come to its place")


def _sweep(draft: Path) -> None:
    """Destroy the draft, the ring first: without it nobody takes the rest for a recovery."""
    for file in sorted(draft.iterdir(), key=lambda file: file.name != KEY_RING_FILE):
        destroy_private(file)
    draft.rmdir()


def _place(settings: Settings, name: str) -> Path:
    """Give where a file of keys belongs: the root may lie elsewhere than the ring."""
    root = settings.kms.root_file
    if root is not None and name.startswith(KMS_ROOT_FILE):
        return root.with_name(root.name + name.removeprefix(KMS_ROOT_FILE))
    return settings.keys_dir / name


def _would_lose(found: Recoverable) -> ConfigurationError:
    return ConfigurationError(
        f"{found.lost} keys of {found.owners_lost} members are in no ring backup: they registered "
        "after the newest one, and nothing brings them back",
        remedy="Look for a newer ring backup (--ring-backup, another machine). Where there is "
        "none, run this again with --accept-loss; nothing was changed.",
    )
