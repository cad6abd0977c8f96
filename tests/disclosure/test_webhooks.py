"""Webhooks end to end: each client is told, nobody else, and the ledger says who has heard."""

import asyncio
import base64
import contextlib
import datetime as dt
import json
import socket
import ssl
from dataclasses import dataclass, field

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from standardwebhooks import Webhook

from disclosure import Answer
from kernel import Message, new_id
from members.repository import propose_pair
from service.settings import WebhookSettings
from service.webhook_poster import WebhookPoster
from tests.support.world import EVERYTHING, JumpingClock, open_world, recorded

pytestmark = pytest.mark.anyio

HOOKS = (*EVERYTHING, "webhooks:manage", "changes:read")
TYPES = ["consent.given", "consent.withdrawn", "member.erased", "member.rectified"]
CANARY = "canary-value-7f3a"
MINUTE_US = 60_000_000
DAY_US = 86_400_000_000


@dataclass
class Receiver:
    """A receiver on this machine that does to a delivery whatever a test asks of it."""

    behaviour: str = "200"
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    port: int = 0
    released: asyncio.Event = field(default_factory=asyncio.Event)
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def ids(self):
        return [headers["webhook-id"] for headers, _ in self.got]

    async def serve(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = head.split("\r\n")[1:]
            headers = dict(line.lower().split(": ", 1) for line in lines if line)
            body = await reader.readexactly(int(headers["content-length"]))
            original = dict(line.split(": ", 1) for line in lines if line)
            self.got.append(({k.lower(): v for k, v in original.items()}, body))
            self.reached.set()
            await self.answer(writer)
        writer.close()

    async def answer(self, writer):
        if self.behaviour == "hang":
            await self.released.wait()
        elif self.behaviour == "flood":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n")
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
        elif self.behaviour == "headers":
            writer.write(b"HTTP/1.1 200 OK\r\n")
            while True:
                writer.write(b"x-more: " + b"y" * 60_000 + b"\r\n")
                await writer.drain()
        elif self.behaviour == "garbage":
            writer.write(b"\x00\xff not http at all\r\n\r\n")
        elif self.behaviour.startswith("http://"):
            location = self.behaviour.encode()
            writer.write(
                b"HTTP/1.1 307 Look\r\nlocation: " + location + b"\r\ncontent-length: 0\r\n\r\n"
            )
        else:
            writer.write(f"HTTP/1.1 {self.behaviour} X\r\ncontent-length: 0\r\n\r\n".encode())
        await writer.drain()


@contextlib.asynccontextmanager
async def receiving(behaviour="200", tls=None):
    receiver = Receiver(behaviour)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        receiver.released.set()
        server.close()


@contextlib.asynccontextmanager
async def quiet_world(settings, **details):
    """A registry that delivers and sends only when the test says so, with its own clock."""
    settings = settings.model_copy(update={"webhooks": WebhookSettings(**details)})
    clock = JumpingClock()
    async with open_world(settings, clock=clock, background=False) as world:
        world.clock = clock
        yield world


async def settled(world):
    """Deliver what waits in the outbox, and send what is due."""
    await world.runtime.courier.deliver()
    await world.runtime.webhooks.send_due()


async def hook(app, receiver, types=TYPES):
    url = receiver if isinstance(receiver, str) else receiver.url
    answer = await app.post("/v1/webhooks", {"url": url, "types": list(types)})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def deliveries(app, made):
    answer = await app.get(f"/v1/webhooks/{made['id']}/deliveries")
    assert answer.status_code == 200, answer.text
    return answer.json()["deliveries"]


# --- what is told, and to whom --------------------------------------------------------


async def test_each_client_is_told_by_its_own_id_and_a_foreign_library_verifies_it(settings):
    async with quiet_world(settings) as world, receiving() as first, receiving() as second:
        crm, sender = await world.app("crm", *HOOKS), await world.app("sender", *HOOKS)
        stranger = await world.app("stranger", *HOOKS)
        made = await hook(crm, first)
        of_sender = await hook(sender, second)
        of_stranger = await hook(stranger, first)
        member = await crm.register(given_name=CANARY, consents={"marketing": "sms"})
        introduced = await crm.post(f"/v1/members/{member.id}:introduce", {"to": sender.id})
        await crm.withdraw(member, channel="sms")
        await settled(world)
        for receiver, secret, known, types in (
            (first, made["secret"], member.id, ["consent.given", "consent.withdrawn"]),
            (second, of_sender["secret"], introduced.json()["id"], ["consent.withdrawn"]),
        ):
            told = [Webhook(secret).verify(body, headers) for headers, body in receiver.got]
            assert [one["type"] for one in told] == types
            assert told[-1]["data"] == {"id": known, "purpose": "marketing", "channel": "sms"}
            assert set(told[-1]) == {"type", "timestamp", "data"}
        assert await deliveries(stranger, of_stranger) == []
        assert {one["state"] for one in await deliveries(crm, made)} == {"acknowledged"}


async def test_no_value_of_a_member_is_in_a_body_a_row_or_a_line_of_the_log(settings, capfd):
    values = {"given_name": CANARY, "phone": "081-555-7788", "email": f"{CANARY}@example.org"}
    async with quiet_world(settings) as world, receiving() as receiver, receiving("500") as broken:
        crm = await world.app("crm", *HOOKS)
        await hook(crm, receiver)
        await hook(crm, broken)
        member = await crm.register(values, consents={"marketing": "sms"})
        await crm.withdraw(member, channel="sms")
        await world.erase(member)
        await settled(world)
        assert len(receiver.got) == 3
        seen = repr(receiver.got) + repr(broken.got)
        for table in ("change", "webhook_delivery", "webhook"):
            seen += repr(await world.fetch(f"SELECT * FROM {table}"))
        out, err = capfd.readouterr()
        for value in (CANARY, "5557788", "555-7788", "+66815557788"):
            assert value not in seen + out + err
        assert "mem_" not in repr(receiver.got)


async def test_a_client_hears_nothing_of_a_purpose_it_does_not_read_for(settings):
    async with quiet_world(settings) as world, receiving() as receiver:
        crm = await world.app("crm", *HOOKS)
        narrow = await world.app("narrow", "webhooks:manage", "purpose:membership")
        made = await hook(narrow, receiver)
        member = await crm.register(consents={"marketing": "sms"})
        await crm.post(f"/v1/members/{member.id}:introduce", {"to": narrow.id})
        await crm.withdraw(member, channel="sms")
        await world.erase(member)
        await settled(world)
        assert [one["type"] for one in await deliveries(narrow, made)] == ["member.erased"]


async def test_a_revoked_client_is_sent_nothing_more(settings):
    async with quiet_world(settings) as world, receiving() as receiver:
        crm = await world.app("crm", *HOOKS)
        await hook(crm, receiver)
        member = await crm.register(consents={"marketing": "sms"})
        await world.runtime.courier.deliver()
        await world.runtime.clients.revoke(world.operator, crm.id)
        await world.erase(member)
        await settled(world)
        assert receiver.got == []
        rows = await world.fetch("SELECT type, state FROM webhook_delivery")
        assert [(row["type"], row["state"]) for row in rows] == [("consent.given", "cancelled")]


async def test_after_an_erasure_every_client_is_in_the_ledger_with_what_it_said(settings):
    async with (
        quiet_world(settings) as world,
        receiving() as good,
        receiving("503") as dead,
    ):
        apps = [await world.app(name, *HOOKS) for name in ("a", "b", "c")]
        await hook(apps[0], good)
        await hook(apps[1], dead)
        member = await apps[0].register()
        for app in apps[1:]:
            await apps[0].post(f"/v1/members/{member.id}:introduce", {"to": app.id})
        member_id = await world.erase(member)
        await settled(world)
        async with world.runtime.database.read() as session:
            found = await world.runtime.webhooks.acknowledgements(session, member_id)
        states = {one.client_id: one.state for one in found}
        assert states == {
            apps[0].id: "acknowledged",
            apps[1].id: "waiting",
            apps[2].id: "no_webhook",
        }
        assert f'"id":"{member.id}"'.encode() in good.got[-1][1]
        assert next(one for one in found if one.state == "acknowledged").acknowledged_us


# --- receivers that fail --------------------------------------------------------------


async def test_a_dead_receiver_is_tried_for_three_days_and_then_given_up(settings):
    async with quiet_world(settings) as world:
        crm = await world.app("crm", *HOOKS)
        made = await hook(crm, "http://127.0.0.1:9/nobody-listens")
        await crm.register(consents={"marketing": "sms"})
        await world.runtime.courier.deliver()
        began_us = world.clock.now_us()
        attempts = 0
        while True:
            await world.runtime.webhooks.send_due()
            (row,) = await world.fetch("SELECT * FROM webhook_delivery")
            assert row["attempts"] == attempts + 1, "one attempt for each time it was due"
            attempts = row["attempts"]
            if row["state"] != "waiting":
                break
            await world.runtime.webhooks.send_due()  # not due: nothing happens
            world.clock.jump_us += max(0, row["due_us"] - world.clock.now_us()) + 1
            assert attempts < 200
        assert row["state"] == "failed"
        assert world.clock.now_us() - began_us >= 3 * DAY_US
        assert attempts > 20
        await crm.sign_in()
        (told,) = await deliveries(crm, made)
        assert (told["state"], told["failure"]) == ("failed", "connection")
        assert told["acknowledged_at"] is None


async def test_every_attempt_bears_the_same_id_and_a_fresh_signature(settings):
    async with quiet_world(settings) as world, receiving("500") as receiver:
        crm = await world.app("crm", *HOOKS)
        made = await hook(crm, receiver)
        await crm.register(consents={"marketing": "sms"})
        await settled(world)
        world.clock.jump_us += MINUTE_US
        receiver.behaviour = "204"
        await settled(world)
        assert len(receiver.got) == 2
        assert len(set(receiver.ids)) == 1
        assert receiver.got[0][1] == receiver.got[1][1]
        times = [headers["webhook-timestamp"] for headers, _ in receiver.got]
        assert times[0] != times[1]
        Webhook(made["secret"]).verify(receiver.got[1][1], receiver.got[1][0])


async def test_what_waits_behind_a_failing_delivery_keeps_its_order(settings):
    async with quiet_world(settings) as world, receiving("500") as receiver:
        crm = await world.app("crm", *HOOKS)
        await hook(crm, receiver)
        member = await crm.register(consents={"marketing": "sms"})
        await crm.withdraw(member, channel="sms")
        await settled(world)
        assert len(receiver.got) == 1
        receiver.behaviour = "200"
        world.clock.jump_us += MINUTE_US
        await settled(world)
        assert [b"given" in body for _, body in receiver.got] == [True, True, False]


@pytest.mark.parametrize("behaviour", ["hang", "flood", "headers", "garbage"])
async def test_a_hostile_receiver_keeps_nobody_else_waiting(sqlite_settings, behaviour):
    async with (
        quiet_world(sqlite_settings, timeout_seconds=60) as world,
        receiving(behaviour) as hostile,
        receiving() as good,
    ):
        crm = await world.app("crm", *HOOKS)
        await hook(crm, hostile)
        await hook(crm, good)
        await crm.register(consents={"marketing": "sms"})
        await world.runtime.courier.deliver()
        sending = asyncio.create_task(world.runtime.webhooks.send_due())
        await good.reached.wait()
        await hostile.reached.wait()
        if behaviour == "hang":
            await world.until(
                "SELECT 1 FROM webhook_delivery WHERE state = 'acknowledged' "
                "AND EXISTS (SELECT 1 FROM webhook_delivery WHERE state = 'waiting')"
            )
            assert not sending.done()
            hostile.released.set()
        await asyncio.wait_for(sending, 30)
        rows = await world.fetch("SELECT state FROM webhook_delivery ORDER BY webhook_id")
        expected = "acknowledged" if behaviour == "flood" else "waiting"
        assert [row["state"] for row in rows] == [expected, "acknowledged"]


async def test_a_receiver_that_dawdles_is_cut_off(sqlite_settings):
    async with (
        quiet_world(sqlite_settings, timeout_seconds=0.3) as world,
        receiving("hang") as receiver,
    ):
        crm = await world.app("crm", *HOOKS)
        made = await hook(crm, receiver)
        await crm.register(consents={"marketing": "sms"})
        await settled(world)
        (told,) = await deliveries(crm, made)
        assert (told["state"], told["failure"], told["status"]) == ("waiting", "timeout", None)


async def test_no_redirect_is_followed(sqlite_settings):
    async with quiet_world(sqlite_settings) as world, receiving() as inner:
        async with receiving(inner.url) as receiver:
            crm = await world.app("crm", *HOOKS)
            made = await hook(crm, receiver)
            await crm.register(consents={"marketing": "sms"})
            await settled(world)
            (told,) = await deliveries(crm, made)
        assert inner.got == []
        assert (told["status"], told["failure"]) == (307, "redirect")


async def test_a_name_that_leads_into_the_house_is_refused_at_the_moment_of_sending(
    sqlite_settings, monkeypatch
):
    async with quiet_world(sqlite_settings) as world, receiving() as receiver:
        genuine = socket.getaddrinfo

        def rebound(host, port, *positional, **details):
            if host == "hooks.example.com":
                host, port = "127.0.0.1", receiver.port
            return genuine(host, port, *positional, **details)

        monkeypatch.setattr(socket, "getaddrinfo", rebound)
        crm = await world.app("crm", *HOOKS)
        made = await hook(crm, "https://hooks.example.com/")
        await crm.register(consents={"marketing": "sms"})
        await settled(world)
        (told,) = await deliveries(crm, made)
        assert told["failure"] == "target_not_allowed"
        assert receiver.got == []


def self_signed(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    day = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(day)
        .not_valid_after(day.replace(year=2099))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "pair.pem"
    encoding = serialization.Encoding.PEM
    file.write_bytes(
        certificate.public_bytes(encoding)
        + key.private_bytes(
            encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    return context


async def test_a_certificate_that_nobody_vouches_for_gets_nothing(sqlite_settings, tmp_path):
    async with (
        quiet_world(sqlite_settings) as world,
        receiving(tls=self_signed(tmp_path)) as receiver,
    ):
        crm = await world.app("crm", *HOOKS)
        made = await hook(crm, f"https://localhost:{receiver.port}/")
        await crm.register(consents={"marketing": "sms"})
        await settled(world)
        (told,) = await deliveries(crm, made)
        assert told["failure"] == "tls"
        assert receiver.got == []


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..b.example"])
async def test_a_name_that_no_name_can_be_is_an_answer_like_any_other(settings, host):
    async with quiet_world(settings) as world:
        crm = await world.app("crm", *HOOKS)
        made = await hook(crm, f"https://{host}/")
        await crm.register(consents={"marketing": "sms"})
        await settled(world)
        (told,) = await deliveries(crm, made)
        assert (told["failure"], told["attempts"]) == ("name_unknown", 1)
        assert await world.fetch("SELECT 1 FROM webhook_delivery WHERE lease_until_us > 0") == []


# --- at least once --------------------------------------------------------------------


class Dying:
    """Sends as the genuine poster does, and dies before anything can be noted."""

    def __init__(self, poster: WebhookPoster) -> None:
        self._poster = poster

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> Answer:
        await self._poster.post(url, headers, body)
        raise asyncio.CancelledError


async def test_who_dies_between_sending_and_noting_it_sends_again_under_the_same_id(settings):
    async with quiet_world(settings) as world, receiving() as receiver:
        crm = await world.app("crm", *HOOKS)
        await hook(crm, receiver)
        await crm.register(consents={"marketing": "sms"})
        webhooks = world.runtime.webhooks
        genuine = webhooks._poster
        webhooks._poster = Dying(genuine)
        await settled(world)
        webhooks._poster = genuine
        await settled(world)
        assert len(receiver.got) == 1, "under a lease, nobody else takes it"
        world.clock.jump_us += 2 * MINUTE_US
        await settled(world)
        assert len(receiver.got) == 2
        assert len(set(receiver.ids)) == 1
        (row,) = await world.fetch("SELECT state, attempts FROM webhook_delivery")
        assert (row["state"], row["attempts"]) == ("acknowledged", 2)


async def test_a_message_that_is_told_twice_is_one_delivery(settings):
    async with quiet_world(settings) as world, receiving() as receiver:
        crm = await world.app("crm", *HOOKS)
        await hook(crm, receiver)
        member = await crm.register()
        message = Message(
            "msg_01m83ds8q0frg8q2mna3eg8w23",
            "member.erased",
            {"member_id": await world.member_id(member)},
        )
        for _ in range(2):
            async with world.runtime.database.unit_of_work() as work:
                await world.runtime.webhooks.react(work, message)
        await settled(world)
        assert len(receiver.got) == 1


async def test_two_workers_send_each_delivery_once(postgres_settings):
    async with (
        quiet_world(postgres_settings) as world,
        quiet_world(postgres_settings) as second,
        receiving() as receiver,
    ):
        crm = await world.app("crm", *HOOKS)
        await hook(crm, receiver)
        for _ in range(10):
            await crm.register(consents={"marketing": "sms"})
        await world.runtime.courier.deliver()
        await asyncio.gather(world.runtime.webhooks.send_due(), second.runtime.webhooks.send_due())
        assert len(receiver.got) == 10
        assert len(set(receiver.ids)) == 10


# --- managing -------------------------------------------------------------------------


async def test_a_key_is_shown_once_and_rests_in_no_table_in_the_clear(settings):
    async with quiet_world(settings) as world:
        crm = await world.app("crm", *HOOKS)
        body = {"url": "https://crm.example.com/hook", "types": ["member.erased"]}
        once = {"headers": {"Idempotency-Key": "first"}}
        made = (await crm.post("/v1/webhooks", body, **once)).json()
        assert made["secret"].startswith("whsec_")
        repeated = await crm.post("/v1/webhooks", body, **once)
        assert repeated.headers["idempotency-replayed"] == "true"
        assert (repeated.json()["id"], repeated.json()["secret"]) == (made["id"], None)
        listed = (await crm.get("/v1/webhooks")).json()["webhooks"]
        assert [set(one) for one in listed] == [{"id", "url", "types", "created_at"}]
        raw = made["secret"].removeprefix("whsec_")
        for table in ("webhook", "idempotency"):
            rows = await world.fetch(f"SELECT * FROM {table}")
            stored = b"".join(bytes(v) for r in rows for v in r.values() if isinstance(v, bytes))
            assert raw.encode() not in stored
            assert raw not in repr(rows)
            assert base64.b64decode(raw) not in stored


async def test_another_clients_webhook_is_not_there(settings):
    async with quiet_world(settings) as world:
        crm, other = await world.app("crm", *HOOKS), await world.app("other", *HOOKS)
        made = await hook(crm, "https://crm.example.com/hook")
        path = f"/v1/webhooks/{made['id']}"
        assert (await other.request("DELETE", path)).status_code == 404
        assert (await other.get(f"{path}/deliveries")).status_code == 404
        since = {"since": "2026-01-01T00:00:00Z"}
        assert (await other.post(f"{path}:replay", since)).status_code == 404
        acknowledge = f"{path}/deliveries/msg_01kaqf1v4zfw4t2c2v9m3f1x7e:acknowledge"
        assert (await other.post(acknowledge)).status_code == 404
        assert (await crm.post(acknowledge)).status_code == 404
        assert (await other.get("/v1/webhooks")).json() == {"webhooks": []}
        bare = await world.app("bare", "purpose:membership")
        assert (await bare.get("/v1/webhooks")).status_code == 403


async def test_a_faulty_webhook_is_refused_at_its_place(settings):
    async with quiet_world(settings) as world:
        crm = await world.app("crm", *HOOKS)
        for body, pointer in (
            ({"url": "https://10.1.2.3/", "types": ["member.erased"]}, "/url"),
            ({"url": "http://crm.example.com/", "types": ["member.erased"]}, "/url"),
            ({"url": "https://crm.example.com/", "types": ["member.forgotten"]}, "/types/0"),
            ({"url": "https://crm.example.com/", "types": []}, "/types"),
        ):
            refused = await crm.post("/v1/webhooks", body)
            assert refused.status_code == 422
            assert refused.json()["errors"][0]["pointer"] == pointer
            assert "10.1.2.3" not in refused.text
            assert "forgotten" not in refused.text


async def test_a_replay_sends_again_under_the_same_ids_and_keeps_what_was_acknowledged(settings):
    async with quiet_world(settings) as world, receiving() as receiver:
        crm = await world.app("crm", *HOOKS)
        made = await hook(crm, receiver)
        await crm.register(consents={"marketing": "sms"})
        await settled(world)
        (first,) = await deliveries(crm, made)
        path = f"/v1/webhooks/{made['id']}:replay"
        none = await crm.post(path, {"since": "2199-01-01T00:00:00Z"})
        assert none.json()["replayed"] == 0
        some = await crm.post(path, {"since": "2026-01-01T00:00:00+07:00"})
        assert some.json() == {"id": made["id"], "replayed": 1}
        await settled(world)
        assert len(receiver.got) == 2
        assert len(set(receiver.ids)) == 1
        (again,) = await deliveries(crm, made)
        assert again["acknowledged_at"] == first["acknowledged_at"]


async def test_a_client_may_say_itself_that_it_has_acted(settings):
    async with quiet_world(settings) as world, receiving("500") as receiver:
        crm = await world.app("crm", *HOOKS)
        made = await hook(crm, receiver)
        member = await crm.register()
        member_id = await world.erase(member)
        await settled(world)
        (waiting,) = await deliveries(crm, made)
        path = f"/v1/webhooks/{made['id']}/deliveries/{waiting['id']}:acknowledge"
        assert (await crm.post(path)).json()["state"] == "acknowledged"
        world.clock.jump_us += DAY_US // 24
        await settled(world)
        assert len(receiver.got) == 1
        async with world.runtime.database.read() as session:
            (found,) = await world.runtime.webhooks.acknowledgements(session, member_id)
        assert found.state == "acknowledged"


async def test_a_deleted_webhook_is_sent_nothing_and_its_key_is_gone(settings):
    async with quiet_world(settings) as world, receiving() as receiver:
        crm = await world.app("crm", *HOOKS)
        made = await hook(crm, receiver)
        await crm.register(consents={"marketing": "sms"})
        await world.runtime.courier.deliver()
        gone = await crm.request("DELETE", f"/v1/webhooks/{made['id']}")
        assert gone.json() == {"id": made["id"], "state": "deleted"}
        await settled(world)
        assert receiver.got == []
        (row,) = await world.fetch("SELECT secret, url FROM webhook")
        assert (bytes(row["secret"]), row["url"]) == (b"", "")


async def test_deliveries_go_when_the_pseudonym_would(settings):
    async with quiet_world(settings) as world:
        crm = await world.app("crm", *HOOKS)
        await hook(crm, "https://crm.example.com/hook")
        await crm.register(consents={"marketing": "sms"})
        await world.runtime.courier.deliver()
        await world.runtime.webhooks.sweep()
        assert len(await world.fetch("SELECT id FROM webhook_delivery")) == 1
        world.clock.jump_us += 400 * DAY_US
        await world.runtime.webhooks.sweep()
        assert await world.fetch("SELECT id FROM webhook_delivery") == []


async def test_a_running_registry_sends_by_itself(world):
    async with receiving() as receiver:
        crm = await world.app("crm", *HOOKS)
        await hook(crm, receiver)
        await crm.register(consents={"marketing": "sms"})
        await world.until("SELECT 1 FROM webhook_delivery WHERE state = 'acknowledged'")
        assert len(receiver.got) == 1


async def test_a_client_with_two_ids_of_one_member_hears_by_both_and_counts_one(settings):
    """A merge leaves a client both ids: neither is forgotten, and nobody is written to twice."""
    scopes = (*HOOKS, "duplicates:resolve", "audiences:export", "suppressions:read")
    async with quiet_world(settings) as world, receiving() as receiver:
        crm = await world.app("crm", *scopes)
        await hook(crm, receiver, ["member.merged", "consent.withdrawn"])
        old = await crm.register(consents={"marketing": "sms"})
        new = await crm.register(consents={"marketing": "sms"})
        both = {old.id, new.id}
        pair, now_us = new_id("dup"), world.clock.now_us()
        ids = (await world.member_id(old), await world.member_id(new))
        async with recorded(world.runtime.database) as work:
            await propose_pair(work, pair, "main", ids, 90, ["phone"], now_us=now_us)
        merged = await crm.post(f"/v1/duplicates/{pair}:merge", {})
        assert merged.status_code == 200, merged.text
        body = {"purpose": "marketing", "channel": "sms"}
        exported = (await crm.post("/v1/audiences:export", body)).text.splitlines()
        assert len(exported) == 1 + 1, "one line, and the last one"
        await crm.withdraw(new, channel="sms")
        await settled(world)
        told = [json.loads(text) for _, text in receiver.got]
        for kind in ("member.merged", "consent.withdrawn"):
            assert {one["data"]["id"] for one in told if one["type"] == kind} == both
        seen, cursor = [], None
        while True:
            query = {"limit": 1, **({"cursor": cursor} if cursor else {})}
            page = (await crm.get("/v1/changes", params=query)).json()
            if not page["changes"]:
                break
            seen += page["changes"]
            cursor = page["next_cursor"]
        assert {one["id"] for one in seen if one["type"] == "consent.withdrawn"} == both
        listed = (await crm.get("/v1/suppressions", params=body)).json()["suppressions"]
        assert {one["id"] for one in listed} == both
