"""The published wordings of a pack, and the rule that a published wording never changes.

A consent proves something only while the exact words shown can be produced again (GDPR
art. 7(1)). So every version records the hashes of its words beside them: whoever edits a
published text, on purpose or by reflex, gets a pack that does not load.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from kernel import from_rfc3339
from kernel.i18n import Language
from policies.errors import Finding
from policies.layers import NOTICE_INDEX, NOTICE_TEXT, text_hash
from policies.model import Change, Notice, NoticeKey, NoticeRevision, PolicyPack
from policies.reading import PackReader, Table


def check_succession(before: PolicyPack, after: PolicyPack) -> list[Finding]:
    """Find the published wordings that a new pack has changed or lost.

    Consents refer to the exact words that were shown (GDPR art. 7(1)), so a version that was
    ever in force stays in every later pack, and stays what it was said to change: a material
    change made cosmetic afterwards would bring consents back that nobody confirmed.
    """
    lost = [
        Finding(
            f"notices/{notice.key}/{notice.version}.{notice.lang.value}.md",
            "",
            "was published and is now changed or gone",
            "Put the old words back and publish new words as a new version",
        )
        for revision, notice in before.notices_by_revision.items()
        if revision not in after.notices_by_revision
    ]
    recast = [
        Finding(
            f"notices/{notice.key}/notice.toml",
            f"versions.{notice.version}.change",
            f"was published as {notice.change} and is now something else",
            "Put the old class back and publish a new version",
        )
        for revision, notice in before.notices_by_revision.items()
        if notice.lang is Language.EN
        and revision in after.notices_by_revision
        and after.notices_by_revision[revision].change is not notice.change
    ]
    return lost + recast


def read_notices(reader: PackReader) -> dict[NoticeKey, tuple[Notice, ...]]:
    """Read every version of every notice in all languages, lowest version first."""
    found: dict[NoticeKey, list[Notice]] = {}
    indexed: set[str] = set()
    for path in reader.layers.paths:
        index = NOTICE_INDEX.fullmatch(path)
        if index:
            notices = _versions(reader, index[1], reader.file(path))
            found[NoticeKey(index[1])] = notices
            indexed.update(_path(n.key, n.version, n.lang) for n in notices)
    for path in reader.layers.paths:
        if NOTICE_TEXT.fullmatch(path) and path not in indexed:
            remedy = "Name its version in notice.toml beside it"
            reader.findings.append(Finding(path, "", "belongs to no version", remedy))
    for path in sorted(set(reader.layers.packaged) & set(reader.layers.overlay)):
        same = reader.layers.packaged[path] == reader.layers.overlay[path]
        if NOTICE_TEXT.fullmatch(path) and not same:
            remedy = "Take it out and publish the words as a new version"
            reader.findings.append(Finding(path, "", "changes a published wording", remedy))
    _check_distinct(reader, found)
    return {key: tuple(_dated(notices)) for key, notices in found.items()}


def _dated(notices: Sequence[Notice]) -> Iterator[Notice]:
    """Say of each wording when a later material version outdates it; a pure look ahead."""
    for notice in notices:
        later = [
            from_rfc3339(other.effective_from.isoformat())
            for other in notices
            if other.change is Change.MATERIAL and _rank(other.version) > _rank(notice.version)
        ]
        yield replace(notice, outdated_us=min(later)) if later else notice


def _rank(version: str) -> tuple[int, str]:
    """Order versions as the numbers they are."""
    return len(version), version


def _check_distinct(reader: PackReader, found: Mapping[NoticeKey, list[Notice]]) -> None:
    seen: dict[str, Notice] = {}
    for notice in (notice for notices in found.values() for notice in notices):
        other = seen.setdefault(notice.revision, notice)
        if other is not notice:
            path = _path(notice.key, notice.version, notice.lang)
            problem = f"repeats the words of {_path(other.key, other.version, other.lang)}"
            remedy = "Give each version words of its own; a revision names one wording"
            reader.findings.append(Finding(path, "", problem, remedy))


def _versions(reader: PackReader, key: str, file: Table) -> list[Notice]:
    found: list[Notice] = []
    versions = file.table("versions")
    for position, version in enumerate(sorted(versions.keys(), key=_rank)):
        table = versions.table(version)
        change = _change(table, first=position == 0)
        found.extend(_wordings(reader, NoticeKey(key), version, table, change))
        table.close()
    versions.close()
    file.close()
    return found


def _change(table: Table, *, first: bool) -> Change:
    """Read the change class; a first version changes nothing, every later one says what it did."""
    if first and not table.has("change"):
        return Change.FIRST
    change = table.choice("change", Change)
    if (change is Change.FIRST) != first and table.has("change"):
        place = "" if first else "not "
        remedy = f"Use {Change.COSMETIC}, {Change.INFORMATIONAL} or {Change.MATERIAL}"
        table.fault("change", f"is wrong: this is {place}the first version", remedy)
    return change


def _wordings(
    reader: PackReader, key: NoticeKey, version: str, table: Table, change: Change
) -> Iterator[Notice]:
    effective_from = table.moment("effective_from")
    recorded = table.table("revisions")
    for lang in Language:
        path = _path(key, version, lang)
        if path not in reader.layers.paths:
            remedy = f"Write the words in {lang.value}"
            reader.findings.append(Finding(path, "", "is missing", remedy))
            continue
        text = reader.layers.text(path)
        revision = text_hash(text)
        if recorded.text(lang.value) != revision:
            remedy = f'Record "{revision}" for a new version; never change a published one'
            recorded.fault(lang.value, "is not the hash of the words", remedy)
        if effective_from is not None:
            yield Notice(key, version, lang, text, NoticeRevision(revision), effective_from, change)
    recorded.close()


def _path(key: str, version: str, lang: Language) -> str:
    return f"notices/{key}/{version}.{lang.value}.md"
