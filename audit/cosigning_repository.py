"""All SQL of the signatures that witnesses put under the log's checkpoints."""

from sqlalchemy import bindparam, func, select

from audit.tables import audit_checkpoint, audit_cosignature, audit_key
from kernel import ReadSession, Statement, UnitOfWork

_ADD_COSIGNATURE = Statement.for_dialect(
    lambda insert_into: (
        insert_into(audit_cosignature)
        .values(
            size=bindparam("size"),
            witness=bindparam("witness"),
            line=bindparam("line"),
            created_us=bindparam("created_us"),
        )
        .on_conflict_do_update(
            index_elements=["size", "witness"],
            set_={"line": bindparam("line"), "created_us": bindparam("created_us")},
        )
    )
)
_COSIGNATURES = Statement(
    select(audit_cosignature.c.line)
    .where(audit_cosignature.c.size == bindparam("size"))
    .order_by(audit_cosignature.c.witness)
)
_LAST_COSIGNED = Statement(
    select(func.max(audit_cosignature.c.size).label("size")).where(
        audit_cosignature.c.witness == bindparam("witness")
    )
)
_NEWEST_COSIGNED = Statement(
    select(audit_checkpoint.c.size, audit_checkpoint.c.note)
    .where(
        audit_checkpoint.c.size.in_(select(audit_cosignature.c.size)),
        audit_checkpoint.c.size
        >= func.coalesce(select(func.max(audit_key.c.size)).scalar_subquery(), 0),
    )
    .order_by(audit_checkpoint.c.size.desc())
    .limit(1)
)
_WITNESSES = Statement(
    select(
        audit_cosignature.c.witness,
        func.max(audit_cosignature.c.size).label("size"),
        func.max(audit_cosignature.c.created_us).label("created_us"),
    ).group_by(audit_cosignature.c.witness)
)


async def add_cosignature(
    work: UnitOfWork, size: int, witness: str, line: str, created_us: int
) -> None:
    """Keep a witness's (by its verifier key) newest signature under the checkpoint of a size."""
    await work.run(_ADD_COSIGNATURE, size=size, witness=witness, line=line, created_us=created_us)


async def of_size(session: ReadSession, size: int) -> list[str]:
    """Give every signature line that witnesses put under the checkpoint of a size."""
    return [row["line"] for row in await session.all(_COSIGNATURES, size=size)]


async def last_cosigned(session: ReadSession, witness: str) -> int:
    """Give the largest size that a witness has signed, as far as is known here; 0 for none."""
    row = await session.first(_LAST_COSIGNED, witness=witness)
    return 0 if row is None or row["size"] is None else int(row["size"])


async def newest_cosigned(session: ReadSession) -> tuple[int, str] | None:
    """Give size and note of the newest checkpoint that any witness and today's key have signed."""
    row = await session.first(_NEWEST_COSIGNED)
    return None if row is None else (int(row["size"]), row["note"])


async def witnessed(session: ReadSession) -> dict[str, tuple[int, int]]:
    """Give, by verifier key of a witness, the largest size it signed and when (µs)."""
    rows = await session.all(_WITNESSES)
    return {row["witness"]: (int(row["size"]), int(row["created_us"])) for row in rows}
