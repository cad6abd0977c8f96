"""The trail at the console: what a search finds, and that a check of it is a check."""

import hashlib

import pytest

from audit import EventFilter, standing_of
from audit.merkle import fold, inclusion_proof, leaf_hash, node_hash
from kernel import new_id
from service.console.path import picture, siblings_left
from service.console.svg import bars
from tests.support.console import office
from tests.support.world import JumpingClock

pytestmark = pytest.mark.anyio


@pytest.fixture
async def at(settings):
    async with office(settings, clock=JumpingClock()) as opened:
        await opened.crm.view(opened.member, "membership")
        await opened.crm.view(opened.member, "marketing", "email")
        yield opened


async def search(browser, **query):
    return await browser.open("/console/trail", params=query)


def rows(page):
    return [link for link in page.links if link.startswith("/console/trail/evt_")]


# --- searching ------------------------------------------------------------------------


async def test_each_filter_keeps_only_what_fits(at):
    browser = await at.sign_in("auditor")
    for query in (
        {"actor": at.crm.id},
        {"action": "member.view"},
        {"purpose": "marketing"},
        {"decision": "deny"},
        {"field": "phone"},
        {"view": "denied"},
    ):
        page = await search(browser, **query)
        ids = [link.rpartition("/")[2] for link in rows(page)]
        assert ids
        ((name, value),) = query.items()
        for body in await at.world.events():
            said = {
                "actor": body["actor"]["id"],
                "action": body["action"],
                "purpose": body.get("purpose"),
                "decision": body.get("decision"),
                "field": value if value in body.get("fields", ()) else None,
                "view": "denied" if body.get("decision") == "deny" else None,
            }
            fits = said[name] == value
            assert (body["id"] in ids) == fits or body["action"] == "audit.search"


async def test_a_search_is_an_event_with_the_number_of_its_filters(at):
    browser = await at.sign_in("auditor")
    await search(browser, action="member.view", decision="deny")
    event = (await at.world.events("audit.search"))[-1]
    assert event["count"] == 2
    assert event["actor"]["id"] == at.staff["auditor"]["staff_id"]


async def test_saved_views_are_tabs_with_numbers_and_an_empty_one_says_so(at):
    browser = await at.sign_in("auditor")
    page = await search(browser, view="denied")
    for key in ("denied", "bulk", "after-hours", "no-consent", "many-members"):
        assert f"/console/trail?view={key}" in page.links
    assert "Without consent" in page.text
    denied = [body for body in await at.world.events() if body.get("decision") == "deny"]
    assert f">{len(denied)}</span>" in page.html
    empty = await search(browser, view="many-members")
    assert rows(empty) == []
    assert "Nothing of this kind is in the trail." in empty.text


async def test_the_rooms_of_one_request_stand_together(at):
    before = {body["id"] for body in await at.world.events()}
    await at.crm.withdraw(at.member, "marketing", "sms")
    mine = [body for body in await at.world.events() if body["id"] not in before]
    (request,) = {body["request_id"] for body in mine}
    browser = await at.sign_in("auditor")
    page = await search(browser, request=request)
    assert {link.rpartition("/")[2] for link in rows(page)} == {body["id"] for body in mine}
    event = await browser.open(rows(page)[0])
    assert f"/console/trail?request={request}" in event.links


async def test_each_row_says_how_far_its_proof_has_come(at):
    browser = await at.sign_in("auditor")
    await at.runtime.sequencer.drain()
    page = await search(browser, action="member.view")
    assert "Signed" in page.text
    assert "Witnessed" not in page.text
    async with at.runtime.database.read() as session:
        ids = [link.rpartition("/")[2] for link in rows(page)]
        told = await standing_of(session, [*ids, new_id("evt")], witnessed=10**6)
        kept = await standing_of(session, ids, witnessed=0, anchored=10**6)
    assert [told[one].value for one in ids] == ["witnessed"] * len(ids)
    assert set(kept.values()) == {"anchored"}
    assert [one.value for key, one in told.items() if key not in ids] == ["waiting"]


async def test_a_period_is_by_the_readers_days(at):
    browser = await at.sign_in("auditor")
    today = (await at.world.events())[-1]["ts"][:10]
    assert rows(await search(browser, **{"from": today}))
    assert rows(await search(browser, **{"from": "2020-01-01", "until": "2020-12-31"})) == []
    assert rows(await search(browser, **{"from": "2099-01-01"})) == []


@pytest.mark.parametrize(
    "query",
    [
        {"actor": "081-234-5678"},
        {"action": "สมหญิง"},
        {"field": "a b"},
        {"view": "everything-else"},
        {"request": "a b c d e f"},
        {"policy": "sha256:1"},
        {"from": "yesterday"},
        {"until": "2026-13-01"},
        {"from": "0001-01-01"},
        {"until": "9999-12-31"},
    ],
)
async def test_what_is_no_word_of_the_trail_is_not_searched_and_not_repeated(at, query):
    browser = await at.sign_in("auditor")
    before = len(await at.world.events("audit.search"))
    page = await search(browser, **query)
    assert page.answer.status_code == 422
    assert next(iter(query.values())) not in page.html
    assert len(await at.world.events("audit.search")) == before


