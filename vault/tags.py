"""The tags of owners: written, asked and dropped in whichever versions the database says there are.

A process keeps the versions in RAM and compares their epoch inside every transaction that writes
a tag and inside every statement that asks for one. So a switch of versions is exact in all
processes at its commit, and whoever re-indexes has only to wait for transactions under way.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC

from kernel import (
    ConflictError,
    IntegrityError,
    ReadSession,
    Snapshot,
    UnitOfWork,
    bump_epoch,
    id_bytes,
    read_epoch,
)
from vault import index_repository as repository
from vault.cell import length_prefixed
from vault.errors import KeyRingError, UnreadableError
from vault.index import (
    BlindIndex,
    Identifier,
    Indexes,
    IndexState,
    IndexVersion,
    harden,
    version_of_secret,
)
from vault.index_repository import INDEX_EPOCH, StoredTag
from vault.keyring import KeyRing
from vault.owner_key import OwnerKey
from vault.wrapping import unwrap, wrap

SUPPRESSION_FORM = 1
"""The normal form of the suppression list: it outlives its people, so it never changes."""
_DROPPED_AT_ONCE = 2_000


class Tags:
    """Makes owners findable, finds them, and moves an index from one version to the next."""

    def __init__(self, ring: Callable[[], KeyRing]) -> None:
        self._ring = ring
        self._indexes: Indexes | None = None
        self._made: dict[int, BlindIndex] = {}
        self._suppression = HMAC(ring().secret("suppression"), hashes.SHA256())

    # --- writing ----------------------------------------------------------------------

    async def add(
        self, work: UnitOfWork, key: OwnerKey, held: Iterable[tuple[str, Identifier]]
    ) -> None:
        """Make the owner of an ordinary key findable by the identifiers that fields hold."""
        indexes = await self._present(work)
        stored = [
            await self._stored(key, field, identifier, version)
            for field, identifier in held
            for version in indexes.written(identifier.kind)
        ]
        await repository.add_tags(work, key.owner_id, stored)

    async def drop(self, work: UnitOfWork, owner_id: str, field: str) -> None:
        """Make an owner no longer findable by what one field held."""
        await repository.drop_tag(work, owner_id, field)

    async def drop_all(self, work: UnitOfWork, owner_id: str) -> None:
        """Make an owner no longer findable by anything."""
        await repository.drop_tags(work, owner_id)

    # --- asking -----------------------------------------------------------------------

    async def find(
        self, session: ReadSession, identifier: Identifier, *, most: int = 50
    ) -> Sequence[str]:
        """Give the owners that carry this value, the oldest first."""
        indexes = self._indexes or await self.versions(session)
        while True:
            tag = await self._tag(indexes.live(identifier.kind), identifier)
            epoch, owners = await repository.owners_of_tag(session, identifier.kind, tag, most=most)
            if epoch == indexes.epoch:
                return owners
            indexes = await self.versions(session)

    async def tags(self, session: ReadSession, identifier: Identifier) -> list[bytes]:
        """Give the tags a value may be stored under at this moment, the newest version first."""
        indexes = await self._present(session)
        written = reversed(indexes.written(identifier.kind))
        return [await self._tag(version, identifier) for version in written]

    async def of_owner(self, session: ReadSession, owner_id: str) -> list[StoredTag]:
        """Give every tag of an owner by field, of each field the newest version first."""
        return await repository.tags_of(session, owner_id)

    async def of_field(self, session: ReadSession, owner_id: str, field: str) -> list[bytes]:
        """Give the tags under which a field makes its owner findable, the newest first."""
        return [one.tag for one in await self.of_owner(session, owner_id) if one.field == field]

    async def fields(self, snapshot: Snapshot) -> Mapping[str, frozenset[str]]:
        """Give, by kind, the fields that make somebody findable, such as `phone` and `phone.2`."""
        return await repository.fields_of_kinds(snapshot)

    async def histograms(self, snapshot: Snapshot) -> Mapping[tuple[str, int], Mapping[int, int]]:
        """Give, by (kind, index version), how many tags are carried by how many owners."""
        return await repository.histograms(snapshot)

    async def sharing(self, session: ReadSession, owner_id: str, *, most: int) -> set[str]:
        """Give the other owners who carry a tag of this one.

        A tag that more than `most` others carry names nobody and is left out.
        """
        shared: dict[str, set[str]] = {}
        for kind, owner in await repository.owners_sharing(session, owner_id):
            shared.setdefault(kind, set()).add(owner)
        return {owner for owners in shared.values() if len(owners) <= most for owner in owners}

    # --- the suppression list ---------------------------------------------------------

    async def suppression(self, session: ReadSession, key: OwnerKey) -> list[tuple[str, bytes]]:
        """Give (field, tag) by which the suppression list knows the addresses of a key's owner.

        A tag of the list is made from the value alone, under a key of its own that no re-index
        changes: the list outlives its people, and nobody could make their tags again. Beside
        the index it lies sealed, so that a thief of both cannot hold one against the other.
        Contact points past the first bear the name of their field.
        """
        found = {one.field: one for one in await repository.tags_of(session, key.owner_id)}
        return [(field.partition(".")[0], self._opened(key, one)) for field, one in found.items()]

    def suppression_tag(self, identifier: Identifier) -> bytes:
        """Give the tag of a value on the suppression list."""
        mac = self._suppression.copy()
        form = identifier.form(SUPPRESSION_FORM).encode()
        mac.update(b"suppression1" + length_prefixed(identifier.kind) + form)
        return mac.finalize()[:16]

    # --- versions ---------------------------------------------------------------------

    async def versions(self, session: ReadSession) -> Indexes:
        """Read which versions there are; later calls in this process compare with it."""
        self._indexes = await repository.read_indexes(session)
        return self._indexes

    async def start(
        self, work: UnitOfWork, kinds: Mapping[str, int], hardened: Collection[str]
    ) -> None:
        """Begin a registry whose tags are made anew, after a restore, at the newest key.

        `kinds` maps each kind to the version of its normal form; `hardened` names some of them.
        """
        newest = max(filter(None, map(version_of_secret, self._ring().secrets())))
        for kind, form in kinds.items():
            first = IndexVersion(kind, newest, form, hardened=kind in hardened)
            await repository.add_version(work, first)
        await bump_epoch(work, INDEX_EPOCH)

    async def begin(self, work: UnitOfWork, planned: Sequence[IndexVersion]) -> None:
        """Store planned versions: from this commit on, every change writes them as well."""
        known = await repository.read_indexes(work)
        if known.unfinished():
            raise ConflictError("another re-index began just now", reason="reindexing")
        try:
            for one in planned:
                if one.kind not in known.stored:
                    await repository.add_version(work, known.live(one.kind))
                await repository.add_version(work, one)
        except IntegrityError as error:
            raise ConflictError("another re-index began just now", reason="reindexing") from error
        await bump_epoch(work, INDEX_EPOCH)

    async def fill(
        self,
        work: UnitOfWork,
        key: OwnerKey,
        held: Iterable[tuple[str, Identifier]],
        filling: Mapping[str, IndexVersion],
    ) -> None:
        """Write the tags of an owner in the versions that a re-index fills."""
        stored = [
            await self._stored(key, field, identifier, filling[identifier.kind])
            for field, identifier in held
        ]
        await repository.add_tags(work, key.owner_id, stored)

    def make_secret(self, planned: IndexVersion) -> None:
        """Put the secret of a planned version into the key ring file, before anything names it."""
        self._ring().add_secret(planned.secret_name)

    def forget_secrets(self, indexes: Indexes) -> None:
        """Drop from the key ring the secrets of index versions that came before those in use.

        A newer one than all in use was made for a re-index that never began; it waits for it.
        """
        newest = max(one.version for one in indexes.all())
        for name in sorted(self._ring().secrets().keys() - indexes.secrets()):
            version = version_of_secret(name)
            if version is not None and version < newest:
                self._ring().drop_secret(name)
                self._made.pop(version, None)

    async def advance(
        self, work: UnitOfWork, filling: Iterable[IndexVersion], cursor: str, more: int
    ) -> None:
        """Note how far a re-index is; `ConflictError` when another one went on with it."""
        for one in filling:
            if not await repository.advance(work, one, cursor, one.done + more):
                raise ConflictError("another process re-indexes", reason="reindexing")

    async def switch(self, work: UnitOfWork, filled: Iterable[IndexVersion]) -> None:
        """Let look-ups ask what was filled; what they asked before is old from this commit on."""
        known = await repository.read_indexes(work)
        for one in filled:
            moved = await repository.set_state(work, known.live(one.kind), IndexState.OLD)
            if not moved or not await repository.set_state(work, one, IndexState.LIVE):
                raise ConflictError("another process re-indexes", reason="reindexing")
        await bump_epoch(work, INDEX_EPOCH)

    def lost(self, indexes: Indexes) -> bool:
        """Say whether the key of a version being filled is in no key ring any more."""
        names = {one.secret_name for one in indexes.unfinished() if one.state is IndexState.FILLING}
        if names - self._ring().secrets().keys():
            self._ring().reopen()
        return bool(names - self._ring().secrets().keys())

    async def give_up(self, work: UnitOfWork, filling: Iterable[IndexVersion]) -> None:
        """Write a version no longer that was never complete; its tags are to be deleted."""
        for one in filling:
            if not await repository.set_state(work, one, IndexState.OLD):
                raise ConflictError("another process re-indexes", reason="reindexing")
            self._made.pop(one.version, None)
        await bump_epoch(work, INDEX_EPOCH)

    async def drop_some(self, work: UnitOfWork, old: IndexVersion, after: bytes) -> bytes | None:
        """Delete some tags of an old version past `after`; gives how far, None at the end."""
        return await repository.drop_tags_of_version(
            work, old.kind, old.version, after, _DROPPED_AT_ONCE
        )

    async def end(self, work: UnitOfWork, old: Iterable[IndexVersion]) -> None:
        """Forget old versions whose tags are gone."""
        for one in old:
            await repository.drop_version(work, one)
        await bump_epoch(work, INDEX_EPOCH)

    # --- inside -----------------------------------------------------------------------

    async def _present(self, session: ReadSession) -> Indexes:
        """Give the versions as this transaction sees them."""
        known = self._indexes
        if known is not None and known.epoch == await read_epoch(session, INDEX_EPOCH):
            return known
        return await self.versions(session)

    async def _tag(self, version: IndexVersion, identifier: Identifier) -> bytes:
        form = identifier.form(version.form)
        if version.hardened:
            # On a thread: it takes milliseconds, on purpose.
            form = await asyncio.to_thread(harden, form, self._ring().id)
        return self._index(version).tag(identifier.kind, form)

    def _index(self, version: IndexVersion) -> BlindIndex:
        made = self._made.get(version.version)
        if made is None:
            made = BlindIndex(self._secret(version), version.version)
            self._made[version.version] = made
        return made

    def _secret(self, version: IndexVersion) -> bytes:
        """Give the secret of a version; another process may have made it since ours was opened."""
        name = version.secret_name
        if name not in self._ring().secrets():
            self._ring().reopen()
        try:
            return self._ring().secret(name)
        except KeyError:
            raise KeyRingError(
                f"the key ring has no secret {name}",
                remedy="Put the newest key ring in place, or make the index anew with "
                "`yinyom vault reindex`.",
            ) from None

    async def _stored(
        self, key: OwnerKey, field: str, identifier: Identifier, version: IndexVersion
    ) -> StoredTag:
        context = self._context(key.owner_id, field, identifier.kind)
        sealed = wrap(key.cipher, self.suppression_tag(identifier), context)
        return StoredTag(
            field,
            identifier.kind,
            await self._tag(version, identifier),
            version.version,
            bytes((key.version,)) + sealed,
        )

    def _opened(self, key: OwnerKey, one: StoredTag) -> bytes:
        if one.suppression[:1] != bytes((key.version,)):
            raise UnreadableError
        return unwrap(
            key.cipher, one.suppression[1:], self._context(key.owner_id, one.field, one.kind)
        )

    def _context(self, owner_id: str, field: str, kind: str) -> bytes:
        tenant = length_prefixed(self._ring().tenant)
        names = length_prefixed(field) + length_prefixed(kind)
        return b"suppression1" + tenant + id_bytes(owner_id) + names
