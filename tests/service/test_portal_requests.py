"""What members ask of us in the portal: done, on the clock, and nobody else's."""

import io
import zipfile

import pytest

from dsar import verify_certificate
from policies import AgeTier
from service.limits import CODES_PER_POINT
from tests.support.portal import FIELDS, PERSONAL, PHONE, Browser, portal_world
from tests.support.world import JumpingClock, recorded

pytestmark = pytest.mark.anyio

OTHER = {"phone": "089-000-1234", "given_name": "อื่น", "birth_date": "1990-01-01"}
HOUR_US = 3_600_000_000


@pytest.fixture
async def world(settings):
    async with portal_world(settings, clock=JumpingClock()) as opened:
        opened.crm = await opened.app("crm")
        opened.member = await opened.crm.register(FIELDS, consents={"marketing": "sms"})
        opened.other = await opened.crm.register(OTHER)
        await opened.runtime.courier.deliver()
        yield opened


@pytest.fixture
async def browser(world):
    browser = Browser(world)
    await browser.sign_in(lang="en")
    return browser


async def work(world) -> None:
    """Let the worker do what waits."""
    while await world.runtime.worker.run_one():
        pass


async def ask(browser, right="access"):
    page = await browser.open("/en/requests")
    form = next(form for form in page.forms if form.fields.get("right") == right)
    return await browser.post(form.action, form.fields)


async def copy(world, browser):
    """A request for a copy whose file is ready; gives its address."""
    page = await ask(browser)
    await work(world)
    return str(page.url.path)


async def begin_erasure(browser):
    await browser.open("/en/requests/erasure")
    return await browser.send("requests/erasure")


async def erase(browser):
    await begin_erasure(browser)
    return await browser.send("/code", code=await browser.newest_code())


async def sequence(world) -> None:
    await world.runtime.sequencer.drain()


# --- copies ---------------------------------------------------------------------------


async def test_a_copy_is_made_at_once_and_fetched_once_behind_a_fresh_code(world, browser):
    page = await ask(browser)
    assert "We have your request" in page.text
    place = str(page.url.path)
    await work(world)
    page = await browser.open(place)
    assert "The file is ready" in page.text
    await browser.send("code/new")
    page = await browser.send("/code", code=await browser.newest_code())
    assert "Unlocked" in page.text
    answer = (await browser.send("/download")).answer
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["cache-control"] == "no-store"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        whole = b"".join(archive.read(name) for name in archive.namelist())
    assert FIELDS["given_name"].encode() in whole
    await browser.open(f"{place}?said=unlocked")
    assert (await browser.send("/download")).answer.status_code == 404


async def test_without_a_fresh_code_nothing_is_handed_over(world, browser):
    place = await copy(world, browser)
    await browser.open(f"{place}?said=unlocked")
    page = await browser.send("/download")
    assert page.answer.status_code == 403
    assert page.headings == ["A fresh code is needed"]


async def test_a_code_answered_in_one_browser_hands_nothing_to_another(world, browser):
    place = await copy(world, browser)
    left = Browser(world)
    await left.sign_in(lang="en")
    await browser.open(place)
    await browser.send("code/new")
    await browser.send("/code", code=await browser.newest_code())
    await left.open(f"{place}?said=unlocked")
    assert (await left.send("/download")).answer.status_code == 403
    await browser.open(f"{place}?said=unlocked")
    assert (await browser.send("/download")).answer.status_code == 200


async def test_a_code_of_an_hour_ago_is_not_fresh(world, browser):
    place = await copy(world, browser)
    await browser.open(place)
    await browser.send("code/new")
    await browser.send("/code", code=await browser.newest_code())
    world.runtime.clock.jump_us += HOUR_US // 3
    assert (await browser.send("/download")).answer.status_code == 403


async def test_a_request_shows_its_clock_and_its_law(browser):
    page = await browser.open("/en/requests/restriction")
    page = await browser.open("/en/requests/rectification")
    await browser.send("requests/rectification", field="card_no", value="MB-1")
    page = await browser.open("/en/requests")
    assert "30 days left" in page.text
    assert "PDPA s." in page.text


