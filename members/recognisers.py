"""Recognisers of personal data in free text, for Thai, Chinese and English, on Presidio's engine.

No language model and nothing from the network: patterns with checks behind them. Thai and Chinese
have no blanks between words, so nothing here asks for a word boundary; digits of other scripts
are read as what they are. What is found is told by kind and place, never by what it says.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Final

from members.normalise import Formats, Normal, normalise
from members.repository import Finding
from policies import SpecialWords

if TYPE_CHECKING:
    from presidio_analyzer import AnalyzerEngine

VERSION: Final = "1"
MOST_FINDINGS: Final = 200

_LANGUAGE = "en"  # Presidio wants one; the patterns know no language
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_THAI_DIGITS = {0x0E50 + digit: ord("0") + digit for digit in range(10)}
_DASHES = dict.fromkeys([*range(0x2010, 0x2016), 0x2212], "-")
_BLANKS = dict.fromkeys([0x3000, 0x00A0, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF], " ")
# One character for one: a place in the read text is the same place in the written one.
_READ_AS: Final[dict[int, int | str]] = {**_FULL_WIDTH, **_THAI_DIGITS, **_DASHES, **_BLANKS}
_ANY_DAY = date(2026, 1, 1)  # dates are not among what is normalised here


@dataclass(frozen=True, slots=True)
class _Rule:
    """A pattern of one kind, how sure it is (0 to 100), and a check that the match must pass."""

    name: str
    kind: str
    pattern: str
    score: int
    check: Callable[[str], bool] | None = None


def _normal(kind: str, country: str) -> Callable[[str], bool]:
    formats = Formats(country, None, country, _ANY_DAY)

    def check(found: str) -> bool:
        return isinstance(normalise(kind, found.upper(), formats), Normal)

    return check


def _is_card(found: str) -> bool:
    from stdnum import luhn

    digits = re.sub(r"\D", "", found)
    # Thirteen digits were one old card and are every Thai identity number.
    return len(digits) != 13 and len(set(digits)) > 1 and luhn.is_valid(digits)  # noqa: PLR2004


def _is_bare_identity(found: str) -> bool:
    return _normal("national_id", "TW")(re.sub(r"[ .-]", "", found))


_RULES: Final = (
    _Rule(
        "email",
        "email",
        r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}"
        r"(?![A-Za-z0-9-])",
        95,
    ),
    _Rule(
        "national_id_th",
        "national_id",
        r"(?<!\d)[1-8](?:[ -]?\d){12}(?!\d)",
        95,
        _normal("national_id", "TH"),
    ),
    _Rule(
        "national_id_tw",
        "national_id",
        r"(?<![A-Za-z0-9])[A-Z][ -]?[1289](?:[ -]?\d){8}(?![A-Za-z0-9])",
        95,
        _is_bare_identity,
    ),
    _Rule(
        "phone_th",
        "phone",
        r"(?<![\d+])(?:(?:\+|00)?66[ .-]?(?:\(?0\)?)?|\(?0)[ .-]?[2-9]"
        r"(?:[ .()-]{0,2}\d){7,8}(?!\d)",
        75,
        _normal("phone", "TH"),
    ),
    _Rule(
        "phone_tw",
        "phone",
        r"(?<![\d+])(?:(?:\+|00)?886[ .-]?(?:\(?0\)?)?|\(?0)[ .-]?[2-9]"
        r"(?:[ .()-]{0,2}\d){7,8}(?!\d)",
        75,
        _normal("phone", "TW"),
    ),
    _Rule("line_uid", "line_id", r"(?<![A-Za-z0-9])U[0-9a-f]{32}(?![A-Za-z0-9])", 95),
    _Rule(
        "line_name",
        "line_id",
        r"(?:ไลน์|(?<![A-Za-z])line)[ ]{0,2}(?:ไอดี|id|帳號)?[ ]{0,2}[:=]?[ ]{0,2}"
        r"@?[a-z0-9][a-z0-9._-]{3,29}(?![A-Za-z0-9])",
        50,
        lambda found: bool(re.search(r"[:=@]|id|ไอดี|帳號|\d", found, re.IGNORECASE)),
    ),
    _Rule("card", "card", r"(?<!\d)[2-6](?:[ -]?\d){11,18}(?!\d)", 90, _is_card),
    _Rule(
        "passport",
        "passport",
        r"(?:passport|พาสปอร์ต|หนังสือเดินทาง|護照)[^A-Za-z0-9]{0,16}(?:no\.?|number)?[ :.]{0,4}"
        r"(?:[A-Z]{1,2}\d{6,7}|\d{9})(?![A-Za-z0-9])",
        80,
    ),
    _Rule(
        "bank_account",
        "bank_account",
        r"(?:เลข(?:ที่)?บัญชี|บัญชี|帳號|帳戶|account)[^\d\n]{0,24}\d(?:[ -]?\d){9,13}(?!\d)",
        70,
    ),
)


class Recogniser:
    """Finds personal data in a text; slow to make, as Presidio takes seconds to load."""

    def __init__(self, words: Mapping[str, SpecialWords]) -> None:
        rules = [*_RULES, *(_of_words(one) for one in words.values())]
        self._engine = _engine(rules)

    def find(self, field: str, text: str) -> list[Finding]:
        """Give what is found in one text, in its order; more than two hundred are cut off."""
        read = text.translate(_READ_AS)
        results = self._engine.analyze(text=read, language=_LANGUAGE)
        found = {
            Finding(
                field,
                result.entity_type.lower(),
                result.start,
                result.end,
                round(result.score * 100),
                f"{result.recognition_metadata['recognizer_name']}/{VERSION}",
            )
            for result in results
        }
        return sorted(found, key=lambda one: (one.start, one.end, one.kind))[:MOST_FINDINGS]


def _of_words(special: SpecialWords) -> _Rule:
    """Latin words count whole; in Thai and Chinese a word has no edges that could be seen."""
    parts = [
        rf"(?<![A-Za-z]){re.escape(word)}(?![A-Za-z])" if word.isascii() else re.escape(word)
        for word in sorted(special.words, key=len, reverse=True)
    ]
    return _Rule(special.kind, special.kind, "|".join(parts), special.score)


def _engine(rules: list[_Rule]) -> "AnalyzerEngine":
    from presidio_analyzer import AnalyzerEngine, Pattern, PatternRecognizer, RecognizerRegistry
    from presidio_analyzer.nlp_engine import NoOpNlpEngine

    class Checked(PatternRecognizer):
        """A pattern whose matches must pass a check; failing it, they are not findings."""

        def __init__(self, rule: _Rule) -> None:
            self._check = rule.check
            super().__init__(
                supported_entity=rule.kind.upper(),
                name=rule.name,
                supported_language=_LANGUAGE,
                patterns=[Pattern(rule.name, rule.pattern, rule.score / 100)],
                version=VERSION,
            )

        def invalidate_result(self, pattern_text: str) -> bool:
            """Say that a match failed its check."""
            return self._check is not None and not self._check(pattern_text)

    recognisers: list[Any] = [Checked(rule) for rule in rules]
    nlp = NoOpNlpEngine(models=[{"lang_code": _LANGUAGE, "model_name": "none"}])
    nlp.load()
    return AnalyzerEngine(
        registry=RecognizerRegistry(recognizers=recognisers, supported_languages=[_LANGUAGE]),
        nlp_engine=nlp,
        supported_languages=[_LANGUAGE],
    )
