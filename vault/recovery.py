"""The recovery kit: an age identity that opens the ring backup when the KMS root is lost.

The kit is the only thing that opens a ring backup (age v1, X25519), and a ring backup without
its kit is noise. `init` does not end before the backup was opened with the kit just written.
"""

from collections.abc import Sequence
from pathlib import Path

import orjson
import pyrage
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vault.errors import KeyRingError, UnreadableError
from vault.keyring import KeyRing
from vault.private_files import read_private, write_private
from vault.wrapping import unwrap

_KIT_TEXT = """\
# Yinyom recovery kit
# Registry: {tenant}   Key ring: {ring_id}
# This identity opens the backup of the key ring (keys/ring-backup.age).
# Print it or put it on two USB sticks, keep them in two places, and delete it from here.
# Whoever holds this kit AND the ring backup AND the database can read every member.
# Recipient: {recipient}
{remark}
{identity}
"""


def write_recovery_kit(kit: Path, backup: Path, ring: KeyRing, remark: str = "#") -> None:
    """Make a kit and a ring backup, then open the backup with the written kit to prove both.

    The kit is written first, and one that is there already is used: an interrupted run must
    not leave a backup that nobody can open. `remark` is one more line for people and programs.
    """
    if not kit.exists():
        identity = pyrage.x25519.Identity.generate()
        text = _KIT_TEXT.format(
            tenant=ring.tenant,
            ring_id=ring.id,
            recipient=identity.to_public(),
            identity=identity,
            remark=remark,
        )
        write_private(kit, text.encode())
    recipients = [identity.to_public() for identity in _identities(kit)]
    if not recipients:
        raise KeyRingError(f"{kit.name} holds no identity")
    write_private(backup, pyrage.encrypt(ring.material(), recipients))
    if open_ring_backup(kit, backup) != ring.material():
        raise KeyRingError("the recovery kit did not open the ring backup it was made for")


class ReopenedBackup:
    """The ring roots of a ring backup that was just written and opened again."""

    def __init__(self, material: bytes) -> None:
        roots = orjson.loads(material)["roots"]
        self._ciphers = {
            int(version): AESGCM(bytes.fromhex(root)) for version, root in roots.items()
        }

    def unwrap(self, version: int, wrapped: bytes, context: bytes) -> bytes:
        """Unwrap a key under a ring root version, or raise `UnreadableError`."""
        cipher = self._ciphers.get(version)
        if cipher is None:
            raise UnreadableError
        return unwrap(cipher, wrapped, context)


def refresh_ring_backup(
    backup: Path, ring: KeyRing, recipients: Sequence[str], *, since: int
) -> ReopenedBackup:
    """Replace the ring backup by one of the ring roots from `since` on, and open that again.

    The kit is not on this machine, so an identity of this one moment is a recipient as well: it
    proves that what is on the disk opens, and it is forgotten when this returns.
    """
    document = orjson.loads(ring.material())
    roots = {version: root for version, root in document["roots"].items() if int(version) >= since}
    material = orjson.dumps({**document, "roots": roots}, option=orjson.OPT_SORT_KEYS)
    witness = pyrage.x25519.Identity.generate()
    try:
        keys = [pyrage.x25519.Recipient.from_str(text) for text in recipients]
    except pyrage.RecipientError as error:
        raise KeyRingError("the recipient of the recovery kit is damaged") from error
    sealed = pyrage.encrypt(material, [*keys, witness.to_public()])
    write_private(backup, sealed, replace=True)
    if pyrage.decrypt(backup.read_bytes(), [witness]) != material:
        raise KeyRingError("the ring backup that was just written does not open")
    return ReopenedBackup(material)


def open_ring_backup(kit: Path, backup: Path) -> bytes:
    """Open a ring backup with a kit and give the secret document inside."""
    try:
        document: bytes = pyrage.decrypt(backup.read_bytes(), _identities(kit))
    except (pyrage.DecryptError, OSError) as error:
        raise KeyRingError(f"{kit.name} does not open {backup.name}") from error
    return document


def _identities(kit: Path) -> list[pyrage.x25519.Identity]:
    lines = read_private(kit, "the recovery kit").decode(errors="replace").splitlines()
    found = [line.strip() for line in lines if line.startswith("AGE-SECRET-KEY-")]
    try:
        return [pyrage.x25519.Identity.from_str(text) for text in found]
    except pyrage.IdentityError as error:
        raise KeyRingError(f"{kit.name} is damaged") from error
