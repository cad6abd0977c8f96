"""Members decide in the portal: withdraw in one click, undo, allow and refuse on words they saw."""

import pytest

from consent import Status
from policies import AgeTier
from service.portal.decisions import Decisions
from tests.support.portal import FIELDS, PHONE, Browser, portal_world
from tests.support.world import JumpingClock, recorded

pytestmark = pytest.mark.anyio

MINUTE_US = 60_000_000
SMS = "purposes/marketing/sms"
EMAIL = "purposes/marketing/email"


@pytest.fixture
async def world(settings):
    async with portal_world(settings, clock=JumpingClock()) as opened:
        opened.crm = await opened.app("crm")
        opened.member = await opened.crm.register(FIELDS, consents={"marketing": "sms"})
        await opened.runtime.courier.deliver()
        yield opened


@pytest.fixture
async def browser(world):
    browser = Browser(world)
    await browser.sign_in(lang="en")
    return browser


async def sms(world) -> int:
    return (await world.crm.view(world.member, "marketing", "sms")).status_code


async def consents(world, **where: str) -> list[dict]:
    rows = await world.fetch("SELECT * FROM consent_event ORDER BY id")
    return [row for row in rows if all(row[name] == value for name, value in where.items())]


async def set_tier(world, tier: AgeTier) -> None:
    member_id = await world.member_id(world.member)
    async with recorded(world.runtime.database) as work:
        await world.runtime.consent.set_age_tier(work, member_id, tier)


# --- withdrawing ----------------------------------------------------------------------


async def test_withdrawal_takes_one_click_from_home_and_denies_the_very_next_read(world, browser):
    assert await sms(world) == 200
    await browser.send("withdraw")
    answer = await world.crm.view(world.member, "marketing", "sms")
    assert answer.status_code == 403
    assert answer.json()["reason"] == "consent_withdrawn"


async def test_a_withdrawal_is_recorded_as_the_members_own(world, browser):
    await browser.send("withdraw")
    event = (await consents(world))[-1]
    assert (event["decision"], event["recorded_by"]) == ("withdrawn", "self")
    (recorded,) = await world.events("consent.withdrawn")
    assert recorded["actor"] == {"id": "self", "role": "member", "via": "portal"}
    assert recorded["purpose"] == "marketing"


async def test_the_consequence_stands_beside_the_button_before_it_is_pressed(browser):
    form = browser.page.form("withdraw")
    described_by = form.buttons[0]["aria-describedby"]
    assert described_by in browser.page.ids
    before, _, after = browser.page.html.partition(f'id="{described_by}"')
    assert "If you withdraw, we stop at once" in after
    assert 'action="/en/withdraw"' not in before
    assert 'action="/en/withdraw"' in after


async def test_withdrawing_twice_records_once(world, browser):
    form = browser.page.form("withdraw")
    await browser.send("withdraw")
    count = len(await consents(world))
    page = await browser.post(form.action, form.fields)
    assert len(await consents(world)) == count
    assert page.has_form("undo")


# --- undoing --------------------------------------------------------------------------


async def test_undo_restores_with_a_new_event_on_the_same_words(world, browser):
    first = (await consents(world))[0]
    await browser.send("withdraw")
    assert await sms(world) == 403
    page = await browser.send("undo")
    assert await sms(world) == 200
    *_, withdrawn, restored = await consents(world)
    assert (withdrawn["decision"], restored["decision"]) == ("withdrawn", "given")
    assert restored["id"] != first["id"]
    assert restored["notice_revision"] == first["notice_revision"]
    assert restored["lang"] == first["lang"] == "th"
    assert not page.has_form("undo")


async def test_the_note_with_undo_is_said_aloud_and_stays_in_another_language(browser):
    page = await browser.send("withdraw")
    assert 'role="status"' in page.html
    page = await browser.open("/th/")
    assert page.has_form("undo")


async def test_when_the_words_changed_undo_shows_the_new_ones_instead(world, browser, monkeypatch):
    await browser.send("withdraw")
    monkeypatch.setattr(Decisions, "_in_force", lambda *_: False)
    page = await browser.send("undo")
    assert page.url.path == f"/en/{SMS}"
    assert page.has_form(SMS)
    assert await sms(world) == 403


async def test_undo_does_nothing_once_the_choice_has_moved_on(world, browser):
    await browser.send("withdraw")
    form = browser.page.form("undo")
    answer = await world.crm.post(
        f"/v1/members/{world.member.id}/consents",
        {"consents": [world.decision("marketing", "sms", "refused")]},
    )
    assert answer.status_code == 201
    count = len(await consents(world))
    page = await browser.post(form.action, form.fields)
    assert not page.has_form("undo")
    assert len(await consents(world)) == count


