"""SQL of audiences and suppressions: whom a purpose may reach now, and whom it may not.

`eligible` says in SQL what `decide` says of one member; a stateful test holds the two against
each other. Whatever leaves the registry passes `decide` again, with its gate held.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Text, and_, bindparam, false, func, literal, not_, or_, select
from sqlalchemy.sql import Select
from sqlalchemy.sql.elements import ColumnElement

from consent import GateState, Status, gate_source, state_source
from disclosure.telling import PSEUDONYM_LABEL
from kernel import ReadSession, Row, Statement
from loyalty import loyalty_source
from members import first_pairwise, pairwise_source, registry_source
from policies import AgeTier
from vault import PSEUDONYM, key_source

MOST_WORDS = 20
MOST_NAMED = 200
NARROWING = ("tier", "branch", "activity_class", "tags_any", "tags_all", "tags_none")
_MINORS = (AgeTier.MINOR_WITH_GUARDIAN.value, AgeTier.GUARDIAN_ONLY.value)
_purpose = bindparam("purpose", type_=Text)
_channel = bindparam("channel", type_=Text)
_client = bindparam("client_id", type_=Text)
_brand = bindparam("brand", type_=Text)
_after = bindparam("after", type_=Text)
_most = bindparam("most", type_=BigInteger)


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides the text of a statement: where consent is the basis, and what is filtered.

    `by_consent` and `otherwise` are the jurisdictions in which the purpose rests on consent and
    on another basis; a member of any other jurisdiction has no law and is in no audience.
    `words` are the revisions that no material version has outdated.
    """

    by_consent: tuple[str, ...]
    otherwise: tuple[str, ...]
    words: tuple[str, ...]
    narrowed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Whom:
    """The parameters of a selection: a client, its brand, and what it asks for.

    `words` maps a name of `NARROWING` to at most `MOST_WORDS` words.
    """

    client_id: str
    brand: str
    purpose: str
    channel: str
    words: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def parameters(self) -> dict[str, Any]:
        """Give the named parts of a statement; fewer words than it has room for are repeated."""
        named = {
            f"{name}_{at}": _sought(name, words[min(at, len(words) - 1)])
            for name, words in self.words.items()
            for at in range(MOST_WORDS)
        }
        return {
            "client_id": self.client_id,
            "brand": self.brand,
            "purpose": self.purpose,
            "channel": self.channel,
            **named,
        }


def _parts(
    shape: Shape, *columns: ColumnElement[Any], known: bool
) -> tuple[Select[Any], Mapping[str, ColumnElement[Any]]]:
    """Join members, gate and state, for those whom the purpose may reach; `known` to a client."""
    member, member_columns = registry_source()
    member_id, brand, jurisdiction = member_columns
    gate, gate_on, gate_columns = gate_source(member_id)
    state, state_on, state_columns = state_source(member_id, _purpose, _channel)
    pairwise, (named, _, _) = pairwise_source()
    account, account_on, account_columns = loyalty_source(member_id)
    joined = member.join(gate, gate_on).outerjoin(state, state_on)
    if shape.narrowed:
        joined = joined.outerjoin(account, account_on)
    theirs = named == first_pairwise(_client, member_id)
    joined = joined.join(pairwise, theirs) if known else joined.outerjoin(pairwise, theirs)
    places = {"member_id": member_id, "pairwise_id": named}
    where = and_(
        brand == _brand,
        _eligible(shape, jurisdiction, gate_columns, state_columns),
        *_narrowing(shape, {column.name: column for column in account_columns}),
    )
    return select(*(columns or (named,))).select_from(joined).where(where), places


def _eligible(
    shape: Shape,
    jurisdiction: ColumnElement[str],
    gate: Sequence[ColumnElement[Any]],
    state: Sequence[ColumnElement[Any]],
) -> ColumnElement[bool]:
    """Say in SQL what `decide` says: an open gate, and a lawful basis (see `decide_basis`)."""
    _, gate_state, age_tier = gate
    status, _, revision, guardian = state
    minor = _one_of(age_tier, _MINORS)
    consented = and_(
        _one_of(jurisdiction, shape.by_consent),
        status == Status.GIVEN.value,
        _one_of(revision, shape.words),
        or_(and_(minor, guardian.is_not(None)), and_(not_(minor), guardian.is_(None))),
    )
    silent = or_(status.is_(None), status != Status.OBJECTED.value)
    lawful = or_(consented, and_(_one_of(jurisdiction, shape.otherwise), silent))
    return and_(gate_state == GateState.ACTIVE.value, lawful)


def _sought(name: str, word: str) -> str:
    """Give a word as its column is compared: a tag is looked for in a list of quoted words."""
    return word if not name.startswith("tags_") else '%"' + word.replace("_", "/_") + '"%'


