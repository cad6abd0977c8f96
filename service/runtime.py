"""The composition root: opens an installation and wires the rooms together.

Refuses to open what is not fit to answer: no key ring, another ring's database, a schema of
another version, a policy pack that was changed and not activated.
"""

from dataclasses import dataclass
from functools import partial

from audit import AuditLog, DetailLinks, LogKey, Pruning, RightsLedger, Sequencing, Signer, log_name
from backup import Backups, LedgerShipping
from consent import GUARDIAN_CODE_WANTED, ConsentService, Guardians, Receipts, ReceiptSigner
from disclosure import (
    FEED_TYPES,
    WEBHOOK_TYPES,
    Audiences,
    CountRules,
    DisclosureService,
    Feed,
    MemberBudget,
    NameSearch,
    Reader,
    Retries,
    TargetRules,
    Webhooks,
)
from dsar import Forgetting, Rights
from kernel import (
    Clock,
    ConfigurationError,
    Database,
    MemberId,
    Message,
    SystemClock,
    UnitOfWork,
    fact,
)
from loyalty import Loyalty
from members import (
    AgeTiers,
    Duplicates,
    Findings,
    Imports,
    Matching,
    MemberContacts,
    Members,
    Merges,
    Notes,
    Partings,
    Reindex,
    Uploads,
)
from policies import AccessSnapshot, Controller, PolicyPack, compile_access, load_pack
from service.anchors import Anchors
from service.auth.clients import Clients
from service.auth.gatekeeper import TokenGatekeeper
from service.backups import wire_backups
from service.claims import CLAIM_CODE_WANTED, Claims
from service.facts import FACT_ORIGIN, FACT_POLICY, FACT_RING
from service.kms import open_ring
from service.lock import DataDirLock, lock_registry
from service.log_key import log_key, log_signer
from service.matching import follow_members
from service.outbox import (
    CONTACT_CHANGED,
    CodeDelivery,
    NoticeDelivery,
    OutboxCourier,
    OutboxFile,
)
from service.probe import Probe
from service.retention import keep_trail
from service.rights import Surroundings, wire_rights, work_on_rights
from service.rotations import KeyCare, keep_keys
from service.schema import check_schema
from service.search.client import SearchClient
from service.search.keeper import SearchKeeper
from service.search.wiring import wire_search
from service.settings import Settings
from service.staff import Approvals, Staff, TwoPersons
from service.tasks import DAY_US, HOUR_US, Housekeeping, Worker, system_caller
from service.trail import keep_log, wire_log
from service.webhook_poster import WebhookPoster
from service.witnesses import Witnesses, refuse_own_keys
from vault import KeyRing, RingBackups, Vault

BACKUP = "backup"
CHANGE_RETENTION = "change_retention"
DELIVERY_RETENTION = "delivery_retention"
CLAIMS = "claims"


def open_database(settings: Settings) -> Database:
    """Open the engine that the settings name."""
    if settings.on_postgres:
        from kernel.postgres import PostgresDatabase

        return PostgresDatabase(settings.database.url, pool_size=settings.database.pool_size)
    if settings.database.url:
        raise ConfigurationError(
            "database.url names an engine that Yinyom does not know",
            remedy="Leave it empty for SQLite in the data directory, or give postgresql://…",
        )
    from kernel.sqlite import SqliteDatabase

    return SqliteDatabase(settings.database_file)


