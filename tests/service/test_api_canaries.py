"""No personal value comes back, or into the log, from any place in which somebody typed it.

Three hundred canaries are put into paths, queries, headers, keys and values of requests, well
formed and broken; then every answer, the log of the server and what rests on disk are searched
for them, in each spelling that a value may take on its way.
"""

import json
import re
import socket
import subprocess
from urllib.parse import quote

import pytest

from tests.support.serving import served_registry

ENOUGH = 300
BYTEA = re.compile(r"\\x((?:[0-9a-f]{2})+)")


class Canaries:
    """Makes names and numbers that occur nowhere else, and finds them again."""

    def __init__(self):
        self.made: list[str] = []

    def word(self) -> str:
        self.made.append(f"kanari{len(self.made):05d}quux")
        return self.made[-1]

    def phone(self) -> str:
        self.made.append(f"89{7_310_000 + len(self.made):07d}")
        return "0" + self.made[-1]

    def email(self) -> str:
        return f"{self.word()}@example.com"

    def found_in(self, text: str) -> set[str]:
        return {canary for canary in self.made if canary in text}


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
)
def registry(request, module_settings):
    """A registry of its own: its log and its files are searched when everything was sent."""
    with served_registry(module_settings(request.param), YINYOM_LOG__LEVEL="debug") as served:
        yield served


class Heard:
    """Every answer, as text: status line, headers and body."""

    def __init__(self, registry):
        self.registry = registry
        self.texts: list[str] = []

    def send(self, method, path, *, headers=None, content=None, token=True):
        if not isinstance(content, bytes | None):
            content = json.dumps(content).encode()
        sent = {"Content-Type": "application/json", **(headers or {})}
        if token:
            sent.setdefault("Authorization", f"Bearer {self.registry.crm.token}")
        answer = self.registry.http.request(
            method,
            path,
            headers={name: value.encode() for name, value in sent.items()},
            content=content,
        )
        assert answer.status_code < 500, (method, answer.text)
        headers_text = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
        self.texts.append(f"{answer.status_code}\n{headers_text}\n{answer.text}")
        return answer

    def send_raw(self, data: bytes) -> None:
        with socket.create_connection(("127.0.0.1", self.registry.server.port), 10) as line:
            line.sendall(data)
            line.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := line.recv(65_536):
                answer += piece
        self.texts.append(answer.decode("utf-8", "replace"))


