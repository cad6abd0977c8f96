"""Which of the ring's seeds signs the log: what the log's head says, and nothing else.

A ring holds two seeds while a rotation is prepared or not finished. The head in the database names
the verifier key that alone may sign the next one, so a process that was asleep, or a machine with
an older key ring file, learns from there that its seed has ended.
"""

from audit import LogKey, Signer, signed_by
from kernel import ConfigurationError, ReadSession
from vault import KeyRing, Vault


async def log_signer(session: ReadSession, seeds: dict[int, bytes], name: str) -> Signer:
    """Give the signer of the log in this database.

    Raises:
        ConfigurationError: the seed that the head asks for is not in this key ring.
    """
    vkey = await signed_by(session)
    signers = [Signer.from_seed(name, seed) for _, seed in sorted(seeds.items())]
    if vkey is None:  # the log has not begun, or began before heads named their key
        return signers[0]
    public = vkey.rpartition("+")[2]
    for signer in signers:
        if signer.vkey.rpartition("+")[2] == public:
            return signer
    raise ConfigurationError(
        "the key that this log is signed with is not in this key ring",
        reason="log_rekeyed",
        remedy="The log's key was rotated: put the newest key ring file, or the newest ring "
        "backup, in the place of this one. Where the database is older, bring back a newer.",
    )


def log_key(signer: Signer, vault: Vault) -> LogKey:
    """Give the log's key as this process follows it: only ever to a newer seed of the ring."""

    def find(vkey: str) -> Signer | None:
        for look_again in (False, True):
            if look_again:
                vault.buckets.reopen()
            seeds = vault.log_seeds()
            known = version_of(key.signer, seeds)
            for version, seed in seeds.items():
                found = Signer.from_seed(signer.name, seed)
                if version > known and found.vkey == vkey:
                    return found
        return None

    key = LogKey(signer, find)
    return key


def version_of(signer: Signer, seeds: dict[int, bytes]) -> int:
    """Give the version of the seed behind a signer; 0 where the ring has let go of it."""
    return next(
        (
            version
            for version, seed in seeds.items()
            if Signer.from_seed(signer.name, seed).vkey == signer.vkey
        ),
        0,
    )


def fresh_seed(ring: KeyRing, signer: Signer) -> Signer:
    """Give the signer of a seed newer than this one, made unless one is there already."""
    version = ring.add_log_seed(version_of(signer, ring.log_seeds()))
    return Signer.from_seed(signer.name, ring.log_seeds()[version])