async def test_a_request_is_taken_back_in_one_click(world, browser):
    await browser.open("/en/requests/rectification")
    await browser.send("requests/rectification", field="card_no", value="MB-1")
    page = await browser.send("/withdraw")
    assert "You took the request back" in page.text
    assert "MB-1" not in page.html
    assert not [form for form in page.forms if form.action.endswith("/withdraw")]


async def test_what_has_no_normal_form_is_said_beside_its_field(browser):
    await browser.open("/en/requests/rectification")
    page = await browser.send("requests/rectification", field="national_id", value="12")
    assert page.answer.status_code == 422
    assert "value-error" in page.ids
    assert page.form("rectification").fields["value"] == "12"


async def test_a_field_that_one_may_correct_oneself_is_no_request(browser):
    await browser.open("/en/requests/rectification")
    page = await browser.send("requests/rectification", field="given_name", value="x")
    assert page.answer.status_code == 404


async def test_a_minor_asks_for_a_birth_date_to_be_corrected(world, browser):
    member_id = await world.member_id(world.member)
    async with recorded(world.runtime.database) as unit:
        await world.runtime.consent.set_age_tier(unit, member_id, AgeTier.MINOR_WITH_GUARDIAN)
    await browser.open("/en/requests/rectification")
    page = await browser.send(
        "requests/rectification", field="birth_date", day="1", month="2", year="2533"
    )
    assert "We have your request" in page.text
    assert (await world.crm.view(world.member)).json()["data"]["birth_date"] == "1992-03-12"


# --- pausing, objecting ---------------------------------------------------------------


async def test_a_pause_holds_from_the_next_read_and_ends_when_its_member_says(world, browser):
    await browser.open("/en/requests/restriction")
    page = await browser.send("requests/restriction", ground="accuracy_contested")
    assert "Use of your data is paused now" in page.text
    assert (await world.crm.view(world.member)).status_code == 423
    page = await browser.send("/resume")
    assert "The pause has ended" in page.text
    assert (await world.crm.view(world.member)).status_code == 200


async def test_a_pause_wants_its_ground(world, browser):
    await browser.open("/en/requests/restriction")
    page = await browser.send("requests/restriction")
    assert page.answer.status_code == 422
    assert (await world.crm.view(world.member)).status_code == 200


async def test_an_objection_is_obeyed_when_it_is_made(world, browser):
    page = await ask(browser, "objection")
    assert "Done" in page.text
    assert (await world.crm.view(world.member, "marketing", "sms")).status_code == 403


# --- erasure --------------------------------------------------------------------------


async def test_the_list_comes_first_and_looking_at_it_asks_for_nothing(world, browser):
    before = len(world.codes())
    page = await browser.open("/en/requests/erasure")
    await world.runtime.courier.deliver()
    assert "Mobile number" in page.text
    assert "Proof of your decisions" in page.text
    assert await world.fetch("SELECT * FROM rights_request") == []
    assert len(world.codes()) == before


async def test_an_erasure_wants_the_code_of_its_own_request(world, browser):
    page = await begin_erasure(browser)
    assert page.url.path.endswith("/code")
    code = await browser.newest_code()
    page = await browser.send("/code", code=f"{(int(code) + 1) % 1_000_000:06d}")
    assert "is not the right one" in page.text
    assert (await world.crm.view(world.member)).status_code == 200


async def test_a_code_that_was_sent_to_sign_in_erases_nobody(world, browser):
    page = await begin_erasure(browser)
    await Browser(world).ask_for_code(PHONE, lang="en")
    await browser.open(str(page.url.path))
    page = await browser.send("/code", code=await browser.newest_code())
    assert "is not the right one" in page.text
    assert (await world.crm.view(world.member)).status_code == 200


async def test_a_code_that_was_sent_for_a_copy_erases_nobody(world, browser):
    place = await copy(world, browser)
    erasure = str((await begin_erasure(browser)).url.path)
    await browser.open(place)
    await browser.send("code/new")
    await browser.open(erasure)
    page = await browser.send("/code", code=await browser.newest_code())
    assert "is not the right one" in page.text
    assert (await world.crm.view(world.member)).status_code == 200


