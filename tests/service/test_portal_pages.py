"""Every page of the portal in every language: whole, readable, strict, and silent about persons."""

import gzip
import hashlib
import re
import tomllib
from string import Formatter

import pytest

from kernel.http import encode_cursor
from kernel.i18n import Language
from policies import AgeTier
from service.pages import LOCALE, STATIC, TEMPLATES
from tests.support.portal import FIELDS, PERSONAL, PHONE, Browser, portal_world
from tests.support.world import recorded

pytestmark = pytest.mark.anyio

POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; font-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
LINKED = (
    "join",
    "joined",
    "data",
    "contact-replace",
    "history-older",
    "receipt",
    "request-ready",
    "erasure",
)
LANGUAGES = [language.value for language in Language]
MOST_GZIP_BYTES = 12_000
OPEN_PAGES = (
    *("join", "join-faulty", "join-code", "join-code-faulty", "join-code-new"),
    *("sign-in", "sign-in-faulty", "code", "code-faulty", "code-used-up", "code-new"),
)
MEMBER_PAGES = (
    *("joined", "joined-minor", "joined-no-age", "joined-already", "questions-answered"),
    *("data", "data-restricted", "correct", "correct-faulty", "corrected", "born", "born-faulty"),
    *("contact-proof", "contact-proof-code", "contact-proof-faulty", "may-remove"),
    *("contact", "contact-replace", "contact-faulty", "contact-code", "contact-proven"),
    *("requests", "request", "request-open", "request-ready", "request-unlocked", "restriction"),
    *("restriction-faulty", "request-paused", "rectification", "rectification-faulty", "erasure"),
    *("erasure-code", "erasure-code-faulty", "erased"),
    *("history", "history-none", "history-older", "receipt"),
    *(
        "home",
        "home-stopped",
        "home-withdrawn",
        "home-given",
        "home-refused",
        "home-minor",
        "home-restricted",
    ),
    *("purpose", "purpose-given", "purpose-contract", "purpose-whole", "readers", "readers-older"),
    *("words", "signed-out", "not-found", "refused-form", "words-moved", "unavailable"),
)


@pytest.fixture
async def world(sqlite_settings):
    async with portal_world(sqlite_settings) as opened:
        opened.crm = await opened.app("crm")
        opened.member = await opened.crm.register(FIELDS, consents={"marketing": "sms"})
        await opened.runtime.courier.deliver()
        yield opened


@pytest.fixture
def browser(world):
    return Browser(world)


async def show(browser: Browser, name: str, lang: str):
    """Bring the browser to a page, on the way a person takes."""
    if name.startswith("join"):
        return await _show_join(browser, name, lang)
    if name in OPEN_PAGES:
        return await _show_open(browser, name, lang)
    home = await browser.sign_in(lang=lang)
    if name in PLACES:
        return await browser.open(f"/{lang}/{PLACES[name]}")
    way = WAYS.get(name)
    return home if way is None else await way(browser, lang)


PLACES = {
    "data": "data",
    "correct": "data/given_name",
    "born": "data/birth_date",
    "contact-proof": "data/proof",
    "history": "history",
    "requests": "requests",
    "restriction": "requests/restriction",
    "rectification": "requests/rectification",
    "erasure": "requests/erasure",
    "purpose": "purposes/marketing/email",
    "purpose-given": "purposes/marketing/sms",
    "purpose-contract": "purposes/membership",
    "purpose-whole": "purposes/analytics",
    "not-found": "nowhere/at/all",
}


async def _withdrawn(browser, _lang):
    return await browser.send("withdraw")


async def _stopped(browser, _lang):
    return await browser.send("stop-marketing")


async def _given(browser, lang):
    await browser.open(f"/{lang}/purposes/profiling")
    return await browser.send("purposes/profiling", decision="given")


async def _refused(browser, lang):
    await browser.open(f"/{lang}/purposes/profiling")
    return await browser.send("purposes/profiling", decision="refused")


