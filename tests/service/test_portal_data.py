"""My data and my history: corrected by their member, unreachable for anybody else."""

import base64
import json

import pytest

from policies import AgeTier
from tests.support.portal import EMAIL, FIELDS, PERSONAL, PHONE, Browser, portal_world
from tests.support.world import JumpingClock, recorded

pytestmark = pytest.mark.anyio

NEW = "089-000-4444"
OTHER = {"phone": "089-000-1234", "given_name": "อื่น", "birth_date": "1990-01-01"}


@pytest.fixture
async def world(settings):
    async with portal_world(settings, clock=JumpingClock()) as opened:
        opened.crm = await opened.app("crm")
        opened.member = await opened.crm.register(FIELDS, consents={"marketing": "sms"})
        opened.other = await opened.crm.register(OTHER, consents={"marketing": "sms"})
        await opened.runtime.courier.deliver()
        yield opened


@pytest.fixture
async def browser(world):
    browser = Browser(world)
    await browser.sign_in(lang="en")
    return browser


async def data_of(world, **query):
    return (await world.crm.view(world.member, **query)).json()["data"]


async def propose(browser, contact=NEW, instead_of=""):
    await browser.prove_contacts(then=instead_of or "add")
    return await browser.send("data/contact", contact=contact)


# --- corrections ----------------------------------------------------------------------


async def test_a_correction_is_what_the_next_reader_sees(world, browser):
    await browser.open("/en/data/given_name")
    page = await browser.send("data/given_name", value="  สมศรี ")
    assert "Corrected" in page.text
    assert (await data_of(world))["given_name"] == "สมศรี"
    (event,) = await world.events("member.update")
    assert event["actor"] == {"id": "self", "role": "member", "via": "portal"}
    assert event["fields"] == ["given_name"]
    assert "สมศรี" not in str(event)


async def test_what_was_not_held_can_be_filled_in(world, browser):
    page = await browser.open("/en/data")
    assert "We do not hold this." in page.text
    await browser.open("/en/data/postcode")
    await browser.send("data/postcode", value="10400")
    assert (await data_of(world))["postcode"] == "10400"


@pytest.mark.parametrize(
    ("key", "typed"),
    [
        ("given_name", {"value": "  "}),
        ("given_name", {"value": "ก" * 400}),
        ("birth_date", {"day": "31", "month": "4", "year": "2535"}),
        ("birth_date", {"day": "1", "month": "1", "year": "2699"}),
    ],
)
async def test_a_faulty_correction_changes_nothing_and_keeps_what_was_typed(
    world, browser, key, typed
):
    await browser.open(f"/en/data/{key}")
    page = await browser.send(f"data/{key}", **typed)
    assert page.answer.status_code == 422
    assert "alert" in page.html
    assert {name: page.form(f"data/{key}").fields[name] for name in typed} == typed
    assert await world.events("member.update") == []


@pytest.mark.parametrize(
    "key", ["phone", "email", "card_no", "national_id", "notes", "tier", "nothing", "line_uid"]
)
async def test_what_is_proven_or_given_out_does_not_change_by_typing(world, browser, key):
    csrf = browser.page.form("sign-out").fields["csrf"]
    assert (await browser.open(f"/en/data/{key}")).answer.status_code == 404
    page = await browser.post(f"/en/data/{key}", {"csrf": csrf, "value": "1101700230708"})
    assert page.answer.status_code == 404
    assert await world.events("member.update") == []


async def test_a_minor_does_not_grow_up_by_typing(world, browser):
    member_id = await world.member_id(world.member)
    async with recorded(world.runtime.database) as work:
        await world.runtime.consent.set_age_tier(work, member_id, AgeTier.MINOR_WITH_GUARDIAN)
    csrf = browser.page.form("sign-out").fields["csrf"]
    sent = {"csrf": csrf, "day": "1", "month": "1", "year": "1980"}
    assert (await browser.post("/en/data/birth_date", sent)).answer.status_code == 404
    assert (await browser.open("/en/data/given_name")).answer.status_code == 200


