"""Forms of the portal are taken from our own page in the session it was made for, and nowhere else."""

import pytest

from service.portal.forms import is_same_origin
from tests.support.portal import FIELDS, PHONE, Browser, portal_world

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(sqlite_settings):
    async with portal_world(sqlite_settings) as opened:
        opened.crm = await opened.app("crm")
        opened.member = await opened.crm.register(FIELDS, consents={"marketing": "sms"})
        await opened.runtime.courier.deliver()
        yield opened


@pytest.fixture
async def browser(world):
    browser = Browser(world)
    await browser.sign_in(lang="en")
    return browser


async def is_allowed(world) -> bool:
    return (await world.crm.view(world.member, "marketing", "sms")).status_code == 200


async def assert_refused(world, browser, page) -> None:
    assert page.answer.status_code == 403
    assert page.headings == ["We did not take this form"]
    assert await is_allowed(world)
    assert (await browser.open("/en/")).has_form("sign-out")


def withdrawal(browser) -> dict[str, str]:
    return dict(browser.page.form("withdraw").fields)


async def test_the_form_of_the_page_itself_is_taken(world, browser):
    page = await browser.send("withdraw")
    assert page.answer.status_code == 200
    assert not await is_allowed(world)


async def test_a_form_without_the_secret_is_refused(world, browser):
    fields = withdrawal(browser)
    del fields["csrf"]
    await assert_refused(world, browser, await browser.post("/en/withdraw", fields))


async def test_a_form_with_a_wrong_secret_is_refused(world, browser):
    fields = withdrawal(browser) | {"csrf": "0" * 32}
    await assert_refused(world, browser, await browser.post("/en/withdraw", fields))


async def test_a_secret_of_another_session_is_refused(world, browser):
    other = Browser(world)
    await other.open("/en/")
    fields = withdrawal(browser) | {"csrf": other.page.form("sign-in").fields["csrf"]}
    await assert_refused(world, browser, await browser.post("/en/withdraw", fields))


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://registry"},
        {"Origin": "http://registry:81"},
        {"Origin": "http://registry.evil.example"},
        {"Referer": "https://evil.example/http://registry/"},
        {"Referer": "http://[registry"},
        {},
        {"Origin": "http://registry", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://registry", "Sec-Fetch-Site": "same-site"},
    ],
)
async def test_a_form_from_another_origin_is_refused(world, browser, headers):
    page = await browser.post("/en/withdraw", withdrawal(browser), headers=headers)
    await assert_refused(world, browser, page)


@pytest.mark.parametrize(
    "headers",
    [
        {"Referer": "http://registry/en/"},
        {"Origin": "http://registry", "Sec-Fetch-Site": "same-origin"},
    ],
)
async def test_a_form_whose_browser_names_our_page_is_taken(world, browser, headers):
    await browser.post("/en/withdraw", withdrawal(browser), headers=headers)
    assert not await is_allowed(world)


async def test_at_sign_in_too_a_form_of_another_page_is_refused(world):
    stranger = Browser(world)
    before = len(world.codes())
    page = await stranger.post("/en/sign-in", {"contact": PHONE, "region": "TH"})
    assert page.answer.status_code == 403
    await stranger.open("/en/")
    secret = stranger.page.form("sign-in").fields
    elsewhere = {"Origin": "https://evil.example"}
    page = await stranger.post("/en/sign-in", secret | {"contact": PHONE}, headers=elsewhere)
    assert page.answer.status_code == 403
    await world.runtime.courier.deliver()
    assert len(world.codes()) == before


async def test_a_secret_without_its_cookie_is_refused(world):
    stranger = Browser(world)
    await stranger.open("/en/")
    fields = stranger.page.form("sign-in").fields | {"contact": PHONE}
    stranger.http.cookies.clear()
    assert (await stranger.post("/en/sign-in", fields)).answer.status_code == 403


@pytest.mark.parametrize("place", ["withdraw", "undo", "sign-out", "sign-in", "code/new"])
async def test_following_a_link_never_changes_anything(world, browser, place):
    page = await browser.open(f"/en/{place}?purpose=marketing&channel=sms")
    assert page.answer.status_code == 404
    assert await is_allowed(world)
    assert (await browser.open("/en/")).has_form("sign-out")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b'{"purpose":"marketing"}'),
        ("text/plain", b"purpose=marketing"),
        ("multipart/form-data; boundary=x", b"--x--"),
        ("application/x-www-form-urlencoded", b"csrf=%ff"),
        ("application/x-www-form-urlencoded", "csrf=ส".encode()),
        ("application/x-www-form-urlencoded", b"&".join(b"a=%d" % at for at in range(50))),
        ("application/x-www-form-urlencoded", b"a=" + b"b" * 20_000),
        ("application/x-www-form-urlencoded", b""),
    ],
)
async def test_what_is_no_plain_form_is_refused_calmly(world, browser, kind, body):
    answer = await browser.http.post(
        "/en/withdraw",
        content=body,
        headers={"Origin": browser.origin, "Content-Type": kind},
    )
    assert answer.status_code == 403
    assert "We did not take this form" in answer.text
    assert await is_allowed(world)


@pytest.mark.parametrize(
    "fields",
    [
        {"purpose": "nothing", "channel": ""},
        {"purpose": "marketing", "channel": "pigeon"},
        {"purpose": "marketing", "channel": ""},
        {"purpose": "", "channel": ""},
    ],
)
async def test_a_purpose_or_channel_that_is_not_there_is_not_found(world, browser, fields):
    page = await browser.send("withdraw", **fields)
    assert page.answer.status_code == 404
    assert await is_allowed(world)


@pytest.mark.parametrize("action", ["withdraw", "undo", "purposes/marketing/sms", "code/new"])
async def test_a_stranger_with_a_valid_form_is_sent_to_the_sign_in_page(world, action):
    stranger = Browser(world)
    await stranger.open("/en/")
    fields = {
        "csrf": stranger.page.form("sign-in").fields["csrf"],
        "purpose": "marketing",
        "channel": "sms",
        "decision": "refused",
    }
    page = await stranger.post(f"/en/{action}", fields)
    assert page.has_form("sign-in")
    assert await is_allowed(world)


def test_silence_about_where_a_form_comes_from_is_a_no():
    assert not is_same_origin({"host": "registry"}, "http")
    assert not is_same_origin({}, "http")
    assert not is_same_origin({"origin": "http://registry"}, "http")
    assert not is_same_origin({"host": "", "origin": ""}, "http")
