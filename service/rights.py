"""Wires the room of rights requests to those it may not import, and to the worker."""

from collections.abc import Mapping
from dataclasses import dataclass

from audit import AuditLog, Eyes, RightsLedger
from consent import ConsentService
from disclosure import EpochKeeper, SelfAccess
from dsar import (
    CARRY_OUT,
    TELL_CONSUMERS,
    BackupHorizon,
    CarryingOut,
    ConsumerLedger,
    Desk,
    ExportPart,
    Moving,
    Rights,
    RightsRules,
    Targets,
)
from kernel import Clock, Database, MemberId
from members import Members, Merges
from policies import AccessSnapshot, PolicyPack
from service.settings import RightsSettings
from service.tasks import HOUR_US, Worker, system_caller
from vault import Vault

LOOK_AFTER = "rights_look_after"
_MINUTE_US = 60_000_000


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What stands around the room: who knows consumers, epochs, histories and backups."""

    keeper: EpochKeeper
    consumers: ConsumerLedger
    parts: Mapping[str, ExportPart]
    backups: BackupHorizon
    eyes: Eyes


def rules_of(settings: RightsSettings) -> RightsRules:
    """Read how this house handles requests from its settings."""
    return RightsRules(
        Targets(settings.access_target_days, settings.target_days),
        warn_days=settings.warn_days,
        step_up_us=settings.step_up_minutes * _MINUTE_US,
        export_us=settings.export_hours * HOUR_US,
        one_person=settings.one_person,
    )


def wire_rights(
    settings: RightsSettings,
    database: Database,
    clock: Clock,
    pack: PolicyPack,
    access: AccessSnapshot,
    vault: Vault,
    audit: AuditLog,
    consent: ConsentService,
    members: Members,
    ledger: RightsLedger,
    around: Surroundings,
) -> Rights:
    """Make the service of rights requests."""
    rules = rules_of(settings)
    desk = Desk(pack, vault, audit, consent, members, ledger, rules, around.eyes)
    own_data = SelfAccess(database, vault, audit, pack, access, consent, members)
    carrying_out = CarryingOut(desk, database, clock, own_data, around.keeper, around.parts)
    return Rights(desk, database, clock, carrying_out, around.consumers, around.backups)


def work_on_rights(worker: Worker, rights: Rights, merges: Merges) -> None:
    """Let the worker carry out decisions, ask consumers and watch the clocks; join merges."""
    merges.join(Moving())
    worker.on(
        CARRY_OUT,
        lambda payload: rights.carry_out(payload["request_id"], system_caller("worker")),
    )
    worker.on(
        TELL_CONSUMERS,
        lambda payload: rights.ask_consumers(
            system_caller("worker"),
            payload["request_id"],
            MemberId(payload["member_id"]),
            payload["looks"],
        ),
    )
    worker.on(LOOK_AFTER, lambda _: rights.look_after(system_caller("worker")), every_us=HOUR_US)