def put_everywhere(heard: Heard, canaries: Canaries) -> None:
    """Send requests with a canary in every place there is."""
    word, phone, email = canaries.word, canaries.phone, canaries.email
    member = heard.registry.crm.register()
    point = member["contact_points"][0]["id"]
    base = f"/v1/members/{member['id']}"
    decision = heard.registry.crm.decision()
    registration = heard.registry.crm.registration

    for _ in range(4):
        for method in ("GET", "POST", "PATCH", "DELETE", "OPTIONS"):
            for path in (
                *(f"/{word()}", f"/{word()}/", f"/v1/{word()}", f"/v1/members/{phone()}"),
                *(f"/v1/members/{quote(email())}/view?purpose=membership",),
                *(f"/v1/members/{word()}/", f"{base}/contact-points/{phone()}:verify"),
                *(f"/v1/consents/{word()}/receipt", f"/v1/notices/{word()}?lang={word()}"),
                *(f"{base}/view?purpose={word()}&channel={word()}&fields={word()},{phone()}"),
                *(f"{base}/view?{word()}={phone()}", f"{base}?purpose=membership&{word()}=1"),
                *(f"{base}/consents?as_of={phone()}", f"{base}/disclosures?cursor={word()}"),
                *(f"/audit/log/{word()}", f"/static/{word()}", f"/openapi.json?{word()}"),
            ):
                heard.send(method, path)
        for name in (
            *("Authorization", "Idempotency-Key", "If-Match", "X-Request-Id", "Cookie"),
            *("Referer", "User-Agent", "Accept", "Content-Type", "Accept-Language", "Origin"),
            *("X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "Range", "Traceparent", "Host"),
        ):
            heard.send("POST", "/v1/members", headers={name: word()}, content=b"{}")
            heard.send("GET", f"{base}/view?purpose=membership", headers={name: f"Bearer {word()}"})
            heard.send("GET", "/v1/purposes", headers={name: email()}, token=False)
        heard.send("POST", "/v1/members", headers={word(): phone()}, content=b"{}")

        for content in (
            {word(): phone()},
            [word()],
            word(),
            registration(phone=word()) | {word(): 1},
            registration(phone=phone(), national_id=phone(), email=word()),
            registration(phone=phone(), birth_date=word(), gender=word()),
            registration(**{word(): phone(), "phone": phone()}),
            registration(phone=phone()) | {"brand": word(), "jurisdiction": word()},
            registration(phone=phone()) | {"formats": {"phone_region": word(), word(): word()}},
            registration(phone=phone()) | {"formats": {"date_era": word()}},
            registration(decision | {"purpose": word(), "lang": word()}, phone=phone()),
            registration(decision | {"notice_revision": word()}, phone=phone()),
            registration(decision | {"evidence": {word(): word()}}, phone=phone()),
            registration(
                decision | {"evidence": {"ui_action": f"{word()} {word()}"}}, phone=phone()
            ),
            registration(decision | {"decision": word(), "channel": word()}, phone=phone()),
        ):
            heard.send("POST", "/v1/members", content=content)
            heard.send("POST", "/v1/members", content=json.dumps(content).encode()[:-1])
            heard.send("PATCH", base, content=content)
            heard.send("POST", f"{base}/consents", content=content)
        for path, content in (
            ("/v1/members:lookup", {"kind": word(), "value": phone(), "purpose": "membership"}),
            ("/v1/members:lookup", {"kind": "phone", "value": phone(), "purpose": word()}),
            ("/v1/members:lookup", {"kind": "phone", "value": word(), "purpose": "membership"}),
            ("/v1/members:lookup", {"kind": "email", "value": email(), "purpose": "membership"}),
            (f"{base}:introduce", {"to": word()}),
            (f"{base}/contact-points", {"kind": word(), "value": phone()}),
            (f"{base}/contact-points", {"kind": "phone", "value": phone(), "region": word()}),
            (f"{base}/contact-points", {"kind": "phone", "value": phone(), "region": "TH"}),
            (f"{base}/contact-points", {"kind": "email", "value": email()}),
            (f"{base}/contact-points/{point}:verify", {"code": word()}),
            (f"{base}/consents:withdraw", {"purpose": word(), "channel": phone()}),
            ("/v1/decisions:check", {"id": phone(), "purpose": word(), "fields": [word()]}),
            ("/v1/members:view", {"ids": [phone(), email(), word()], "purpose": "membership"}),
        ):
            heard.send("POST", path, content=content)
            heard.send("POST", path, content=content | {word(): phone()})
        for form in (
            f"grant_type={word()}",
            f"grant_type=client_credentials&client_id={word()}&client_secret={word()}",
            f"grant_type=client_credentials&scope={word()}",
            f"{word()}={phone()}",
        ):
            heard.send(
                "POST",
                "/oauth/token",
                headers={"Content-Type": "application/x-www-form-urlencoded"},
                content=form.encode(),
                token=False,
            )
        for data in (
            f"GET /{word()} {word()}\r\n\r\n",
            f"{word()}\r\n\r\n",
            f"GET / HTTP/1.1\r\nHost: x\r\n{word()}\r\n\r\n",
            f"POST /v1/members HTTP/1.1\r\nHost: x\r\nContent-Length: {word()}\r\n\r\n",
            f"POST /v1/members HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{word()}",
            f"POST /v1/members HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{word()}",
        ):
            heard.send_raw(data.encode())


def at_rest(registry, request) -> str:
    """Everything that lies on disk: the data directory, and the database of PostgreSQL."""
    texts = [
        f"{file.name}\n" + file.read_bytes().decode("latin-1")
        for file in sorted(registry.server.data_dir.rglob("*"))
        if file.is_file()
    ]
    if registry.server.settings.on_postgres:
        binaries = request.getfixturevalue("postgres_server").binaries
        url = registry.server.settings.database.url
        dump = subprocess.run(
            [binaries / "pg_dump", "--inserts", url], check=True, capture_output=True, text=True
        ).stdout
        assert "INSERT INTO public.audit_event" in dump
        texts.append(dump)
        texts += [bytes.fromhex(part).decode("latin-1") for part in BYTEA.findall(dump)]
    return "\n".join(texts)


def test_no_answer_no_log_line_and_no_file_repeats_what_somebody_typed(registry, request):
    canaries, heard = Canaries(), Heard(registry)
    put_everywhere(heard, canaries)
    assert len(canaries.made) > ENOUGH

    repeated = {
        (canary, text.partition("\n")[0])
        for text in heard.texts
        for canary in canaries.found_in(text)
    }
    assert repeated == set()
    log = registry.server.logged()
    assert log.count('"event":"request"') > ENOUGH, "the log was on"
    assert canaries.found_in(log) == set()
    assert not re.search(r"Traceback|Error:", log)
    assert canaries.found_in(at_rest(registry, request)) == set()


def test_what_a_member_is_registered_with_rests_nowhere_in_the_clear(registry, request):
    canaries = Canaries()
    for _ in range(60):
        member = registry.crm.register(
            given_name=canaries.word(),
            family_name=canaries.word(),
            phone=canaries.phone(),
            email=canaries.email(),
            notes=canaries.word(),
            address=canaries.word(),
        )
    assert len(canaries.made) > ENOUGH
    read = registry.crm.get(f"/v1/members/{member['id']}/view?purpose=membership")
    assert len(canaries.found_in(read.text)) == 3, "what was typed would be found"
    assert canaries.found_in(registry.server.logged()) == set()
    assert canaries.found_in(at_rest(registry, request)) == set()
    events = registry.crm.get("/v1/audit/events").text
    assert canaries.found_in(events) == set()
