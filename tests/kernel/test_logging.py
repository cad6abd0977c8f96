"""The log is an allow-list: what nobody declared does not pass, and no person ever does."""

import asyncio
import errno
import io

import orjson
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from kernel.logging import RequestLog, configure_logging, scrub

PERSONS = {
    "thai name": "สมหญิง ใจดี",
    "latin name": "Somchai Jaidee",
    "latin given name": "Somchai",
    "chinese name": "王小明",
    "accented name": "José Núñez",
    "thai mobile": "0812345678",
    "mobile with dashes": "081-234-5678",
    "mobile with spaces": "081 234 5678",
    "mobile with dots": "081.234.5678",
    "mobile in E.164": "+66812345678",
    "mobile in E.164, spaced": "+66 81 234 5678",
    "taiwanese mobile": "0912-345-678",
    "thai national id": "1101700230708",
    "thai national id, grouped": "1-1017-00230-70-8",
    "taiwanese national id": "A123456789",
    "e-mail": "somying@example.co.th",
    "e-mail at a short host": "somying@localhost",
    "card number": "4111 1111 1111 1111",
    "thai digits": "๐๘๑๒๓๔๕๖๗๘",
    "birth date": "12/03/2535",
    "iso birth date": "1992-03-12",
    "line uid": "U4af4980629a1b2c3d4e5f60718293a4b",
    "address": "99/1 ถ.สุขุมวิท",
}
DECLARED = ["event", "reason", "error", "route", "where", "policy", "job_kind"]


@pytest.fixture
def lines():
    """Log to memory, and give back what was written, line by line."""
    stream = io.BytesIO()
    configure_logging("debug", stream)
    yield lambda: [orjson.loads(line) for line in stream.getvalue().splitlines()]
    structlog.reset_defaults()


@pytest.mark.parametrize("value", PERSONS.values(), ids=PERSONS)
@pytest.mark.parametrize("key", DECLARED)
def test_no_person_passes_under_a_declared_key(lines, key, value):
    said = {"event": "something_happened", key: value}
    structlog.get_logger().info(said.pop("event"), **said)
    (line,) = lines()
    assert line[key] == "<scrubbed>"


@pytest.mark.parametrize("value", PERSONS.values(), ids=PERSONS)
def test_a_person_inside_a_sentence_does_not_pass(lines, value):
    structlog.get_logger().warning(f"could not reach {value} today")
    (line,) = lines()
    assert line["event"] == "<scrubbed>"


def test_an_undeclared_key_is_dropped_and_counted(lines):
    structlog.get_logger().info("member_registered", name="สมหญิง", phone="0812345678", count=1)
    (line,) = lines()
    assert line["dropped"] == 2
    assert line["count"] == 1
    assert not {"name", "phone"} & set(line)


@pytest.mark.parametrize(
    "value", [["0812345678"], {"phone": "0812345678"}, b"0812345678", ("a",), object()]
)
def test_only_codes_and_numbers_pass(value):
    assert scrub(None, "info", {"reason": value}) == {"reason": "<scrubbed>"}


@given(st.text(min_size=1), st.text())
def test_a_key_from_outside_never_appears(key, value):
    kept = scrub(None, "info", {f"x_{key}": value})
    assert kept == {"dropped": 1}


@given(st.text(alphabet="0123456789 -./()+", min_size=9))
def test_no_long_number_passes_however_it_is_grouped(text):
    if sum(letter.isdigit() for letter in text) >= 9:
        assert scrub(None, "info", {"reason": text}) == {"reason": "<scrubbed>"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("event", "request_served"),
        ("reason", "consent_withdrawn"),
        ("route", "/v1/members/{member_id}/view"),
        ("client_id", "cli_01hf7yat00e00bq9exxtfrht4x"),
        ("audit_id", "evt_01hf7yat00e00azv1jnrnms5r7"),
        ("error_type", "UnavailableError"),
        ("status", 403),
        ("duration_us", 1_234_567),
        ("host", "192.168.100.200"),
        ("host", "::1"),
        ("policy", "sha256:" + "0123456789abcdef" * 4),
        ("method", "POST"),
        ("version", "0.1.0"),
        ("reason", None),
    ],
)
def test_what_an_operator_needs_passes_unchanged(key, value):
    assert scrub(None, "info", {key: value}) == {key: value}


def test_a_line_says_when_and_how_bad(lines):
    structlog.get_logger().error("audit_stalled", reason="pending_limit")
    (line,) = lines()
    assert line["level"] == "error"
    assert line["timestamp"].endswith("Z")


def test_levels_below_the_chosen_one_are_not_written():
    stream = io.BytesIO()
    configure_logging("warning", stream)
    try:
        structlog.get_logger().info("request_served")
        assert stream.getvalue() == b""
    finally:
        structlog.reset_defaults()


# --- one line a request ---------------------------------------------------------------

SERVED = {
    "request_id": "req_01hf7yat00e00azv1jnrnms5r7",
    "method": "GET",
    "route": "/v1/members/{member_id}/view",
    "status": 403,
    "duration_us": 812,
}


@pytest.mark.anyio
async def test_a_request_leaves_one_line_of_its_template_and_outcome():
    stream = io.BytesIO()
    RequestLog(stream).write(**SERVED)
    assert stream.getvalue() == b""  # not on the answer's path
    await asyncio.sleep(0.3)
    (line,) = map(orjson.loads, stream.getvalue().splitlines())
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "request", "level": "info", **SERVED}


@pytest.mark.anyio
async def test_every_request_is_logged_once_and_in_order():
    stream = io.BytesIO()
    log = RequestLog(stream)
    for status in range(200, 210):
        log.write(**SERVED | {"status": status})
    await asyncio.sleep(0.3)
    log.write(**SERVED | {"status": 210})
    log.flush()
    log.flush()
    lines = [orjson.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["status"] for line in lines] == list(range(200, 211))


# --- where nothing can be written -----------------------------------------------------


class FullDisk(io.BytesIO):
    """A stream that takes nothing while it is full."""

    is_full = True

    def write(self, data):
        if self.is_full:
            raise OSError(errno.ENOSPC, "no space left on device")
        return super().write(data)

    def flush(self):
        if self.is_full:
            raise OSError(errno.ENOSPC, "no space left on device")


@pytest.mark.anyio
async def test_a_line_that_cannot_be_written_ends_nothing_and_later_ones_are_there():
    disk = FullDisk()
    configure_logging("info", disk)
    try:
        log, requests = structlog.get_logger(), RequestLog(disk)
        log.warning("watch", reason="disk_full")
        requests.write(**SERVED)
        requests.flush()
        disk.is_full = False
        log.warning("watch", reason="ok")
        requests.write(**SERVED)
        requests.flush()
        said = [orjson.loads(line)["event"] for line in disk.getvalue().splitlines()]
        assert said == ["watch", "request"]
    finally:
        structlog.reset_defaults()
