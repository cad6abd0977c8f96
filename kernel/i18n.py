"""Three languages from the first page on: catalogues, negotiation, and calendar years.

Thai pages show Buddhist years and Taiwanese pages show ROC years, as their readers write
them; the machine-readable `datetime` beside them stays Gregorian.
"""

import tomllib
from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from pathlib import Path

_BUDDHIST_OFFSET = 543
_ROC_OFFSET = 1911


class Language(StrEnum):
    """The languages of the portal (BCP 47)."""

    TH = "th"
    EN = "en"
    ZH_HANT = "zh-Hant"


LANGUAGE_NAMES: Mapping[Language, str] = {
    Language.TH: "ไทย",
    Language.EN: "English",
    Language.ZH_HANT: "繁體中文",
}

_MONTHS: Mapping[Language, tuple[str, ...]] = {
    Language.TH: (
        "ม.ค.", "ก.พ.", "มี.ค.", "เม.ย.", "พ.ค.", "มิ.ย.",
        "ก.ค.", "ส.ค.", "ก.ย.", "ต.ค.", "พ.ย.", "ธ.ค.",
    ),
    Language.EN: (
        "Jan", "Feb", "Mar", "Apr", "May", "Jun",
        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ),
}  # fmt: skip


def format_date(day: date, language: Language) -> str:
    """Write a date as its readers do: 12 มี.ค. 2568, 12 Mar 2025, 民國114年3月12日."""
    if language is Language.ZH_HANT:
        return f"民國{day.year - _ROC_OFFSET}年{day.month}月{day.day}日"
    year = day.year + _BUDDHIST_OFFSET if language is Language.TH else day.year
    return f"{day.day} {_MONTHS[language][day.month - 1]} {year}"


def negotiate(header: str | None, default: Language = Language.TH) -> Language:
    """Choose a language from an `Accept-Language` header (RFC 9110 section 12.5.4)."""
    ranked: list[tuple[float, int, Language]] = []
    for position, part in enumerate((header or "").split(",")):
        tag, _, parameters = part.strip().partition(";")
        language = _matching(tag.strip().lower())
        quality = _quality(parameters)
        if language is not None and quality > 0:
            ranked.append((-quality, position, language))
    return min(ranked)[2] if ranked else default


def _matching(tag: str) -> Language | None:
    if tag.startswith("zh"):
        return Language.ZH_HANT
    return next((lang for lang in (Language.TH, Language.EN) if tag.startswith(lang)), None)


def _quality(parameters: str) -> float:
    _, _, value = parameters.partition("q=")
    try:
        return float(value) if value else 1.0
    except ValueError:
        return 0.0


class Catalogue:
    """The texts of the pages, one TOML file a language, every key in every language."""

    def __init__(self, folder: Path) -> None:
        self._texts: dict[Language, dict[str, str]] = {}
        for language in Language:
            with (folder / f"{language.value}.toml").open("rb") as file:
                self._texts[language] = dict(_flatten(tomllib.load(file)))
        keys = [frozenset(texts) for texts in self._texts.values()]
        missing = frozenset[str]().union(*keys) - keys[0].intersection(*keys[1:])
        if missing:
            raise ValueError(f"texts missing in a language: {', '.join(sorted(missing))}")

    def text(self, language: Language, key: str, **values: object) -> str:
        """Give a text; `{name}` places are filled from `values`."""
        template = self._texts[language][key]
        return template.format(**values) if values else template

    def has(self, key: str) -> bool:
        """Say whether the catalogues know this key."""
        return key in self._texts[Language.EN]


def _flatten(tree: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    flat: list[tuple[str, str]] = []
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.extend(_flatten(value, f"{prefix}{key}."))
        else:
            flat.append((prefix + key, str(value)))
    return flat
