"""Evidence packs: chosen events with their proofs, for somebody who has no registry and no Python.

A pack is a zip that a stranger checks with a browser and the log's key: each event as it is
stored, the path from it to one signed head, and a page that computes the path. The page trusts
nothing in the pack, itself included: it may come from another pack or another day. What a pack
cannot show is that nothing else fits the question; the whole log shows that (`export.py`).
"""

import asyncio
import base64
import csv
import io
import zipfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from audit import repository, search_repository
from audit.cosigning import cosigned_checkpoint
from audit.errors import EvidenceError
from audit.evidence_page import page
from audit.manifest import read_row
from audit.merkle import inclusion_proof
from audit.note import Checkpoint, split_note
from audit.proof import RowProof, prove_row
from audit.search import EventFilter
from audit.service import AuditLog
from audit.tiles import TileNodes, tiles_for_inclusion
from kernel import Database, NotFoundError, ReadSession

MOST_EVENTS = 10_000
_PAGE = 500
_DIGITS = 12
_PROOF = "c2sp.org/tlog-proof@v1"
_COLUMNS = (
    "index",
    "id",
    "ts",
    "actor",
    "role",
    "via",
    "action",
    "outcome",
    "purpose",
    "channel",
    "legal_basis",
    "decision",
    "reason",
    "fields",
    "subject",
    "epoch",
    "resource",
    "request_id",
    "count",
    "brand",
    "policy",
)


@dataclass(frozen=True, slots=True)
class Exhibit:
    """One event as it is stored, its place in the log, and its path; hashes bottom first.

    `row` is the one row of its manifest that the pack is about.
    """

    index: int
    body: bytes
    hashes: tuple[bytes, ...]
    row: RowProof | None = None


@dataclass(frozen=True, slots=True)
class EvidenceMade:
    """What is in a pack: how many events, under a head of which size, and which policies."""

    events: int
    size: int
    policies: tuple[str, ...]


PolicyTexts = Mapping[str, Mapping[str, str]]
"""The texts of policy packs that are kept: by digest, then by path."""


async def choose_events(database: Database, audit: AuditLog, wanted: EventFilter) -> list[str]:
    """Give the ids of the events that fit, the oldest first.

    Raises:
        EvidenceError: There is none, or more than `MOST_EVENTS`.
    """
    chosen: list[str] = []
    async for portion in _portions(database, audit, wanted):
        chosen += portion
        if len(chosen) > MOST_EVENTS:
            raise EvidenceError(
                f"more than {MOST_EVENTS} events fit",
                remedy="Ask for less, or hand over the whole log: `yinyom audit export`.",
            )
    if not chosen:
        raise EvidenceError("no event fits", remedy="Ask for more, or for a longer period.")
    return chosen[::-1]


async def make_evidence(
    database: Database,
    events: Sequence[str],
    destination: Path,
    *,
    words: Sequence[str],
    policies: PolicyTexts,
    tokens: Sequence[str] = (),
) -> EvidenceMade:
    """Write a pack of events; `words` are the filters they were chosen by, without values.

    `tokens` are those of the member that the pack is about, if it is about one: of an event that
    tells of many, their row goes into it and no other. Without them no row does.

    Every event must have its place under a signed head: drain the sequencer before. The head is
    the newest that a witness has signed if all events are under it, otherwise the newest.

    Raises:
        EvidenceError: An event has no place in the log yet, or the destination is taken.
        AuditError: Tiles, checkpoint and leaves do not fit together.
    """
    async with database.read() as session:
        places = await search_repository.places_of(session, events)
        if len(places) < len(events):
            raise EvidenceError("an event waits for its checkpoint", remedy="Try again shortly.")
        note = await _head_over(session, max(places.values()))
        head = Checkpoint.parse(split_note(note)[0])
        exhibits = [
            await _exhibit(session, event, index, head.size, tokens)
            for event, index in sorted(places.items(), key=lambda pair: pair[1])
        ]
    named = {orjson.loads(one.body).get("policy") for one in exhibits} - {None}
    kept = {digest: policies[digest] for digest in sorted(named) if digest in policies}
    files = pack_files(exhibits, note, kept, sorted(named), words)
    await asyncio.to_thread(_write, destination, files)
    return EvidenceMade(len(exhibits), head.size, tuple(kept))


