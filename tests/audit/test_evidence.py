"""Evidence packs: what is in one, who may have one made, and what it never says."""

import csv
import io
import json
import re
import zipfile
from hashlib import sha256

import pytest

from audit import EvidenceError, choose_events, make_evidence
from audit.evidence_page import page
from audit.merkle import leaf_hash, verify_inclusion
from audit.note import Verifier, open_checkpoint
from audit.search import EventFilter
from kernel import NotFoundError
from service.audit_commands import audit_evidence
from tests.support.console import office
from tests.support.world import (  # noqa: F401 (fixtures)
    installed_sqlite,
    postgres_settings,
    settings,
    sqlite_settings,
    world,
)

# ruff: noqa: F811 (fixtures)
pytestmark = pytest.mark.anyio
FIELDS = {"given_name": "สมหญิง", "family_name": "ใจดี", "phone": "081-234-5678"}


def quiet(_done, _total):
    pass


async def made(world, tmp_path, **chosen):
    out = tmp_path / "pack.zip"
    answer = await audit_evidence(world.runtime, quiet, out=str(out), **chosen)
    with zipfile.ZipFile(out) as archive:
        assert all(one.compress_type == zipfile.ZIP_STORED for one in archive.infolist())
        return answer, {name: archive.read(name) for name in archive.namelist()}


def proven(files, vkey):
    """The events of a pack whose proofs hold, checked with code that did not write them."""
    signed = open_checkpoint(files["checkpoint"].decode(), Verifier.from_vkey(vkey))
    events = []
    for name in sorted(name for name in files if name.startswith("proofs/")):
        head, _, note = files[name].decode().partition("\n\n")
        version, index, *hashes = head.split("\n")
        assert version == "c2sp.org/tlog-proof@v1"
        assert note.encode() == files["checkpoint"]
        at = int(index.removeprefix("index "))
        body = files[f"events/{at:012}.json"]
        from base64 import b64decode

        path = [b64decode(one) for one in hashes]
        verify_inclusion(at, signed.size, leaf_hash(body), path, signed.root)
        events.append(json.loads(body))
    return events


async def test_a_pack_holds_the_chosen_events_as_stored_and_each_is_proven(world, tmp_path):
    crm = await world.app()
    member = await crm.register(FIELDS, consents={"marketing": "sms"})
    for _ in range(3):
        await crm.view(member)
    other = await crm.register({"phone": "085-111-2222"})
    await crm.view(other)
    mem = await world.member_id(member)
    answer, files = await made(world, tmp_path, member=mem)
    events = proven(files, world.runtime.audit.vkey)
    tokens = {event["subject"]["token"] for event in events}
    assert len(tokens) == 1
    assert len([event for event in events if event["action"] == "member.view"]) == 3
    assert answer["events"] == len(events)
    stored = {json.dumps(body, sort_keys=True) for body in await world.events()}
    assert {json.dumps(event, sort_keys=True) for event in events} <= stored
    table = list(csv.DictReader(io.StringIO(files["events.csv"].decode())))
    assert [row["id"] for row in table] == [event["id"] for event in events]


async def test_the_making_of_a_pack_is_an_event_with_words_and_no_value(world, tmp_path):
    crm = await world.app()
    member = await crm.register(FIELDS)
    await crm.view(member)
    mem = await world.member_id(member)
    answer, files = await made(world, tmp_path, member=mem, since="2020-01-01T00:00:00Z")
    said = (await world.events("audit.evidence"))[-1]
    assert said["fields"] == ["filter.from", "filter.member"]
    assert said["count"] == answer["events"]
    assert said["subject"]["token"] in {
        event["subject"]["token"] for event in proven(files, world.runtime.audit.vkey)
    }


async def test_no_file_of_a_pack_holds_a_name_a_number_or_an_id_of_a_member(world, tmp_path):
    crm = await world.app()
    member = await crm.register(FIELDS, consents={"marketing": "sms"})
    await crm.view(member)
    mem = await world.member_id(member)
    _, files = await made(world, tmp_path, member=mem)
    for name, data in files.items():
        if name.startswith("policies/"):
            continue
        for personal in (*FIELDS.values(), "812345678", mem, member.id, member.point("phone")):
            assert personal.encode() not in data, name


async def test_the_policies_that_events_name_are_in_it_under_their_digest(world, tmp_path):
    crm = await world.app()
    await crm.view(await crm.register(FIELDS))
    _, files = await made(world, tmp_path, request=(await world.events())[-1]["request_id"])
    digest = world.runtime.pack.digest.removeprefix("sha256:")
    prefix = f"policies/{digest}/"
    texts = {name.removeprefix(prefix): data for name, data in files.items() if prefix in name}
    lines = "".join(
        f"{path}\nsha256:{sha256(texts[path]).hexdigest()}\n"
        for path in sorted(texts, key=lambda path: (not path.startswith("pack/"), path))
    )
    assert sha256(lines.encode()).hexdigest() == digest
    assert f"policies/{digest}`" in files["README.md"].decode()


async def test_nothing_chosen_too_much_chosen_or_a_taken_place_makes_no_pack(
    world, tmp_path, monkeypatch
):
    crm = await world.app()
    await crm.view(await crm.register(FIELDS))
    audit, database = world.runtime.audit, world.runtime.database
    with pytest.raises(EvidenceError, match="no event fits"):
        await choose_events(database, audit, EventFilter(action="nothing.such"))
    monkeypatch.setattr("audit.evidence.MOST_EVENTS", 2)
    with pytest.raises(EvidenceError, match="more than 2"):
        await choose_events(database, audit, EventFilter())
    monkeypatch.undo()
    (tmp_path / "pack.zip").write_bytes(b"mine")
    with pytest.raises(EvidenceError):
        await made(world, tmp_path)
    assert (tmp_path / "pack.zip").read_bytes() == b"mine"
    with pytest.raises(NotFoundError):
        await made(world, tmp_path / "nowhere", member="mem_01k9z6m3q8x7v5t2r4n6p8s0w1")


async def test_an_event_without_a_place_in_the_log_is_in_no_pack(world, tmp_path):
    crm = await world.app()
    await crm.register(FIELDS)
    await world.runtime.sequencer.drain()
    async with world.runtime.database.unit_of_work() as work:
        waiting = await world.runtime.audit.record(work, world.operator, "test.waits")
        with pytest.raises(EvidenceError, match="waits"):
            await make_evidence(
                world.runtime.database,
                [waiting],
                tmp_path / "pack.zip",
                words=(),
                policies={},
            )


def test_the_page_allows_its_own_script_and_style_and_nothing_else():
    html = page()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in re.sub(r"http-equiv|https://www.w3.org", "", html)
    for handler in (
        "onclick",
        "onload",
        "innerHTML",
        "eval(",
        "fetch(",
        "XMLHttp",
        " src=",
        " style=",
    ):
        assert handler not in html


async def test_the_console_hands_out_a_pack_of_what_was_searched_for(settings):
    async with office(settings) as at:
        await at.crm.view(at.member, "membership")
        browser = await at.sign_in("auditor")
        page = await browser.open("/console/trail", params={"action": "member.view"})
        fields = page.form("evidence").fields
        answer = await browser.http.post(
            "/console/trail/evidence", data=fields, headers={"Origin": browser.origin}
        )
        assert answer.headers["content-type"] == "application/zip"
        assert "attachment" in answer.headers["content-disposition"]
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        events = proven(files, at.runtime.audit.vkey)
        assert {event["action"] for event in events} == {"member.view"}
        said = (await at.world.events("audit.evidence"))[-1]
        assert said["actor"]["id"] == at.staff["auditor"]["staff_id"]
