"""Whether the keys are well: what `yinyom vault doctor` asks, and what it says to do next.

Each check that fails says what is wrong, where, and what to do; a state is `ok`, `warn` or `bad`.
"""

import asyncio
import resource
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kernel import ReadSession, from_rfc3339, rfc3339
from service.files import RECOVERY_KIT_FILE
from service.log_key import version_of
from service.runtime import Runtime
from service.settings import Settings
from service.tasks import DAY_US, HOUR_US
from vault import KeyRingError, Kit, RingBackupState, key_counts, rotation_status

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_PROVEN_DAYS = 180
_DRILL_DAYS = 45
_MOST_WAITING = 10_000


def check(name: str, state: str, says: str) -> dict[str, str]:
    """Give one line of a doctor's answer."""
    return {"check": name, "state": state, "says": says}


async def vault_checks(runtime: Runtime) -> list[dict[str, str]]:
    """Ask everything about keys, kits and ring backups."""
    now_us = runtime.clock.now_us()
    status = await runtime.backups.status()
    async with runtime.database.read() as session:
        versions = await _versions(runtime, session)
        sealed = await _sealed(runtime, session)
    return [
        await _key_ring(runtime),
        versions,
        sealed,
        *await _ring_backup(runtime, now_us),
        _kit_here(runtime.settings),
        _modes(runtime.settings),
        _cores(),
        *_recipients(runtime, status),
        _drill(status, now_us),
    ]


async def _key_ring(runtime: Runtime) -> dict[str, str]:
    ring = runtime.vault.buckets.ring
    health = await asyncio.to_thread(runtime.vault.kms_health)
    roots = ", ".join(str(version) for version in ring.versions)
    says = f"KMS {ring.provider.name} {health.version}: {health.says}; ring roots in use: {roots}"
    seeds = ring.log_seeds()
    now = version_of(runtime.log_key.signer, seeds)
    says += f"; the log's key is version {now}"
    if any(version > now for version in seeds):
        says += ", and its next one is made"
    if health.ok and any(version < now for version in seeds):
        says += ", and an older one is not destroyed yet: run `yinyom audit rotate-key`"
        return check("key_ring", "warn", says)
    return check("key_ring", "ok" if health.ok else "bad", says)


async def _versions(runtime: Runtime, session: ReadSession) -> dict[str, str]:
    counts = await key_counts(session)
    newest: dict[str, int] = {}
    for kind, version, _ in counts:
        newest[kind] = max(version, newest.get(kind, 0))
    old = sum(count for kind, version, count in counts if version < newest[kind])
    status = await rotation_status(session)
    newest_root = runtime.vault.ring_version
    old_roots = sum(count for version, count in status.roots if version < newest_root)
    says = (
        f"{sum(count for _, _, count in counts)} keys, {old} of an older version of their kind; "
        f"ring root {newest_root}, {old_roots} bucket keys under older ones, "
        f"{status.behind} members' keys under replaced bucket keys"
    )
    if status.under_way:
        going = ", ".join(status.under_way)
        return check("key_versions", "warn", f"{says}; under way or cut short: {going}")
    return check("key_versions", "ok", says)


async def _sealed(runtime: Runtime, session: ReadSession) -> dict[str, str]:
    status = await rotation_status(session)
    last = status.last.get("seal")
    when = "never sealed" if last is None else f"last sealed on {rfc3339(last.began_us)}"
    says = f"{when}; {status.destroyed} keys destroyed since, in {status.touched} buckets"
    nightly = runtime.settings.vault.seal_every_hours
    if status.destroyed and not nightly:
        return check(
            "seal", "warn", f"{says}: run `yinyom vault seal`, or set vault.seal_every_hours"
        )
    return check("seal", "ok", says)


async def _ring_backup(runtime: Runtime, now_us: int) -> list[dict[str, str]]:
    """Say how old the ring backup is, whom it lacks, and which kits were tried when."""
    try:
        state = await runtime.ring_backups.state()
        kits = runtime.ring_backups.kits.all()
    except KeyRingError as error:
        return [check("ring_backup", "bad", f"{error}; run `yinyom init`, which makes a new one")]
    return [
        _newest(state, runtime.settings.vault.ring_backup_hours, now_us),
        _waiting(state),
        _kits(kits, now_us),
    ]


