"""Receipts on the command line: written by a registry, checked by anybody."""

import json
import random

import pytest

from service.settings import Settings
from tests.support.serving import yinyom
from tests.support.world import open_world

OK, FAILED, USAGE = 0, 1, 2


@pytest.fixture
async def decided(sqlite_settings: Settings) -> tuple[Settings, str]:
    """A registry with one decision in it, closed again."""
    async with open_world(sqlite_settings) as world:
        crm = await world.app()
        member = await crm.register(phone="081-234-5678", consents={"marketing": "sms"})
    return sqlite_settings, member.consents[0]["id"]


@pytest.mark.anyio
@pytest.mark.parametrize("form", ["yinyom", "kantara-1.1", "html"])
async def test_a_receipt_is_written_checked_and_refused_when_changed(decided, tmp_path, form):
    settings, consent = decided
    file = tmp_path / "receipt"

    made = yinyom(
        *("consents", "receipt", consent, "--format", form, "--out", str(file), "--json"),
        data_dir=settings.data_dir,
    )
    assert made.code == OK, made.said
    key = made.answer["key"]
    nowhere = tmp_path / "no-registry-here"
    checked = yinyom("consents", "verify", file, "--key", key, "--json", data_dir=nowhere)
    assert (checked.code, checked.answer["ok"]) == (OK, True), checked.said
    assert checked.answer["proof"] == ("none" if form == "html" else "verified")

    raw = bytearray(file.read_bytes())
    raw[random.Random(7).randrange(len(raw))] ^= 1
    file.write_bytes(raw)
    refused = yinyom("consents", "verify", file, "--key", key, "--json", data_dir=nowhere)
    assert refused.code == FAILED, refused.said
    assert json.loads(refused.out)["ok"] is False
    wrong = yinyom("consents", "verify", file, "--key", "nonsense", data_dir=nowhere)
    assert wrong.code == USAGE