async def _minor(browser, lang):
    world = browser.world
    member_id = await world.member_id(world.member)
    async with recorded(world.runtime.database) as work:
        tier = AgeTier.MINOR_WITH_GUARDIAN
        await world.runtime.consent.set_age_tier(work, member_id, tier)
    return await browser.open(f"/{lang}/")


async def _restricted(browser, lang):
    await browser.world.restrict(browser.world.member)
    return await browser.open(f"/{lang}/")


async def _readers(browser, lang):
    world = browser.world
    for _ in range(12):
        await world.crm.view(world.member, "marketing", "sms")
        await world.crm.view(world.member, "analytics")
    return await browser.open(f"/{lang}/readers")


async def _older_readers(browser, lang):
    page = await _readers(browser, lang)
    return await browser.open(next(link for link in page.links if "before=" in link))


async def _words(browser, lang):
    digest = browser.world.revision("marketing", lang).removeprefix("sha256:")
    return await browser.open(f"/{lang}/words/{digest}")


async def _restricted_data(browser, lang):
    await browser.world.restrict(browser.world.member)
    return await browser.open(f"/{lang}/data")


def _typing(form, **typed):
    async def way(browser, lang):
        await browser.open(f"/{lang}/{form}")
        return await browser.send(form, **typed)

    return way


def _contact(then="add", **typed):
    async def way(browser, lang):
        page = await browser.prove_contacts(then=then, lang=lang)
        return await browser.send("data/contact", **typed) if typed else page

    return way


async def _contact_proof_code(browser, lang):
    page = await browser.open(f"/{lang}/data/proof?then=phone")
    form = next(form for form in page.forms if form.action.endswith("/send"))
    return await browser.post(form.action, form.fields)


async def _contact_proof_faulty(browser, lang):
    page = await _contact_proof_code(browser, lang)
    return await browser.send(page.url.path, code="1")


async def _proven(browser, lang):
    await browser.prove_contacts(lang=lang)
    await browser.send("data/contact", contact="089-000-4444")
    return await browser.send("contact/code", code=await browser.newest_code())


async def _answered(browser, lang):
    page = await browser.open(f"/{lang}/choices")
    names = dict.fromkeys(page.unchosen)
    return await browser.send("choices", **dict.fromkeys(names, "given"))


async def _no_history(browser, lang):
    await browser.world.crm.register({"phone": "089-000-5555"})
    await browser.world.runtime.courier.deliver()
    await browser.send("sign-out")
    await browser.sign_in("089-000-5555", lang=lang)
    return await browser.open(f"/{lang}/history")


async def _older_history(browser, lang):
    for _ in range(16):
        await browser.open(f"/{lang}/")
        await browser.send("withdraw")
        await browser.send("undo")
    page = await browser.open(f"/{lang}/history")
    return await browser.open(next(link for link in page.links if "before=" in link))


async def _receipt(browser, lang):
    page = await browser.open(f"/{lang}/history")
    return await browser.open(next(link for link in page.links if "history/con_" in link))


async def _request(browser, lang):
    page = await browser.open(f"/{lang}/requests")
    form = next(form for form in page.forms if form.fields.get("right") == "access")
    return await browser.post(form.action, form.fields)


async def _request_open(browser, lang):
    await _typing("requests/rectification", field="card_no", value="1")(browser, lang)
    return await browser.open(f"/{lang}/requests")


async def _request_ready(browser, lang):
    page = await _request(browser, lang)
    while await browser.world.runtime.worker.run_one():
        pass
    return await browser.open(str(page.url.path))


async def _request_unlocked(browser, lang):
    await _request_ready(browser, lang)
    await browser.send("code/new")
    return await browser.send("/code", code=await browser.newest_code())


async def _erasure_code(browser, lang):
    await browser.open(f"/{lang}/requests/erasure")
    return await browser.send("requests/erasure")


async def _erasure_code_faulty(browser, lang):
    await _erasure_code(browser, lang)
    return await browser.send("/code", code="1")