def pack_files(
    exhibits: Sequence[Exhibit],
    note: str,
    kept: PolicyTexts,
    named: Sequence[str],
    words: Sequence[str],
) -> dict[str, bytes]:
    """Lay out the files of a pack by name."""
    files = {"README.md": _readme(exhibits, note, kept, named, words).encode()}
    files["verify.html"] = page().encode()
    files["events.csv"] = _csv(exhibits).encode()
    files["checkpoint"] = note.encode()
    for one in exhibits:
        name = f"{one.index:0{_DIGITS}}"
        files[f"events/{name}.json"] = one.body
        files[f"proofs/{name}.tlog-proof"] = proof_text(one, note).encode()
        if one.row is not None:
            files[f"rows/{name}.json"] = orjson.dumps(one.row.document())
    for digest, texts in kept.items():
        for path, text in texts.items():
            files[f"policies/{digest.removeprefix('sha256:')}/{path}"] = text.encode()
    return files


def proof_text(exhibit: Exhibit, note: str) -> str:
    """Write the proof of one event as c2sp.org/tlog-proof has it."""
    hashes = [base64.b64encode(one).decode() for one in exhibit.hashes]
    return "\n".join([_PROOF, f"index {exhibit.index}", *hashes, "", note])


async def _portions(
    database: Database, audit: AuditLog, wanted: EventFilter
) -> AsyncIterator[list[str]]:
    before: str | None = None
    while True:
        async with database.read() as session:
            found = await audit.search(session, wanted, before=before, most=_PAGE)
        yield [str(event["id"]) for event in found.events]
        before = found.next_before
        if before is None:
            return


async def _head_over(session: ReadSession, index: int) -> str:
    for fresh in (False, True):
        head = await cosigned_checkpoint(session, fresh=fresh)
        if head is not None and index < head[0]:
            return head[1]
    raise EvidenceError("an event waits for its checkpoint", remedy="Try again shortly.")


async def _exhibit(
    session: ReadSession, event: str, index: int, size: int, tokens: Sequence[str]
) -> Exhibit:
    row = await repository.event_by_id(session, event)
    if row is None:
        raise NotFoundError("no such event", reason="event_unknown")
    tiles = {
        tile: await repository.read_tile(session, *tile)
        for tile in tiles_for_inclusion(index, size)
    }
    hashes = inclusion_proof(index, size, TileNodes(lambda level, n: tiles[level, n]))
    own = await prove_row(session, event, tokens) if tokens else None
    return Exhibit(index, bytes(row["body"]), tuple(hashes), own)


def _write(destination: Path, files: Mapping[str, bytes]) -> None:
    """Write the zip without compression, so that a page without a library can read it."""
    try:
        with zipfile.ZipFile(destination, "x", zipfile.ZIP_STORED) as archive:
            for name, data in files.items():
                described = zipfile.ZipInfo(name)
                described.external_attr = 0o644 << 16
                archive.writestr(described, data)
    except OSError as error:
        raise EvidenceError(
            "the pack could not be written there",
            remedy="Choose a file that does not exist yet, in a folder that does.",
        ) from error


def _csv(exhibits: Sequence[Exhibit]) -> str:
    lines = io.StringIO()
    table = csv.writer(lines, lineterminator="\n")
    table.writerow(_COLUMNS)
    for one in exhibits:
        body = orjson.loads(one.body)
        subject = body.get("subject", {})
        fields = body.get("fields", ())
        if one.row is not None:
            own = read_row(one.row.row, one.row.place, fields)
            subject, fields = {"token": own.token, "epoch": body["ts"][:7]}, own.fields
        said = {
            **body,
            "index": one.index,
            "actor": body["actor"]["id"],
            "role": body["actor"]["role"],
            "via": body["actor"]["via"],
            "fields": " ".join(fields),
            "subject": subject.get("token"),
            "epoch": subject.get("epoch"),
        }
        table.writerow([said.get(name, "") for name in _COLUMNS])
    return lines.getvalue()