def _narrowing(
    shape: Shape, account: Mapping[str, ColumnElement[Any]]
) -> Iterator[ColumnElement[bool]]:
    """Say what else must be so; who has no account has no tier, no class and no tag."""
    for name in sorted(shape.narrowed):
        words = [bindparam(f"{name}_{at}", type_=Text) for at in range(MOST_WORDS)]
        if name in {"tier", "branch", "activity_class"}:
            yield account[f"loyalty_{name}"].in_(words)
            continue
        tags = func.coalesce(account["loyalty_tags"], "[]")
        has = [tags.like(word, escape="/") for word in words]
        yield {"tags_any": or_(*has), "tags_all": and_(*has), "tags_none": not_(or_(*has))}[name]


def _one_of(column: ColumnElement[str], words: Sequence[str]) -> ColumnElement[bool]:
    """Compare with words of the policy; a list of plain values would not compile ahead."""
    return column.in_([literal(word) for word in words]) if words else false()


@cache
def _count(shape: Shape) -> Statement:
    selected, _ = _parts(shape, func.count().label("members"), known=False)
    return Statement(selected)


@cache
def _unknown(shape: Shape) -> Statement:
    """Members of an audience that the client has no id for yet, in the order of their ids."""
    member_id = registry_source()[1][0]
    selected, at = _parts(shape, member_id, known=False)
    return Statement(
        selected.where(at["pairwise_id"].is_(None), at["member_id"] > _after)
        .order_by(at["member_id"])
        .limit(_most)
    )


@cache
def _among(shape: Shape) -> Statement:
    """Those of some members who are in an audience, and by which id the client knows each."""
    member_id = registry_source()[1][0]
    pairwise = first_pairwise(_client, member_id).label("pairwise_id")
    selected, at = _parts(shape, member_id, pairwise, known=False)
    named = [bindparam(f"member_{place}", type_=Text) for place in range(MOST_NAMED)]
    return Statement(selected.where(at["member_id"].in_(named)))


@cache
def _page(shape: Shape) -> Statement:
    """A page of an audience, in the order of the client's own ids: no two clients share it."""
    member_id = registry_source()[1][0]
    selected, at = _parts(shape, pairwise_source()[1][0], member_id, known=True)
    return Statement(
        selected.where(at["pairwise_id"] > _after).order_by(at["pairwise_id"]).limit(_most)
    )


def _all_known() -> Statement:
    member, (member_id, brand, jurisdiction) = registry_source()
    gate, gate_on, gate_columns = gate_source(member_id)
    state, state_on, state_columns = state_source(member_id, _purpose, _channel)
    pairwise, (named, client, of_member) = pairwise_source()
    key, key_on, key_columns = key_source(PSEUDONYM, member_id, PSEUDONYM_LABEL)
    joined = (
        pairwise.join(member, of_member == member_id)
        .join(gate, gate_on)
        .outerjoin(state, state_on)
        .outerjoin(key, key_on)
    )
    return Statement(
        select(named, member_id, brand, jurisdiction, *gate_columns, *state_columns, *key_columns)
        .select_from(joined)
        .where(client == _client, named > _after)
        .order_by(named)
        .limit(_most)
    )


_KNOWN = _all_known()


async def count(session: ReadSession, shape: Shape, whom: Whom) -> int:
    """Count the members whom a purpose and channel may reach now."""
    row = await session.first(_count(shape), **whom.parameters())
    return 0 if row is None else int(row["members"])


async def unknown_members(
    session: ReadSession, shape: Shape, whom: Whom, *, after: str, most: int
) -> list[str]:
    """Give members of an audience that the client has no id for, from the one after `after`."""
    rows = await session.all(_unknown(shape), **whom.parameters(), after=after, most=most)
    return [row["member_id"] for row in rows]


async def among(
    session: ReadSession, shape: Shape, whom: Whom, members: Sequence[str]
) -> dict[str, str | None]:
    """Give those of up to 200 members who are in an audience, with the client's id if any."""
    padded = [*members, *[""] * (MOST_NAMED - len(members))]
    names = {f"member_{place}": member for place, member in enumerate(padded)}
    rows = await session.all(_among(shape), **whom.parameters(), **names)
    return {row["member_id"]: row["pairwise_id"] for row in rows}


async def page(
    session: ReadSession, shape: Shape, whom: Whom, *, after: str, most: int
) -> list[tuple[str, str]]:
    """Give the client's ids of members of an audience, from the one after `after`, and theirs."""
    rows = await session.all(_page(shape), **whom.parameters(), after=after, most=most)
    return [(row["pairwise_id"], row["member_id"]) for row in rows]


async def known_members(
    session: ReadSession, client_id: str, purpose: str, channel: str, *, after: str, most: int
) -> Sequence[Row]:
    """Give what a decision and its event need of every member a client knows, without any cell."""
    return await session.all(
        _KNOWN, client_id=client_id, purpose=purpose, channel=channel, after=after, most=most
    )
