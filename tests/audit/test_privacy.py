"""Ten thousand people who are in the trail and cannot be found in it, nor guessed after erasure.

They come by import and through the API, are read, changed and erased; then everything that the
trail leaves is searched for each of their identifiers: as it is written, encoded, hashed, and keyed
with every key that more than one member shares. Of the erased, digests and tokens are tried with
all birthdays and a range of telephone numbers under every key that is left, the whole log still
verifying.
"""

import base64
import hashlib
import hmac
import json
import re
from datetime import date, timedelta
from itertools import product

import pytest

from audit import export_log, value_digest, verify_stored_log
from audit.event import epochs, subject_tokens
from members import PROFILES
from tests.support.canaries import CHINESE, LATIN, MARKS, THAI, spellings, watched_log
from tests.support.world import (  # noqa: F401 (fixtures)
    JumpingClock,
    installed_sqlite,
    open_world,
    postgres_settings,
    settings,
    sqlite_settings,
)
from vault import PSEUDONYM

pytestmark = pytest.mark.anyio

DAY_US = 86_400_000_000
SHORT, LONG = 300, 10_000
TALKERS = 30
"""How many come through the API and have their birthdays changed; every second one is erased."""
_TABLES = re.compile("audit_.*|rights_ledger")


def thai_id(at):
    """An identity number with a true check digit."""
    head = f"19988{at:07}"
    total = sum(int(digit) * weight for digit, weight in zip(head, range(13, 1, -1), strict=True))
    return head + str((11 - total % 11) % 10)


def born(at):
    return (date(1900, 1, 1) + timedelta(days=at * 7_919 % 43_000)).isoformat()


def person(at):
    """Somebody no file would hold by chance."""
    name = (
        f"{THAI}{'กขคงจ'[at % 5]}",
        f"{CHINESE}{'甲乙丙丁戊'[at % 5]}",
        f"{LATIN}{'abcde'[at % 5]}",
    )
    return {
        "given_name": name[at % 3],
        "family_name": f"{LATIN}สกุล",
        "phone": f"0877{at:06}",
        "email": f"zqxcanary.{at}@birdcage.example",
        "national_id": thai_id(at),
        "birth_date": born(at),
    }


def forms(at):
    """Each identifier as it is written, kept and compared."""
    values = person(at)
    phone = values["phone"]
    dashed = f"{phone[:3]}-{phone[3:6]}-{phone[6:]}"
    yield from (*values.values(), f"+66{phone[1:]}", f"66{phone[1:]}", dashed)


def messages(form):
    """What a keyed hash of a value would be taken over, in our formats and without any."""
    yield form.encode()
    for field in ("phone", "email", "national_id", "birth_date"):
        parts = [len(text.encode()).to_bytes(4) + text.encode() for text in (field, form)]
        yield b"value|" + b"".join(parts)
        yield field.encode() + b"|" + form.encode()


class Searcher:
    """Finds every identifier in every form, encoding, hash and shared-key HMAC."""

    def __init__(self, count, keys):
        self.needles = {s: mark for mark in MARKS for s in spellings(mark) if len(s) > 6}
        self.plain = {form for at in range(count) for form in forms(at) if form[-1].isdigit()}
        self.hidden = {}
        for form in {form for at in range(count) for form in forms(at)}:
            data = form.encode()
            for name in ("md5", "sha1", "sha256"):
                self._hide(hashlib.new(name, data).digest(), f"{name} of {form}")
            for key, message in product(keys, messages(form)):
                self._hide(hmac.digest(key, message, "sha256"), f"HMAC of {form}")
            for key in keys:
                self._hide(hmac.digest(key, data, "sha1"), f"HMAC-SHA-1 of {form}")

    def _hide(self, digest, what):
        self.hidden[digest[:16]] = what

    def search(self, data):
        """Everything found in text or bytes."""
        found = [mark for needle, mark in self.needles.items() if needle in data]
        for run in re.finditer(rb"(?<![0-9a-f])\+?[0-9][0-9-]{8,14}(?![0-9a-f])", data):
            found += {run.group().decode()} & self.plain
        for run in re.finditer(rb"(?:3[0-9]|2d|2b){10,}", data):  # digits in hexadecimal
            text = bytes.fromhex(run.group().decode()).decode()
            found += [form for form in self.plain if form in text]
        for run in re.finditer(rb"[0-9a-fA-F]{32,}", data):
            text = run.group().decode().lower()
            found += self._known(bytes.fromhex(text[at : at + 32]) for at in range(len(text) - 31))
        for run in re.finditer(rb"[A-Za-z0-9+/_-]{22,}", data):
            text = run.group().decode().translate(str.maketrans("-_", "+/"))
            found += self._known(
                base64.b64decode(text[at : at + 22] + "==") for at in range(len(text) - 21)
            )
        return found

    def search_bytes(self, data):
        """Digests that lie there as bytes."""
        return list(self._known(data[at : at + 16] for at in range(len(data) - 15)))

    def _known(self, digests):
        return [self.hidden[digest] for digest in digests if digest in self.hidden]


