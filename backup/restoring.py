"""Restoring: data goes back to a day, rights and the trail go on to their newest state.

Everything is built beside the target and put there by one last step, so whatever fails leaves the
target as it was. Between loading and that step the rights ledger is done again (who was erased
stays erased, who said no is not asked to say it twice), the whole log is rebuilt and held against
its newest checkpoint, and blind indexes are made anew.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from audit import (
    AuditLog,
    KnownKeys,
    LogDamagedError,
    LogKey,
    NoteError,
    RightsEntry,
    RightsKind,
    RightsLedger,
    Sequencer,
    Signer,
    Verifier,
    origin_of,
    rebuild_log,
    refusal,
    settle_details,
    settle_reviews,
    verify_stored_log,
)
from backup import repository
from backup.classes import TableClass, tables_of
from backup.envelope import Identities, Recipients
from backup.errors import BadSignatureError, CorruptObjectError
from backup.ledger import ShippedLedger, read_ledger
from backup.manifest import Manifest, backup_signer
from backup.place import leave
from backup.reading import (
    Shelf,
    ShippedLog,
    check_presence,
    check_schema,
    find_log,
    log_portions,
    read_newest_ring,
    read_rows,
)
from backup.writing import Progress
from consent import ConsentService, replay_right, replay_suppression
from disclosure import begin_anew, forget_webhooks
from kernel import Caller, Clock, Database, MemberId, UnitOfWork, metadata
from members import EraseParticipant, Erasure, Reindex, Rows, member_ids
from policies import PolicyPack
from vault import KeyProvider, KeyRing, RingBackup, Vault

_PAGE = 500
_DAY_US = 86_400_000_000
Participants = Callable[[Database, Vault, AuditLog, ConsentService], Sequence[EraseParticipant]]
"""Makes the rooms above that forget their part of a member, on the database being restored."""
Replay = Callable[[UnitOfWork, MemberId | None, RightsEntry], Awaitable[bool]]
Replays = Callable[[Vault, AuditLog, ConsentService, RightsLedger], Sequence[Replay]]
"""Makes what does entries of rooms above again; each says whether an entry was its own."""
MayBeSigned = Callable[[Database, Signer], Awaitable[str | None]]
"""Asks the log's anchors whether a rebuilt log may be signed; gives the code why it may not."""


def _is_for_a_person(entry: RightsEntry) -> bool:
    return entry.kind in {RightsKind.GUARDIAN, RightsKind.MERGE}


class Staging(Protocol):
    """A place beside the target that becomes the target in one step, or vanishes."""

    key_ring: Path

    async def make(self) -> Database:
        """Make the empty schema and open it; `TargetNotEmptyError` when the target is not."""
        ...

    def provider(self) -> KeyProvider:
        """Make a new KMS root for the restored key ring."""
        ...

    async def keep(self, database: Database, vault: Vault, recipients: Recipients) -> None:
        """Keep what `init` keeps beside a key ring: its backup to the recipients."""
        ...

    async def put(self, database: Database) -> None:
        """Close the database and make it the target."""
        ...

    async def drop(self, database: Database | None) -> None:
        """Let everything vanish; the target is as it was."""
        ...


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which backup of which store is restored, with what key."""

    shelf: Shelf
    manifest: Manifest
    identities: Identities


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did."""

    generation: int
    set_id: str
    created_us: int
    rows: int
    keys: int
    erased_again: int
    replayed: Mapping[str, int]
    to_look_at: Mapping[str, int]
    findable: int
    log_size: int
    ledger_entries: int
    went_back: int
    policy_differs: bool
    log_refused: str | None


