"""All SQL of authentication."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, delete, insert, null, select, update

from kernel import ReadSession, Row, Statement, UnitOfWork
from service.auth.tables import access_token, client, portal_session

ACTIVE = "active"
REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Client:
    """An internal app that may authenticate, or an authorised agent, which has only a key.

    An agent's secret hash is empty: no secret has that hash, so no token comes of it. `person` is
    the handle of whoever of the staff alone holds the secret, None for an app that is nobody's.
    """

    id: str
    name: str
    brand: str
    secret_hash: bytes
    scopes: tuple[str, ...]
    state: str
    created_us: int
    agent_key: bytes | None = None
    person: str | None = None
    members_a_day: int | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """An access token at rest: whose it is, for what, until when."""

    client_id: str
    scopes: tuple[str, ...]
    expires_us: int


@dataclass(frozen=True, slots=True)
class PortalSession:
    """A browser's session: waiting for a code, or signed in as a member.

    `proven_for` is what a fresh code was answered for in it, at `proven_us`.
    """

    token_hash: bytes
    state: str
    member_id: str | None
    contact_point_id: str | None
    note: str | None
    expires_us: int
    proven_for: str | None = None
    proven_us: int | None = None


_ADD_CLIENT = Statement(
    insert(client).values(
        id=bindparam("id"),
        name=bindparam("name"),
        brand=bindparam("brand"),
        secret_hash=bindparam("secret_hash"),
        scopes=bindparam("scopes"),
        state=ACTIVE,
        created_us=bindparam("created_us"),
        agent_key=bindparam("agent_key"),
        person=bindparam("person"),
        members_a_day=bindparam("members_a_day"),
    )
)
_ONE_CLIENT = select(client).where(client.c.id == bindparam("client_id"))
_CLIENT = Statement(_ONE_CLIENT)
_HELD_CLIENT = Statement(_ONE_CLIENT.with_for_update(read=True))
_BY_NAME = Statement(
    select(client).where(client.c.name == bindparam("name"), client.c.state == ACTIVE)
)
_CLIENTS = Statement(select(client).order_by(client.c.created_us, client.c.id))
_SET_SECRET = Statement(
    update(client)
    .where(client.c.id == bindparam("of_client"))
    .values(secret_hash=bindparam("new_hash"))
)
_REVOKE = Statement(
    update(client).where(client.c.id == bindparam("of_client")).values(state=REVOKED)
)
_ADD_TOKEN = Statement(
    insert(access_token).values(
        token_hash=bindparam("token_hash"),
        client_id=bindparam("client_id"),
        scopes=bindparam("scopes"),
        expires_us=bindparam("expires_us"),
    )
)
_TOKEN = Statement(
    select(
        access_token.c.client_id,
        access_token.c.scopes,
        access_token.c.expires_us,
        client.c.brand,
        client.c.state,
    )
    .select_from(access_token.join(client, client.c.id == access_token.c.client_id))
    .where(access_token.c.token_hash == bindparam("token_hash"))
)
_DROP_TOKENS = Statement(
    delete(access_token).where(access_token.c.client_id == bindparam("client_id"))
)
_DROP_OLD_TOKENS = Statement(
    delete(access_token).where(access_token.c.expires_us < bindparam("now_us"))
)


def _client(row: Row) -> Client:
    return Client(
        row["id"],
        row["name"],
        row["brand"],
        bytes(row["secret_hash"]),
        tuple(row["scopes"].split()),
        row["state"],
        row["created_us"],
        None if row["agent_key"] is None else bytes(row["agent_key"]),
        row["person"],
        row["members_a_day"],
    )


async def add_client(work: UnitOfWork, new: Client) -> None:
    """Store a client."""
    await work.run(
        _ADD_CLIENT,
        id=new.id,
        name=new.name,
        brand=new.brand,
        secret_hash=new.secret_hash,
        scopes=" ".join(new.scopes),
        created_us=new.created_us,
        agent_key=new.agent_key,
        person=new.person,
        members_a_day=new.members_a_day,
    )


async def client_by_id(session: ReadSession, client_id: str) -> Client | None:
    """Find a client by its id."""
    row = await session.first(_CLIENT, client_id=client_id)
    return None if row is None else _client(row)


async def hold_client(work: UnitOfWork, client_id: str) -> Client | None:
    """Find a client and keep it as it is until the unit of work ends."""
    row = await work.first(_HELD_CLIENT, client_id=client_id)
    return None if row is None else _client(row)


async def clients_by_name(session: ReadSession, name: str) -> list[Client]:
    """Find active clients by name; names are unique inside a brand."""
    return [_client(row) for row in await session.all(_BY_NAME, name=name)]


async def all_clients(session: ReadSession) -> list[Client]:
    """Give every client, the oldest first."""
    return [_client(row) for row in await session.all(_CLIENTS)]


async def set_secret(work: UnitOfWork, client_id: str, secret_hash: bytes) -> None:
    """Replace a client's secret and drop its tokens."""
    await work.run(_SET_SECRET, of_client=client_id, new_hash=secret_hash)
    await work.run(_DROP_TOKENS, client_id=client_id)


async def revoke(work: UnitOfWork, client_id: str) -> None:
    """Revoke a client and drop its tokens."""
    await work.run(_REVOKE, of_client=client_id)
    await work.run(_DROP_TOKENS, client_id=client_id)


