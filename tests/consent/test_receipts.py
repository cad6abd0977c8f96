"""Receipts: every format, signed, proven, and refused with one byte changed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from consent import ReceiptSigner, Status
from consent.receipt_forms import _DECISIONS, _STATES
from consent.verify import BadKeyError, verify_document, verify_file

pytestmark = pytest.mark.anyio

SHARED = Path(os.environ.get("YINYOM_SHARED", Path(__file__).parents[3] / "shared"))
NAMES = ("สมหญิงลับ", "0812345678", "812345678")
JSON_FORMATS = ("yinyom", "iso27560", "kantara-1.1")
FORMATS = (*JSON_FORMATS, "html")


@pytest.fixture
async def crm(world):
    return await world.app()


@pytest.fixture
async def member(crm):
    return await crm.register(
        given_name=NAMES[0], phone="081-234-5678", consents={"marketing": "sms"}
    )


async def fetched(app, member, form, path="/v1/consents/{}/receipt"):
    consent = member.consents[0]["id"]
    answer = await app.get(path.format(consent), params={"format": form})
    assert answer.status_code == 200, answer.text
    return answer


@pytest.mark.parametrize("form", FORMATS)
async def test_every_format_verifies_offline_with_the_key_alone(crm, member, world, form):
    await world.runtime.sequencer.drain()
    raw = (await fetched(crm, member, form)).content
    key = (await crm.get("/v1/receipts/key")).json()

    for given_key in (key["x"], json.dumps(key)):
        report = verify_file(raw, given_key)
        assert report.ok, report.finding
        assert report.proof == ("none" if form == "html" else "verified")
    facts = report.receipt.get("yinyom", report.receipt)
    assert (facts["purpose"], facts["decision"]) == ("marketing", "given")


@pytest.mark.parametrize("form", FORMATS)
async def test_no_receipt_holds_a_person(crm, member, world, form):
    text = (await fetched(crm, member, form)).text

    assert not any(name in text for name in NAMES)
    assert await world.member_id(member) not in text


@pytest.mark.parametrize("form", FORMATS)
async def test_one_changed_byte_anywhere_is_refused(crm, member, world, form):
    await world.runtime.sequencer.drain()
    raw = (await fetched(crm, member, form)).content
    key = world.runtime.receipts.public_key()

    @hypothesis_settings(max_examples=300, deadline=None)
    @given(st.integers(0, len(raw) - 1), st.integers(1, 255))
    def tampered(at, flip):
        changed = raw[:at] + bytes([raw[at] ^ flip]) + raw[at + 1 :]
        assert not verify_file(changed, key).ok

    tampered()


@pytest.mark.parametrize("form", JSON_FORMATS)
async def test_what_is_cut_or_added_is_refused(crm, member, world, form):
    await world.runtime.sequencer.drain()
    document = (await fetched(crm, member, form)).json()
    key = world.runtime.receipts.public_key()
    assert verify_document(document, key).ok
    for hurt in (
        {**document, "receipt": {**document["receipt"], "more": 1}},
        {**document, "proof": {**document["proof"], "index": document["proof"]["index"] + 1}},
        {**document, "proof": {**document["proof"], "hashes": []}},
        {**document, "proof": None},
        {**document, "note": "paid"},
        {"receipt": document["receipt"]},
    ):
        assert not verify_document(hurt, key).ok


async def test_a_proof_of_another_decision_is_refused(crm, member, world):
    other = await crm.register(phone="089-999-8888", consents={"marketing": "sms"})
    await world.runtime.sequencer.drain()
    mine = (await fetched(crm, member, "yinyom")).json()
    theirs = (await fetched(crm, other, "yinyom")).json()

    report = verify_document(
        {**mine, "proof": theirs["proof"]}, world.runtime.receipts.public_key()
    )

    assert not report.ok


async def test_another_key_verifies_nothing(crm, member):
    raw = (await fetched(crm, member, "yinyom")).content
    other = ReceiptSigner(bytes(range(32)), "somebody").public_key()

    assert not verify_file(raw, other).ok
    for bad in ("", "not a key", "{}", '{"kty": "RSA"}', "AAAA"):
        with pytest.raises(BadKeyError):
            verify_file(raw, bad)


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_and_nothing_falls_over(raw):
    key = ReceiptSigner(bytes(32), "x").public_key()

    assert not verify_file(raw, key).ok


async def test_kantara_receipts_fit_the_schema_of_kantara(crm, member):
    jsonschema_rs = pytest.importorskip("jsonschema_rs", reason="it reads Kantara's schema")
    file = SHARED / "vectors" / "kantara" / "consent-receipt-v1_1-schema.json"
    if not file.is_file():
        pytest.skip(f"Kantara's schema is not at {file}")
    lines = [line for line in file.read_text("utf-8").splitlines() if line.strip()[:2] != "//"]

    receipt = (await fetched(crm, member, "kantara-1.1")).json()["receipt"]

    jsonschema_rs.Draft4Validator(json.loads("\n".join(lines))).validate(receipt)
    assert receipt["piiPrincipalId"] == member.id


async def test_iso_receipts_have_every_mandatory_field(crm, member):
    receipt = (await fetched(crm, member, "iso27560")).json()["receipt"]

    assert receipt.keys() >= {"schema_version", "record_id", "pii_principal_id", "receipt_id"}
    processing = receipt["processing"]
    assert processing["privacy_notice"].endswith(
        (await crm.get("/v1/notices/marketing", params={"lang": "th"})).json()["revision"]
    )
    assert processing["language"] == "th"
    (purpose,) = processing["purposes"]
    for key in (
        "purpose",
        "lawful_basis",
        "pii_information",
        "pii_controllers",
        "storage_locations",
        "retention_period",
        "jurisdiction",
        "recipient_third_parties",
        "withdrawal_method",
    ):
        assert purpose[key], key
    assert {one["pii_type"] for one in purpose["pii_information"]} == {
        "given_name",
        "language",
        "phone",
    }
    assert receipt["parties"][0].keys() >= {"party_id", "party_type", "name", "address", "contact"}
    event = receipt["events"][0]
    assert all(
        event[key]
        for key in ("event_time", "validity_duration", "entity_id", "event_type", "event_state")
    )
    assert event["event_state"] == "https://w3id.org/dpv#ConsentGiven"
    assert receipt["parties"][0]["contact"] == "not configured"


async def test_the_page_shows_the_words_as_they_were_shown(crm, member):
    shown = (await crm.get("/v1/notices/marketing", params={"lang": "th"})).json()["text"]

    answer = await fetched(crm, member, "html")

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert shown in answer.text  # nothing in these words needs escaping
    assert "<script" not in answer.text


async def test_a_client_that_does_not_know_the_member_gets_no_receipt(crm, member, world):
    stranger = await world.app("cdp")
    consent = member.consents[0]["id"]
    for form in FORMATS:
        answer = await stranger.get(f"/v1/consents/{consent}/receipt", params={"format": form})
        assert (answer.status_code, answer.json()["reason"]) == (404, "consent_unknown")


async def test_receipts_are_checked_over_http_too(crm, member):
    document = (await fetched(crm, member, "iso27560")).json()

    good = (await crm.post("/v1/receipts:verify", document)).json()
    bad = (
        await crm.post("/v1/receipts:verify", {**document, "jws": document["jws"][:-4] + "AAAA"})
    ).json()

    assert (good["valid"], good["finding"]) == (True, None)
    assert good["receipt"] == document["receipt"]
    assert (bad["valid"], bad["receipt"]) == (False, None)
    assert bad["finding"]


async def test_a_minors_and_a_guardians_word_have_a_receipt_each(crm, world):
    from tests.consent.test_guardians import minor, proven, say_yes

    child = await minor(crm, world, phone="081-555-6666")
    guardian = await proven(crm, world, child)
    await say_yes(crm, world, child, guardian)
    await world.runtime.sequencer.drain()
    rows = await world.fetch("SELECT id FROM consent_event ORDER BY at_us")
    by = []
    for row in rows:
        raw = (await crm.get(f"/v1/consents/{row['id']}/receipt")).content
        report = verify_file(raw, world.runtime.receipts.public_key())
        assert (report.ok, report.proof) == (True, "verified"), report.finding
        by.append(report.receipt["decided_by"])
    assert by == ["member", guardian]


def test_the_verifier_runs_alone(tmp_path):
    """Copied out of the package: nothing of Yinyom is there when it runs."""
    signer = ReceiptSigner(bytes(range(32)), "Somebody")
    core = {"format": "yinyom-receipt/0", "id": "con_x"}
    raw = json.dumps({"receipt": core, "jws": signer.sign(core)}, separators=(",", ":")).encode()
    alone = tmp_path / "verify_receipt.py"
    alone.write_bytes(Path(sys.modules["consent.verify"].__file__).read_bytes())
    (tmp_path / "receipt.json").write_bytes(raw)
    (tmp_path / "hurt.json").write_bytes(raw.replace(b"con_x", b"con_y"))

    def run(name):
        key = f"--key={signer.public_key()}"
        command = [sys.executable, "-I", str(alone), str(tmp_path / name), key]
        return subprocess.run(command, capture_output=True, text=True, check=False).returncode

    assert (run("receipt.json"), run("hurt.json")) == (0, 1)


def test_each_decision_has_a_word_on_the_page():
    assert set(_DECISIONS) == set(_STATES) == set(Status)