async def test_while_the_data_is_paused_nothing_is_corrected(world, browser):
    await world.restrict(world.member)
    csrf = browser.page.form("sign-out").fields["csrf"]
    page = await browser.open("/en/data")
    assert not any("data/given_name" in link for link in page.links)
    sent = {"csrf": csrf, "value": "สมศรี"}
    assert (await browser.post("/en/data/given_name", sent)).answer.status_code == 409


async def test_the_page_shows_outlines_and_says_so_in_the_trail(world, browser):
    page = await browser.open("/en/data")
    for value in PERSONAL:
        assert value not in page.html
    assert "081-xxx-5678" in page.text
    assert (await world.events("member.view_self"))[-1]["id"] in page.text


# --- contacts -------------------------------------------------------------------------


async def test_a_new_number_counts_once_its_code_has_come_back(world, browser):
    page = await propose(browser, instead_of="phone")
    assert page.url.path == "/en/data/contact/code"
    assert (await data_of(world))["phone"] == "+66812345678"
    page = await browser.send("contact/code", code=await browser.newest_code())
    assert "Confirmed" in page.text
    assert (await data_of(world))["phone"] == "+66890004444"
    stranger = Browser(world)
    await stranger.ask_for_code(PHONE)
    await world.runtime.courier.deliver()
    page = await stranger.send("/code", code=world.codes()[-1]["code"])
    assert not page.has_form("sign-out")
    assert (await Browser(world).sign_in(NEW)).has_form("sign-out")


async def test_a_further_contact_is_added_and_removed_again(world, browser):
    await propose(browser)
    page = await browser.send("contact/code", code=await browser.newest_code())
    (row,) = await world.fetch("SELECT id FROM contact_point WHERE field = 'phone.2'")
    await browser.prove_contacts(then="remove")
    page = await browser.send(f"{row['id']}/remove")
    assert "Removed" in page.text
    points = await world.fetch(
        "SELECT * FROM contact_point WHERE member_id = :m", m=await world.member_id(world.member)
    )
    assert {point["field"] for point in points} == {"phone", "email"}
    page = await Browser(world).ask_for_code(NEW)
    assert page.url.path == "/th/code"


async def test_the_last_confirmed_way_in_stays(world, browser):
    member_id = await world.member_id(world.member)
    rows = await world.fetch("SELECT * FROM contact_point WHERE member_id = :m", m=member_id)
    phone = next(row["id"] for row in rows if row["field"] == "phone")
    csrf = (await browser.prove_contacts(then="remove")).form("sign-out").fields["csrf"]
    page = await browser.post(f"/en/data/contact/{phone}/remove", {"csrf": csrf})
    assert page.answer.status_code == 409
    assert world.notices() == []
    assert len(await world.fetch("SELECT * FROM contact_point WHERE id = :p", p=phone)) == 1


# --- a browser left signed in ----------------------------------------------------------


async def points(world):
    member_id = await world.member_id(world.member)
    rows = await world.fetch("SELECT * FROM contact_point WHERE member_id = :m", m=member_id)
    return {row["field"]: row for row in rows}


@pytest.mark.parametrize("instead_of", ["", "phone"])
async def test_a_browser_left_signed_in_takes_no_contact_over(world, browser, instead_of):
    csrf = browser.page.form("sign-out").fields["csrf"]
    sent = {"csrf": csrf, "contact": NEW, "instead_of": instead_of}
    page = await browser.post("/en/data/contact", sent)
    assert page.url.path == "/en/data/proof"
    await world.runtime.courier.deliver()
    assert await world.fetch("SELECT * FROM contact_claim") == []
    assert {point["contact_point"] for point in world.codes()} == {
        row["id"] for row in (await points(world)).values()
    } | {world.other.point("phone")}


