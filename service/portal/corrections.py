"""Corrections: members put right what is held about them (PDPA s.35, GDPR art. 16).

Names and ordinary details change at once. What lets somebody in, what a shop gave out and what a
state issued does not change by typing: contacts ask for a code, the rest is a request. A minor's
birth date is such a thing too, because it decides whether a guardian has to agree.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from kernel import Caller, MemberId, NotAllowedError, NotFoundError, UnitOfWork, to_date
from kernel.i18n import Language
from members import MemberDataError, Members, prepare
from policies import (
    AccessSnapshot,
    AgeTier,
    CatalogueField,
    FieldKey,
    FieldKind,
    PolicyPack,
    Storage,
)
from service.portal.typed import LONGEST_TYPED, declared_formats, faults, typed_date

_BY_THEMSELVES = frozenset(
    {
        FieldKind.NAME,
        FieldKind.DATE,
        FieldKind.GENDER,
        FieldKind.ADDRESS,
        FieldKind.POSTCODE,
        FieldKind.LANGUAGE,
    }
)


@dataclass(frozen=True, slots=True)
class Corrections:
    """Knows which fields members may put right, and does it."""

    pack: PolicyPack
    access: AccessSnapshot
    members: Members
    region: str | None

    def editable(self, field: CatalogueField, caller: Caller, age_tier: AgeTier) -> bool:
        """Say whether a member may type this field anew."""
        may = self.access.allows(caller.role, caller.brand, "member", "update")
        is_minor = age_tier in {AgeTier.MINOR_WITH_GUARDIAN, AgeTier.GUARDIAN_ONLY}
        return (
            may
            and field.storage is Storage.SEALED
            and field.contact is None
            and field.kind in _BY_THEMSELVES
            and not (is_minor and field.kind is FieldKind.DATE)
        )

    def field(self, key: str, caller: Caller, age_tier: AgeTier) -> CatalogueField:
        """Find a field that the member may correct, or `NotFoundError`."""
        found = self.pack.fields.get(FieldKey(key))
        if found is None or not self.editable(found, caller, age_tier):
            raise NotFoundError("no such field to correct", reason="field_unknown")
        return found

    async def correct(
        self,
        work: UnitOfWork,
        caller: Caller,
        member_id: MemberId,
        field: CatalogueField,
        typed: Mapping[str, str],
        language: Language,
        *,
        now_us: int,
    ) -> str | None:
        """Store what was typed; None when it stands, else the code of what is wrong with it."""
        if not self.access.allows(caller.role, caller.brand, "member", "update"):
            raise NotAllowedError(reason="role_not_allowed")
        text, era = typed.get("value", "").strip(), "iso"
        if field.kind is FieldKind.DATE:
            born = typed_date(dict(typed), language)
            text, era = born.text, born.era
        if not text:
            return "empty"
        if len(text) > LONGEST_TYPED:
            return "too_long"
        row = await self.members.read(work, member_id)
        declared = declared_formats(self.region, era, to_date(now_us))
        try:
            prepared = prepare(self.pack, {field.key: text}, declared)
        except MemberDataError as error:
            return faults(error.errors).get(field.key, "invalid")
        await self.members.update(
            work, caller, member_id, prepared, now_us=now_us, expected_version=row.version
        )
        return None