def test_the_searcher_finds_what_it_looks_for():
    key = bytes(range(32))
    searcher = Searcher(3, [key])
    values = person(2)
    noise = hashlib.sha512(b"noise").hexdigest().encode()
    for value in [*values.values(), "+66877000002"]:
        data = value.encode()
        hidden = [
            hashlib.sha256(data).hexdigest(),
            base64.b64encode(hashlib.sha1(data).digest()).decode(),
            hmac.digest(key, data, "sha256").hex()[:32],
            value_digest(key, "phone", value),
            base64.urlsafe_b64encode(hmac.digest(key, data, "sha256")).decode(),
        ]
        for text in hidden:
            assert searcher.search(noise + b'"' + text.encode() + b'"' + noise), (value, text)
        assert searcher.search_bytes(noise + hashlib.sha256(data).digest() + noise)
    for text in (values["phone"], values["email"], values["national_id"], "+66877000002"):
        assert searcher.search(noise + b'"' + text.encode() + b'"' + noise), text
    assert searcher.search(b'"' + values["phone"].encode().hex().encode() + b'"')
    assert searcher.search(noise) == []
    assert searcher.search_bytes(hashlib.sha512(b"noise").digest() * 9) == []


# --- their lives ----------------------------------------------------------------------


async def arrive(world, folder, count):
    """Most by import, some through the API; gives who talks to us."""
    crm = await world.app()
    talkers = [await crm.register(person(at)) for at in range(TALKERS)]
    for at, member in enumerate(talkers):
        changed = {"fields": {"birth_date": born(at + count)}, "formats": {"date_era": "iso"}}
        answer = await crm.patch(f"/v1/members/{member.id}", changed)
        assert answer.status_code == 200, answer.text
        assert (await crm.view(member)).status_code == 200
        look = {"kind": "phone", "value": person(at)["phone"], "region": "TH"}
        await crm.post("/v1/members:lookup", {**look, "purpose": "membership"})
    header = "ชื่อ,นามสกุล,เบอร์โทรศัพท์,อีเมล,เลขบัตรประชาชน,วันเกิด\n"
    lines = [",".join(person(at).values()) + "\n" for at in range(TALKERS, count)]
    file = folder / "import.csv"
    file.write_text(header + "".join(lines), encoding="utf-8")
    report = await world.runtime.imports.run(
        world.operator, file, PROFILES["th"], brand="main", jurisdiction="TH"
    )
    assert report.accepted == count - TALKERS
    return talkers


async def left(world, folder):
    """All that the trail leaves, text and bytes apart."""
    await world.runtime.sequencer.drain()
    if world.settings.on_postgres:
        query = "SELECT table_name AS name FROM information_schema.tables"
    else:
        query = "SELECT name FROM sqlite_master WHERE type = 'table'"
    names = [row["name"] for row in await world.fetch(query)]
    text, raw = [], []
    for name in filter(_TABLES.fullmatch, names):
        for row in await world.fetch(f"SELECT * FROM {name}"):
            for value in row.values():
                data = bytes(value) if isinstance(value, (bytes, memoryview)) else None
                if data is None or data.isascii():
                    text.append(str(value).encode() if data is None else data)
                else:
                    raw.append(data)
    await export_log(world.runtime.database, folder / "bundle")
    for file in (folder / "bundle").rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            hashes = file.parent.parent.name == "tile" and file.parent.name.isdigit()
            (raw if hashes else text).append(data)
    return b"\n".join(text), b"\n".join(raw)