async def test_a_code_that_was_sent_for_an_erasure_signs_nobody_in(world, browser):
    other = Browser(world)
    await other.ask_for_code(PHONE, lang="en")
    await begin_erasure(browser)
    page = await other.send("/code", code=await browser.newest_code())
    assert not page.has_form("sign-out")


async def test_a_code_of_an_erasure_verifies_no_contact_for_a_client(world, browser):
    await begin_erasure(browser)
    code = await browser.newest_code()
    point = world.codes()[-1]["contact_point"]
    answer = await world.crm.post(
        f"/v1/members/{world.member.id}/contact-points/{point}:verify", {"code": code}
    )
    assert answer.status_code == 422, answer.text


async def test_taking_requests_back_earns_no_further_codes(world, browser):
    before = len(world.codes())
    for _ in range(CODES_PER_POINT + 2):
        await browser.open(str((await begin_erasure(browser)).url.path).removesuffix("/code"))
        await browser.send("/withdraw")
    await world.runtime.courier.deliver()
    assert len(world.codes()) - before == CODES_PER_POINT - 1  # one let the member in


async def test_after_an_erasure_nothing_is_left_but_the_certificate(world, browser):
    kept = browser.cookie
    page = await erase(browser)
    assert page.headings == ["Your data is deleted"]
    assert not page.has_form("sign-out")
    assert (await world.crm.view(world.member)).status_code == 404
    await sequence(world)
    note = (await browser.http.get("/en/erased/certificate")).text
    told = verify_certificate(note, world.runtime.audit.vkey)
    assert told["request"]["right"] == "erasure"
    for value in PERSONAL:
        assert value not in note
        assert value not in page.html
    thief = Browser(world)
    thief.plant(kept)
    assert not (await thief.open("/en/")).has_form("sign-out")
    stranger = Browser(world)
    assert (await stranger.open("/en/erased/certificate")).url.path == "/en/"


async def test_every_other_session_of_an_erased_member_is_dead(world, browser):
    second = Browser(world)
    await second.sign_in(lang="en")
    await erase(browser)
    for path in ("", "data", "requests", "history"):
        assert not (await second.open(f"/en/{path}")).has_form("sign-out")


async def test_the_page_after_an_erasure_ends_with_its_session(world, browser):
    await erase(browser)
    world.runtime.clock.jump_us += HOUR_US
    assert (await browser.open("/en/erased")).url.path == "/en/"


async def test_a_copy_that_is_owed_comes_before_an_erasure(world, browser):
    await ask(browser)  # the worker has not made it yet
    page = await browser.open("/en/requests/erasure")
    assert "We still owe you a copy" in page.text
    assert not page.has_form("requests/erasure")


# --- somebody else's ------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "/code", "/certificate"])
async def test_a_request_of_somebody_else_is_unknown(world, browser, path):
    place = await copy(world, browser)
    thief = Browser(world)
    await thief.sign_in(OTHER["phone"], lang="en")
    assert (await thief.open(f"{place}{path}")).answer.status_code == 404


@pytest.mark.parametrize("action", ["withdraw", "resume", "code", "code/new", "download"])
async def test_nobody_acts_on_a_request_of_somebody_else(world, browser, action):
    place = await copy(world, browser)
    thief = Browser(world)
    await thief.sign_in(OTHER["phone"], lang="en")
    csrf = thief.page.form("sign-out").fields["csrf"]
    code = str(world.codes()[-1]["code"])
    page = await thief.post(f"{place}/{action}", {"csrf": csrf, "code": code})
    assert page.answer.status_code == 404


@pytest.mark.parametrize(
    "action",
    ["requests", "requests/erasure", "requests/restriction", "requests/rectification"],
)
async def test_a_form_without_its_secret_asks_for_nothing(world, browser, action):
    page = await browser.post(f"/en/{action}", {"right": "access", "ground": "unlawful"})
    assert page.answer.status_code == 403
    assert await world.fetch("SELECT * FROM rights_request") == []


@pytest.mark.parametrize("path", ["requests", "requests/erasure", "requests/restriction"])
async def test_strangers_are_sent_to_the_first_page(world, path):
    assert (await Browser(world).open(f"/en/{path}")).url.path == "/en/"