def _newest(state: RingBackupState, every_hours: int, now_us: int) -> dict[str, str]:
    if state.newest is None:
        return check("ring_backup", "bad", "there is none: run `yinyom init`, which makes one")
    hours = (now_us - state.newest.made_us) // HOUR_US
    says = (
        f"number {state.newest.number} of {rfc3339(state.newest.made_us)}, {hours} h old, "
        f"{state.newest.keys} keys in it"
    )
    if hours > 2 * every_hours:
        return check(
            "ring_backup",
            "bad",
            f"{says}: it should be made every {every_hours} h; is the server running?",
        )
    return check("ring_backup", "ok", says)


def _waiting(state: RingBackupState) -> dict[str, str]:
    says = f"{state.waiting} members are in no ring backup yet"
    if state.waiting > _MOST_WAITING:
        return check(
            "members_in_no_ring_backup",
            "bad",
            f"{says}, and nobody could bring them back without the KMS root: "
            "start the server, or run `yinyom vault recovery-kit --refresh`",
        )
    return check("members_in_no_ring_backup", "ok", says)


def _kits(kits: list[Kit], now_us: int) -> dict[str, str]:
    if not kits:
        return check(
            "recovery_kit_proven",
            "bad",
            "none is known: run `yinyom vault recovery-kit --new FILE`",
        )
    proven = [kit.proven_us for kit in kits if kit.proven_us is not None]
    ask = "`yinyom vault recovery-kit --check FILE`"
    if not proven:
        return check("recovery_kit_proven", "warn", f"no kit was ever tried here: run {ask}")
    says = f"{len(kits)} known, one proven on {rfc3339(max(proven))}"
    if now_us - max(proven) > _PROVEN_DAYS * DAY_US:
        return check("recovery_kit_proven", "warn", f"{says}: that is long ago, run {ask}")
    return check("recovery_kit_proven", "ok", says)


def _kit_here(settings: Settings) -> dict[str, str]:
    if (settings.data_dir / RECOVERY_KIT_FILE).exists():
        return check(
            "recovery_kit",
            "warn",
            "still in the data directory: move it to a safe place off this machine",
        )
    return check("recovery_kit", "ok", "not on this machine")


def _modes(settings: Settings) -> dict[str, str]:
    open_to_others = [file.name for file in _private(settings) if file.lstat().st_mode & _OTHERS]
    if open_to_others:
        names = ", ".join(sorted(open_to_others))
        return check(
            "key_files",
            "bad",
            f"other users of this machine may touch {names}: chmod go= them, and rotate",
        )
    return check("key_files", "ok", "for their owner alone")


def _private(settings: Settings) -> Iterable[Path]:
    yield settings.keys_dir
    yield from settings.keys_dir.rglob("*")
    kit = settings.data_dir / RECOVERY_KIT_FILE
    if kit.exists():
        yield kit
    if settings.kms.root_file is not None and settings.kms.root_file.exists():
        yield settings.kms.root_file


def _cores() -> dict[str, str]:
    soft, _ = resource.getrlimit(resource.RLIMIT_CORE)
    if soft != 0:
        return check(
            "core_dumps",
            "warn",
            "this process may leave its memory in a core file: set LimitCORE=0 in its service",
        )
    return check("core_dumps", "ok", "off")


def _recipients(runtime: Runtime, status: dict[str, Any]) -> list[dict[str, str]]:
    """Compare whom backups are sealed to with the kits, which no writer of the database sets."""
    if not status.get("configured"):
        return []
    known = {kit.recipient for kit in runtime.ring_backups.kits.all()}
    strangers = [one for one in status["recipients"] if one not in known]
    if strangers:
        says = f"backups open to {', '.join(strangers)} too, which is no recovery kit known here"
        ask = "`yinyom vault recovery-kit --add-recipient` if it is yours; else look who wrote it"
        return [check("backup_recipients", "warn", f"{says}: {ask}")]
    return [check("backup_recipients", "ok", "the recovery kits, and nobody else")]


def _drill(status: dict[str, Any], now_us: int) -> dict[str, str]:
    if not status.get("configured"):
        return check("drill", "warn", "no backup store: `yinyom backup init --store …`")
    last = status.get("last_drill")
    if last is None:
        return check("drill", "warn", "never: run `yinyom backup drill --kit FILE`")
    if now_us - from_rfc3339(last) > _DRILL_DAYS * DAY_US:
        return check(
            "drill", "warn", f"last on {last}: once more, `yinyom backup drill --kit FILE`"
        )
    return check("drill", "ok", f"last on {last}")
