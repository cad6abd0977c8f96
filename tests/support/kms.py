"""KMS servers on loopback that do what the real ones promise, and can be told to attack; a token.

`AwsKms` speaks the JSON protocol of AWS KMS, `Transit` the HTTP API of Vault's transit engine;
both hold real AES-GCM keys by version. `attack` makes the next answers hostile: a status and a
body, whatever was asked. What was asked is kept in `seen`, for tests that count.
"""

import atexit
import base64
import functools
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TOKEN = "hvs.a-token-that-nobody-may-see"
AWS_SECRET = "a-secret-access-key-that-nobody-may-see"


class Refused(Exception):  # noqa: N818
    """An answer with a status and a body of its own."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status)
        self.status, self.body = status, body


class _Server:
    """What both have: keys by version, a list of what was asked, and an attack."""

    def __init__(self) -> None:
        self.keys: dict[str, dict[int, AESGCM]] = {}
        self.seen: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.attack: Callable[[str], tuple[int, bytes] | None] | None = None
        self.asked: list[dict[str, Any]] = []
        self.redirect = ""
        self.url = ""

    def make(self, name: str) -> None:
        self.keys[name] = {1: _cipher()}

    def turn(self, name: str) -> None:
        self.keys[name][max(self.keys[name]) + 1] = _cipher()

    respond: Callable[[str, str, dict[str, str], bytes], Any]


class AwsKms(_Server):
    """What the provider asks of AWS KMS; a `slow` one takes its time to rotate, as AWS may."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = False
        self.turning: list[str] = []

    def respond(self, _method: str, _path: str, headers: dict[str, str], body: bytes) -> Any:
        operation = headers["X-Amz-Target"].rpartition(".")[2]
        self.seen.append(operation)
        asked = json.loads(body)
        self.asked.append(asked)
        name = asked["KeyId"]
        if name not in self.keys:
            raise Refused(400, {"__type": "NotFoundException", "message": "no such key"})
        return getattr(self, "_" + operation)(name, self.keys[name], asked)

    def _Encrypt(self, name, versions, asked):  # noqa: N802
        version, nonce = max(versions), os.urandom(12)
        plain, context = base64.b64decode(asked["Plaintext"]), _aws_context(asked)
        blob = bytes((version,)) + nonce + versions[version].encrypt(nonce, plain, context)
        return {"CiphertextBlob": base64.b64encode(blob).decode(), "KeyId": name}

    def _Decrypt(self, name, versions, asked):  # noqa: N802
        blob = base64.b64decode(asked["CiphertextBlob"])
        try:
            plain = versions[blob[0]].decrypt(blob[1:13], blob[13:], _aws_context(asked))
        except (InvalidTag, KeyError, ValueError):
            raise Refused(400, {"__type": "InvalidCiphertextException"}) from None
        return {"Plaintext": base64.b64encode(plain).decode(), "KeyId": name}

    def _RotateKeyOnDemand(self, name, _versions, _asked):  # noqa: N802
        self.turning.append(name)
        if not self.slow:
            self.finish()
        return {"KeyId": name}

    def finish(self):
        """Let the rotations that are under way come to their end."""
        while self.turning:
            self.turn(self.turning.pop())

    def _GetKeyRotationStatus(self, name, _versions, _asked):  # noqa: N802
        began = {"OnDemandRotationStartDate": 1700000000} if name in self.turning else {}
        return {"KeyRotationEnabled": False, **began}

    def _ListKeyRotations(self, name, versions, _asked):  # noqa: N802
        turned = [{"KeyId": name, "RotationType": "ON_DEMAND"} for _ in range(len(versions) - 1)]
        return {"Rotations": turned, "Truncated": False}

    def _DescribeKey(self, name, _versions, _asked):  # noqa: N802
        return {"KeyMetadata": {"KeyId": name, "KeyState": "Enabled"}}