async def _erased(browser, lang):
    await _erasure_code(browser, lang)
    return await browser.send("/code", code=await browser.newest_code())


async def _signed_out(browser, _lang):
    return await browser.send("sign-out")


async def _refused_form(browser, lang):
    return await browser.post(f"/{lang}/withdraw", {"purpose": "marketing"})


async def _words_moved(browser, lang):
    await browser.open(f"/{lang}/purposes/profiling")
    return await browser.send("purposes/profiling", decision="given", seal="")


async def _unavailable(browser, lang):
    browser.world.runtime.audit.block("audit_test")
    return await browser.open(f"/{lang}/")


WAYS = {
    "home-withdrawn": _withdrawn,
    "home-stopped": _stopped,
    "home-given": _given,
    "home-refused": _refused,
    "home-minor": _minor,
    "home-restricted": _restricted,
    "readers": _readers,
    "readers-older": _older_readers,
    "words": _words,
    "questions-answered": _answered,
    "data-restricted": _restricted_data,
    "correct-faulty": _typing("data/given_name", value=" "),
    "corrected": _typing("data/given_name", value="สมศรี"),
    "born-faulty": _typing("data/birth_date", day="31", month="2", year="2535"),
    "contact": _contact(),
    "contact-replace": _contact("phone"),
    "contact-proof-code": _contact_proof_code,
    "contact-proof-faulty": _contact_proof_faulty,
    "may-remove": _contact("remove"),
    "contact-faulty": _contact(contact="12"),
    "contact-code": _contact(contact="089-000-4444"),
    "contact-proven": _proven,
    "request": _request,
    "request-open": _request_open,
    "request-ready": _request_ready,
    "request-unlocked": _request_unlocked,
    "request-paused": _typing("requests/restriction", ground="unlawful"),
    "restriction-faulty": _typing("requests/restriction"),
    "rectification-faulty": _typing("requests/rectification", field="national_id", value="12"),
    "erasure-code": _erasure_code,
    "erasure-code-faulty": _erasure_code_faulty,
    "erased": _erased,
    "history-none": _no_history,
    "history-older": _older_history,
    "receipt": _receipt,
    "signed-out": _signed_out,
    "refused-form": _refused_form,
    "words-moved": _words_moved,
    "unavailable": _unavailable,
}


async def _show_open(browser: Browser, name: str, lang: str):
    page = await browser.open(f"/{lang}/")
    if name == "sign-in":
        return page
    if name == "sign-in-faulty":
        return await browser.send("sign-in", contact="abc")
    page = await browser.send("sign-in", contact=PHONE)
    if name == "code-new":
        return await browser.send("code/new")
    for _ in range({"code": 0, "code-faulty": 1, "code-used-up": 5}[name]):
        page = await browser.send("/code", code="abc")
    return page


BORN = {
    "joined-minor": {"day": "1", "month": "1", "year": "2020"},
    "joined-no-age": {"day": "", "month": "", "year": ""},
}
JOINS = {"day": "๑๒", "month": "3", "year": "2535", "given_name": "สมหญิงคานารี"}


async def _show_join(browser: Browser, name: str, lang: str):
    page = await browser.open(f"/{lang}/join")
    if name == "join":
        return page
    if name == "join-faulty":
        return await browser.send("join", contact="12", day="31", month="2", year="2535")
    contact = PHONE if name == "joined-already" else "089-000-3333"
    page = await browser.send("join", contact=contact, **JOINS | BORN.get(name, {}))
    if name.startswith("joined"):
        return await browser.send("join/code", code=await browser.newest_code())
    if name == "join-code-new":
        return await browser.send("code/new")
    return await browser.send("join/code", code="1") if name.endswith("faulty") else page


