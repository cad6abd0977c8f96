"""What makes a member findable: identifiers by field, and the point that signs the member in.

The vault keeps the keys of blind indexes and this room their normal forms, so what goes down to
the vault is the way to write a value in each version of its normal form.
"""

from collections.abc import Mapping
from functools import partial

from kernel import MemberId, UnitOfWork
from members import repository
from members.normalise import index_form
from policies import FieldKey, PolicyPack
from vault import Identifier, Vault


def identifier(kind: str, normal: str) -> Identifier:
    """Make an identifier of a value in the normal form in which it is sealed."""
    return Identifier(kind, partial(index_form, kind, normal))


def index_kind(pack: PolicyPack, slot: str) -> str | None:
    """Give the kind under which a slot is indexed: a second phone lies in `phone.2`."""
    entry = pack.fields.get(FieldKey(slot.partition(".")[0]))
    return None if entry is None or entry.index is None else entry.index.value


def identifiers(pack: PolicyPack, values: Mapping[str, str]) -> list[tuple[str, Identifier]]:
    """Give (slot, identifier) of every value that makes a member findable."""
    kinds = {slot: index_kind(pack, slot) for slot in values}
    return [
        (slot, identifier(kind, values[slot])) for slot, kind in kinds.items() if kind is not None
    ]


def hardened_kinds(pack: PolicyPack) -> frozenset[str]:
    """Give the kinds whose index the catalogue wants hardened from its next version on."""
    fields = pack.fields.values()
    return frozenset(one.index.value for one in fields if one.hardened and one.index is not None)


async def keep_sign_in(work: UnitOfWork, vault: Vault, member_id: MemberId) -> None:
    """Let the points that sign a member in do so by the newest tag of their value.

    Where another point signs in by that tag already, whoever verified the value last keeps it.
    """
    newest: dict[str, bytes] = {}
    for stored in await vault.tags.of_owner(work, member_id):
        newest.setdefault(stored.field, stored.tag)
    for point in await repository.stored_points(work, member_id):
        tag = newest.get(point.field)
        if point.sign_in_tag is None or tag is None or tag == point.sign_in_tag:
            continue
        other = await repository.contact_point_by_sign_in_tag(work, tag)
        if other is not None and (other.verified_us or 0) > (point.verified_us or 0):
            await repository.set_sign_in(work, point.id, None)
            continue
        if other is not None:
            await repository.set_sign_in(work, other.id, None)
        await repository.set_sign_in(work, point.id, tag)
