"""What the consent room may ask of members about guardians.

How a contact is written, and which verified contact point proves a member who is to be one.
"""

from consent import ContactForm, GuardianPoint
from kernel import Clock, FieldProblem, MemberId, ReadSession, to_date
from members.contact import ContactPoints
from members.errors import MemberDataError
from members.identifiers import identifier
from members.normalise import Normal, normalise
from members.registration import formats
from policies import PolicyPack


class MemberContacts:
    """Brings contacts to their normal form and finds verified ones."""

    def __init__(self, pack: PolicyPack, points: ContactPoints, clock: Clock) -> None:
        self._pack = pack
        self._points = points
        self._clock = clock

    def form_of(self, kind: str, value: str, region: str | None) -> ContactForm:
        """Bring a contact to its normal form, or raise `MemberDataError` at its place."""
        declared = formats(region, None, None, to_date(self._clock.now_us()))
        for entry in self._pack.fields.values():
            reaches = entry.contact is not None and entry.contact.value == kind
            if reaches and entry.index is not None:
                answer = normalise(entry.kind.value, value, declared)
                if not isinstance(answer, Normal):
                    raise MemberDataError(errors=[FieldProblem("/contact/value", answer.code)])
                sought = identifier(entry.index.value, answer.value)
                return ContactForm(kind, answer.value, sought)
        raise MemberDataError(errors=[FieldProblem("/contact/kind", "unknown_kind")])

    async def verified_point(self, session: ReadSession, member_id: MemberId) -> GuardianPoint:
        """Give the oldest verified contact point, or raise `MemberDataError`."""
        for point in await self._points.points_of(session, member_id):
            if point.verified_us is not None:
                return GuardianPoint(point.id, point.kind, point.field)
        raise MemberDataError(
            "the guardian has no verified contact point",
            errors=[FieldProblem("/member", "not_verified")],
        )
