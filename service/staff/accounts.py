"""Staff accounts: who works here, in which one role, and who may not be both.

Whoever may sign in is asked for a name and a password; what does not fit is refused in the same
words and with the same work, whether the name exists, is disabled or has another password. Tries
are counted per name and per network address. Every change of an account ends its sessions.
"""

import asyncio
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audit import AuditLog, RightsKind, RightsLedger
from kernel import (
    Caller,
    Clock,
    ConflictError,
    Database,
    FieldProblem,
    IntegrityError,
    InvalidRequestError,
    ReadSession,
    RequestId,
    UnitOfWork,
    bump_epoch,
    is_id,
    new_id,
)
from service.auth.clients import PERSON, token_hash
from service.limits import AddressKey, SlidingWindow
from service.staff import repository
from service.staff.errors import DutiesNotSeparateError, StaffNotFoundError
from service.staff.passwords import COST, Cost, fits, hash_password, one_time_password, weakness
from service.staff.replay import CHANGED_PASSWORD, CHANGED_ROLE
from service.staff.repository import ACTIVE, DISABLED, Account, StaffSession

ROLES = ("clerk", "marketer", "dpo", "auditor", "operator", "admin")
APART: Mapping[str, frozenset[str]] = {
    "auditor": frozenset({"dpo", "admin"}),
    "dpo": frozenset({"auditor"}),
    "admin": frozenset({"auditor"}),
}
"""Roles that one person may not hold together: whoever audits does not decide or appoint."""
VIA = "console"
STAFF_EPOCH = "staff"
QUARTER_US = 15 * 60_000_000
ONE_TIME_US = 72 * 3_600_000_000
SESSION_US = 9 * 3_600_000_000
TRIES_PER_NAME = 10
TRIES_PER_ADDRESS = 40
_TOKEN_BYTES = 32
_GUESSES_AT_ONCE = 2
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,40}")


@dataclass(frozen=True, slots=True)
class SignedIn:
    """An account and the token of the session that was just opened for it."""

    account: Account
    token: str


def staff_caller(account: Account, request_id: str) -> Caller:
    """Give the caller that an account is at the console."""
    return Caller(account.id, account.role, VIA, account.brand, RequestId(request_id))


def visitor(request_id: str) -> Caller:
    """Give the caller of a sign-in that has not succeeded."""
    return Caller("visitor", "visitor", VIA, "*", RequestId(request_id))