@dataclass(slots=True)
class Runtime:
    """An open installation; `open` makes one, `close` ends it."""

    settings: Settings
    clock: Clock
    database: Database
    log_database: Database
    vault: Vault
    keys: KeyCare
    pack: PolicyPack
    access: AccessSnapshot
    audit: AuditLog
    log_key: LogKey
    rights: RightsLedger
    sequencer: Sequencing
    pruning: Pruning
    backups: Backups
    shipping: LedgerShipping
    ring_backups: RingBackups
    consent: ConsentService
    guardians: Guardians
    receipts: ReceiptSigner
    receipt_forms: Receipts
    controller: Controller
    loyalty: Loyalty
    members: Members
    merges: Merges
    partings: Partings
    reindex: Reindex
    duplicates: Duplicates
    matching: Matching
    notes: Notes
    findings: Findings
    imports: Imports
    uploads: Uploads
    disclosure: DisclosureService
    budget: MemberBudget
    reader: Reader
    rights_requests: Rights
    audiences: Audiences
    feed: Feed
    search: NameSearch
    search_keeper: SearchKeeper
    webhooks: Webhooks
    clients: Clients
    gatekeeper: TokenGatekeeper
    staff: Staff
    approvals: Approvals
    claims: Claims
    witnesses: Witnesses
    anchors: Anchors
    courier: OutboxCourier
    housekeeping: Housekeeping
    worker: Worker
    lock: DataDirLock | None
    probe: Probe

    @classmethod
    async def open(cls, settings: Settings, *, clock: Clock | None = None) -> "Runtime":
        """Open an installation, or say why it cannot be opened and what to do."""
        if not settings.data_dir.is_dir():
            raise ConfigurationError(
                "there is no registry in this data directory", remedy="Run `yinyom init` first."
            )
        lock = None if settings.on_postgres else lock_registry(settings.data_dir)
        try:
            ring = open_ring(settings)
            await check_schema(settings)
            pack = load_pack(settings.policies.pack_dir)
            database = open_database(settings)
            try:
                signer = await _check_facts(database, ring, pack, settings)
                clock = clock or SystemClock()
                return await cls._wire(settings, clock, database, ring, pack, lock, signer)
            except BaseException:
                await database.close()
                raise
        except BaseException:
            if lock is not None:
                lock.release()
            raise

    @classmethod
    async def _wire(
        cls,
        settings: Settings,
        clock: Clock,
        database: Database,
        ring: KeyRing,
        pack: PolicyPack,
        lock: DataDirLock | None,
        signer: Signer,
    ) -> "Runtime":
        vault = Vault(ring, bucket_bits=settings.vault.bucket_bits, pads=pack.pads)
        access = compile_access(pack)
        key = log_key(signer, vault)
        audit = AuditLog(key, clock, pack.digest)
        rights = RightsLedger(vault.ledger_tag_key(), clock)
        consent = ConsentService(pack, audit, rights, vault)
        loyalty = Loyalty(database, pack, vault, audit, consent, clock)
        claims = Claims(database, vault, audit, clock)
        participants = (loyalty, Forgetting(), claims, DetailLinks())
        members = Members(pack, access, vault, audit, consent, rights, participants=participants)
        merges = Merges(
            database,
            pack,
            vault,
            audit,
            consent,
            clock,
            undo_days=settings.members.merge_undo_days,
        )
        imports = Imports(
            database,
            pack,
            vault,
            audit,
            members,
            clock,
            quarantine_days=settings.members.quarantine_days,
        )
        merges.join(loyalty)
        partings = Partings(database, pack, vault, audit, consent, merges, clock)
        gatekeeper = TokenGatekeeper(database, audit, pack, access, clock)
        sender = OutboxFile(settings.outbox_file)
        staff = Staff(database, audit, clock, rights)
        age_tiers = AgeTiers(database, pack, vault, audit, consent, clock)
        housekeeping = Housekeeping(database, audit, members, age_tiers, clock, staff=staff)
        disclosure, budget = _disclosing(settings, database, vault, audit, pack, access, clock)
        worker = Worker(database, housekeeping, clock)
        clients = Clients(database, audit, pack, clock, rights)
        feed = Feed(database, vault, audit, pack, access, consent, clock)
        targets = TargetRules(frozenset(settings.webhooks.hosts), settings.listens_here_only)
        poster = WebhookPoster(targets, timeout_seconds=settings.webhooks.timeout_seconds)
        retries = Retries(window_us=settings.webhooks.retry_hours * HOUR_US)
        webhooks = Webhooks(
            database, vault, audit, pack, consent, clients, poster, clock, targets, retries
        )
        keys = KeyCare(settings, database, vault, audit, clock, (webhooks,))
        courier = OutboxCourier(
            database, clock, CodeDelivery(members.contact_points, sender, clock)
        )
        controller = Controller(vault.tenant, **settings.controller.model_dump())
        signing = ReceiptSigner(
            vault.signing_seed("receipt-signing"),
            controller.name or vault.tenant,
            lambda: audit.vkey,
        )
        receipts = Receipts(signing, pack, audit, consent, controller)
        guardians = Guardians(
            vault, audit, rights, consent, MemberContacts(pack, members.contact_points, clock)
        )
        _reach_people(courier, sender, clock, claims, guardians)
        _tell_apps(courier, worker, feed, webhooks)
        log, sequencer, anchors = wire_log(settings, database, clock, key, audit)
        backups, shipping = wire_backups(
            settings, database, vault, audit, rights, sequencer, clock, pack.digest
        )
        rights_requests = wire_rights(
            settings.rights,
            database,
            clock,
            pack,
            access,
            vault,
            audit,
            consent,
            members,
            rights,
            Surroundings(gatekeeper, webhooks, {"loyalty": loyalty}, backups, TwoPersons()),
        )
        work_on_rights(worker, rights_requests, merges)
        _drop_baseless_tags(courier, loyalty, clock)
        witnesses = Witnesses(settings.audit, log, clock)
        _come_round(worker, loyalty, claims, backups, budget)
        keep_log(worker, sequencer, witnesses, log, clock)
        index = SearchClient(settings.data_dir, enabled=settings.search.enabled)
        audiences = Audiences(
            database,
            disclosure,
            members,
            audit,
            pack,
            clock,
            CountRules(settings.audiences.minimum, settings.audiences.step),
            index,
        )
        search, search_keeper = wire_search(
            settings,
            database,
            clock,
            vault,
            audit,
            pack,
            consent,
            disclosure,
            audiences,
            index,
            courier,
        )
        await gatekeeper.refresh()
        runtime = cls(
            settings=settings,
            clock=clock,
            database=database,
            log_database=log,
            vault=vault,
            keys=keys,
            pack=pack,
            access=access,
            audit=audit,
            log_key=key,
            rights=rights,
            sequencer=sequencer,
            pruning=keep_trail(worker, log, audit, clock, pack, anchors, sequencer),
            backups=backups,
            shipping=shipping,
            ring_backups=keys.ring_backups,
            consent=consent,
            guardians=guardians,
            receipts=receipts.signer,
            receipt_forms=receipts,
            controller=controller,
            loyalty=loyalty,
            members=members,
            merges=merges,
            partings=partings,
            reindex=Reindex(database, pack, vault, audit, consent),
            notes=Notes(database, pack, vault, audit, consent, clock),
            findings=Findings(access),
            matching=Matching(database, pack, vault, audit, consent, clock),
            duplicates=Duplicates(database, access, audit, merges, partings, clock),
            imports=imports,
            uploads=Uploads(database, vault, audit, imports, clock),
            disclosure=disclosure,
            budget=budget,
            reader=Reader(disclosure, gatekeeper),
            rights_requests=rights_requests,
            audiences=audiences,
            feed=feed,
            search=search,
            search_keeper=search_keeper,
            webhooks=webhooks,
            clients=clients,
            gatekeeper=gatekeeper,
            staff=staff,
            approvals=Approvals(audit, access),
            claims=claims,
            witnesses=witnesses,
            anchors=anchors,
            courier=courier,
            housekeeping=housekeeping,
            worker=worker,
            lock=lock,
            probe=Probe(settings, database, clock, vault.ring_id, pack.digest),
        )
        keep_keys(worker, settings, keys)
        follow_members(runtime)
        return runtime

    async def start(self, *, background: bool = True) -> None:
        """Begin the log; with `background`, sequence, deliver and do housekeeping from now on."""
        await self.sequencer.start(background=background)
        if self.sequencer.state.reason is not None:
            self.audit.block(f"audit_{self.sequencer.state.reason}")
        if background:
            self.courier.start()
            self.shipping.start()
            self.worker.start()
            self.keys.follower.start()
            self.webhooks.start()
            self.anchors.start()

    async def close(self) -> None:
        """Stop the background, sequence what waits, and let go of the database."""
        await self.search_keeper.stop()
        await self.webhooks.stop()
        await self.worker.stop()
        await self.keys.follower.stop()
        await self.courier.stop()
        await self.sequencer.stop()
        await self.anchors.stop()
        await self.shipping.stop()
        await self.budget.close()
        if self.log_database is not self.database:
            await self.log_database.close()
        await self.database.close()
        if self.lock is not None:
            self.lock.release()


