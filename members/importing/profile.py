"""What an importer declares about a file before anything in it is believed."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from types import MappingProxyType
from typing import Final, Self

from members.importing.encoding import CODECS
from members.importing.errors import ImportFileError
from members.normalise import DATE_ERAS, Formats

_REGION_LETTERS: Final = 2


@dataclass(frozen=True, slots=True)
class Profile:
    """The declarations for one kind of export.

    `columns` maps column names to fields where the built-in names do not do (an empty field
    leaves the column out). `encoding` is `auto` or a name in `CODECS`; `delimiter` is found from
    the header row when `None`. `max_rows` and `max_row_chars` bound what one file may bring.
    """

    name: str = "plain"
    columns: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    phone_region: str | None = None
    date_era: str | None = None
    encoding: str = "auto"
    id_country: str | None = None
    delimiter: str | None = None
    max_rows: int = 2_000_000
    max_row_chars: int = 131_072

    def declare(
        self,
        *,
        phone_region: str | None = None,
        date_era: str | None = None,
        encoding: str | None = None,
        id_country: str | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> Self:
        """Return the profile with what was said on top of it; `None` leaves a setting alone.

        A newly declared phone region is also the identity numbers' country unless one is
        declared with it or is already set. Raises `ImportFileError` for a word not known here.
        """
        region = phone_region.upper() if phone_region else self.phone_region
        country = id_country.upper() if id_country else self.id_country
        declared = replace(
            self,
            phone_region=region,
            date_era=date_era or self.date_era,
            encoding=(encoding or self.encoding).lower(),
            id_country=country or region,
            columns=MappingProxyType({**self.columns, **(columns or {})}),
        )
        declared.check()
        return declared

    def check(self) -> None:
        """Raise `ImportFileError` when a declaration is not one of the known words."""
        if self.date_era is not None and self.date_era not in DATE_ERAS:
            known = ", ".join(sorted(DATE_ERAS))
            raise ImportFileError(f"the date era must be one of {known}", reason="declaration")
        if self.encoding != "auto" and self.encoding not in CODECS:
            known = ", ".join(sorted(CODECS))
            raise ImportFileError(f"the encoding must be auto or one of {known}", reason="encoding")
        if self.max_row_chars > csv.field_size_limit():
            raise ImportFileError(
                f"a row may have at most {csv.field_size_limit()} characters", reason="declaration"
            )
        for code in (self.phone_region, self.id_country):
            if code is not None and not (
                len(code) == _REGION_LETTERS and code.isascii() and code.isalpha()
            ):
                raise ImportFileError(
                    "a region is a two-letter code such as TH", reason="declaration"
                )

    def formats(self, today: date) -> Formats:
        """Return the declarations in the shape the normalisers take."""
        return Formats(self.phone_region, self.date_era, self.id_country, today)


PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {
        "plain": Profile(),
        "th": Profile("th", phone_region="TH", date_era="be-or-iso", id_country="TH"),
        "tw": Profile("tw", phone_region="TW", date_era="roc-or-iso", id_country="TW"),
        "en": Profile("en", date_era="iso-or-dmy-month-name"),
    }
)
"""Packaged profiles. `en` has no region: English says nothing about where a number rings."""