def _readme(
    exhibits: Sequence[Exhibit],
    note: str,
    kept: PolicyTexts,
    named: Sequence[str],
    words: Sequence[str],
) -> str:
    head = Checkpoint.parse(split_note(note)[0])
    asked = ", ".join(word.removeprefix("filter.") for word in words) or "nothing: all events"
    lost = [f"- `{digest}`: not kept by the registry" for digest in named if digest not in kept]
    told = [f"- `{d}`: the folder `policies/{d.removeprefix('sha256:')}`" for d in kept]
    policies = "\n".join([*told, *lost]) or "None is named."
    return f"""\
# Evidence from an audit log

    log     {head.origin}
    events  {len(exhibits)}, chosen by: {asked}
    head    {head.size} events

Each event here is in the log that the checkpoint signs, at the place that its file is named
after, byte for byte as it was recorded. You need not believe whoever handed you this pack, nor
this file, which no signature covers. You need one thing from somewhere else: the log's
**verifier key**, a line such as `{head.origin}+1a2b3c4d+AVS9…`. Take it from where it was
published or from an earlier exchange, never from whoever hands you the pack along with it.

| File | What it is | Covered by the proof |
|---|---|---|
| `events/<index>.json` | an event as it is stored | yes |
| `proofs/<index>.tlog-proof` | its path to the signed head (c2sp.org/tlog-proof) | yes |
| `rows/<index>.json` | the row of this member in an event about many, with its path | yes |
| `checkpoint` | the signed head, with the witnesses' signatures | yes |
| `events.csv` | the same events for a spreadsheet | no: the page shows them from the files above |
| `policies/<digest>/…` | the policy packs that the events name | by their digest, see below |
| `verify.html` | a page that checks this in a browser | no: bring your own from another day |

## Checking it

Open `verify.html` in a browser (it needs no network and may have none), paste the key, choose
this zip. Green says that every event is in the log; red says which is not, and why. A browser
that cannot check Ed25519 signatures says so and calls nothing good. With other programs: a
`.tlog-proof` is a public format, <https://c2sp.org/tlog-proof>; the leaf of an event is
SHA-256(0x00 ‖ its bytes), a node SHA-256(0x01 ‖ left ‖ right) (RFC 6962).

An event may tell of many members at once: then it names the number of its rows and the root over
them, and `rows/<index>.json` has the one row that this pack is about, `place` among the others, and
the path to that root, hashed as above. A row is a token, a space and a number in hexadecimal: bit i
stands for the i-th name in `fields`. Other rows are not in here.

## What it does not say

That these are *all* events that fit the question: only the whole log shows that
(`yinyom audit export`). What an event said may have been deleted when its time had come: it
cannot be shown here, though its hash is still in the log. Nor does it say that the log was not
cut short, or written anew by whoever holds its key: compare the checkpoint with one that you or
a witness kept.

## Whose events these are

No name and no number of a member is in here. A member is a **token**, keyed and good for one
month (`subject`, `epoch`). The registry knows which tokens are a member's for as long as it holds
the member's key: it computes HMAC-SHA-256(key, "subj|" ‖ month) for each month, which is what its
search by member does. Ask it to say in writing for whom this pack was made. Once the member has
been erased nobody can tell any more, and the events stay provable.

## Policies

The digest hashes every file of a pack: SHA-256 over lines `<path>`, newline, `sha256:` and the
hash of the text in hexadecimal, newline; paths sorted, those of `pack/` before those of
`overlay/`.

{policies}
"""
