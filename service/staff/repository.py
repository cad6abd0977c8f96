"""All SQL of staff accounts, their sessions and approvals."""

from dataclasses import dataclass

from sqlalchemy import BigInteger, bindparam, delete, insert, or_, select, update

from kernel import ReadSession, Row, Statement, UnitOfWork
from service.staff.tables import approval, staff, staff_session

ACTIVE = "active"
DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Account:
    """A staff account; `person` tells two accounts of one human being. Times in µs."""

    id: str
    name: str
    brand: str
    role: str
    person: str | None
    state: str
    password: str
    once_until_us: int | None
    language: str | None
    created_us: int
    signed_in_us: int | None

    @property
    def is_active(self) -> bool:
        """Whether the account may sign in."""
        return self.state == ACTIVE

    @property
    def must_change(self) -> bool:
        """Whether the password was made for one use only."""
        return self.once_until_us is not None


@dataclass(frozen=True, slots=True)
class StaffSession:
    """A signed-in browser at the console."""

    token_hash: bytes
    staff_id: str
    note: str | None
    seen_us: int
    expires_us: int


@dataclass(frozen=True, slots=True)
class Approval:
    """What one person asked for, bound to a digest, and what another said to it."""

    id: str
    kind: str
    brand: str
    about: str
    request_hash: bytes
    requested_by: str
    requested_us: int
    expires_us: int
    state: str
    decided_by: str | None
    decided_us: int | None


_ACCOUNT_COLUMNS = tuple(column.name for column in staff.c)
_ADD = Statement(insert(staff).values({name: bindparam(name) for name in _ACCOUNT_COLUMNS}))
_BY_ID = select(staff).where(staff.c.id == bindparam("staff_id"))
_ACCOUNT = Statement(_BY_ID)
_HELD_ACCOUNT = Statement(_BY_ID.with_for_update())
_BY_NAME = Statement(select(staff).where(staff.c.name == bindparam("name")))
_ALL = Statement(select(staff).order_by(staff.c.created_us, staff.c.id))
_SET_ROLE = Statement(
    update(staff).where(staff.c.id == bindparam("of_staff")).values(role=bindparam("new_role"))
)
_SET_STATE = Statement(
    update(staff).where(staff.c.id == bindparam("of_staff")).values(state=bindparam("new_state"))
)
_SET_PASSWORD = Statement(
    update(staff)
    .where(staff.c.id == bindparam("of_staff"))
    .values(password=bindparam("new_password"), once_until_us=bindparam("new_once_until_us"))
)
_SET_LANGUAGE = Statement(
    update(staff)
    .where(staff.c.id == bindparam("of_staff"))
    .values(language=bindparam("new_language"))
)
_SIGNED_IN = Statement(
    update(staff).where(staff.c.id == bindparam("of_staff")).values(signed_in_us=bindparam("at_us"))
)


def _account(row: Row) -> Account:
    return Account(**{name: row[name] for name in _ACCOUNT_COLUMNS})


async def add_account(work: UnitOfWork, new: Account) -> None:
    """Store an account; `IntegrityError` when its name is taken."""
    await work.run(_ADD, **{name: getattr(new, name) for name in _ACCOUNT_COLUMNS})


async def account_by_id(session: ReadSession, staff_id: str) -> Account | None:
    """Find an account by its id."""
    row = await session.first(_ACCOUNT, staff_id=staff_id)
    return None if row is None else _account(row)


async def hold_account(work: UnitOfWork, staff_id: str) -> Account | None:
    """Find an account and keep it as it is until the unit of work ends."""
    row = await work.first(_HELD_ACCOUNT, staff_id=staff_id)
    return None if row is None else _account(row)


async def account_by_name(session: ReadSession, name: str) -> Account | None:
    """Find an account by its name."""
    row = await session.first(_BY_NAME, name=name)
    return None if row is None else _account(row)


async def all_accounts(session: ReadSession) -> list[Account]:
    """Give every account, the oldest first."""
    return [_account(row) for row in await session.all(_ALL)]


