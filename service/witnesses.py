"""Asking the log's witnesses to sign its head: the way to them, and when.

Connections go to the addresses in the settings and to nowhere else. No proxy or cookie is known,
no redirect is followed, an answer is read up to a few kilobytes. A witness that is away holds
nothing up: the log grows, and its newest signed head is simply older.
"""

import asyncio
import ssl
from collections.abc import Iterable
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import httpcore2
import structlog

from audit import (
    COSIGNATURE_V1,
    Asked,
    NoteError,
    Signer,
    Verifier,
    WitnessUnreachableError,
    WitnessVerdict,
    ask_witness,
    is_stranger,
    own_keys,
    witnessed,
)
from kernel import Clock, ConfigurationError, Database, ReadSession, rfc3339
from service.settings import AuditSettings, WitnessSettings

MINUTE_US = 60_000_000
_TIMEOUT_SECONDS = 10.0
_MOST_ANSWER_BYTES = 64 * 1024
_REMEDY = "Put in the line that `yinyom audit witness` prints when it starts, on another machine."


class Witnesses:
    """The witnesses of the settings, asked one after the other."""

    def __init__(self, settings: AuditSettings, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._quorum = settings.witness_quorum
        self._witnesses = [(each, _verifier(each)) for each in settings.witnesses]
        self._elsewhere = settings.sequencer == "elsewhere"
        self._verdicts: dict[str, WitnessVerdict] = {}
        self._majority = len(self._witnesses) // 2 + 1
        if len({verifier.public for _, verifier in self._witnesses}) < len(self._witnesses):
            raise ConfigurationError("audit.witnesses names one key twice")
        if self._witnesses and self._quorum > len(self._witnesses):
            raise ConfigurationError("audit.witness_quorum is more than there are witnesses")

    def __bool__(self) -> bool:
        """Whether there is any witness."""
        return bool(self._witnesses)

    async def ask(self) -> list[Asked]:
        """Ask every witness to sign the newest checkpoint; never raises for what they answer.

        Where another process sequences, it asks them.
        """
        if self._elsewhere:
            return []
        asked = []
        for settings, verifier in self._witnesses:
            post = WitnessPoster(settings.url).post
            answer = await ask_witness(self._database, self._clock, verifier, post)
            if answer.verdict is not self._verdicts.get(verifier.vkey) and (
                answer.verdict is not WitnessVerdict.COSIGNED
            ):
                log = structlog.get_logger()
                tell = log.error if answer.verdict.alarming else log.warning
                tell("witness", reason=answer.verdict.value)
            self._verdicts[verifier.vkey] = answer.verdict
            asked.append(answer)
        return asked

    async def status(self) -> dict[str, Any]:
        """Give what each witness has signed and how asking it ended last, and whether it is enough.

        `verified_size` is the largest size that as many witnesses as the quorum asks for have
        signed, `majority_size` that which more than half of them have; None when there is none.
        `short_of_majority` says that the first is ahead of the second: for what lies between, half
        of the witnesses could have been shown another history. `unfit` says that a witness bears a
        key of this very log: what it signed counts for nothing.
        """
        async with self._database.read() as session:
            known = await witnessed(session)
            own = await own_keys(session)
        rows: list[dict[str, Any]] = []
        for settings, verifier in self._witnesses:
            size, at_us = known.get(verifier.vkey, (0, None))
            verdict = self._verdicts.get(verifier.vkey)
            if not is_stranger(verifier, own):
                size, at_us, verdict = 0, None, WitnessVerdict.UNFIT
            rows.append(
                {
                    "witness": verifier.name,
                    "url": settings.url,
                    "size": size,
                    "at": None if at_us is None else rfc3339(at_us),
                    "last_answer": None if verdict is None else verdict.value,
                }
            )
        sizes = sorted((row["size"] for row in rows if row["size"]), reverse=True)
        verified, agreed = (
            sizes[number - 1] if len(sizes) >= number else None
            for number in (self._quorum, self._majority)
        )
        return {
            "witnesses": rows,
            "quorum": self._quorum,
            "verified_size": verified,
            "majority": self._majority,
            "majority_size": agreed,
            "short_of_majority": (verified or 0) > (agreed or 0),
            "unfit": any(row["last_answer"] == WitnessVerdict.UNFIT for row in rows),
            "alarm": any(verdict.alarming for verdict in self._verdicts.values()),
        }

    async def opinion(self) -> tuple[str, str]:
        """Give state and words for whoever asks whether all is well: `ok`, `warn` or `bad`."""
        told = await self.status()
        if told["alarm"]:
            return "bad", "a witness has seen another history of this log: delete nothing"
        if told["unfit"]:
            return "bad", "a witness bears a key of this log: nobody witnesses their own log"
        if told["verified_size"] is None:
            return "warn", f"fewer than {self._quorum} witnesses have signed"
        if told["short_of_majority"]:
            half = f"{self._majority} of {len(self._witnesses)} witnesses"
            agreed, verified = told["majority_size"] or 0, told["verified_size"]
            return "warn", f"{verified} events witnessed, {agreed} of them by {half} as one history"
        return "ok", f"{told['verified_size']} events witnessed"


async def refuse_own_keys(
    session: ReadSession, settings: AuditSettings, seeds: Iterable[bytes]
) -> None:
    """Refuse witnesses that bear a key of this log, of today or of before, or one of its seeds.

    A seed may be there that signs nothing yet: the next key of a rotation that has begun.
    """
    if not settings.witnesses:
        return
    own = await own_keys(session)
    own |= {Signer.from_seed(settings.origin, seed).verifier.public for seed in seeds}
    if not all(is_stranger(_verifier(each), own) for each in settings.witnesses):
        raise ConfigurationError("audit.witnesses names a key of this very log", remedy=_REMEDY)


def _verifier(settings: WitnessSettings) -> Verifier:
    try:
        verifier = Verifier.from_vkey(settings.vkey)
    except NoteError as error:
        told = "audit.witnesses holds something that is not a verifier key"
        raise ConfigurationError(told, remedy=_REMEDY) from error
    if verifier.kind != COSIGNATURE_V1:
        raise ConfigurationError("audit.witnesses holds the key of a log", remedy=_REMEDY)
    return verifier


class WitnessPoster:
    """Sends one request at a time to one witness, over a connection of its own."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/") + "/add-checkpoint"

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    async def post(self, body: bytes) -> tuple[int, str]:
        """Send once; `WitnessUnreachableError` when no whole answer comes in time."""
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                return await self._post(body)
        except (
            TimeoutError,
            httpcore2.TimeoutException,
            httpcore2.NetworkError,
            httpcore2.ProtocolError,
            OSError,
            UnicodeError,
        ) as error:
            raise WitnessUnreachableError from error

    async def _post(self, body: bytes) -> tuple[int, str]:
        headers = [
            ("Host", urlsplit(self._url).netloc),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
        ]
        async with (
            httpcore2.AsyncConnectionPool(
                ssl_context=self._tls, max_connections=1, max_keepalive_connections=0
            ) as pool,
            pool.stream("POST", self._url, headers=headers, content=body) as response,
        ):
            read = b""
            async for part in response.aiter_stream():
                read += part
                if len(read) > _MOST_ANSWER_BYTES:
                    raise WitnessUnreachableError
            return int(response.status), read.decode("utf-8")
