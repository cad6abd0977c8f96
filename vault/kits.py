"""Recovery kits: age identities that open ring backups when the KMS root is lost.

A kit is the only thing that opens a ring backup (age v1, X25519), and a ring backup without its
kit is noise. The registry keeps public halves alone, in the folder of keys and not in the
database: whoever can write there could otherwise have the next backup sealed to a key of theirs.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import orjson
import pyrage

from vault.errors import KeyRingError
from vault.private_files import locked, read_private, write_private

FORMAT = "yinyom-recovery/1"
_KIT_TEXT = """\
# Yinyom recovery kit
# Registry: {tenant}   Key ring: {ring_id}
# This identity opens the backups of the key ring (keys/ring-backup/, and keys/ in a store).
# Print it or put it on two USB sticks, keep them in two places, and delete it from here.
# Whoever holds this kit AND a ring backup AND the database can read every member.
# Recipient: {recipient}
{remark}
{identity}
"""


@dataclass(frozen=True, slots=True)
class Kit:
    """What the registry knows of a kit: its public half, and when it was last tried (µs)."""

    recipient: str
    added_us: int
    proven_us: int | None = None


class RecoveryKits:
    """The recipients of every ring backup of this registry, in a file beside the key ring."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self) -> list[Kit]:
        """Give the kits that ring backups are sealed to; none before `init` has ended."""
        if not self._path.exists():
            return []
        try:
            document = orjson.loads(read_private(self._path, "the list of recovery kits"))
            if document["format"] != FORMAT:
                raise KeyRingError(f"{self._path.name} has a format this version does not read")
            return [Kit(**one) for one in document["kits"]]
        except (ValueError, KeyError, TypeError) as error:
            raise KeyRingError(
                f"{self._path.name} is damaged",
                remedy="Put a copy of it back, or give the kit to `yinyom vault recovery-kit`.",
            ) from error

    def recipients(self) -> list[str]:
        """Give the public halves, or say that there is no kit."""
        found = [kit.recipient for kit in self.all()]
        if not found:
            raise KeyRingError(
                "no recovery kit is known, so nothing could open a ring backup",
                remedy="Run `yinyom init` again, or `yinyom vault recovery-kit --new FILE`.",
            )
        return found

    def add(self, recipients: Sequence[str], now_us: int) -> None:
        """Let ring backups be opened by further kits from the next one on."""
        with locked(self._path.parent):
            known = {kit.recipient: kit for kit in self.all()}
            for recipient in recipients:
                parse_recipient(recipient)
                known.setdefault(recipient, Kit(recipient, now_us))
            self._write(list(known.values()))

    def only(self, recipients: Sequence[str]) -> None:
        """Let the next ring backup be opened by no other kits than these."""
        with locked(self._path.parent):
            self._write([kit for kit in self.all() if kit.recipient in recipients])

    def proven(self, recipients: Sequence[str], now_us: int) -> None:
        """Note that kits have opened the newest ring backup."""
        with locked(self._path.parent):
            self._write(
                [
                    replace(kit, proven_us=now_us) if kit.recipient in recipients else kit
                    for kit in self.all()
                ]
            )

    def _write(self, kits: list[Kit]) -> None:
        document = {"format": FORMAT, "kits": [asdict(kit) for kit in kits]}
        data = orjson.dumps(document, option=orjson.OPT_INDENT_2)
        write_private(self._path, data, replace=True)


def write_recovery_kit(path: Path, tenant: str, ring_id: str, remark: str = "#") -> list[str]:
    """Make a kit, read it again from the disk and open something with it; gives its recipients.

    One that is there already is used: an interrupted run must not leave a backup that nobody
    can open. `remark` is one more line for people and programs.
    """
    if not path.exists():
        identity = pyrage.x25519.Identity.generate()
        text = _KIT_TEXT.format(
            tenant=tenant,
            ring_id=ring_id,
            recipient=identity.to_public(),
            identity=identity,
            remark=remark,
        )
        write_private(path, text.encode())
    identities = identities_of(path)
    probe = pyrage.encrypt(ring_id.encode(), [one.to_public() for one in identities])
    if pyrage.decrypt(probe, identities) != ring_id.encode():
        raise KeyRingError("the recovery kit did not open what was sealed to it")
    return [str(one.to_public()) for one in identities]


def identities_of(kit: Path) -> list[pyrage.x25519.Identity]:
    """Read the identities of a kit, or `KeyRingError`."""
    lines = read_private(kit, "the recovery kit").decode(errors="replace").splitlines()
    found = [line.strip() for line in lines if line.startswith("AGE-SECRET-KEY-")]
    if not found:
        raise KeyRingError(f"{kit.name} holds no identity")
    try:
        return [pyrage.x25519.Identity.from_str(text) for text in found]
    except pyrage.IdentityError as error:
        raise KeyRingError(f"{kit.name} is damaged") from error


def parse_recipient(text: str) -> pyrage.x25519.Recipient:
    """Read the public half of a kit, or `KeyRingError`."""
    try:
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError as error:
        raise KeyRingError("a recipient is not an age1… public key") from error
