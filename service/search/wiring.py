"""How the search is put together: its index, the keeper that fills it, what it hears of."""

from audit import AuditLog
from consent import ConsentService
from disclosure import Audiences, DisclosureService, Names, NameSearch
from kernel import Clock, Database
from policies import PolicyPack
from service.limits import SlidingWindow
from service.outbox import OutboxCourier
from service.search.client import SearchClient
from service.search.keeper import TOPICS, SearchKeeper
from service.settings import Settings
from vault import Vault


def wire_search(
    settings: Settings,
    database: Database,
    clock: Clock,
    vault: Vault,
    audit: AuditLog,
    pack: PolicyPack,
    consent: ConsentService,
    disclosure: DisclosureService,
    audiences: Audiences,
    index: SearchClient,
    courier: OutboxCourier,
) -> tuple[NameSearch, SearchKeeper]:
    """Make the search of a registry, and let it hear of members who change."""
    search = NameSearch(
        database,
        disclosure,
        audiences,
        audit,
        vault,
        pack,
        index,
        clock,
        SlidingWindow(settings.search.queries_per_hour),
    )
    names = Names(database, vault, audit, pack)
    keeper = SearchKeeper(database, consent, names, index, settings.search, settings.data_dir)
    for topic in TOPICS:
        courier.subscribe(topic, keeper.react)
    return search, keeper
