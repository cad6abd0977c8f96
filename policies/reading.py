"""Reads TOML tables strictly: every key is asked for once, and what nobody asked for is a fault.

A misspelt key in a policy must never be silently nothing. Faults are collected instead of
raised, so that an author sees all of them at once; after a fault the reader hands back a
harmless placeholder and the pack is refused in the end.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any, TypeVar

from policies.errors import Finding
from policies.layers import Layers
from policies.model import Evidence, Fact, LocalText, Status

E = TypeVar("E", bound=StrEnum)

KEY = re.compile(r"[a-z][a-z0-9_]{0,63}")
_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class PackReader:
    """The folders of a pack, and the findings made while reading them."""

    layers: Layers
    findings: list[Finding]

    def file(self, path: str) -> "Table":
        """Open a TOML file of the pack as one table."""
        return Table(path, "", self.layers.toml(path, self.findings), self.findings)


class Table:
    """One TOML table under inspection, with its place in the pack for the findings."""

    def __init__(self, file: str, path: str, data: Mapping[str, Any], into: list[Finding]) -> None:
        self.file = file
        self.path = path
        self._data = data
        self._unread = set(data)
        self._findings = into

    def fault(self, key: str, problem: str, remedy: str) -> None:
        """Record a finding at a key of this table."""
        place = ".".join(part for part in (self.path, key) if part)
        self._findings.append(Finding(self.file, place, problem, remedy))

    def has(self, key: str) -> bool:
        """Say whether an optional key was written."""
        return key in self._data

    def keys(self) -> tuple[str, ...]:
        """List the keys as written."""
        return tuple(self._data)

    def text(self, key: str) -> str:
        """Read a text that must not be empty."""
        value = self._take(key, str, "text in quotes")
        if isinstance(value, str) and not value.strip():
            self.fault(key, "is empty", "Write the text")
        return value if isinstance(value, str) else ""

    def optional_text(self, key: str) -> str | None:
        """Read a text that may be left out."""
        return self.text(key) if self.has(key) else None

    def flag(self, key: str) -> bool:
        """Read true or false."""
        return self._take(key, bool, "true or false") is True

    def number(self, key: str) -> int:
        """Read a whole number that is not negative."""
        value = self._take(key, int, "a whole number")
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            if value is not None:
                self.fault(key, "is not a whole number of zero or more", "Write such a number")
            return 0
        return value

    def moment(self, key: str) -> datetime | None:
        """Read a date and time with its offset."""
        value = self._take(key, datetime, "a date and time, e.g. 2026-11-01T00:00:00+07:00")
        if not isinstance(value, datetime):
            return None
        if value.tzinfo is None:
            self.fault(key, "has no offset", "Add the offset, e.g. +07:00")
            return None
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Read a list of texts without repeats."""
        value = self._take(key, list, "a list of texts")
        if not isinstance(value, list):
            return ()
        if not all(isinstance(item, str) and item for item in value):
            self.fault(key, "holds something other than text", "Write a list of quoted texts")
            return ()
        if len(set(value)) != len(value):
            self.fault(key, "names something twice", "Remove the repeat")
        return tuple(value)

    def choice(self, key: str, kind: type[E]) -> E:
        """Read one word out of a closed list."""
        return self._one_of(key, self.text(key), kind)

    def optional_choice(self, key: str, kind: type[E]) -> E | None:
        """Read one word out of a closed list, or nothing."""
        return self.choice(key, kind) if self.has(key) else None

    def table(self, key: str) -> "Table":
        """Enter a table that must be there."""
        value = self._take(key, dict, "a table")
        return self._at(key, value if isinstance(value, dict) else _NOTHING)

    def optional_table(self, key: str) -> "Table":
        """Enter a table, empty when it was left out."""
        return self.table(key) if self.has(key) else self._at(key, _NOTHING)

    def tables(self, key: str) -> tuple["Table", ...]:
        """Enter each table of a list of tables."""
        value = self._take(key, list, "a list of tables")
        items = value if isinstance(value, list) else []
        if not all(isinstance(item, dict) for item in items):
            self.fault(key, "holds something other than tables", f"Write [[{key}]] for each")
            return ()
        return tuple(self._at(f"{key}[{place}]", item) for place, item in enumerate(items))

    def entries(self) -> Iterable[tuple[str, "Table"]]:
        """Enter every table of this table; each key must be a lower-case name."""
        for key in self._data:
            if not KEY.fullmatch(key):
                self.fault(key, "is not a name", "Use a-z, 0-9 and _, starting with a letter")
            yield key, self.table(key)

    def local_text(self, key: str) -> LocalText:
        """Read one text in all three languages."""
        table = self.table(key)
        if not self.has(key):
            return LocalText("", "", "")
        text = LocalText(table.text("th"), table.text("en"), table.text("zh-Hant"))
        table.close()
        return text

    def fact(self, key: str) -> Fact:
        """Read a rule with its source, status and evidence; a number also needs its unit."""
        table = self.table(key)
        if not self.has(key):
            return Fact("", None, "", Status.DRAFT, Evidence.MEMORY, None, None, None, None, {})
        fact = table.fact_here()
        table.close()
        return fact

    def fact_here(self) -> Fact:
        """Read the fact that this table itself is, leaving `close` to the caller."""
        value = self._value("v")
        unit = self.text("u") if isinstance(value, int) else self.optional_text("u")
        return Fact(
            value=value,
            unit=unit,
            source=self.text("src"),
            status=self.choice("st", Status),
            evidence=self.choice("ev", Evidence),
            start=self.optional_text("from"),
            since=self._optional_date("since"),
            read=self.optional_text("read"),
            note=self.optional_text("note"),
            conditions=dict(self.optional_table("conditions").everything()),
        )

    def everything(self) -> Mapping[str, Any]:
        """Take all keys unseen; for free-form remarks only."""
        self._unread.clear()
        return self._data

    def close(self) -> None:
        """Report every key that nobody asked for."""
        for key in sorted(self._unread):
            self.fault(key, "is not a known key", "Remove it or mend its spelling")

    def _value(self, key: str) -> int | str | tuple[str, ...]:
        value = self._data.get(key)
        if isinstance(value, list):
            return self.texts(key)
        if isinstance(value, str):
            return self.text(key)
        return self.number(key)

    def _optional_date(self, key: str) -> date | None:
        if not self.has(key):
            return None
        value = self._take(key, date, "a date, e.g. 2026-09-14")
        return value if isinstance(value, date) else None

    def _one_of(self, key: str, word: str, kind: type[E]) -> E:
        try:
            return kind(word)
        except ValueError:
            if word:
                choices = ", ".join(member.value for member in kind)
                self.fault(key, f'"{word}" is not known', f"Use one of {choices}")
            return next(iter(kind))

    def _take(self, key: str, kind: type, wanted: str) -> object:
        self._unread.discard(key)
        if key not in self._data:
            self.fault(key, "is missing", f"Add {key} with {wanted}")
            return None
        value = self._data[key]
        if not isinstance(value, kind):
            self.fault(key, f"is not {wanted}", f"Write {wanted}")
            return None
        return value

    def _at(self, key: str, data: Mapping[str, Any]) -> "Table":
        path = ".".join(part for part in (self.path, key) if part)
        return Table(self.file, path, data, self._findings)
