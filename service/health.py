"""Liveness and readiness: alive means the process answers, ready means it may disclose.

Yinyom fails closed: when no event can be put on record or sequenced, the database does not answer
or too much waits, the service is not ready and says why in a code.
"""

import asyncio
from typing import Any

from fastapi import APIRouter

from audit import pending
from kernel import ENDED_KEPT_US, UnavailableError, failing_jobs, stuck_messages
from kernel.schemas import Answer
from kernel.web import JSONBytes
from service.outbox import STUCK_AFTER
from service.runtime import Runtime
from service.tasks import RETRIES

_ANSWER_SECONDS = 5.0


class LiveAnswer(Answer):
    """That the process answers at all."""

    alive: bool


class LogAnswer(Answer):
    """How far the log is: signed events, waiting ones, and how long the oldest has waited."""

    size: int
    waiting: int
    lag_ms: int
    leading: bool


class ReadyAnswer(Answer):
    """Whether the service may answer, what each part says, and how far the log is behind."""

    ready: bool
    checks: dict[str, str]
    log: LogAnswer


async def readiness(runtime: Runtime) -> dict[str, Any]:
    """Ask every part that an answer depends on."""
    now_us = runtime.clock.now_us()
    stuck = failing = waiting = lag_ms = 0
    checks = {
        "database": "ok",
        "sequencer": runtime.sequencer.state.reason or "ok",
        "audit_queue": "ok",
    }
    try:
        async with asyncio.timeout(_ANSWER_SECONDS), runtime.database.read() as session:
            waiting, oldest_us = await pending(session)
            stuck = await stuck_messages(session, attempts=STUCK_AFTER)
            failing = await failing_jobs(session, attempts=RETRIES, since_us=now_us - ENDED_KEPT_US)
    except UnavailableError:
        checks["database"] = "unavailable"
    except TimeoutError:
        checks["database"] = "slow"
    else:
        lag_ms = 0 if oldest_us is None else max(0, now_us - oldest_us) // 1_000
        late = (
            oldest_us is not None
            and now_us - oldest_us > runtime.settings.audit.pending_seconds * 1_000_000
        )
        if waiting > runtime.settings.audit.pending_limit or late:
            checks["audit_queue"] = "behind"
    checks |= await runtime.probe.look()
    if not runtime.sequencer.running and runtime.sequencer.state.reason is None:
        checks["sequencer"] = "stopped"
    ready = all(state == "ok" for state in checks.values())
    # Shown, and no reason to stop answering: a withdrawal never waits for a store far away.
    checks["outbox"] = "stuck" if stuck else "ok"
    checks["jobs"] = "failing" if failing else "ok"
    checks["rights_ledger"] = runtime.shipping.state.reason or "ok"
    if runtime.anchors:
        checks["anchors"] = runtime.anchors.state()
    state = runtime.sequencer.state
    log = {
        "size": state.size,
        "waiting": waiting,
        "lag_ms": lag_ms,
        "leading": state.leading,
    }
    return {"ready": ready, "checks": checks, "log": log}


def router(runtime: Runtime) -> APIRouter:
    """Make the health routes."""
    routes = APIRouter(tags=["Ops"])

    @routes.get("/livez", response_model=LiveAnswer, summary="Is the process alive?")
    async def livez() -> JSONBytes:
        return JSONBytes({"alive": True})

    @routes.get(
        "/readyz",
        response_model=ReadyAnswer,
        responses={503: {"model": ReadyAnswer}},
        summary="May the service answer?",
    )
    async def readyz() -> JSONBytes:
        answer = await readiness(runtime)
        return JSONBytes(answer, 200 if answer["ready"] else 503)

    return routes
