"""Re-consent: a material change of the words, and a minor who has come of age, end a yes for now."""

from datetime import UTC, datetime, timedelta

import pytest

from consent import Decided, Status, decide_basis
from policies import AgeTier, BasisKind, load_pack
from policies.layers import canonical_text, text_hash
from service.settings import PolicySettings
from service.setup import activate_policies
from tests.support.world import open_world

pytestmark = pytest.mark.anyio

LANGS = ("th", "en", "zh-Hant")
IN_FORCE = "2026-06-01T00:00:00+07:00"


def publish(folder, version, change, effective_from=IN_FORCE):
    """Write a new version of the marketing notice into a customer's folder."""
    place = folder / "notices" / "marketing"
    place.mkdir(parents=True, exist_ok=True)
    lines = [f"[versions.{version}]", f"effective_from = {effective_from}", f'change = "{change}"']
    lines.append(f"[versions.{version}.revisions]")
    for lang in LANGS:
        words = f"# Words {version} in {lang}\n"
        (place / f"{version}.{lang}.md").write_text(words, "utf-8")
        lines.append(f'{lang} = "{text_hash(canonical_text(words.encode()))}"')
    index = place / "notice.toml"
    before = index.read_text("utf-8") if index.exists() else ""
    index.write_text(before + "\n".join(lines) + "\n", "utf-8")
    return folder


async def activated(settings, folder):
    """The same registry under a changed pack, activated as an operator does it."""
    changed = settings.model_copy(update={"policies": PolicySettings(pack_dir=folder)})
    await activate_policies(changed)
    return changed


async def consented(settings):
    async with open_world(settings) as world:
        crm = await world.app()
        member = await crm.register(phone="081-234-5678", consents={"marketing": "sms"})
        await crm.verify(member)
        assert (await crm.view(member, "marketing", "sms")).status_code == 200
    return crm, member


async def seen_again(world, crm):
    """The same client at the reopened registry."""
    twin = crm.through(world)
    await twin.sign_in()
    return twin


@pytest.mark.parametrize("change", ["cosmetic", "informational"])
async def test_a_change_that_is_not_material_leaves_consent_alone(settings, tmp_path, change):
    crm, member = await consented(settings)
    changed = await activated(settings, publish(tmp_path / "own", 2, change))
    async with open_world(changed) as world:
        crm = await seen_again(world, crm)
        assert (await crm.view(member, "marketing", "sms")).status_code == 200


async def test_a_material_notice_denies_until_it_is_reconfirmed(settings, tmp_path):
    crm, member = await consented(settings)
    changed = await activated(settings, publish(tmp_path / "own", 2, "material"))
    async with open_world(changed) as world:
        crm = await seen_again(world, crm)
        denied = await crm.view(member, "marketing", "sms")
        assert (denied.status_code, denied.json()["reason"]) == (403, "notice_outdated")
        (state,) = (await crm.get(f"/v1/members/{member.id}/consents")).json()["consents"]
        assert (state["status"], state["reconfirm"]) == ("reconfirm_needed", "notice_outdated")
        member_id = await world.member_id(member)
        async with world.runtime.database.read() as session:
            (waiting,) = await world.runtime.consent.to_reconfirm(
                session, member_id, now_us=world.runtime.clock.now_us()
            )
        assert (waiting.version_agreed, waiting.version_in_force) == ("1", "2")

        shown = (await crm.get("/v1/notices/marketing", params={"lang": "th"})).json()
        again = {**world.decision("marketing", "sms"), "notice_revision": shown["revision"]}
        answer = await crm.post(f"/v1/members/{member.id}/consents", {"consents": [again]})

        assert answer.status_code == 201, answer.text
        assert (await crm.view(member, "marketing", "sms")).status_code == 200


async def test_a_cosmetic_version_after_a_material_one_does_not_bring_the_old_yes_back(
    settings, tmp_path
):
    crm, member = await consented(settings)
    folder = publish(publish(tmp_path / "own", 2, "material"), 3, "cosmetic")
    changed = await activated(settings, folder)
    async with open_world(changed) as world:
        crm = await seen_again(world, crm)
        denied = await crm.view(member, "marketing", "sms")
        assert denied.json()["reason"] == "notice_outdated"


def test_the_hour_decides_and_not_the_day_of_publication(tmp_path):
    start = datetime(2026, 12, 1, tzinfo=UTC)
    pack = load_pack(publish(tmp_path / "own", 2, "material", start.isoformat()))
    purpose = pack.purposes["marketing"]
    first = next(n for n in pack.notices["marketing"] if n.version == "1")
    given = Decided(Status.GIVEN, "con_x", first.revision, None)

    def ask(at):
        moment_us = int(at.timestamp() * 1_000_000)
        return decide_basis(pack, purpose, "TH", AgeTier.ADULT, given, moment_us)

    assert ask(start - timedelta(microseconds=1)).kind is BasisKind.CONSENT
    assert ask(start) == "notice_outdated"