async def set_role(work: UnitOfWork, staff_id: str, role: str) -> None:
    """Give an account another role and end its sessions."""
    await work.run(_SET_ROLE, of_staff=staff_id, new_role=role)
    await drop_sessions_of(work, staff_id)


async def set_state(work: UnitOfWork, staff_id: str, state: str) -> None:
    """Disable an account, or take it back, and end its sessions."""
    await work.run(_SET_STATE, of_staff=staff_id, new_state=state)
    await drop_sessions_of(work, staff_id)


async def set_password(
    work: UnitOfWork, staff_id: str, password: str, once_until_us: int | None
) -> None:
    """Give an account another password and end its sessions."""
    await work.run(
        _SET_PASSWORD, of_staff=staff_id, new_password=password, new_once_until_us=once_until_us
    )
    await drop_sessions_of(work, staff_id)


async def set_language(work: UnitOfWork, staff_id: str, language: str) -> None:
    """Remember in which language an account reads the console."""
    await work.run(_SET_LANGUAGE, of_staff=staff_id, new_language=language)


async def note_sign_in(work: UnitOfWork, staff_id: str, at_us: int) -> None:
    """Remember when an account was last signed in."""
    await work.run(_SIGNED_IN, of_staff=staff_id, at_us=at_us)


# --- sessions -------------------------------------------------------------------------

_ADD_SESSION = Statement(
    insert(staff_session).values(
        token_hash=bindparam("token_hash"),
        staff_id=bindparam("staff_id"),
        note=None,
        seen_us=bindparam("seen_us"),
        expires_us=bindparam("expires_us"),
    )
)
_SESSION = Statement(
    select(staff_session).where(
        staff_session.c.token_hash == bindparam("token_hash"),
        staff_session.c.expires_us > bindparam("now_us"),
        staff_session.c.seen_us > bindparam("idle_since_us"),
    )
)
_SEEN = Statement(
    update(staff_session)
    .where(staff_session.c.token_hash == bindparam("of_token"))
    .values(seen_us=bindparam("at_us"))
)
_NOTE = Statement(
    update(staff_session)
    .where(staff_session.c.token_hash == bindparam("of_token"))
    .values(note=bindparam("new_note"))
)
_DROP_SESSION = Statement(
    delete(staff_session).where(staff_session.c.token_hash == bindparam("token_hash"))
)
_DROP_SESSIONS = Statement(
    delete(staff_session).where(staff_session.c.staff_id == bindparam("staff_id"))
)
_DROP_OLD_SESSIONS = Statement(
    delete(staff_session).where(staff_session.c.expires_us < bindparam("now_us"))
)


async def add_session(work: UnitOfWork, new: StaffSession) -> None:
    """Store a session."""
    await work.run(
        _ADD_SESSION,
        token_hash=new.token_hash,
        staff_id=new.staff_id,
        seen_us=new.seen_us,
        expires_us=new.expires_us,
    )


async def session_by_hash(
    session: ReadSession, token_hash: bytes, *, now_us: int, idle_since_us: int
) -> StaffSession | None:
    """Find a session that has not run out and was not left alone for too long."""
    row = await session.first(
        _SESSION, token_hash=token_hash, now_us=now_us, idle_since_us=idle_since_us
    )
    if row is None:
        return None
    return StaffSession(
        bytes(row["token_hash"]), row["staff_id"], row["note"], row["seen_us"], row["expires_us"]
    )


async def set_seen(work: UnitOfWork, token_hash: bytes, at_us: int) -> None:
    """Note that a session was used."""
    await work.run(_SEEN, of_token=token_hash, at_us=at_us)


async def set_note(work: UnitOfWork, token_hash: bytes, note: str | None) -> None:
    """Leave a note (a code) for the next page of a session."""
    await work.run(_NOTE, of_token=token_hash, new_note=note)


async def drop_session(work: UnitOfWork, token_hash: bytes) -> None:
    """End one session."""
    await work.run(_DROP_SESSION, token_hash=token_hash)


