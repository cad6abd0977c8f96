"""What the key ring asks of a KMS, and no more than that."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ProviderHealth:
    """How a KMS does: the version that wraps now, those that still open, and a line for people.

    `versions` runs from the oldest to the newest, as far as the KMS tells; `says` holds no secret.
    """

    ok: bool
    version: str
    versions: tuple[str, ...]
    says: str


class KeyProvider(Protocol):
    """Wraps and unwraps small secrets under a root that never leaves it.

    `destroys` says whether one version of the root can be destroyed at once; where it cannot,
    the key ring mixes in a secret of its own that can (docs/formats/keys.md). A KMS that cannot
    be reached raises `UnavailableError`, one that does not know us `KeyRingError`.
    """

    name: str
    destroys: bool

    def wrap(self, secret: bytes | bytearray, context: bytes) -> bytes:
        """Protect a secret under the newest version of the root, bound to its context."""
        ...

    def unwrap(self, wrapped: bytes, context: bytes) -> bytearray:
        """Open what `wrap` made, in the same context, or raise `UnreadableError`.

        The buffer is the caller's, who overwrites it.
        """
        ...

    def rotate(self) -> str:
        """Make a new version of the root, used from now on; the older ones still open."""
        ...

    def destroy(self, version: str) -> bool:
        """Destroy a version and whatever it wrapped; False when this KMS cannot do so at once.

        A version that is gone already is destroyed; the one in use is refused.
        """
        ...

    def health(self) -> ProviderHealth:
        """Ask the KMS how it does; never raises for a KMS that is out of reach."""
        ...