async def test_undo_without_a_decision_does_nothing(world, browser):
    count = len(await consents(world))
    secret = browser.page.form("withdraw").fields["csrf"]
    page = await browser.post("/en/undo", {"csrf": secret})
    assert page.url.path == "/en/"
    assert len(await consents(world)) == count


# --- allowing and refusing ------------------------------------------------------------


async def test_to_allow_the_words_come_first_with_two_equal_buttons(browser):
    assert f"/en/{EMAIL}" in browser.page.links
    page = await browser.open(f"/en/{EMAIL}")
    yes, no = page.form(EMAIL).buttons
    assert (yes["value"], no["value"]) == ("given", "refused")
    assert yes["class"] == no["class"] == "btn"
    assert "We ask to use your first name and contact details" in page.text
    assert page.form(EMAIL).fields["revision"] in page.html


@pytest.mark.parametrize("lang", ["th", "en", "zh-Hant"])
async def test_a_yes_is_recorded_with_the_words_their_language_and_when_they_were_shown(
    world, browser, lang
):
    await browser.open(f"/{lang}/{EMAIL}")
    page = await browser.send(EMAIL, decision="given")
    event = (await consents(world))[-1]
    assert (event["decision"], event["channel"], event["lang"]) == ("given", "email", lang)
    assert event["notice_revision"] == world.revision("marketing", lang)
    evidence = event["evidence"]
    evidence = evidence if isinstance(evidence, str) else bytes(evidence).decode()
    assert '"ui_action":"allow"' in evidence
    assert '"shown_at":"20' in evidence
    assert page.url.path == f"/{lang}/"


async def test_a_no_is_recorded_and_denies_with_its_own_reason(world, browser):
    await browser.open("/en/purposes/profiling")
    await browser.send("purposes/profiling", decision="refused")
    assert (await consents(world))[-1]["decision"] == "refused"
    answer = await world.crm.view(world.member, "profiling")
    assert answer.json()["reason"] == "consent_refused"


async def test_an_allowance_can_be_undone_too(world, browser):
    await browser.open("/en/purposes/profiling")
    await browser.send("purposes/profiling", decision="given")
    assert (await world.crm.view(world.member, "profiling")).status_code == 200
    await browser.send("undo")
    assert (await world.crm.view(world.member, "profiling")).status_code == 403


async def test_allowing_twice_records_once(world, browser):
    page = await browser.open(f"/en/{EMAIL}")
    form = page.form(EMAIL)
    for _ in range(2):
        await browser.post(form.action, form.fields | {"decision": "given"})
    assert len(await consents(world, channel="email")) == 1


async def test_a_no_to_what_was_allowed_meanwhile_withdraws_it(world, browser):
    page = await browser.open(f"/en/{EMAIL}")
    form = page.form(EMAIL)
    await browser.post(form.action, form.fields | {"decision": "given"})
    await browser.post(form.action, form.fields | {"decision": "refused"})
    decided = [event["decision"] for event in await consents(world, channel="email")]
    assert decided == ["given", "withdrawn"]


@pytest.mark.parametrize(
    "change",
    [
        {"seal": ""},
        {"seal": "1.00"},
        {"seal": "9" * 30 + ".00"},
        {"revision": ""},
        {"revision": "sha256:" + "0" * 64},
    ],
)
async def test_a_yes_to_words_that_we_did_not_show_is_not_recorded(world, browser, change):
    await browser.open(f"/en/{EMAIL}")
    page = await browser.send(EMAIL, decision="given", **change)
    assert page.answer.status_code == 409
    assert page.headings == ["Please read the words once more"]
    assert await consents(world, channel="email") == []


async def test_the_words_of_one_purpose_do_not_allow_another(world, browser):
    shown = (await browser.open("/en/purposes/analytics")).form("purposes/analytics").fields
    page = await browser.post("/en/purposes/profiling", shown | {"decision": "given"})
    assert page.answer.status_code == 409
    shown = (await browser.open(f"/en/{EMAIL}")).form(EMAIL).fields
    page = await browser.post("/en/purposes/marketing/line", shown | {"decision": "given"})
    assert page.answer.status_code == 409
    assert len(await consents(world)) == 1


