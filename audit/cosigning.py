"""Having the log's head signed by witnesses: what is sent to them, what is made of the answer.

The log asks, the witness checks. An answer counts only after its signature was checked against
the key that the operator configured. A witness that has signed a longer log than there is here
has caught this database being an older copy; one that finds no way from its head to ours has
caught a rewritten log. Both are told apart from a witness that is merely not there. Kept out is
the log as its own witness: no key that it signs with, or ever did, counts for a stranger's.
"""

from collections.abc import Awaitable
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Protocol

from audit import cosigning_repository, log_key_repository, repository
from audit.errors import AuditError, NoteError
from audit.note import COSIGNATURE_V1, Verifier, open_note, split_note
from audit.proof import prove_consistency
from audit.witness import write_submission
from kernel import Clock, Database, ReadSession

_MOST_DIGITS = 19


class WitnessVerdict(StrEnum):
    """How asking one witness ended."""

    COSIGNED = "cosigned"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    AHEAD = "witness_ahead"
    DISAGREES = "witness_disagrees"
    UNFIT = "unfit_key"

    @property
    def alarming(self) -> bool:
        """Whether the witness has caught the log breaking its word."""
        return self in {WitnessVerdict.AHEAD, WitnessVerdict.DISAGREES}


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of asking a witness: the size it has signed by now, where that is known."""

    witness: str
    verdict: WitnessVerdict
    size: int | None


class WitnessPost(Protocol):
    """The way to one witness: sends the body of a request, gives status and text of the answer."""

    def __call__(self, body: bytes) -> Awaitable[tuple[int, str]]:
        """Send once; raise `WitnessUnreachableError` when there is no answer."""
        ...


class WitnessUnreachableError(AuditError):
    """A witness did not answer."""

    slug = "witness-unreachable"
    title = "The witness did not answer"
    status = 503
    remedy = "Business goes on; the log's newest head is signed when the witness is back."


async def ask_witness(
    database: Database, clock: Clock, verifier: Verifier, post: WitnessPost
) -> Asked:
    """Have the newest checkpoint cosigned by one witness, and keep its signature.

    What the witness signed last is taken from the signatures kept here; if it says otherwise,
    it is asked once more from where it says it is. One whose key is a log's is not asked.
    """
    async with database.read() as session:
        if not is_stranger(verifier, await log_key_repository.own_keys(session)):
            return Asked(verifier.name, WitnessVerdict.UNFIT, None)
        old = await cosigning_repository.last_cosigned(session, verifier.vkey)
    for _ in range(2):
        async with database.read() as session:
            size, note, body = await _submission(session, old)
        try:
            status, text = await post(body)
        except WitnessUnreachableError:
            return Asked(verifier.name, WitnessVerdict.UNREACHABLE, None)
        if status == HTTPStatus.CONFLICT:
            told = _size(text)
            if told is None:
                break
            if told > size or told == old:
                verdict = WitnessVerdict.AHEAD if told > size else WitnessVerdict.DISAGREES
                return Asked(verifier.name, verdict, told)
            old = told
            continue
        if status == HTTPStatus.UNPROCESSABLE_ENTITY:
            return Asked(verifier.name, WitnessVerdict.DISAGREES, old)
        line = cosignature_in(note, text, verifier) if status == HTTPStatus.OK else None
        if line is not None:
            return await _keep(database, clock, verifier, size, line)
        break
    return Asked(verifier.name, WitnessVerdict.REFUSED, None)


def is_stranger(verifier: Verifier, own: frozenset[bytes]) -> bool:
    """Say whether a key may witness a log: of the kind that cosigns, and none of the log's own."""
    return verifier.kind == COSIGNATURE_V1 and verifier.public not in own


async def _keep(
    database: Database, clock: Clock, verifier: Verifier, size: int, line: str
) -> Asked:
    """Keep a signature, unless its key has become the log's while the answer was on its way."""
    async with database.unit_of_work() as work:
        if not is_stranger(verifier, await log_key_repository.own_keys(work)):
            return Asked(verifier.name, WitnessVerdict.UNFIT, None)
        await cosigning_repository.add_cosignature(work, size, verifier.vkey, line, clock.now_us())
    return Asked(verifier.name, WitnessVerdict.COSIGNED, size)


def cosignature_in(note: str, text: str, verifier: Verifier) -> str | None:
    """Give this key's signature line out of a witness's answer, if it holds; else None."""
    for line in text.splitlines(keepends=True):
        candidate = split_note(note)[0] + "\n" + line
        try:
            open_note(candidate, [verifier])
        except NoteError:
            continue
        return line
    return None


async def cosigned_checkpoint(
    session: ReadSession, *, fresh: bool = True
) -> tuple[int, str] | None:
    """Give size and note of a checkpoint with every cosignature kept for it.

    The newest checkpoint with `fresh`; otherwise the newest that a witness has signed.
    """
    if fresh:
        last = await repository.last_checkpoint(session)
        found = None if last is None else (last[0], last[2])
    else:
        found = await cosigning_repository.newest_cosigned(session)
    if found is None:
        return None
    size, note = found
    return size, note + "".join(await cosigning_repository.of_size(session, size))


async def _submission(session: ReadSession, old: int) -> tuple[int, str, bytes]:
    last = await repository.last_checkpoint(session)
    if last is None:
        raise AuditError("the log has not begun")
    size, _, note = last
    proof: list[bytes] = []
    if 0 < old < size:
        proof = await prove_consistency(session, old, size)
    return size, note, write_submission(min(old, size), proof, note)


def _size(text: str) -> int | None:
    digits = text.removesuffix("\n")
    if digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS:
        return int(digits)
    return None