async def test_pages_follow_on_each_other_without_a_gap(at):
    for _ in range(60):
        await at.crm.view(at.member, "membership")
    browser = await at.sign_in("auditor")
    page = await search(browser, action="member.view")
    first = rows(page)
    (older,) = [link for link in page.links if "before=" in link]
    second = rows(await browser.open(older))
    assert len(first) == 50
    ids = [link.rpartition("/")[2] for link in first + second]
    expected = [body["id"] for body in await at.world.events("member.view")]
    assert ids == sorted(expected, reverse=True)


async def test_a_search_by_field_goes_on_where_it_stopped_looking(at, monkeypatch):
    import audit.search as searching

    monkeypatch.setattr(searching, "_CHUNK", 3)
    monkeypatch.setattr(searching, "_MOST_LOOKED_AT", 6)
    found, before = [], None
    async with at.runtime.database.read() as session:
        for _ in range(50):
            page = await at.runtime.audit.search(
                session, EventFilter(field="birth_date"), before=before, most=2
            )
            found += [event["id"] for event in page.events]
            before = page.next_before
            if before is None:
                break
    wanted = [b["id"] for b in await at.world.events() if "birth_date" in b.get("fields", ())]
    assert found == sorted(wanted, reverse=True)


async def test_a_search_in_vain_says_how_far_it_looked_and_goes_on(at, monkeypatch):
    import audit.search as searching

    monkeypatch.setattr(searching, "_MOST_WALKED", 4)
    browser = await at.sign_in("auditor")
    page = await search(browser, action="nothing.like_it")
    pages = 0
    while links := [link for link in page.links if "before=" in link]:
        assert rows(page) == []
        assert "Searched back to" in page.text
        assert "Go on searching" in page.text
        (onward,) = links
        page = await browser.open(onward)
        pages += 1
    assert pages > 2
    assert "Searched back to" not in page.text
    page = await search(browser, action="member.register")
    while rows(page) == []:
        (onward,) = [link for link in page.links if "before=" in link]
        page = await browser.open(onward)
    (registered,) = await at.world.events("member.register")
    assert rows(page)[0].endswith(registered["id"])


async def test_a_members_events_are_found_by_who_may_look_members_up(at):
    member = await at.world.member_id(at.member)
    browser = await at.sign_in("dpo")
    await browser.open("/console/members")
    await browser.send("/console/members", kind="phone", value="081-234-5678", region="TH")
    page = await browser.send("/console/trail/member")
    assert page.url.path == "/console/trail/member"
    assert len(rows(page)) >= 3
    other = await at.crm.register({"phone": "085-111-2222"})
    fields = {**browser.page.forms[0].fields, "member": await at.world.member_id(other)}
    assert not set(rows(page)) & set(rows(await browser.post("/console/trail/member", fields)))
    assert member not in str(browser.page.url)


async def test_an_unknown_member_has_no_events(at):
    browser = await at.sign_in("dpo")
    csrf = browser.page.forms[0].fields["csrf"]
    for member in (new_id("mem"), "mem_x", "' OR 1=1"):
        page = await browser.post("/console/trail/member", {"csrf": csrf, "member": member})
        assert page.answer.status_code == 404


# --- proofs ---------------------------------------------------------------------------


async def event_of(at, action="member.view"):
    await at.runtime.sequencer.drain()
    return (await at.world.events(action))[0]["id"]


async def test_an_event_shows_its_proof_and_the_check_really_checks(at):
    event = await event_of(at)
    browser = await at.sign_in("auditor")
    page = await browser.open(f"/console/trail/{event}")
    assert at.runtime.audit.vkey in page.text
    page = await browser.send(f"/console/trail/{event}")
    assert "The proof holds." in page.text
    async with at.runtime.database.read() as session:
        proof = await at.runtime.audit.prove(session, event)
    assert proof.checkpoint.root.hex() in page.html
    assert all(one.hex() in page.html for one in proof.hashes)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 100])
def test_the_picture_of_a_path_leads_to_the_root(size):
    leaves = [leaf_hash(b"%d" % at) for at in range(size)]
    read = lambda level, n: fold(b"".join(leaves[n << level : n + 1 << level]))  # noqa: E731
    for index in range(size):
        hashes = inclusion_proof(index, size, read)
        found = leaves[index]
        for one, is_left in zip(hashes, siblings_left(index, size, len(hashes)), strict=True):
            found = node_hash(one, found) if is_left else node_hash(found, one)
        assert found == fold(b"".join(leaves))
        drawn = picture(index, size, hashes)
        assert [step.sibling for step in drawn.steps[::-1]] == [one.hex() for one in hashes]
        assert all(step.path_x != step.sibling_x for step in drawn.steps)