async def add_token(
    work: UnitOfWork, token_hash: bytes, client_id: str, scopes: Sequence[str], expires_us: int
) -> None:
    """Store an access token by its hash."""
    await work.run(
        _ADD_TOKEN,
        token_hash=token_hash,
        client_id=client_id,
        scopes=" ".join(scopes),
        expires_us=expires_us,
    )


async def token_by_hash(session: ReadSession, token_hash: bytes) -> tuple[Token, str] | None:
    """Find the token of an active client; gives it with the client's brand."""
    row = await session.first(_TOKEN, token_hash=token_hash)
    if row is None or row["state"] != ACTIVE:
        return None
    token = Token(row["client_id"], tuple(row["scopes"].split()), row["expires_us"])
    return token, row["brand"]


async def drop_expired_tokens(work: UnitOfWork, *, now_us: int) -> int:
    """Forget tokens that have run out."""
    return await work.run(_DROP_OLD_TOKENS, now_us=now_us)


# --- portal sessions ------------------------------------------------------------------

_ADD_SESSION = Statement(
    insert(portal_session).values(
        token_hash=bindparam("token_hash"),
        state=bindparam("state"),
        member_id=bindparam("member_id"),
        contact_point_id=bindparam("contact_point_id"),
        note=None,
        expires_us=bindparam("expires_us"),
    )
)
_SESSION = Statement(
    select(portal_session).where(
        portal_session.c.token_hash == bindparam("token_hash"),
        portal_session.c.expires_us > bindparam("now_us"),
    )
)
_NOTE = Statement(
    update(portal_session)
    .where(portal_session.c.token_hash == bindparam("of_token"))
    .values(note=bindparam("new_note"))
)
_PROVE = Statement(
    update(portal_session)
    .where(portal_session.c.token_hash == bindparam("of_token"))
    .values(proven_for=bindparam("what"), proven_us=bindparam("at_us"))
)
_SPEND = Statement(
    update(portal_session)
    .where(
        portal_session.c.token_hash == bindparam("of_token"),
        portal_session.c.proven_for == bindparam("what"),
        portal_session.c.proven_us >= bindparam("since_us"),
    )
    .values(proven_for=null(), proven_us=null())
)
_DROP_SESSION = Statement(
    delete(portal_session).where(portal_session.c.token_hash == bindparam("token_hash"))
)
_DROP_OTHER_SESSIONS = Statement(
    delete(portal_session).where(
        portal_session.c.member_id == bindparam("member_id"),
        portal_session.c.token_hash != bindparam("token_hash"),
    )
)
_DROP_MEMBER_SESSIONS = Statement(
    delete(portal_session).where(portal_session.c.member_id == bindparam("member_id"))
)
_DROP_OLD_SESSIONS = Statement(
    delete(portal_session).where(portal_session.c.expires_us < bindparam("now_us"))
)


async def add_session(work: UnitOfWork, session: PortalSession) -> None:
    """Store a portal session."""
    await work.run(
        _ADD_SESSION,
        token_hash=session.token_hash,
        state=session.state,
        member_id=session.member_id,
        contact_point_id=session.contact_point_id,
        expires_us=session.expires_us,
    )


async def session_by_hash(
    session: ReadSession, token_hash: bytes, *, now_us: int
) -> PortalSession | None:
    """Find a living portal session."""
    row = await session.first(_SESSION, token_hash=token_hash, now_us=now_us)
    if row is None:
        return None
    return PortalSession(
        bytes(row["token_hash"]),
        row["state"],
        row["member_id"],
        row["contact_point_id"],
        row["note"],
        row["expires_us"],
        row["proven_for"],
        row["proven_us"],
    )


async def set_note(work: UnitOfWork, token_hash: bytes, note: str | None) -> None:
    """Leave a note (a code) for the next page of a session."""
    await work.run(_NOTE, of_token=token_hash, new_note=note)


async def note_proof(work: UnitOfWork, token_hash: bytes, what: str, at_us: int) -> None:
    """Remember that a fresh code was answered in a session, and for what."""
    await work.run(_PROVE, of_token=token_hash, what=what, at_us=at_us)


async def spend_proof(work: UnitOfWork, token_hash: bytes, what: str, since_us: int) -> bool:
    """Use up the fresh proof of a session; False when it has none for this, or an old one."""
    return await work.run(_SPEND, of_token=token_hash, what=what, since_us=since_us) == 1


async def drop_other_sessions(work: UnitOfWork, member_id: str, token_hash: bytes) -> None:
    """End every portal session of a member but one."""
    await work.run(_DROP_OTHER_SESSIONS, member_id=member_id, token_hash=token_hash)


async def drop_session(work: UnitOfWork, token_hash: bytes) -> None:
    """End a portal session."""
    await work.run(_DROP_SESSION, token_hash=token_hash)


async def drop_sessions_of(work: UnitOfWork, member_id: str) -> None:
    """End every portal session of a member."""
    await work.run(_DROP_MEMBER_SESSIONS, member_id=member_id)


async def drop_expired_sessions(work: UnitOfWork, *, now_us: int) -> int:
    """Forget portal sessions that have run out."""
    return await work.run(_DROP_OLD_SESSIONS, now_us=now_us)