class Transit(_Server):
    """Keys of a transit engine: made, read, rotated, configured, trimmed, used."""

    def __init__(self) -> None:
        super().__init__()
        self.lowest: dict[str, int] = {}
        self.wraps_from: dict[str, int] = {}
        self.trimmed: dict[str, int] = {}

    def respond(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
        self.seen.append(f"{method} {path.removeprefix('/v1/transit/')}")
        if headers.get("X-Vault-Token") != TOKEN:
            raise Refused(403, {"errors": ["permission denied"]})
        what, name, *rest = path.removeprefix("/v1/transit/").split("/")
        asked = json.loads(body) if body else {}
        if what == "keys" and not rest:
            if method == "POST":
                self.make(name)
                return {"data": {}}
            return {"data": self._described(name)}
        if name not in self.keys:
            raise Refused(400 if what != "keys" else 404, {"errors": []})
        return {"data": getattr(self, "_" + (rest[0] if rest else what))(name, asked)}

    def _described(self, name):
        if name not in self.keys:
            raise Refused(404, {"errors": []})
        lowest = self.lowest.get(name, 1)
        return {
            "latest_version": max(self.keys[name]),
            "min_decryption_version": lowest,
            "min_available_version": self.trimmed.get(name, 0),
            "keys": {str(version): 1700000000 for version in self.keys[name] if version >= lowest},
        }

    def _rotate(self, name, _asked):
        self.turn(name)
        return {}

    def _config(self, name, asked):
        lowest = asked.get("min_decryption_version", self.lowest.get(name, 1))
        wraps_from = asked.get("min_encryption_version", self.wraps_from.get(name, 0))
        newest = max(self.keys[name])
        if lowest > newest or wraps_from > newest or 0 < wraps_from < lowest:
            raise Refused(400, {"errors": ["limits"]})
        self.lowest[name], self.wraps_from[name] = lowest, wraps_from
        return {}

    def _trim(self, name, asked):
        wanted = asked["min_available_version"]
        if wanted > min(self.lowest.get(name, 1), self.wraps_from.get(name, 0)):
            raise Refused(400, {"errors": ["a limit is lower"]})
        self.trimmed[name] = wanted
        self.keys[name] = {v: key for v, key in self.keys[name].items() if v >= wanted}
        return {}

    def _encrypt(self, name, asked):
        version, nonce = max(self.keys[name]), os.urandom(12)
        plain = base64.b64decode(asked["plaintext"])
        context = base64.b64decode(asked["associated_data"])
        body = nonce + self.keys[name][version].encrypt(nonce, plain, context)
        return {"ciphertext": f"vault:v{version}:{base64.b64encode(body).decode()}"}

    def _decrypt(self, name, asked):
        _, version, text = asked["ciphertext"].split(":")
        try:
            number = int(version[1:])
            if number < self.lowest.get(name, 1):
                raise ValueError
            body = base64.b64decode(text, validate=True)
            context = base64.b64decode(asked["associated_data"])
            plain = self.keys[name][number].decrypt(body[:12], body[12:], context)
        except (InvalidTag, KeyError, ValueError):
            raise Refused(400, {"errors": ["cipher: message authentication failed"]}) from None
        return {"plaintext": base64.b64encode(plain).decode()}


@contextmanager
def serving(server: AwsKms | Transit) -> Iterator[None]:
    """Let a server answer on loopback for as long as the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = dict(self.headers)
            server.headers.append(headers)
            hostile = server.attack(self.path) if server.attack else None
            if hostile is not None:
                server.seen.append("attacked")
                status, said = hostile
            else:
                try:
                    status, found = 200, server.respond(self.command, self.path, headers, body)
                except Refused as refused:
                    status, found = refused.status, refused.body
                said = json.dumps(found).encode()
            self.send_response(307 if server.redirect else status)
            if server.redirect:
                self.send_header("Location", server.redirect + self.path)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST = do_PUT = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


@dataclass(frozen=True)
class SoftToken:
    """A token of SoftHSM: where its library is, its label and its PIN."""

    module: Path
    label: str = "yinyom-tests"
    pin: str = "27182818"


@functools.cache
def soft_token() -> SoftToken:
    """Make the one token of this process, whose library reads its configuration once, or skip."""
    module = next(Path("/usr/lib").glob("**/softhsm/libsofthsm2.so"), None)
    if module is None or shutil.which("softhsm2-util") is None:
        pytest.skip("softhsm2 is not installed (.ci/debian-packages)")
    pytest.importorskip("pkcs11", reason="install the extra [pkcs11]")
    folder = Path(tempfile.mkdtemp(prefix="yinyom-softhsm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "tokens").mkdir()
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    token = SoftToken(module)
    words = f"--init-token --free --label {token.label} --pin {token.pin} --so-pin {token.pin}"
    subprocess.run(["softhsm2-util", *words.split()], check=True, capture_output=True)
    return token


def _cipher() -> AESGCM:
    return AESGCM(AESGCM.generate_key(256))


def _aws_context(asked: dict[str, Any]) -> bytes:
    return json.dumps(asked.get("EncryptionContext", {}), sort_keys=True).encode()