async def test_a_changed_event_does_not_hold(at):
    event = await event_of(at)
    await at.world.unguard("audit_event")
    if at.world.settings.on_postgres:
        sql = "UPDATE audit_event SET body = overlay(body placing 'x' from 3) WHERE id = :id"
    else:
        sql = "UPDATE audit_event SET body = CAST(replace(body, 'allow', 'aLlow') AS BLOB) WHERE id = :id"
    if at.world.settings.on_postgres:
        pytest.skip("the same check; bytes are simpler to change on SQLite")
    await at.world.execute(sql, id=event)
    browser = await at.sign_in("auditor")
    await browser.open(f"/console/trail/{event}")
    page = await browser.send(f"/console/trail/{event}")
    assert "The proof does not hold" in page.text
    assert (await at.world.events("audit.verify"))[-1]["outcome"] == "error"


async def test_the_whole_log_is_verified_and_damage_is_shown(at):
    await event_of(at)
    browser = await at.sign_in("auditor")
    await browser.open("/console/trail")
    page = await browser.send("/console/trail/verify")
    assert "The log holds." in page.text
    await at.world.unguard("audit_leaf")
    await at.world.execute("DELETE FROM audit_leaf WHERE leaf_index = 1")
    page = await browser.send("/console/trail/verify")
    assert "The log does not verify" in page.text


# --- numbers --------------------------------------------------------------------------


async def test_consent_numbers_stand_in_the_chart_and_in_the_table(at):
    browser = await at.sign_in("auditor")
    await at.crm.withdraw(at.member, "marketing", "sms")
    page = await browser.open("/console/consents")
    assert {"svg", "table", "title", "desc"} <= set(page.tags)
    assert "sms" in page.text
    assert at.member.id not in page.html


def test_bars_start_at_zero_and_share_a_scale():
    chart = bars([("a", "", 10, 5), ("b", "sms", 0, 20)])
    first, second = chart.rows
    assert second.first_width == 0
    assert second.second_width == 2 * first.first_width == 4 * first.second_width
    assert bars([]).rows == ()
    assert bars([("a", "", 0, 0)]).rows[0].first_width == 0


# --- the inbox ------------------------------------------------------------------------


async def test_an_approval_is_given_for_what_was_shown_and_never_by_the_asker(at):
    from kernel import Caller, RequestId
    from service.staff import ApprovalKind

    await at.runtime.staff.add(at.world.operator, "second", "dpo", brand="main", one_time=False)
    made = at.staff["dpo"]
    asker = Caller(made["staff_id"], "dpo", "console", "main", RequestId(new_id("req")))
    async with at.runtime.database.unit_of_work() as work:
        held = await at.runtime.approvals.request(
            work,
            asker,
            ApprovalKind.REFUSAL,
            "export",
            hashlib.sha256(b"x").digest(),
            now_us=at.runtime.clock.now_us(),
        )
    browser = await at.sign_in("dpo")
    page = await browser.open("/console/approvals")
    assert "You asked" in page.text
    assert not page.has_form(held.id)
    csrf = page.forms[0].fields["csrf"]
    forged = {"csrf": csrf, "bound": held.request_hash.hex(), "answer": "approve"}
    page = await browser.post(f"/console/approvals/{held.id}", forged)
    assert page.answer.status_code == 409
    second = await at.runtime.staff.reset(at.world.operator, "second")
    other = at.browser()
    await other.open("/console/sign-in?lang=en")
    await other.send("/console/sign-in?lang=en", name="second", password=second["password"])
    await other.send("/console/password", old=second["password"], new="three-lamps-ตามทาง")
    page = await other.open("/console/approvals")
    stale = {**page.form(held.id).fields, "bound": "00" * 32, "answer": "approve"}
    assert (await other.post(f"/console/approvals/{held.id}", stale)).answer.status_code == 409
    await other.open("/console/approvals")
    page = await other.send(f"/console/approvals/{held.id}", answer="approve")
    assert "Approved" in page.text


# --- keeping --------------------------------------------------------------------------


async def test_the_operator_sees_that_no_backup_is_configured(at):
    page = await (await at.sign_in("operator")).open("/console/backups")
    assert "No backup store is configured" in page.text


async def test_findings_are_counted_by_kind_and_name_nobody(at):
    member = await at.world.member_id(at.member)
    await at.world.execute(
        "INSERT INTO note_finding (id, member_id, field, kind, start_at, end_at, score, "
        "recogniser, found_us) VALUES ('x', :member, 'note', 'phone', 0, 10, 90, 'rule', 1)",
        member=member,
    )
    page = await (await at.sign_in("auditor")).open("/console/findings")
    assert "phone" in page.text
    assert member not in page.html
