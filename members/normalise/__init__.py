"""Normalisers: one written form per value, or a refusal with a reason.

Pure functions of the value and what was declared about it; nothing here reads a clock, a
network or a database.
"""

from members.normalise.dates import DATE_ERAS
from members.normalise.names import search_form
from members.normalise.registry import (
    KINDS,
    index_form,
    newest_form,
    normalise,
)
from members.normalise.result import REASONS, Formats, Normal, Normalised, Refused

__all__ = [
    "DATE_ERAS",
    "KINDS",
    "REASONS",
    "Formats",
    "Normal",
    "Normalised",
    "Refused",
    "index_form",
    "newest_form",
    "normalise",
    "search_form",
]
