"""Running a witness: its own folder with its own key, its own port, nothing of a registry."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from audit import Cosigner, NoteError, Verifier, Witness, WitnessApp
from kernel import InvalidRequestError, SystemClock
from service.server import listen
from vault import KeyRingError, read_private, write_private

KEY_FILE = "witness-key"
MEMORY_FILE = "witness.db"
_SEED_BYTES = 32


def open_witness(folder: Path, name: str, logs: Sequence[str]) -> tuple[WitnessApp, str]:
    """Open a witness, making its key when it has none; gives it and its verifier key.

    Raises:
        InvalidRequestError: a log's key or the name is malformed, or the key is no log's.
        KeyRingError: the key file is damaged or can be read by others.
    """
    try:
        verifiers = [Verifier.from_vkey(log) for log in logs]
    except NoteError as error:
        raise InvalidRequestError(
            "--log is not a verifier key",
            remedy="Take the line that GET /v1/audit/key of the log's registry gives.",
        ) from error
    key = folder / KEY_FILE
    if not key.exists():
        write_private(key, os.urandom(_SEED_BYTES).hex().encode() + b"\n")
    try:
        seed = bytes.fromhex(read_private(key, "the witness's key").decode("ascii").strip())
        cosigner = Cosigner.from_seed(name, seed)
    except (ValueError, NoteError) as error:
        raise KeyRingError(f"{KEY_FILE} does not hold a key, or the name is none") from error
    try:
        witness = Witness(cosigner, verifiers, folder / MEMORY_FILE, SystemClock())
    except NoteError as error:
        raise InvalidRequestError(
            "--log is the key of a witness, or this witness's own",
            remedy="Take the line that GET /v1/audit/key of the log's registry gives.",
        ) from error
    return WitnessApp(witness), cosigner.vkey


def witness_forever(app: WitnessApp, *, host: str, port: int) -> None:
    """Answer until told to stop."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http="httptools",
        lifespan="off",
        ws="none",
        proxy_headers=False,
        access_log=False,
        log_config=None,
        server_header=False,
    )
    with listen(host, port) as listening:
        asyncio.run(uvicorn.Server(config).serve([listening]))
