"""Whether two principals are two persons, for what one of them may not do alone.

A person of the staff may hold the secret of a client, so another caller's id proves nothing. An
account is somebody's own by its password; a client counts as somebody only when it was registered
for one, and then as nobody else.
"""

from kernel import ReadSession, is_id
from service.auth import repository as clients
from service.staff import repository
from service.staff.approvals import same_person

_STAFF = "stf"


class TwoPersons:
    """Tells persons apart behind accounts and clients (`audit.Eyes`)."""

    async def apart(self, session: ReadSession, proposer: str, approver: str) -> bool:
        """Say whether a second yes comes from another person than the first.

        What somebody of the staff proposed, staff alone may second: a yes at the console can be
        declined there, and must not be got round by an app. With a client on either side both
        must be known to be somebody.
        """
        if proposer == approver or (is_id(_STAFF, proposer) and not is_id(_STAFF, approver)):
            return False
        if is_id(_STAFF, proposer):
            one = await repository.account_by_id(session, proposer)
            return not same_person(one, await repository.account_by_id(session, approver))
        first = await self._person(session, proposer)
        second = await self._person(session, approver)
        return first is not None and second is not None and first != second

    async def _person(self, session: ReadSession, principal: str) -> str | None:
        if is_id(_STAFF, principal):
            account = await repository.account_by_id(session, principal)
            return None if account is None else account.person
        client = await clients.client_by_id(session, principal)
        return None if client is None else client.person
