"""What can go wrong in the transparency log, and what it means for whoever asked.

A message names places (an index, a tile, a key name) and never repeats what an event says.
"""

from kernel.errors import UnavailableError, YinyomError


class AuditError(YinyomError):
    """Root of the errors of the transparency log."""

    slug = "audit"
    title = "The audit log cannot do that"
    remedy = "Nothing was disclosed or changed. Run `yinyom audit verify --db` and read its report."


class ProofError(AuditError):
    """An inclusion or consistency proof does not prove what it claims."""

    slug = "audit-proof"
    status = 422
    title = "The proof does not hold"
    remedy = "Fetch the proof and the checkpoint again; if it stays, keep both as evidence."


class NoteError(AuditError):
    """A signed note, checkpoint or verifier key is malformed, or nobody trusted signed it."""

    slug = "audit-note"
    status = 422
    title = "The signed note is not to be trusted"
    remedy = "Check that the verifier key is the one published for this log, and the file is whole."


class TileError(AuditError):
    """A tile or entry bundle is missing, cut short or not of the format."""

    slug = "audit-tile"
    title = "A tile of the audit log is damaged"
    remedy = "Tiles are derived: rebuild them from the stored leaves, then verify."


class EventError(AuditError):
    """An event does not fit its schema, so it is not recorded and nothing is disclosed."""

    slug = "audit-event"
    title = "The audit event does not fit its schema"
    remedy = "This is a defect of the calling code: report it with the request id."


class ManifestError(AuditError):
    """The rows of a bulk disclosure are not a manifest: too many, none, or not of the format."""

    slug = "audit-manifest"
    title = "The rows are no manifest"
    remedy = "Nothing was disclosed. Run `yinyom audit verify --db` and read its report."


class EventPrunedError(AuditError):
    """What an event said was deleted when its time had come; its leaf hash is in the log yet."""

    slug = "event-pruned"
    status = 410
    title = "What the event said was deleted when its time had come"
    remedy = "Its proof still shows that it is in the log; `retention.pruned` names the rule."


class NotRecordedError(UnavailableError):
    """The trail's table refused an event; what it was to allow does not happen."""

    def __init__(self) -> None:
        super().__init__("the event could not be put on record", reason="audit_unavailable")


class ExportError(AuditError):
    """A bundle could not be written; the destination is as it was."""

    slug = "audit-export"
    status = 409
    title = "The audit bundle was not written"
    remedy = "Choose a destination that does not exist yet, and try again."


class EvidenceError(AuditError):
    """A pack of evidence was not made; nothing lies at the destination that was not there."""

    slug = "audit-evidence"
    status = 409
    title = "No evidence was put together"
    remedy = "Choose other events or another place, and try again."


class RightsEntryError(AuditError):
    """An entry of the rights ledger is not of its format, or would hold what it must not."""

    slug = "rights-entry"
    title = "The rights ledger cannot take that"
    remedy = "This is a defect of the calling code: report it with the request id."


class OriginInUseError(AuditError):
    """The log may be signed under the name that it has."""

    slug = "audit-origin-in-use"
    status = 409
    title = "The log needs no other name"
    remedy = "Nothing was changed. A new name is for a log that is older than its newest anchor."
