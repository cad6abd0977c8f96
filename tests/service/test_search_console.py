"""Staff look for a member by a piece of the name: who may, what they see, what is on record."""

import pytest

from service.search.client import SearchClient
from service.settings import SearchSettings
from tests.support.console import office
from tests.support.portal import FIELDS
from tests.support.searching import searching

pytestmark = pytest.mark.anyio

NAME = FIELDS["given_name"]


@pytest.fixture
async def at(settings):
    async with office(settings) as opened:
        yield opened


async def look_for(browser, name, **more):
    await browser.open("/console/members")
    return await browser.send("/console/members/names", name=name, **more)


async def past_the_menu(browser):
    """Send the form though no page shows it, with the secret of one that is shown."""
    secret = browser.page.form("/console/sign-out").fields
    return await browser.post("/console/members/names", {**secret, "name": NAME})


async def test_a_clerk_has_no_such_form_and_is_refused_without_it(at):
    async with searching(at.world):
        clerk = await at.sign_in("clerk")
        page = await clerk.open("/console/members")
        assert not page.has_form("/console/members/names")
        refused = await past_the_menu(clerk)
        assert refused.answer.status_code == 403
    (event,) = await at.world.events("member.search")
    assert (event["decision"], event["reason"]) == ("deny", "role_not_allowed")


@pytest.mark.parametrize("role", ["auditor", "operator", "admin", "marketer"])
async def test_other_roles_do_not_get_near(at, role):
    browser = await at.sign_in(role)
    assert (await past_the_menu(browser)).answer.status_code == 403


async def test_an_officer_finds_outlines_and_each_is_on_record(at):
    async with searching(at.world):
        officer = await at.sign_in("dpo")
        page = await look_for(officer, NAME[1:])
        assert page.answer.status_code == 200
        assert await at.world.member_id(at.member) in page.html
        assert FIELDS["phone"] not in page.html
        assert not page.url.query
    (searched,) = await at.world.events("member.search")
    assert (searched["decision"], searched["count"]) == ("allow", 1)
    (viewed,) = await at.world.events("member.view_staff")
    assert viewed["decision"] == "allow"
    assert NAME not in str(await at.world.events())


async def test_a_restricted_member_and_an_unknown_name_are_not_found(at):
    await at.world.restrict(at.member)
    async with searching(at.world):
        officer = await at.sign_in("dpo")
        for name in (NAME, "nobodyhasthis"):
            page = await look_for(officer, name)
            assert page.answer.status_code == 200
            assert "Nobody with such a name" in page.html
            assert await at.world.member_id(at.member) not in page.html


@pytest.mark.parametrize(
    ("lang", "words"),
    [("en", "at least two letters"), ("th", "อย่างน้อยสอง"), ("zh-Hant", "至少輸入")],
)
async def test_too_little_is_answered_in_the_readers_words(at, lang, words):
    officer = await at.sign_in("dpo", lang=lang)
    page = await look_for(officer, "x")
    assert page.answer.status_code == 422
    assert words in page.html


async def test_while_it_is_cold_the_page_says_so(at):
    officer = await at.sign_in("dpo")
    page = await look_for(officer, NAME)
    assert page.answer.status_code == 503
    assert "still being read into memory" in page.html


async def test_a_stolen_or_broken_cursor_is_refused_politely(at):
    async with searching(at.world):
        officer = await at.sign_in("dpo")
        page = await look_for(officer, NAME, cursor="x")
        assert page.answer.status_code == 422
        assert "no longer good" in page.html


async def test_more_than_a_page_is_shown_page_by_page(at):
    for number in range(11):
        await at.crm.register(given_name="Somebody", phone=f"089-000-00{number:02}")
    async with searching(at.world):
        officer = await at.sign_in("dpo")
        first = await look_for(officer, "somebody")
        assert first.html.count('class="card stack"') == 10
        (cursor,) = [form.fields["cursor"] for form in first.forms if "cursor" in form.fields]
        second = await officer.send("/console/members/names", cursor=cursor)
        assert second.html.count('class="card stack"') == 1
        shown = {html for html in first.ids + second.ids if html.startswith("mem_")}
        assert len(shown) == 11


async def test_it_can_be_switched_off_for_staff_too(at, monkeypatch):
    off = SearchClient(at.world.settings.data_dir, enabled=SearchSettings(enabled=False).enabled)
    monkeypatch.setattr(at.runtime.search, "_index", off)
    page = await look_for(await at.sign_in("dpo"), NAME)
    assert page.answer.status_code == 503
    assert "switched off" in page.html