STATUSES = {
    "join-faulty": 422,
    "restriction-faulty": 422,
    "rectification-faulty": 422,
    "correct-faulty": 422,
    "born-faulty": 422,
    "contact-faulty": 422,
    "sign-in-faulty": 422,
    "not-found": 404,
    "refused-form": 403,
    "words-moved": 409,
    "unavailable": 503,
}


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("name", [*OPEN_PAGES, *MEMBER_PAGES])
async def test_a_page_is_whole_in_its_language(browser, name, lang):
    page = await show(browser, name, lang)
    answer = page.answer
    assert answer.status_code == STATUSES.get(name, 200)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers.get_list("content-security-policy") == [POLICY]
    assert answer.headers["cache-control"] == "no-store"
    assert page.lang == lang
    assert page.title.endswith(" · Yinyom")
    assert len(page.title) > len(" · Yinyom")
    assert len(page.headings) == 1
    assert page.headings[0].strip()
    assert len(page.ids) == len(set(page.ids))
    assert not {"script", "style", "iframe", "object", "base"} & set(page.tags)
    assert not [name for name in page.attributes if name == "style" or name.startswith("on")]
    assert "{" not in page.html
    assert "None" not in page.text


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("name", ["sign-in", "home", "purpose", "readers-older", "words", *LINKED])
async def test_every_link_of_a_page_leads_somewhere(browser, name, lang):
    page = await show(browser, name, lang)
    for link in dict.fromkeys(page.links):
        if link.startswith("#"):
            assert link.removeprefix("#") in page.ids
        else:
            assert (await browser.http.get(link, follow_redirects=True)).status_code == 200, link
    for address in re.findall(r'(?:href|src)="(/static/[^"]+)"', page.html):
        assert (await browser.http.get(address)).status_code == 200


@pytest.mark.parametrize(
    "name", ["home", "purpose", "readers-older", "words", "code", "join-code", *LINKED]
)
async def test_another_language_keeps_the_place(browser, name):
    page = await show(browser, name, "en")
    place = str(page.url).partition("/en/")[2].removesuffix("?said=joined")
    for lang in LANGUAGES:
        assert f"/{lang}/{place}" in page.links
    other = await browser.open(f"/zh-Hant/{place}")
    assert other.lang == "zh-Hant"
    assert str(other.url).endswith(f"/zh-Hant/{place}")


async def test_an_unknown_address_is_not_repeated_in_the_page(browser):
    page = await browser.open(f"/en/find/{PHONE}?q={PHONE}")
    assert page.answer.status_code == 404
    assert PHONE not in page.html


@pytest.mark.parametrize("path", ["/fr/", "/thai/", "/en/words/abc", "/th//", "/TH/"])
async def test_what_is_nowhere_is_not_found(browser, path):
    assert (await browser.http.get(path)).status_code in {404, 422}


# --- what we hold ---------------------------------------------------------------------


async def test_home_shows_outlines_and_no_value(browser):
    page = await browser.sign_in(lang="th")
    assert "081-xxx-5678" in page.text
    assert "ส•••" in page.text
    assert "2535" in page.text
    for value in PERSONAL:
        assert value not in page.html


async def test_a_birth_year_is_counted_as_its_reader_counts(browser):
    await browser.sign_in(lang="en")
    assert "1992" in browser.page.text
    assert "民國81年" in (await browser.open("/zh-Hant/")).text


async def test_looking_is_on_record_before_anything_is_shown(world, browser):
    page = await browser.sign_in(lang="en")
    (event,) = await world.events("member.view_self")
    assert event["id"] in page.text
    assert event["actor"] == {"id": "self", "role": "member", "via": "portal"}
    assert event["decision"] == "allow"
    assert event["fields"] == sorted(FIELDS)
    assert "subject" in event


async def test_while_the_trail_takes_no_events_nothing_is_shown(world, browser):
    await browser.sign_in(lang="en")
    world.runtime.audit.block("audit_test")
    page = await browser.open("/en/")
    assert page.answer.status_code == 503
    assert page.headings == ["We stopped to keep your data safe"]
    assert "081-xxx" not in page.html