class Restore:
    """One restore of one backup into one staging place."""

    def __init__(
        self,
        chosen: Chosen,
        pack: PolicyPack,
        clock: Clock,
        caller: Caller,
        participants: Participants,
        replays: Replays,
        *,
        bucket_bits: int,
        schema: str,
        may_be_signed: MayBeSigned | None = None,
    ) -> None:
        self._may_be_signed = may_be_signed
        self._schema = schema
        self._chosen = chosen
        self._pack = pack
        self._clock = clock
        self._caller = caller
        self._participants = participants
        self._replays = replays
        self._bucket_bits = bucket_bits

    async def run(self, staging: Staging, progress: Progress) -> Restored:
        """Restore whole, or leave the target as it was."""
        chosen = self._chosen
        check_schema(chosen.manifest, self._schema)
        await check_presence(chosen.shelf, chosen.manifest, lambda _done, _total: None)
        ring = await read_newest_ring(chosen.shelf, chosen.identities)
        ledger = await read_ledger(
            chosen.shelf.store, chosen.identities, chosen.shelf.vkey, chosen.shelf.newest
        )
        database: Database | None = None
        try:
            database = await staging.make()
            key_ring = ring.write(staging.key_ring, staging.provider())
            self._check_ring(key_ring)
            bits, pads = self._bucket_bits, self._pack.pads
            vault = Vault(key_ring, bucket_bits=bits, pads=pads)
            restored = await self._fill(database, ring, key_ring, vault, ledger, progress)
            await staging.keep(database, vault, Recipients(chosen.manifest.recipients))
            await staging.put(database)
        except BaseException:
            await staging.drop(database)
            raise
        return restored

    def _check_ring(self, ring: KeyRing) -> None:
        """The ring inside must be the one whose key signs this store."""
        seed = ring.backup_seed()
        if backup_signer(ring.id, seed).vkey != self._chosen.shelf.vkey:
            raise BadSignatureError("the key ring in the store is not that of its signing key")

    async def _fill(
        self,
        database: Database,
        ring: RingBackup,
        key_ring: KeyRing,
        vault: Vault,
        ledger: ShippedLedger,
        progress: Progress,
    ) -> Restored:
        manifest = self._chosen.manifest
        log = await find_log(self._chosen.shelf, self._chosen.identities)
        signer = _signer(key_ring, log)
        if _public(manifest.log_key) not in _publics(key_ring, signer, log):
            raise BadSignatureError("the key ring in the store does not sign this log")
        audit = AuditLog(signer, self._clock, self._pack.digest)
        rights = RightsLedger(key_ring.secret("ledger-tag"), self._clock)
        consent = ConsentService(self._pack, audit, rights, vault)
        others = self._participants(database, vault, audit, consent)
        erasure = Erasure(self._pack, vault, audit, consent, rights, others)
        loaded = await self._load(database, progress)
        async with database.unit_of_work() as work:
            keys = await vault.adopt_keys(work, ring.each())
            webhooks = await forget_webhooks(work)
        log_size = await self._rebuild_log(database, signer, log)
        replays = self._replays(vault, audit, consent, rights)
        erased, replayed, to_look_at = await self._replay(
            database, erasure, rights, ledger, replays
        )
        await self._bring_ledger_back(database, rights, ledger)
        sequencer = Sequencer(
            database,
            signer,
            self._clock,
            guard=None
            if self._may_be_signed is None
            else partial(self._may_be_signed, database, signer),
        )
        await sequencer.start(background=False)
        reindex = Reindex(database, self._pack, vault, audit, consent)
        findable = await reindex.run(self._caller, progress)
        rows = Rows(database, vault, audit, rights, self._clock)
        went_back = await rows.settle(self._caller, since_us=manifest.created_us - _DAY_US)
        async with database.unit_of_work() as work:
            await leave(work)
            await begin_anew(work)
            await settle_details(work, audit, self._caller)
            await settle_reviews(work)
            await audit.record(
                work,
                self._caller,
                "backup.restore",
                resource=f"backup:{manifest.id}",
                count=manifest.generation,
                decision="allow",
            )
        await sequencer.stop()
        async with database.read() as session:
            refused = await refusal(session)
        report, misleading = await verify_stored_log(database, audit)
        if not report.ok or misleading:
            raise LogDamagedError("the rebuilt log does not verify")
        return Restored(
            manifest.generation,
            manifest.id,
            manifest.created_us,
            loaded,
            keys,
            erased,
            dict(replayed),
            {**to_look_at, **({"webhook": webhooks} if webhooks else {})},
            findable,
            log_size,
            len(ledger.placed) + len(ledger.unplaced),
            went_back,
            manifest.policy != self._pack.digest,
            refused,
        )

    # --- data -------------------------------------------------------------------------

    async def _load(self, database: Database, progress: Progress) -> int:
        chosen = self._chosen
        wanted = set(tables_of(TableClass.DATA, metadata.tables))
        total, done = chosen.manifest.rows, 0
        for table in metadata.sorted_tables:
            if table.name not in wanted:
                continue
            loaded = 0
            for index in range(len(chosen.manifest.tables.get(table.name, ()))):
                columns, rows = await read_rows(
                    chosen.shelf, chosen.manifest, chosen.identities, table.name, index
                )
                for at in range(0, len(rows), _PAGE):
                    async with database.unit_of_work() as work:
                        part = rows[at : at + _PAGE]
                        await repository.put_rows(work, table.name, columns, part)
                loaded += len(rows)
                progress(done + loaded, total)
            async with database.read() as session:
                if await repository.count_rows(session, table.name) != loaded:
                    raise CorruptObjectError(f"not every row of {table.name} was stored")
            done += loaded
        return done

    async def _rebuild_log(self, database: Database, signer: Signer, log: ShippedLog) -> int:
        chosen = self._chosen
        known = (chosen.manifest.audit_size, bytes.fromhex(chosen.manifest.audit_root))
        portions = log_portions(chosen.shelf, chosen.identities, log)
        return await rebuild_log(
            database, signer, self._clock, portions, log.note, known, log.rotations
        )

    # --- rights -----------------------------------------------------------------------

    async def _replay(
        self,
        database: Database,
        erasure: Erasure,
        rights: RightsLedger,
        ledger: ShippedLedger,
        replays: Sequence[Replay],
    ) -> tuple[int, Counter[str], Counter[str]]:
        """Do the ledger again: every erasure ever, and what else came after the backup."""
        members = await self._by_tag(database, rights)
        since = self._chosen.manifest.rights_position
        replayed: Counter[str] = Counter()
        unknown: Counter[str] = Counter()
        after = [one.entry for one in ledger.placed if one.position > since]
        # What restricts until a person has looked comes last: no later end of another
        # restriction may lift it unseen.
        for entry in sorted((*after, *ledger.unplaced), key=_is_for_a_person):
            member_id = members.get(entry.subject)
            if entry.kind == RightsKind.ERASURE:
                continue
            async with database.unit_of_work() as work:
                done = await replay_suppression(work, entry)
                if not done and member_id is not None:
                    done = await replay_right(work, member_id, entry)
                for again in replays:
                    done = await again(work, member_id, entry) or done
            (replayed if done else unknown)[entry.kind] += 1
        erased = 0
        for entry in (*(one.entry for one in ledger.placed), *ledger.unplaced):
            if entry.kind == RightsKind.ERASURE:
                erased += await self._erase_again(database, erasure, members, entry)
        return erased, replayed, unknown

    async def _erase_again(
        self,
        database: Database,
        erasure: Erasure,
        members: Mapping[bytes, MemberId],
        entry: RightsEntry,
    ) -> bool:
        member_id = members.get(entry.subject)
        if member_id is None:
            return False
        async with database.unit_of_work() as work:
            return await erasure.erase_again(work, member_id, erased_us=entry.at_us)

    async def _by_tag(self, database: Database, rights: RightsLedger) -> dict[bytes, MemberId]:
        found: dict[bytes, MemberId] = {}
        after = ""
        while True:
            async with database.read() as session:
                page = await member_ids(session, after=after, most=_PAGE)
            if not page:
                return found
            found.update((rights.tag(member_id), member_id) for member_id in page)
            after = page[-1]

    async def _bring_ledger_back(
        self, database: Database, rights: RightsLedger, ledger: ShippedLedger
    ) -> None:
        """Write every entry again in the place it had."""
        for at in range(0, len(ledger.placed), _PAGE):
            async with database.unit_of_work() as work:
                await rights.bring_back(work, ledger.placed[at : at + _PAGE], ())
        async with database.unit_of_work() as work:
            await rights.bring_back(work, (), ledger.unplaced)


def _signer(ring: KeyRing, log: ShippedLog) -> Signer:
    """Give the newest key of the ring that has signed the shipped log's newest head.

    The log goes on to its newest state: it may bear another name or key than on the backup's day.
    """
    name = origin_of(log.note)
    for _, seed in sorted(ring.log_seeds().items(), reverse=True):
        signer = Signer.from_seed(name, seed)
        if LogKey(signer).has_signed(log.note):
            return signer
    raise BadSignatureError("the key ring in the store does not sign this log")


def _publics(ring: KeyRing, signer: Signer, log: ShippedLog) -> frozenset[bytes]:
    """Give every public key that may have signed the log on the day of a backup."""
    known = KnownKeys.leading_to(signer.verifier, log.rotations).publics
    seeds = ring.log_seeds().values()
    return known | {Signer.from_seed(signer.name, seed).verifier.public for seed in seeds}


def _public(vkey: str) -> bytes:
    try:
        return Verifier.from_vkey(vkey).public
    except NoteError:
        raise BadSignatureError("the manifest names no key of a log") from None
