"""Consent in numbers: what members allowed and what not, per purpose and channel.

A refusal is an answer, not a loss: there is no target, and yes and no are drawn alike. The
chart is drawn here, by the server, and every number of it stands in the table beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from audit import EVERY_BRAND
from consent import Status, consent_counts
from members import consent_counts_of
from policies import PurposeKey
from service.console.desk import Console, Desk
from service.console.svg import BarChart, bars

_PLACE = "consents"


@dataclass(slots=True)
class Answers:
    """How members answered on one purpose and channel."""

    purpose: str
    title: str
    channel: str
    given: int = 0
    refused: int = 0
    withdrawn: int = 0
    objected: int = 0
    expired: int = 0

    @property
    def total(self) -> int:
        """How many members have answered at all."""
        return self.given + self.refused + self.withdrawn + self.objected + self.expired

    @property
    def not_allowed(self) -> int:
        """How many answers do not allow it now."""
        return self.total - self.given


def routes(console: Console) -> APIRouter:
    """Make the routes of the numbers."""
    consents = APIRouter()

    @consents.get("/consents")
    async def numbers(request: Request) -> Response:
        desk = await console.enter(request, _PLACE)
        async with console.runtime.database.read() as session:
            brand = desk.account.brand
            counted = (
                await consent_counts(session)
                if brand == EVERY_BRAND
                else await consent_counts_of(session, brand)
            )
        answers = _answers(console, desk, counted)
        return console.show(
            request,
            "consents",
            desk,
            current=_PLACE,
            answers=answers,
            chart=_chart(answers),
            given=sum(one.given for one in answers),
            total=sum(one.total for one in answers),
        )

    return consents


def _answers(
    console: Console, desk: Desk, counted: Sequence[tuple[str, str, Status, int]]
) -> list[Answers]:
    found: dict[tuple[str, str], Answers] = {}
    purposes = console.runtime.pack.purposes
    for purpose, channel, status, count in counted:
        entry = purposes.get(PurposeKey(purpose))
        title = purpose if entry is None else entry.title.in_language(desk.language)
        row = found.setdefault((purpose, channel), Answers(purpose, title, channel))
        if status.value in {"given", "refused", "withdrawn", "objected", "expired"}:
            setattr(row, status.value, getattr(row, status.value) + count)
    return [found[key] for key in sorted(found)]


def _chart(answers: Sequence[Answers]) -> BarChart:
    return bars([(one.title, one.channel, one.given, one.not_allowed) for one in answers])
