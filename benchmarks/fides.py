"""Opponent (b): the consent read of Fides (`ethyca-fides` from PyPI, Apache-2.0).

Fides is the best-known open consent and privacy-request service in Python. It is installed once
into an environment of its own in the user's cache, runs with its own database in the same
PostgreSQL cluster and with Debian's Redis, and is asked for stored consent preferences without
a token, which is its cheapest consent read: it checks no caller and writes no audit event.
"""

import secrets
import subprocess
import sys
from pathlib import Path

from benchmarks.load import Client, spread
from benchmarks.servers import (
    Postgres,
    Server,
    UnavailableError,
    cache_folder,
    free_port,
    tool,
    uvicorn_command,
)

DATABASE = "fides"
INSTALL_SECONDS = 900
START_SECONDS = 300
_DATA_USE = "marketing.advertising"


def environment() -> Path:
    """Give the Python of Fides' own environment, installing it when it is not there yet.

    Raises:
        UnavailableError: pip could not install it.
    """
    folder = cache_folder() / "fides"
    python = folder / "venv" / "bin" / "python"
    ready = folder / "installed"
    if not ready.exists():
        print("installing ethyca-fides into its own environment (minutes) …", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        _run([sys.executable, "-m", "venv", folder / "venv"])
        _run([python, "-m", "pip", "install", "-q", "ethyca-fides"])
        ready.write_text(_version(python), encoding="utf-8")
    return python


def _version(python: Path) -> str:
    code = "from importlib.metadata import version; print(version('ethyca-fides'))"
    return _run([python, "-c", code]).strip()


def _run(command: list[str | Path]) -> str:
    try:
        return subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            check=True,
            timeout=INSTALL_SECONDS,
        ).stdout
    except subprocess.CalledProcessError as error:
        raise UnavailableError(f"{command[0]} failed: {error.stderr[-300:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"{command[0]} failed: {error}") from error


class Fides:
    """Fides with its Redis, filled with people who gave and refused consent."""

    def __init__(self, folder: Path, postgres: Postgres) -> None:
        redis_server = tool("redis-server")
        if redis_server is None:
            raise UnavailableError("redis-server not found (Debian: apt install redis-server)")
        python = environment()
        self.version = _version(python)
        password = secrets.token_hex(16)
        redis_port = free_port()
        configuration = folder / "redis.conf"
        configuration.write_text(
            f'port {redis_port}\nbind 127.0.0.1\nsave ""\nrequirepass {password}\ndir {folder}\n',
            encoding="utf-8",
        )
        configuration.chmod(0o600)
        postgres.create_database(DATABASE)
        self._redis = Server("redis", [redis_server, configuration], log=folder / "redis.log")
        self.port = free_port()
        home = folder / "fides"
        home.mkdir()
        # Run as its own working folder: without PYTHONPATH Fides cannot see this repository.
        self.server = Server(
            "fides",
            uvicorn_command(python, "fides.api.main:app", self.port),
            log=folder / "fides.log",
            cwd=home,
            env=_settings(postgres, redis_port, password) | {"PYTHONPATH": ""},
        )

    def wait(self) -> float:
        """Wait for its migrations and start; gives the seconds."""
        return self.server.wait_for_http(self.port, "/health", within_seconds=START_SECONDS)

    async def fill(self, people: int) -> list[str]:
        """Store consent for `people` identities through its API and give the paths to read."""

        async def store(client: Client, number: int) -> str:
            made = await client.call(
                "POST",
                "/api/v1/consent-request",
                json={"identity": {"phone_number": f"+6681{number:07d}"}},
            )
            path = f"/api/v1/consent-request/{made['consent_request_id']}/preferences"
            consent = [{"data_use": _DATA_USE, "opt_in": number % 2 == 0}]
            await client.call("PATCH", path, json={"consent": consent})
            return path

        paths = await spread(self.port, range(people), store, connections=8)
        client = Client(self.port)
        for number, path in enumerate(paths[:50]):
            held = (await client.call("GET", path))["consent"]
            if [(one["data_use"], one["opt_in"]) for one in held] != [(_DATA_USE, not number % 2)]:
                raise UnavailableError("fides does not answer what was stored")
        await client.close()
        return paths

    def stop(self) -> None:
        """Stop Fides and its Redis."""
        self.server.stop()
        self._redis.stop()


def _settings(postgres: Postgres, redis_port: int, redis_password: str) -> dict[str, str]:
    return {
        "FIDES__DATABASE__SERVER": "127.0.0.1",
        "FIDES__DATABASE__PORT": str(postgres.port),
        "FIDES__DATABASE__USER": "bench",
        "FIDES__DATABASE__PASSWORD": "trusted",
        "FIDES__DATABASE__DB": DATABASE,
        "FIDES__REDIS__HOST": "127.0.0.1",
        "FIDES__REDIS__PORT": str(redis_port),
        "FIDES__REDIS__PASSWORD": redis_password,
        "FIDES__SECURITY__APP_ENCRYPTION_KEY": secrets.token_hex(16),
        "FIDES__SECURITY__OAUTH_ROOT_CLIENT_ID": "bench",
        "FIDES__SECURITY__OAUTH_ROOT_CLIENT_SECRET": secrets.token_hex(16),
        "FIDES__SECURITY__DRP_JWT_SECRET": secrets.token_hex(16),
        "FIDES__SECURITY__ENV": "prod",
        "FIDES__SECURITY__REQUEST_RATE_LIMIT": "1000000/minute",
        "FIDES__USER__ANALYTICS_OPT_OUT": "true",
        "FIDES__CELERY__TASK_ALWAYS_EAGER": "false",
        "FIDES__LOGGING__LEVEL": "WARNING",
    }