async def test_a_client_revoked_meanwhile_does_not_disturb_a_member(world, browser):
    await browser.sign_in(lang="en")
    await world.runtime.clients.revoke(world.operator, world.crm.id)
    page = await browser.open("/en/")
    assert "081-xxx-5678" in page.text


async def test_another_policy_pack_stops_the_home_page_until_a_restart(world, browser):
    await browser.sign_in(lang="en")
    await world.execute(
        "UPDATE registry_fact SET value = 'sha256:other' WHERE name = 'policy_digest'"
    )
    await world.execute("UPDATE epoch SET value = value + 1 WHERE name = 'policy'")
    page = await browser.open("/en/")
    assert page.answer.status_code == 503
    assert "081-xxx" not in page.html


async def test_a_crash_is_a_calm_page_too(world, browser, monkeypatch):
    await browser.sign_in(lang="en")

    async def crash(*_args, **_details):
        raise RuntimeError(PHONE)

    monkeypatch.setattr(world.runtime.consent, "states", crash)
    page = await browser.open("/en/")
    assert page.answer.status_code == 500
    assert page.headings == ["Something broke on our side"]
    assert PHONE not in page.html


async def test_a_restricted_member_still_sees_what_is_held(world, browser):
    await world.restrict(world.member)
    page = await browser.sign_in(lang="en")
    assert "081-xxx-5678" in page.text
    assert "Use of your data is paused" in page.text


# --- who read -------------------------------------------------------------------------


async def test_readings_and_refusals_appear_with_the_clients_name_and_not_its_id(world, browser):
    await world.crm.view(world.member, "marketing", "sms")
    await world.crm.view(world.member, "analytics")
    await browser.sign_in(lang="en")
    page = await browser.open("/en/readers")
    assert "crm" in page.text
    assert world.crm.id not in page.html
    assert "News and offers · SMS" in page.text
    assert "Read: First name" in page.text
    assert "Not read: you have not allowed it" in page.text
    assert page.text.index("Not read") < page.text.index("Read: First name")


async def test_a_member_sees_what_feeds_told_of_them(world, browser):
    feed = await world.app("mailer", "changes:read", "suppressions:read", "purpose:analytics")
    await world.crm.post(f"/v1/members/{world.member.id}:introduce", {"to": feed.id})
    await feed.get("/v1/suppressions?purpose=analytics")
    await world.runtime.courier.deliver()
    await feed.get("/v1/changes")
    await browser.sign_in(lang="en")
    for lang, words in (
        ("en", "Nothing read. Told not to contact you: you have not allowed it"),
        ("th", "แจ้งว่าห้ามติดต่อคุณ: เพราะคุณยังไม่ได้อนุญาต"),
        ("zh-Hant", "未讀取資料，僅告知勿聯絡您：您尚未同意"),
    ):
        page = await browser.open(f"/{lang}/readers")
        assert "mailer" in page.text
        assert words in page.text
        assert feed.id not in page.html


async def test_ones_own_visits_are_not_readers(browser):
    await browser.sign_in(lang="en")
    page = await browser.open("/en/readers")
    assert page.headings == ["Nobody has read your data yet"]


async def test_nobody_sees_who_read_somebody_else(world, browser):
    other = await world.crm.register({"phone": "089-000-2222"})
    await world.crm.view(other, "membership")
    await browser.sign_in(lang="en")
    assert (await browser.open("/en/readers")).headings == ["Nobody has read your data yet"]


async def test_times_are_those_of_the_members_country(world, browser):
    await world.crm.view(world.member, "marketing", "sms")
    await browser.sign_in(lang="en")
    page = await browser.open("/en/readers")
    assert "UTC+7" in page.text
    (event,) = await world.events("member.view")
    hour = (int(event["ts"][11:13]) + 7) % 24
    assert f"{hour:02d}:{event['ts'][14:16]}" in page.text


