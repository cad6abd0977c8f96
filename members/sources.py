"""The member's row as a part of other rooms' statements.

The consented read joins members, gate, consent, keys and epochs in one SELECT; this is the
part that the members room offers for it.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.sql import FromClause
from sqlalchemy.sql.elements import ColumnElement

from members.tables import member, pairwise_id

MEMBER_TABLE = "member"


def member_source() -> tuple[FromClause, Sequence[ColumnElement[Any]]]:
    """Offer members as clients know them: pairwise id joined to the row, and its columns."""
    columns: list[ColumnElement[Any]] = [
        pairwise_id.c.id.label("pairwise_id"),
        member.c.id.label("member_id"),
        member.c.brand,
        member.c.jurisdiction,
        member.c.cells,
        member.c.provenance,
        member.c.version,
    ]
    return pairwise_id.join(member, member.c.id == pairwise_id.c.member_id), columns


def pairwise_is(
    identifier: ColumnElement[str] | Sequence[ColumnElement[str]], client: ColumnElement[str]
) -> ColumnElement[bool]:
    """Say that the row is what `client` knows under `identifier`, or under one of several."""
    named = (
        pairwise_id.c.id.in_(identifier)
        if isinstance(identifier, Sequence)
        else pairwise_id.c.id == identifier
    )
    return named & (pairwise_id.c.client_id == client)


def registry_source() -> tuple[FromClause, Sequence[ColumnElement[Any]]]:
    """Offer every member without what a client calls them, and the plain columns of the row."""
    return member, [member.c.id.label("member_id"), member.c.brand, member.c.jurisdiction]


def named_source() -> tuple[FromClause, Sequence[ColumnElement[Any]]]:
    """Offer every member with the version of the row and its sealed cells."""
    columns: list[ColumnElement[Any]] = [
        member.c.id.label("member_id"),
        member.c.brand,
        member.c.version,
        member.c.updated_us,
        member.c.cells,
    ]
    return member, columns


def pairwise_source() -> tuple[FromClause, Sequence[ColumnElement[Any]]]:
    """Offer by which ids clients know members: table, and id, client and member columns."""
    columns: list[ColumnElement[Any]] = [
        pairwise_id.c.id.label("pairwise_id"),
        pairwise_id.c.client_id,
        pairwise_id.c.member_id,
    ]
    return pairwise_id, columns


def first_pairwise(client: ColumnElement[str], member_id: ColumnElement[str]) -> ColumnElement[str]:
    """Give the one id by which a client knows a member, though a merge left it several."""
    other = pairwise_id.alias("other_pairwise")
    return (
        select(other.c.id)
        .where(other.c.client_id == client, other.c.member_id == member_id)
        .order_by(other.c.made_for.is_not(None), other.c.id)
        .limit(1)
        .scalar_subquery()
    )
