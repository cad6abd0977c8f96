"""The archive a member gets: a page to read, JSON and CSV for programs, and what is what.

Pure: everything in it was gathered before. Free text that somebody at a till wrote may name
another person; numbers and addresses in it that are not the member's own are left out, and the
copy says how many (GDPR art. 15(4)).
"""

import csv
import io
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from kernel.i18n import Catalogue, Language, format_date
from members import escaped

FORMAT = "yinyom-copy/0"
_HERE = Path(__file__).parent
_LEFT_OUT = "[…]"
_ENDING = 8
_ADDRESS = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+")
_NUMBER = re.compile(r"\+?\d(?:[ ().-]{0,2}\d){6,15}")
_FIXED_TIME = (1980, 1, 1, 0, 0, 0)
_PRIVATE = 0o600 << 16


@dataclass(frozen=True, slots=True)
class Copy:
    """Everything that leaves, in the member's language; rows are plain JSON.

    `disclosures` is None where the right does not ask for them (portability).
    """

    request_id: str
    right: str
    jurisdiction: str
    language: str
    controller: str
    made_at: str
    fields: Sequence[Mapping[str, Any]] = field(repr=False)
    contact_points: Sequence[Mapping[str, Any]]
    consents: Sequence[Mapping[str, Any]]
    disclosures: Sequence[Mapping[str, Any]] | None
    history: Mapping[str, Any] = field(repr=False)
    redactions: Sequence[Mapping[str, Any]]
    purposes: Sequence[Mapping[str, Any]]
    authority: str


def redacted(text: str, own: Iterable[str]) -> tuple[str, int]:
    """Leave out addresses and numbers that are not the member's own; gives text and count."""
    mine = {_bare(value) for value in own}
    left_out = 0

    def judge(found: re.Match[str]) -> str:
        nonlocal left_out
        bare = _bare(found[0])
        if bare in mine or any(_same_number(bare, known) for known in mine):
            return found[0]
        left_out += 1
        return _LEFT_OUT

    text = _ADDRESS.sub(judge, text)
    return _NUMBER.sub(judge, text), left_out


def pack_copy(copy: Copy) -> bytes:
    """Write the ZIP: the same copy gives the same bytes."""
    language = Language(copy.language)
    words = _words()
    files = {
        "index.html": _page(copy, language),
        "data.json": orjson.dumps({"format": FORMAT, **asdict(copy)}, option=orjson.OPT_INDENT_2),
        "data.csv": _table(copy),
        "README.txt": (words.text(language, "readme") + "\n").encode(),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, _FIXED_TIME)
            entry.external_attr = _PRIVATE
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _page(copy: Copy, language: Language) -> bytes:
    words = _words()

    def day(moment: str | None) -> str:
        return "" if not moment else format_date(date.fromisoformat(moment[:10]), language)

    page: str = _template().render(
        copy=copy,
        lang=language.value,
        t=lambda key: words.text(language, key),
        day=day,
        history=orjson.dumps(dict(copy.history), option=orjson.OPT_INDENT_2).decode(),
    )
    return page.encode()


def _table(copy: Copy) -> bytes:
    """One row a value: a section, what it is, the value, and where and when it came from."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")

    def write(*cells: Any) -> None:
        writer.writerow([escaped("" if cell is None else str(cell)) for cell in cells])

    write("section", "key", "title", "value", "source", "since", "verified_at")
    for one in copy.fields:
        write(
            "field", one["key"], one["title"], one["value"], one["source"],
            one["collected_at"], one["verified_at"],
        )  # fmt: skip
    for one in copy.contact_points:
        write("contact_point", one["field"], one["title"], one["kind"], "", "", one["verified_at"])
    for one in copy.consents:
        key = ".".join(filter(None, (one["purpose"], one["channel"])))
        write("consent", key, one["title"], one["status"], one["notice_revision"], one["since"])
    for one in copy.disclosures or ():
        read = " ".join(one["fields"] or one["told"])
        write("disclosure", one["purpose"], one["by"], read, one["decision"], one["at"])
    for key, value in _flat(copy.history):
        write("history", key, "", value)
    return b"\xef\xbb\xbf" + buffer.getvalue().encode()


def _flat(tree: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _flat(value, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, list | tuple):
        for at, value in enumerate(tree):
            yield from _flat(value, f"{path}.{at}")
    else:
        yield path, tree


def _bare(value: str) -> str:
    return value.casefold() if "@" in value else re.sub(r"\D", "", value)


def _same_number(found: str, known: str) -> bool:
    """A number written at home and abroad ends alike: 0812345678 and 66812345678."""
    return (
        min(len(found), len(known)) >= _ENDING
        and found.isdigit()
        and found[-_ENDING:] == known[-_ENDING:]
    )


@cache
def _words() -> Catalogue:
    return Catalogue(_HERE / "locale")


@cache
def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
    )
    return environment.get_template("copy.html")