class Staff:
    """The accounts of everybody who works with the registry."""

    def __init__(
        self,
        database: Database,
        audit: AuditLog,
        clock: Clock,
        rights: RightsLedger,
        *,
        cost: Cost = COST,
    ) -> None:
        self._rights = rights
        self._database = database
        self._audit = audit
        self._clock = clock
        self._cost = cost
        self._guesses = asyncio.Semaphore(_GUESSES_AT_ONCE)
        self._address_key = AddressKey()
        self._by_name = SlidingWindow(TRIES_PER_NAME, QUARTER_US)
        self._by_address = SlidingWindow(TRIES_PER_ADDRESS, QUARTER_US)
        self._nobody: str | None = None

    # --- accounts ---------------------------------------------------------------------

    async def add(
        self,
        caller: Caller,
        name: str,
        role: str,
        *,
        brand: str,
        person: str | None = None,
        one_time: bool = True,
    ) -> dict[str, Any]:
        """Make an account; its password is shown once, here, and opens the console once.

        With `one_time` off the password is for keeps, as the sample accounts of a demo want it.

        Raises:
            InvalidRequestError: A name, role or person handle that cannot be.
            ConflictError: The name is taken.
            DutiesNotSeparateError: The person holds a role that excludes this one.
        """
        _require(_NAME.fullmatch(name), "/name", "2 to 41 of a-z, 0-9, dot, _ and -")
        _require(role in ROLES, "/role", f"one of {', '.join(ROLES)}")
        _require(person is None or PERSON.fullmatch(person), "/person", "a handle of a-z and 0-9")
        password = one_time_password()
        stored = await self._hashed(password)
        now_us = self._clock.now_us()
        new = Account(
            id=new_id("stf", now_us),
            name=name,
            brand=brand,
            role=role,
            person=person,
            state=ACTIVE,
            password=stored,
            once_until_us=now_us + ONE_TIME_US if one_time else None,
            language=None,
            created_us=now_us,
            signed_in_us=None,
        )
        try:
            async with self._database.unit_of_work() as work:
                await self._keep_apart(work, new)
                await repository.add_account(work, new)
                await self._audit.record(
                    work, caller, "staff.add", resource=f"staff:{new.id}", reason=f"role.{role}"
                )
        except IntegrityError:
            raise ConflictError(
                "an account has this name already",
                reason="staff_exists",
                remedy="Choose another name, or `yinyom staff reset` for a new password.",
            ) from None
        return {"staff_id": new.id, "name": name, "role": role, "password": password}

    async def listing(self) -> list[dict[str, Any]]:
        """Describe every account, without passwords."""
        async with self._database.read() as session:
            found = await repository.all_accounts(session)
        return [
            {
                "staff_id": one.id,
                "name": one.name,
                "brand": one.brand,
                "role": one.role,
                "person": one.person,
                "state": one.state,
                "must_change": one.must_change,
                "signed_in_us": one.signed_in_us,
            }
            for one in found
        ]

    async def accounts(self, session: ReadSession) -> list[Account]:
        """Give every account, the oldest first."""
        return await repository.all_accounts(session)

    async def account(self, session: ReadSession, staff_id: str) -> Account | None:
        """Find an account by its id."""
        return await repository.account_by_id(session, staff_id)

    async def give_role(self, caller: Caller, staff: str, role: str) -> dict[str, Any]:
        """Give an account another role; its sessions end here."""
        _require(role in ROLES, "/role", f"one of {', '.join(ROLES)}")
        async with self._database.unit_of_work() as work:
            found = await self._held(work, staff)
            self._not_oneself(caller, found)
            await self._keep_apart(work, found, role)
            await repository.set_role(work, found.id, role)
            await self._remember(work, found, CHANGED_ROLE, role=role)
            await self._audit.record(
                work, caller, "staff.role", resource=f"staff:{found.id}", reason=f"role.{role}"
            )
        return {"staff_id": found.id, "name": found.name, "role": role}

    async def disable(self, caller: Caller, staff: str) -> dict[str, Any]:
        """Take an account away; its sessions end here, what it did stays on record."""
        async with self._database.unit_of_work() as work:
            found = await self._held(work, staff)
            self._not_oneself(caller, found)
            await repository.set_state(work, found.id, DISABLED)
            await self._remember(work, found, DISABLED)
            await self._audit.record(work, caller, "staff.disable", resource=f"staff:{found.id}")
        return {"staff_id": found.id, "name": found.name, "state": DISABLED}

    async def reset(self, caller: Caller, staff: str) -> dict[str, Any]:
        """Give an active account a new one-time password; its sessions end here."""
        password = one_time_password()
        stored = await self._hashed(password)
        async with self._database.unit_of_work() as work:
            found = await self._held(work, staff)
            self._not_oneself(caller, found)
            if not found.is_active:
                raise StaffNotFoundError("the account is disabled", reason="staff_disabled")
            until_us = self._clock.now_us() + ONE_TIME_US
            await repository.set_password(work, found.id, stored, until_us)
            await self._remember(work, found, CHANGED_PASSWORD)
            await self._audit.record(work, caller, "staff.reset", resource=f"staff:{found.id}")
        return {"staff_id": found.id, "name": found.name, "password": password}

    async def choose_language(
        self, work: UnitOfWork, caller: Caller, account: Account, language: str
    ) -> None:
        """Remember in which language an account reads the console."""
        await repository.set_language(work, account.id, language)
        await self._audit.record(work, caller, "staff.language", resource=f"staff:{account.id}")

    async def drop_expired_sessions(self, work: UnitOfWork, *, now_us: int) -> int:
        """Forget sessions that have run out."""
        return await repository.drop_expired_sessions(work, now_us=now_us)

    # --- signing in -------------------------------------------------------------------

    async def sign_in(
        self,
        name: str,
        password: str,
        address: str | None,
        request_id: str,
        *,
        former: StaffSession | None = None,
    ) -> SignedIn | None:
        """Take a name and a password; None when they open nothing, for whatever reason.

        The former session of the same browser, if there is one, ends when another opens.
        """
        typed = name.strip().casefold()
        if not self._may_try(typed, address):
            return None
        found = None
        if _NAME.fullmatch(typed):  # no database is asked for what no account can be called
            async with self._database.read() as session:
                found = await repository.account_by_name(session, typed)
        stored = await self._stand_in() if found is None else found.password
        right = await self._guess(password, stored)
        now_us = self._clock.now_us()
        async with self._database.unit_of_work() as work:
            held = None if found is None else await repository.hold_account(work, found.id)
            reason = _refusal(held, stored, right=right, now_us=now_us)
            if held is None or reason is not None:
                await self._audit.record(
                    work,
                    visitor(request_id),
                    "staff.sign_in",
                    decision="deny",
                    reason=reason,
                    resource=None if found is None else f"staff:{found.id}",
                )
                return None
            if former is not None:
                await repository.drop_session(work, former.token_hash)
            token = await self._open(work, held, now_us)
            await repository.note_sign_in(work, held.id, now_us)
            await self._audit.record(
                work, staff_caller(held, request_id), "staff.sign_in", decision="allow"
            )
        return SignedIn(held, token)

    async def sign_out(self, account: Account, session: StaffSession, request_id: str) -> None:
        """End a session because its owner said so."""
        async with self._database.unit_of_work() as work:
            await repository.drop_session(work, session.token_hash)
            await self._audit.record(work, staff_caller(account, request_id), "staff.sign_out")

    async def change_password(
        self, account: Account, old: str, new: str, address: str | None, request_id: str
    ) -> SignedIn | str:
        """Change one's own password; gives a fresh session, or a code that says what is wrong.

        Codes: `wrong` (the present password does not fit, or too many tries), `same`, and those
        of `weakness`.
        """
        if not self._may_try(account.name, address):
            return "wrong"
        if not await self._guess(old, account.password):
            async with self._database.unit_of_work() as work:
                await self._audit.record(
                    work,
                    staff_caller(account, request_id),
                    "staff.password",
                    decision="deny",
                    reason="password_wrong",
                )
            return "wrong"
        if old == new:
            return "same"
        weak = weakness(new, account.name)
        if weak is not None:
            return weak
        stored = await self._hashed(new)
        now_us = self._clock.now_us()
        async with self._database.unit_of_work() as work:
            held = await repository.hold_account(work, account.id)
            if held is None or not held.is_active or held.password != account.password:
                return "wrong"
            await repository.set_password(work, held.id, stored, None)
            await self._remember(work, held, CHANGED_PASSWORD)
            token = await self._open(work, held, now_us)
            await self._audit.record(work, staff_caller(held, request_id), "staff.password")
        return SignedIn(held, token)

    # --- helpers ----------------------------------------------------------------------

    async def _remember(self, work: UnitOfWork, account: Account, change: str, **told: str) -> None:
        """Enter what a restore must not undo; never a password in any form."""
        detail = {"staff": account.id, "change": change, **told}
        await self._rights.record(work, RightsKind.STAFF, account.id, detail)

    async def _open(self, work: UnitOfWork, account: Account, now_us: int) -> str:
        token = "s" + secrets.token_urlsafe(_TOKEN_BYTES)
        session = StaffSession(token_hash(token), account.id, None, now_us, now_us + SESSION_US)
        await repository.add_session(work, session)
        return token

    def _may_try(self, name: str, address: str | None) -> bool:
        now_us = self._clock.now_us()
        from_here = self._by_address.take(self._address_key.of(address), now_us)
        return from_here and self._by_name.take(token_hash(name), now_us)

    async def _stand_in(self) -> str:
        """Give a hash that nothing fits, so that an unknown name costs what a known one does."""
        if self._nobody is None:
            self._nobody = await self._hashed(one_time_password())
        return self._nobody

    async def _hashed(self, password: str) -> str:
        async with self._guesses:
            return await asyncio.to_thread(hash_password, password, self._cost)

    async def _guess(self, password: str, stored: str) -> bool:
        async with self._guesses:
            return await asyncio.to_thread(fits, password, stored)

    async def _held(self, work: UnitOfWork, staff: str) -> Account:
        await bump_epoch(work, STAFF_EPOCH)
        if is_id("stf", staff):
            found = await repository.hold_account(work, staff)
        else:
            named = await repository.account_by_name(work, staff.strip().casefold())
            found = None if named is None else await repository.hold_account(work, named.id)
        if found is None:
            raise StaffNotFoundError(reason="staff_unknown")
        return found

    @staticmethod
    def _not_oneself(caller: Caller, found: Account) -> None:
        if caller.id == found.id:
            raise DutiesNotSeparateError(
                "nobody changes their own account here",
                reason="own_account",
                remedy="Ask another admin, or use `yinyom staff` on the machine itself.",
            )

    async def _keep_apart(
        self, work: UnitOfWork, account: Account, role: str | None = None
    ) -> None:
        """Refuse a role that excludes one the same person has; staff changes come one by one."""
        await bump_epoch(work, STAFF_EPOCH)
        if account.person is None:
            return
        excluded = APART.get(role or account.role, frozenset())
        for other in await repository.all_accounts(work):
            same = other.person == account.person and other.id != account.id
            if same and other.is_active and other.role in excluded:
                raise DutiesNotSeparateError(reason="duties_not_separate")


def _require(fits_in: object, pointer: str, detail: str) -> None:
    if not fits_in:
        raise InvalidRequestError(errors=[FieldProblem(pointer, pointer[1:], detail)])


def _refusal(held: Account | None, stored: str, *, right: bool, now_us: int) -> str | None:
    """Say, for the trail only, why a sign-in fails; None when it does not."""
    if held is None:
        return "name_unknown"
    if not right or held.password != stored:
        return "password_wrong"
    if not held.is_active:
        return "staff_disabled"
    if held.once_until_us is not None and held.once_until_us <= now_us:
        return "password_expired"
    return None
