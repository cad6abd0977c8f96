"""Opponent (a): the app one would write without Yinyom, made as fast as its stack allows.

FastAPI and asyncpg, one statement that looks the opaque token up and reads one plaintext row,
one that appends an unprotected audit row durably, an orjson answer. No policy, no consent, no
keys, no tamper evidence: the difference to this is what governance costs.
"""

import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated

import asyncpg
import orjson
from fastapi import FastAPI, Header, HTTPException, Response

POOL_SIZE = 10
DSN_VARIABLE = "BENCH_DSN"
_SCHEMA = """
CREATE TABLE token (digest bytea PRIMARY KEY, client_id text NOT NULL,
                    expires_at timestamptz NOT NULL);
CREATE TABLE member (id text PRIMARY KEY, given_name text NOT NULL, family_name text NOT NULL,
                     phone text NOT NULL, birth_date text NOT NULL);
CREATE TABLE audit (id text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(),
                    client_id text NOT NULL, member_id text NOT NULL, purpose text NOT NULL,
                    channel text NOT NULL, fields text NOT NULL);
"""
_READ = """
SELECT token.client_id, member.id, member.given_name, member.phone
FROM token LEFT JOIN member ON member.id = $2
WHERE token.digest = $1 AND token.expires_at > now()
"""
_RECORD = """
INSERT INTO audit (id, client_id, member_id, purpose, channel, fields)
VALUES ($1, $2, $3, $4, $5, $6)
"""


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(
        os.environ[DSN_VARIABLE],
        min_size=POOL_SIZE,
        max_size=POOL_SIZE,
        server_settings={"synchronous_commit": "on", "jit": "off"},
        reset=_keep,
    ) as app.state.pool:
        yield


async def _keep(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Connections keep no session state: skip the pool's reset, a round trip per request."""


app = FastAPI(lifespan=_lifespan)


@app.get("/readyz")
async def ready() -> Response:
    return Response()


@app.get("/v1/members/{member_id}/view")
async def view(
    member_id: str,
    purpose: str,
    channel: str,
    fields: str,
    authorization: Annotated[str, Header()],
) -> Response:
    digest = hashlib.sha256(authorization.removeprefix("Bearer ").encode()).digest()
    async with app.state.pool.acquire() as connection:
        row = await connection.fetchrow(_READ, digest, member_id)
        if row is None:
            raise HTTPException(401)
        client_id, found, given_name, phone = row
        if found is None:
            raise HTTPException(404)
        audit_id = secrets.token_hex(16)
        await connection.execute(_RECORD, audit_id, client_id, found, purpose, channel, fields)
    held = {"given_name": given_name, "phone": phone}
    answer = {
        "id": found,
        "purpose": purpose,
        "channel": channel,
        "data": {field: held[field] for field in fields.split(",") if field in held},
        "audit_id": audit_id,
    }
    return Response(orjson.dumps(answer), media_type="application/json")


async def fill(dsn: str, members: Sequence[tuple[str, str, str, str, str]]) -> str:
    """Create the tables, load `members` (columns in order) and give a bearer token."""
    token = secrets.token_urlsafe(32)
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(_SCHEMA)
        await connection.copy_records_to_table("member", records=members)
        await connection.execute(
            "INSERT INTO token VALUES ($1, 'sender', now() + interval '1 day')",
            hashlib.sha256(token.encode()).digest(),
        )
        await connection.execute("ANALYZE")
    finally:
        await connection.close()
    return token