def digests_of(events, tokens):
    """Every keyed digest in events about these tokens, and the tokens themselves."""
    found = set(tokens)
    for event in events:
        if event.get("subject", {}).get("token") in tokens:
            for side in ("before", "after"):
                found |= set(event.get(side, {}).values())
    return found


def birthdays():
    day = date(1900, 1, 1)
    while day.year < 2027:
        yield day.isoformat()
        day += timedelta(days=1)


def guessed(targets, keys, months, phones):
    """Try every birthday, some telephone numbers and every month under each key."""
    hits = []
    for key in keys:
        hits += targets & set(subject_tokens(key, months))
        for field, values in (("birth_date", birthdays()), ("phone", phones)):
            hits += targets & {value_digest(key, field, value) for value in values}
    for value in [*birthdays(), *phones]:
        digest = hashlib.sha256(value.encode()).hexdigest()
        hits += targets & {digest[:32], hashlib.md5(value.encode()).hexdigest()}
    return hits


async def keys_left(world):
    """Every pseudonym key that still opens, by its owner."""
    owners = [row["id"] for row in await world.fetch("SELECT id FROM member")]
    found = {}
    async with world.runtime.database.read() as session:
        for owner in owners:
            keys = await world.runtime.vault.keys_of(session, owner)
            if PSEUDONYM in keys:
                found[owner] = keys[PSEUDONYM].secret
    return found


@pytest.mark.parametrize("count", [SHORT, pytest.param(LONG, marks=pytest.mark.long)])
async def test_nobody_is_found_in_the_trail_nor_guessed_after_erasure(
    settings,  # noqa: F811 (asked for by name)
    tmp_path,
    count,
):
    clock = JumpingClock()
    with watched_log() as log:
        async with open_world(settings, clock=clock, background=False) as world:
            shared = list(world.runtime.vault.buckets.ring.secrets().values())
            talkers = await arrive(world, tmp_path, count)
            gone = [await world.member_id(member) for member in talkers[::2]]
            before = await keys_left(world)
            months = epochs(clock.now_us() - 40 * DAY_US, clock.now_us() + 40 * DAY_US)
            phones = [f"+66877{at:06}" for at in range(count)]
            tokens = {token for owner in gone for token in subject_tokens(before[owner], months)}
            events = await world.events()
            told = {one.get("subject", {}).get("token") for one in events}
            targets = digests_of(events, tokens & told)
            assert len(targets) >= 3 * len(gone)
            mine = guessed(targets, [before[gone[0]]], months, phones)
            assert len(mine) >= 2, "with the member's own key there is something to find"
            for member in talkers[::2]:
                await world.erase(member)
            clock.jump_us += 400 * DAY_US
            while await world.fetch("SELECT 1 FROM vault_key WHERE destroy_after_us IS NOT NULL"):
                clock.jump_us += 366 * DAY_US
                await world.runtime.housekeeping.sweep()
                assert clock.jump_us < 20 * 366 * DAY_US
            remaining = await keys_left(world)
            assert not remaining.keys() & set(gone)
            text, raw = await left(world, tmp_path)
            report, misleading = await verify_stored_log(
                world.runtime.database, world.runtime.audit
            )
            assert (report.findings, misleading) == ((), [])
            world.edge.flush_log()
    assert len(json.dumps(events)) < len(text)
    searcher = Searcher(count, shared)
    found = {
        "trail": searcher.search(text),
        "tree": searcher.search_bytes(raw),
        "log": searcher.search(log.getvalue()),
    }
    assert found == {"trail": [], "tree": [], "log": []}
    others = list(remaining.values())[:: max(1, len(remaining) // 5)]
    assert guessed(targets, [*shared, *others, bytes(32)], months, phones) == []