async def test_a_browser_left_signed_in_removes_no_contact(world, browser):
    await propose(browser)
    await browser.send("contact/code", code=await browser.newest_code())
    await browser.open("/en/data")
    point = (await points(world))["phone.2"]["id"]
    page = await browser.send(f"{point}/remove")
    assert page.url.path == "/en/data/proof"
    assert "phone.2" in await points(world)


async def test_what_was_proven_in_one_browser_opens_nothing_in_another(world, browser):
    left = Browser(world)
    await left.sign_in(lang="en")
    await browser.prove_contacts()
    csrf = left.page.form("sign-out").fields["csrf"]
    page = await left.post("/en/data/contact", {"csrf": csrf, "contact": NEW})
    assert page.url.path == "/en/data/proof"
    assert await world.fetch("SELECT * FROM contact_claim") == []


async def test_a_code_asked_for_in_one_browser_is_wrong_in_another(world, browser):
    left = Browser(world)
    await left.sign_in(lang="en")
    page = await browser.open("/en/data/proof")
    form = next(form for form in page.forms if form.action.endswith("/send"))
    await browser.post(form.action, form.fields)
    code = await browser.newest_code()
    place = form.action.removesuffix("/send")
    await left.open(place)
    page = await left.send(place, code=code)
    assert "is not the right one" in page.text
    await left.open("/en/data/contact")
    assert left.page.url.path == "/en/data/proof"


async def test_a_code_goes_to_no_contact_that_was_never_proven(world, browser):
    email = (await points(world))["email"]["id"]
    before = len(world.codes())
    page = await browser.open("/en/data/proof")
    assert email not in page.html
    csrf = page.form("sign-out").fields["csrf"]
    page = await browser.post(f"/en/data/proof/{email}/send", {"csrf": csrf})
    assert page.answer.status_code == 404
    await world.runtime.courier.deliver()
    assert len(world.codes()) == before


async def test_a_fresh_code_is_good_for_one_change(browser):
    await propose(browser)
    await browser.open("/en/data/contact")
    assert browser.page.url.path == "/en/data/proof"


async def test_a_fresh_code_is_good_for_minutes(world, browser):
    await browser.prove_contacts()
    world.runtime.clock.jump_us += 20 * 60_000_000
    await browser.open("/en/data/contact")
    assert browser.page.url.path == "/en/data/proof"


async def test_who_lost_every_contact_is_led_to_a_counter(browser):
    page = await browser.open("/en/data/proof")
    assert "Come to a counter" in page.text


async def test_the_old_contact_is_told_of_a_change_and_the_notice_says_nothing_else(world, browser):
    held = (await points(world))["phone"]["id"]
    await propose(browser, instead_of="phone")
    await browser.send("contact/code", code=await browser.newest_code())
    await world.runtime.courier.deliver()
    (told,) = world.notices()
    assert set(told) == {"at", "channel", "contact_point", "notice"}
    assert (told["contact_point"], told["channel"]) == (held, "sms")
    assert told["notice"] == "contact_replaced"


async def test_a_changed_contact_ends_every_other_session(world, browser):
    left = Browser(world)
    await left.sign_in(lang="en")
    await propose(browser)
    await browser.send("contact/code", code=await browser.newest_code())
    assert not (await left.open("/en/")).has_form("sign-out")
    assert (await browser.open("/en/")).has_form("sign-out")


async def test_a_wrong_code_changes_nothing(world, browser):
    await propose(browser, instead_of="phone")
    code = await browser.newest_code()
    for _ in range(5):
        page = await browser.send("contact/code", code=f"{(int(code) + 1) % 1_000_000:06d}")
    assert not page.has_form("contact/code")
    assert (await data_of(world))["phone"] == "+66812345678"


@pytest.mark.parametrize("contact", [OTHER["phone"], NEW])
async def test_adding_a_contact_does_not_tell_whether_somebody_else_has_it(browser, contact):
    page = await propose(browser, contact)
    assert page.url.path == "/en/data/contact/code"
    assert page.answer.status_code == 200
    assert contact not in page.html


