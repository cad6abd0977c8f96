"""SQL of key rows as ring backups, recovery and verification read and write them."""

from sqlalchemy import Text, bindparam, select

from kernel import ReadSession, Statement
from vault.repository import WrappedKey
from vault.tables import vault_key

_KEYS_BETWEEN = Statement(
    select(
        vault_key.c.owner_id,
        vault_key.c.kind,
        vault_key.c.version,
        vault_key.c.bucket,
        vault_key.c.bucket_version,
        vault_key.c.wrapped,
    ).where(
        vault_key.c.owner_id > bindparam("after", type_=Text),
        vault_key.c.owner_id <= bindparam("until", type_=Text),
        vault_key.c.kind == bindparam("kind", type_=Text),
    )
)


async def keys_between(session: ReadSession, after: str, until: str, kind: str) -> list[WrappedKey]:
    """Give the keys of a kind of all owners in a range of ids."""
    rows = await session.all(_KEYS_BETWEEN, after=after, until=until, kind=kind)
    return [
        WrappedKey(
            r["owner_id"],
            r["kind"],
            r["version"],
            r["bucket"],
            r["bucket_version"],
            bytes(r["wrapped"]),
        )
        for r in rows
    ]
