"""Who read a member's data, as a timeline by day, refused readings too. Pure.

A reader appears by the name the shop registered and by role, never by an id that outsiders
could join with another list.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import tzinfo
from itertools import groupby
from typing import Any

from audit import SUPPRESSION_READ
from kernel import from_rfc3339
from kernel.i18n import Catalogue, Language
from policies import Channel, FieldKey, PolicyPack, PurposeKey
from service.portal.moments import Moment, moment


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading or refused reading, in words; `told` is what a feed told where none was read."""

    at: Moment
    reader: str
    role: str
    purpose: str
    channel: str
    fields: tuple[str, ...]
    refusal: str | None
    audit_id: str
    emergency: str | None
    told: tuple[str, ...]
    is_suppressed: bool


@dataclass(frozen=True, slots=True)
class Day:
    """The readings of one day, the newest first."""

    title: str
    readings: tuple[Reading, ...]


class Timeline:
    """Puts readings of the trail into words of one language."""

    def __init__(
        self,
        pack: PolicyPack,
        catalogue: Catalogue,
        language: Language,
        zone: tzinfo,
        clients: Mapping[str, str],
    ) -> None:
        self._pack = pack
        self._catalogue = catalogue
        self._language = language
        self._zone = zone
        self._clients = clients

    def days(self, readings: Iterable[Mapping[str, Any]]) -> list[Day]:
        """Group readings, given the newest first as `disclosure` tells of them, by local day."""
        told = [self._reading(one) for one in readings]
        return [Day(day, tuple(of_day)) for day, of_day in groupby(told, lambda one: one.at.day)]

    def _reading(self, one: Mapping[str, Any]) -> Reading:
        role = one["by"]["role"]
        role_text = self._known("role", role)
        return Reading(
            at=moment(from_rfc3339(one["at"]), self._zone, self._language),
            reader=self._clients.get(one["by"]["id"], role_text),
            role=role_text,
            purpose=self._purpose(one["purpose"]),
            channel=self._channel(one["channel"]),
            fields=tuple(self._field(key) for key in one["fields"]),
            refusal=None if one["decision"] == "allow" else self._known("reason", one["reason"]),
            audit_id=one["audit_id"],
            emergency=self._emergency(one["reason"]) if one["emergency"] else None,
            told=tuple(self._told(one["action"], word) for word in one["told"]),
            is_suppressed=one["action"] == SUPPRESSION_READ,
        )

    def _told(self, action: str, word: str) -> str:
        """Give what a feed told, in words: a change by its type, a suppression by its reason."""
        if action == SUPPRESSION_READ:
            codes = (word, f"consent_{word}", f"member_{word}")
            known = (code for code in codes if self._catalogue.has(f"reason.{code}"))
            return self._known("reason", next(known, None))
        return self._known("change", word)

    def _known(self, kind: str, code: str | None) -> str:
        key = f"{kind}.{code}"
        fallback = f"{kind}.other"
        return self._catalogue.text(self._language, key if self._catalogue.has(key) else fallback)

    def _emergency(self, reason: str | None) -> str:
        """Give the pack's words of an emergency; empty for a try that was refused."""
        found = self._pack.emergency_reasons.get(reason or "")
        return "" if found is None else found.in_language(self._language)

    def _purpose(self, key: str | None) -> str:
        found = self._pack.purposes.get(PurposeKey(key or ""))
        return "" if found is None else found.title.in_language(self._language)

    def _channel(self, key: str | None) -> str:
        found = self._pack.channels.get(Channel(key or ""))
        return "" if found is None else found.title.in_language(self._language)

    def _field(self, key: str) -> str:
        found = self._pack.fields.get(FieldKey(key.partition(".")[0]))
        return key if found is None else found.title.in_language(self._language)