async def test_a_number_does_not_replace_an_address(browser):
    page = await propose(browser, EMAIL, instead_of="phone")
    assert page.answer.status_code == 422
    assert "a number replaces a number" in page.text


async def test_an_erasure_takes_an_unproven_contact_with_it(world, browser):
    await propose(browser)
    (row,) = await world.fetch("SELECT id FROM contact_claim")
    await world.erase(world.member)
    assert await world.fetch("SELECT * FROM contact_claim") == []
    assert await world.fetch("SELECT * FROM vault_key WHERE owner_id = :id", id=row["id"]) == []


# --- what belongs to somebody else ----------------------------------------------------


async def test_nobody_removes_a_contact_of_somebody_else(world, browser):
    csrf = (await browser.prove_contacts(then="remove")).form("sign-out").fields["csrf"]
    point = world.other.point("phone")
    page = await browser.post(f"/en/data/contact/{point}/remove", {"csrf": csrf})
    assert page.answer.status_code == 404
    assert len(await world.fetch("SELECT * FROM contact_point WHERE id = :p", p=point)) == 1


@pytest.mark.parametrize("ending", ["", "/receipt.json"])
async def test_a_receipt_of_somebody_else_is_unknown(world, browser, ending):
    mine, theirs = (known.consents[0]["id"] for known in (world.member, world.other))
    assert (await browser.open(f"/en/history/{mine}{ending}")).answer.status_code == 200
    assert (await browser.open(f"/en/history/{theirs}{ending}")).answer.status_code == 404


async def test_nobody_proves_the_claim_of_somebody_else(world, browser):
    other = Browser(world)
    await other.sign_in(OTHER["phone"], lang="en")
    await propose(other)
    code = await other.newest_code()
    csrf = browser.page.form("sign-out").fields["csrf"]
    await browser.post("/en/data/contact/code", {"csrf": csrf, "code": code})
    rows = await world.fetch("SELECT count(*) AS n FROM contact_point")
    assert rows[0]["n"] == 3


@pytest.mark.parametrize("path", ["data", "data/given_name", "data/contact", "history", "choices"])
async def test_pages_of_members_send_strangers_to_the_first_page(world, path):
    assert (await Browser(world).open(f"/en/{path}")).url.path == "/en/"


@pytest.mark.parametrize(
    "action", ["data/given_name", "data/contact", "data/contact/code", "data/contact/code/new"]
)
async def test_a_form_without_its_secret_is_refused(world, browser, action):
    page = await browser.post(f"/en/{action}", {"value": "สมศรี", "contact": NEW})
    assert page.answer.status_code == 403
    assert await world.events("member.update") == []


# --- history --------------------------------------------------------------------------


async def test_every_decision_is_in_the_history_with_its_place(browser):
    await browser.send("withdraw")
    page = await browser.open("/en/history")
    assert page.text.index("Withdrawn") < page.text.index("Allowed")
    assert "On these pages" in page.text
    assert "crm" in page.text


async def test_the_receipt_shows_the_very_words_and_its_file_is_the_apis(world, browser):
    event_id = world.member.consents[0]["id"]
    page = await browser.open(f"/en/history/{event_id}")
    assert world.revision("marketing", "th") in page.text
    assert 'lang="th"' in page.html
    answer = (await browser.open(f"/en/history/{event_id}/receipt.json")).answer
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["cache-control"] == "no-store"
    told = json.loads(answer.content)
    assert told == (await world.crm.get(f"/v1/consents/{event_id}/receipt")).json()
    payload = told["jws"].split(".")[1]
    core = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert core["id"] == event_id
    for value in PERSONAL:
        assert value not in answer.text


@pytest.mark.parametrize("event_id", ["con_x", "con_" + "0" * 26, "evt_" + "0" * 26])
async def test_a_receipt_that_is_none_is_not_found(browser, event_id):
    assert (await browser.open(f"/en/history/{event_id}")).answer.status_code in {404, 422}