async def test_words_shown_to_another_session_do_not_count(world, browser):
    shown = (await browser.open(f"/en/{EMAIL}")).form(EMAIL).fields
    await browser.send("sign-out")
    await browser.sign_in(lang="en")
    secret = browser.page.form("sign-out").fields["csrf"]
    page = await browser.post(f"/en/{EMAIL}", shown | {"csrf": secret, "decision": "given"})
    assert page.answer.status_code == 409


async def test_words_that_went_out_of_force_are_read_again(world, browser, monkeypatch):
    await browser.open(f"/en/{EMAIL}")
    monkeypatch.setattr(Decisions, "_in_force", lambda *_: False)
    assert (await browser.send(EMAIL, decision="given")).answer.status_code == 409
    assert await consents(world, channel="email") == []


async def test_a_decision_that_is_neither_yes_nor_no_is_none(world, browser):
    await browser.open(f"/en/{EMAIL}")
    await browser.send(EMAIL, decision="maybe")
    assert await consents(world, channel="email") == []


# --- who may not, and what needs no consent -------------------------------------------


async def test_a_minor_is_told_that_a_guardian_must_agree_and_gets_no_allow(world, browser):
    await set_tier(world, AgeTier.MINOR_WITH_GUARDIAN)
    page = await browser.open("/en/")
    assert "a guardian must agree" in page.text
    assert not any("/purposes/" in link for link in page.links)
    page = await browser.open(f"/en/{EMAIL}")
    assert "a guardian must agree" in page.text
    assert not page.has_form(EMAIL)


async def test_a_minors_forged_yes_is_refused(world, browser):
    shown = (await browser.open(f"/en/{EMAIL}")).form(EMAIL).fields
    await set_tier(world, AgeTier.GUARDIAN_ONLY)
    page = await browser.post(f"/en/{EMAIL}", shown | {"decision": "given"})
    assert page.answer.status_code == 403
    assert page.headings == ["A guardian has to agree"]
    assert await consents(world, channel="email") == []


async def test_a_minor_withdraws_alone_and_cannot_undo_alone(world, browser):
    await set_tier(world, AgeTier.MINOR_WITH_GUARDIAN)
    page = await browser.open("/en/")
    assert "Waiting for your guardian" in page.text
    page = await browser.send("withdraw")
    assert not page.has_form("undo")
    assert (await consents(world))[-1]["decision"] == Status.WITHDRAWN


async def test_a_purpose_by_contract_says_why_there_is_no_consent(browser):
    assert "so we do not ask for consent" in browser.page.text
    assert "section 24(3)" in browser.page.text
    page = await browser.open("/en/purposes/membership")
    assert "so we do not ask for consent" in page.text
    assert not page.has_form("purposes/membership")


async def test_who_receives_and_since_when_stands_at_each_choice(browser):
    assert "Receives it: Our message sender (processor)" in browser.page.text
    assert "SMS · Allowed" in browser.page.text
    assert "Since " in browser.page.text
    assert "You have not answered" in browser.page.text


async def test_the_words_behind_a_yes_are_one_link_away(world, browser):
    digest = world.revision("marketing", "th").removeprefix("sha256:")
    assert f"/en/words/{digest}" in browser.page.links


# --- stopping all marketing -----------------------------------------------------------


async def test_one_click_stops_all_marketing_and_outlasts_a_registration(world, browser):
    page = await browser.send("stop-marketing")
    assert "All marketing is stopped" in page.text
    answer = await world.crm.view(world.member, "marketing", "sms")
    assert answer.json()["reason"] == "objected"
    again = await world.crm.register({"phone": PHONE}, consents={"marketing": "sms"})
    assert (await world.crm.view(again, "marketing", "sms")).json()["reason"] == "objected"
    assert not page.has_form("/stop-marketing")


async def test_undo_brings_back_what_was_allowed_and_nothing_more(world, browser):
    await browser.send("stop-marketing")
    page = await browser.send("stop-marketing/undo")
    assert "Undone" in page.text
    assert await sms(world) == 200
    answer = await world.crm.view(world.member, "marketing", "email")
    assert answer.json()["reason"] == "objected"


async def test_after_an_objection_a_yes_still_needs_the_words(world, browser):
    await browser.send("stop-marketing")
    await browser.open(f"/en/{SMS}")
    page = await browser.send(SMS, decision="given")
    assert "Allowed:" in page.text
    assert await sms(world) == 200


@pytest.mark.parametrize("action", ["stop-marketing", "stop-marketing/undo"])
async def test_a_stranger_stops_nothing(world, browser, action):
    page = await Browser(world).post(f"/en/{action}", {})
    assert page.answer.status_code == 403
    assert await sms(world) == 200