async def drop_sessions_of(work: UnitOfWork, staff_id: str) -> None:
    """End every session of an account."""
    await work.run(_DROP_SESSIONS, staff_id=staff_id)


async def drop_expired_sessions(work: UnitOfWork, *, now_us: int) -> int:
    """Forget sessions that have run out."""
    return await work.run(_DROP_OLD_SESSIONS, now_us=now_us)


# --- approvals ------------------------------------------------------------------------

_LIVING = or_(approval.c.state == "waiting", approval.c.state == "approved")
_APPROVAL_COLUMNS = tuple(column.name for column in approval.c)
_ADD_APPROVAL = Statement(
    insert(approval).values({name: bindparam(name) for name in _APPROVAL_COLUMNS})
)
_ONE_APPROVAL = Statement(select(approval).where(approval.c.id == bindparam("approval_id")))
_HELD_APPROVAL = Statement(
    select(approval).where(approval.c.id == bindparam("approval_id")).with_for_update()
)
_OF_REQUEST = Statement(
    select(approval)
    .where(
        approval.c.kind == bindparam("kind"),
        approval.c.request_hash == bindparam("request_hash"),
        approval.c.requested_by == bindparam("requested_by"),
        approval.c.expires_us > bindparam("now_us"),
        _LIVING,
    )
    .order_by(approval.c.id.desc())
    .limit(1)
    .with_for_update()
)
_DECIDE = Statement(
    update(approval)
    .where(approval.c.id == bindparam("of_approval"), approval.c.state == bindparam("old_state"))
    .values(
        state=bindparam("new_state"),
        decided_by=bindparam("new_decided_by"),
        decided_us=bindparam("new_decided_us"),
    )
)
_OPEN = Statement(
    select(approval)
    .where(_LIVING, approval.c.expires_us > bindparam("now_us"))
    .order_by(approval.c.id)
    .limit(bindparam("most", type_=BigInteger))
)


def _approval(row: Row) -> Approval:
    values = {name: row[name] for name in _APPROVAL_COLUMNS}
    return Approval(**values | {"request_hash": bytes(row["request_hash"])})


async def add_approval(work: UnitOfWork, new: Approval) -> None:
    """Store what waits for a second person."""
    await work.run(_ADD_APPROVAL, **{name: getattr(new, name) for name in _APPROVAL_COLUMNS})


async def approval_by_id(session: ReadSession, approval_id: str) -> Approval | None:
    """Find an approval by its id."""
    row = await session.first(_ONE_APPROVAL, approval_id=approval_id)
    return None if row is None else _approval(row)


async def hold_approval(work: UnitOfWork, approval_id: str) -> Approval | None:
    """Find an approval and keep it as it is until the unit of work ends."""
    row = await work.first(_HELD_APPROVAL, approval_id=approval_id)
    return None if row is None else _approval(row)


async def approval_of_request(
    work: UnitOfWork, kind: str, request_hash: bytes, requested_by: str, *, now_us: int
) -> Approval | None:
    """Find the newest living approval of exactly this request by this person, and hold it."""
    row = await work.first(
        _OF_REQUEST,
        kind=kind,
        request_hash=request_hash,
        requested_by=requested_by,
        now_us=now_us,
    )
    return None if row is None else _approval(row)


async def decide_approval(
    work: UnitOfWork, held: Approval, state: str, decided_by: str | None, decided_us: int | None
) -> bool:
    """Move an approval on; False when somebody was faster."""
    return (
        await work.run(
            _DECIDE,
            of_approval=held.id,
            old_state=held.state,
            new_state=state,
            new_decided_by=decided_by,
            new_decided_us=decided_us,
        )
        == 1
    )


async def open_approvals(session: ReadSession, *, now_us: int, most: int = 200) -> list[Approval]:
    """Give what waits or was approved and not used yet, the oldest first."""
    return [_approval(row) for row in await session.all(_OPEN, now_us=now_us, most=most)]
