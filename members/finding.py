"""Finding members by an identifier, for staff who must not miss one: a restricted one as well."""

from kernel import FieldProblem, MemberId, ReadSession
from members.errors import MemberDataError
from members.identifiers import identifier
from members.normalise import Formats, Normal, normalise
from members.registration import normaliser_of
from policies import PolicyPack
from vault import Vault


async def find_members(
    session: ReadSession,
    pack: PolicyPack,
    vault: Vault,
    kind: str,
    value: str,
    declared: Formats,
    *,
    most: int,
) -> list[MemberId]:
    """Give the members of any brand that carry this identifier, the oldest first.

    `MemberDataError` for a kind that has no index, or a value that cannot be one.
    """
    entry = next(
        (e for e in pack.fields.values() if e.index is not None and e.index.value == kind), None
    )
    if entry is None:
        raise MemberDataError(errors=[FieldProblem("/kind", "unknown_kind")])
    answer = normalise(normaliser_of(entry), value, declared)
    if not isinstance(answer, Normal):
        raise MemberDataError(errors=[FieldProblem("/value", answer.code)])
    sought = identifier(kind, answer.value)
    return [MemberId(owner) for owner in await vault.tags.find(session, sought, most=most)]