def _come_round(
    worker: Worker, loyalty: Loyalty, claims: Claims, backups: Backups, budget: MemberBudget
) -> None:
    """Say what is done again and again, and how often."""
    by = partial(system_caller, "worker")
    worker.on("points_expire", lambda _: loyalty.expire_due(by()), every_us=DAY_US)
    worker.on("loyalty_review", lambda _: loyalty.review_due(by()), every_us=DAY_US)
    worker.on(CLAIMS, lambda _: claims.sweep(by()), every_us=HOUR_US)
    worker.on("member_budget", lambda _: budget.sweep(), every_us=HOUR_US)
    worker.on(BACKUP, lambda _: backups.create_when_due(system_caller("worker")), every_us=HOUR_US)


def _disclosing(
    settings: Settings,
    database: Database,
    vault: Vault,
    audit: AuditLog,
    pack: PolicyPack,
    access: AccessSnapshot,
    clock: Clock,
) -> tuple[DisclosureService, MemberBudget]:
    """Make the one door, and what counts who goes through it."""
    most = settings.budget.members_a_day
    budget = MemberBudget(database, vault, audit, clock, Clients.members_a_day, default=most)
    return DisclosureService(database, vault, audit, pack, access, budget), budget


def _reach_people(
    courier: OutboxCourier, sender: OutboxFile, clock: Clock, claims: Claims, guardians: Guardians
) -> None:
    """Send codes to those who are no members yet, and notices to those who are."""
    courier.subscribe(CLAIM_CODE_WANTED, CodeDelivery(claims, sender, clock))
    courier.subscribe(GUARDIAN_CODE_WANTED, CodeDelivery(guardians, sender, clock))
    courier.subscribe(CONTACT_CHANGED, NoticeDelivery(sender, clock))


