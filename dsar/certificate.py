"""The certificate of a decided request: what was done, by which law, provable by a stranger.

A note signed with the log's key (docs/formats/certificate.md). It carries the events of the
decision with their inclusion proofs, so the log's verifier key is all that checks it, offline. It
names nobody: whoever finds one learns that some request was decided, and how. Reading is strict,
because a certificate that somebody changed must never pass for one that was issued.
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audit.errors import NoteError, ProofError
from audit.merkle import leaf_hash, verify_inclusion
from audit.note import Verifier, open_checkpoint, open_note, split_note

FORMAT = "yinyom-certificate/0"
_LINES = 2


class CertificateError(ValueError):
    """The text is not a certificate that this log's key issued; the message says where."""


@dataclass(frozen=True, slots=True)
class ProvenEvent:
    """An event that a certificate rests on: what it stands for, its id, bytes and proof."""

    stands_for: str
    id: str
    entry: bytes
    index: int
    hashes: Sequence[bytes]
    checkpoint: str


def write_certificate(body: Mapping[str, Any], events: Sequence[ProvenEvent]) -> str:
    """Write the text to be signed: the format, and one line of JSON with sorted keys."""
    whole = {
        **body,
        "events": [
            {
                "stands_for": one.stands_for,
                "id": one.id,
                "entry": base64.b64encode(one.entry).decode(),
                "index": one.index,
                "hashes": [base64.b64encode(each).decode() for each in one.hashes],
                "checkpoint": one.checkpoint,
            }
            for one in events
        ],
    }
    return f"{FORMAT}\n{_canonical(whole)}\n"


def verify_certificate(note: str, vkey: str) -> dict[str, Any]:
    """Check a certificate with the verifier key of the log, offline; gives what it says.

    Raises:
        CertificateError: signature, form, an entry, a proof or a checkpoint does not hold.
    """
    try:
        verifier = Verifier.from_vkey(vkey)
        text = open_note(note, [verifier]).text
        signatures = split_note(note)[1]
    except NoteError as error:
        raise CertificateError(str(error)) from None
    if len(signatures) != 1:
        raise CertificateError("a certificate bears one signature, the log's")
    lines = text[:-1].split("\n")
    if len(lines) != _LINES or lines[0] != FORMAT:
        raise CertificateError(f"it is not of the format {FORMAT}")
    try:
        said = json.loads(lines[1])
    except ValueError:
        raise CertificateError("its body is not JSON") from None
    if not isinstance(said, dict) or _canonical(said) != lines[1]:
        raise CertificateError("its body is not written as the format says")
    try:
        for event in said["events"]:
            _verify_event(event, verifier, str(said["request"]["id"]))
    except (KeyError, TypeError):
        raise CertificateError("its body lacks a part") from None
    return said


def _verify_event(event: Mapping[str, Any], verifier: Verifier, request_id: str) -> None:
    try:
        entry = base64.b64decode(event["entry"], validate=True)
        hashes = [base64.b64decode(each, validate=True) for each in event["hashes"]]
        checkpoint = open_checkpoint(event["checkpoint"], verifier)
        verify_inclusion(event["index"], checkpoint.size, leaf_hash(entry), hashes, checkpoint.root)
        recorded = json.loads(entry)
    except (NoteError, ProofError, ValueError, binascii.Error) as error:
        raise CertificateError(f"an event is not proven: {error}") from None
    if recorded["id"] != event["id"]:
        raise CertificateError("an entry is of another event than it says")
    speaks_of = recorded.get("resource")
    if event["stands_for"] == "decision" and speaks_of != f"rights_request:{request_id}":
        raise CertificateError("the decision is of another request")
    if event["stands_for"] == "erasure" and recorded["action"] != "member.erase":
        raise CertificateError("the event that stands for the erasure erased nobody")


def _canonical(body: Mapping[str, Any]) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
