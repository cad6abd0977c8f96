"""The suppression list: addresses that must not be written to, known by keyed tags alone.

An objection to marketing is the person's, and outlives their record: who is erased and imported
again next month must not be written to (PDPA s.32 para 2, GDPR art. 21(3)). What stays is a tag
under a key that is never in the database or a data backup: whoever holds the list alone learns
no address from it.
"""

from collections.abc import Iterable

from audit import RightsKind, RightsLedger
from consent import repository
from consent.model import ConsentState
from kernel import MemberId, ReadSession, UnitOfWork
from policies import Channel, FieldKey, PolicyPack
from vault import Vault


class Suppressions:
    """Keeps addresses from purposes and channels."""

    def __init__(self, pack: PolicyPack, vault: Vault, rights: RightsLedger) -> None:
        self._pack = pack
        self._vault = vault
        self._rights = rights

    async def add(
        self, work: UnitOfWork, member_id: MemberId, objections: Iterable[ConsentState]
    ) -> None:
        """Keep every address of a member from what they objected to."""
        tags = await self._tags(work, member_id)
        for objection in objections:
            for tag in self._reached_by(objection.channel, tags):
                await repository.suppress(
                    work,
                    tag,
                    objection.purpose,
                    objection.channel,
                    since_us=objection.since_us,
                )
                detail = {
                    "tag": tag.hex(),
                    "purpose": objection.purpose,
                    "channel": objection.channel,
                    "since_us": objection.since_us,
                }
                await self._rights.record(work, RightsKind.SUPPRESSION, member_id, detail)

    async def of_member(self, session: ReadSession, member_id: MemberId) -> list[tuple[str, str]]:
        """Give each (purpose, channel) that an address of a member is kept from."""
        found: dict[tuple[str, str], None] = {}
        for _, tag in await self._tags(session, member_id):
            for purpose, channel, _ in await repository.suppressed_for(session, tag):
                found[purpose, channel] = None
        return list(found)

    async def lift(self, work: UnitOfWork, member_id: MemberId, purpose: str, channel: str) -> int:
        """Give a member's addresses free for a purpose and channel; says how many entries went."""
        tags = await self._tags(work, member_id)
        return sum(
            [
                await repository.lift(work, tag, purpose, channel)
                for tag in self._reached_by(channel, tags)
            ]
        )

    async def _tags(self, session: ReadSession, member_id: MemberId) -> list[tuple[str, bytes]]:
        contacts = {key for key, field in self._pack.fields.items() if field.contact is not None}
        found = await self._vault.suppression_tags(session, member_id)
        return [(field, tag) for field, tag in found if FieldKey(field) in contacts]

    def _reached_by(self, channel: str, tags: Iterable[tuple[str, bytes]]) -> list[bytes]:
        """Choose the addresses a channel uses; all of them where it uses none of ours."""
        rule = self._pack.channels.get(Channel(channel))
        used = None if rule is None else rule.contact_field
        return [tag for field, tag in tags if used is None or field == used]