@pytest.mark.parametrize(
    "cursor", ["x", "%22%3E", "WyJhIiwiYiJd", "A" * 300, encode_cursor("\x00")]
)
async def test_a_cursor_that_we_did_not_give_is_refused_calmly(browser, cursor):
    await browser.sign_in(lang="en")
    page = await browser.open(f"/en/readers?before={cursor}")
    assert page.answer.status_code == 422
    assert page.headings == ["This page is not here"]


# --- words ----------------------------------------------------------------------------


@pytest.mark.parametrize("purpose", ["membership", "marketing", "profiling", "analytics"])
@pytest.mark.parametrize("lang", LANGUAGES)
async def test_the_exact_text_hashes_to_its_address(world, browser, purpose, lang):
    digest = world.revision(purpose, lang).removeprefix("sha256:")
    answer = await browser.http.get(f"/en/words/{digest}/text")
    assert hashlib.sha256(answer.content).hexdigest() == digest
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-security-policy"] == POLICY
    page = await browser.open(f"/en/words/{digest}")
    assert f'lang="{lang}"' in page.html
    assert f"sha256:{digest}" in page.text


# --- silence --------------------------------------------------------------------------


async def test_no_personal_value_is_in_any_address_title_cookie_or_log_line(world, capfd):
    browser = Browser(world)
    pages = [
        await show(browser, "sign-in-faulty", "th"),
        await show(browser, "home-withdrawn", "th"),
        await browser.open("/th/readers"),
        await browser.send("sign-out"),
    ]
    headers = [str(answer.headers) for answer in browser.answers]
    captured = capfd.readouterr()
    for value in PERSONAL:
        assert not any(value in url for url in browser.urls)
        assert not any(value in page.title for page in pages)
        assert not any(value in found for found in headers)
        assert value not in captured.out
        assert value not in captured.err
    for event in await world.events():
        assert not any(value in str(event) for value in PERSONAL)


@pytest.mark.parametrize("name", ["home", "data", "requests", "joined", "history-older", "erasure"])
async def test_a_page_and_its_style_are_small(browser, name):
    page = await show(browser, name, "th")
    style = (STATIC / "style.css").read_bytes()
    weight = len(gzip.compress(page.html.encode())) + len(gzip.compress(style))
    assert weight <= MOST_GZIP_BYTES


# --- catalogues and templates ---------------------------------------------------------


def flat(tree: dict, prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def catalogue(lang: str) -> dict[str, str]:
    return flat(tomllib.loads((LOCALE / f"{lang}.toml").read_text(encoding="utf-8")))


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_text_has_words_and_the_same_places_in_every_language(lang):
    texts, english = catalogue(lang), catalogue("en")
    assert set(texts) == set(english)
    assert {key: places(text) for key, text in texts.items()} == {
        key: places(text) for key, text in english.items()
    }
    assert all(text.strip() for text in texts.values())


def test_a_text_that_is_the_same_in_two_languages_is_no_oversight():
    meant = {"home.collected", "frame.comma", "law.section", "law.article"}
    thai, english, chinese = (catalogue(lang) for lang in ("th", "en", "zh-Hant"))
    for key in set(english) - meant:
        assert len({thai[key], english[key], chinese[key]}) == 3, key


def test_thai_says_you_as_equals_do():
    for key, text in catalogue("th").items():
        assert not re.search("(?<!เ)ท่าน|ค่ะ|ครับ", text), key


def test_chinese_uses_full_width_marks():
    for key, text in catalogue("zh-Hant").items():
        assert not re.search(r"[\u4e00-\u9fff][,;:?!]|[,;:?!][\u4e00-\u9fff]", text), key


@pytest.mark.parametrize(
    "file", sorted(TEMPLATES.glob("portal/*.html")), ids=lambda file: file.name
)
def test_a_template_has_no_words_of_its_own(file):
    bare = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", "", file.read_text(encoding="utf-8"))
    words = re.findall(r"[^\W\d_]+", re.sub(r"<[^>]*>", " ", bare))
    assert set(words) <= {"Yinyom"}