def _tell_apps(courier: OutboxCourier, worker: Worker, feed: Feed, webhooks: Webhooks) -> None:
    """Let apps hear of what happens to members they know, for as long as it is kept."""
    for topic in FEED_TYPES:
        courier.subscribe(topic, feed.react)
    for topic in WEBHOOK_TYPES:
        courier.subscribe(topic, webhooks.react)
    worker.on(CHANGE_RETENTION, lambda _: feed.sweep(), every_us=DAY_US)
    worker.on(DELIVERY_RETENTION, lambda _: webhooks.sweep(), every_us=DAY_US)


_MAY_END_A_BASIS = (
    "consent.withdrawn",
    "consent.refused",
    "consent.expired",
    "objection.recorded",
    "member.merged",
)


def _drop_baseless_tags(courier: OutboxCourier, loyalty: Loyalty, clock: Clock) -> None:
    """Take tags off members who no longer allow what the tags are for."""

    async def react(work: UnitOfWork, message: Message) -> None:
        await loyalty.tags.drop_baseless(
            work,
            system_caller("worker"),
            MemberId(message.payload["member_id"]),
            now_us=clock.now_us(),
        )

    for topic in _MAY_END_A_BASIS:
        courier.subscribe(topic, react)


async def _check_facts(
    database: Database, ring: KeyRing, pack: PolicyPack, settings: Settings
) -> Signer:
    """Refuse what does not belong together; gives the signer of the log as its head names it."""
    async with database.read() as session:
        ring_id = await fact(session, FACT_RING)
        digest = await fact(session, FACT_POLICY)
        origin = await fact(session, FACT_ORIGIN)
        name = await log_name(session, settings.audit.origin)
        mine = ring_id == ring.id
        signer = await log_signer(session, ring.log_seeds(), name) if mine else None
        await refuse_own_keys(session, settings.audit, ring.log_seeds().values())
    if ring_id is None or digest is None:
        raise ConfigurationError("the registry was not set up", remedy="Run `yinyom init` first.")
    if signer is None:
        raise ConfigurationError(
            "this database belongs to another key ring",
            remedy="Put back the keys directory that was made with this database.",
        )
    if origin != settings.audit.origin:
        raise ConfigurationError(
            "audit.origin is not the name under which this log was begun",
            remedy="Set audit.origin back; a log keeps its name.",
        )
    if digest != pack.digest:
        raise ConfigurationError(
            "the policy pack was changed since it was activated",
            remedy="Run `yinyom policies check`, then `yinyom policies activate`.",
        )
    return signer
