"""Rights requests at the console: the queue with its clock, each step, and the second person."""

import re

import pytest

from dsar import Right, Via
from service.staff.approvals import GOOD_FOR_US
from tests.support.console import office
from tests.support.portal import PERSONAL, PHONE
from tests.support.requests import Desk
from tests.support.world import DAY_US, JumpingClock

pytestmark = pytest.mark.anyio


@pytest.fixture
async def at(settings):
    async with office(settings, clock=JumpingClock()) as opened:
        made = await opened.runtime.staff.add(
            opened.world.operator, "second", "dpo", brand="main", one_time=False
        )
        opened.staff["second"] = made
        opened.desk = Desk(opened.world)
        yield opened


async def request_of(at, right=Right.ACCESS, **details):
    member = await at.world.member_id(at.member)
    return await at.desk.open(member, right, **details)


async def page_of(browser, request):
    return await browser.open(f"/console/requests/{request.id}")


async def step(browser, request, name, **typed):
    await page_of(browser, request)
    csrf = browser.page.form("sign-out").fields["csrf"]
    fields = {"csrf": csrf, "step": name, **typed}
    return await browser.post(f"/console/requests/{request.id}", fields)


# --- the queue ------------------------------------------------------------------------


async def test_the_queue_is_sorted_by_the_safe_day_and_says_what_is_late(at):
    first = await request_of(at, Right.ERASURE)
    second = await request_of(at, Right.ACCESS)
    browser = await at.sign_in("dpo")
    page = await browser.open("/console/requests")
    places = [link for link in page.links if link.startswith("/console/requests/rr_")]
    wanted = sorted((first, second), key=lambda one: one.safe_due)
    assert places == [f"/console/requests/{one.id}" for one in wanted]
    at.runtime.clock.jump_us = 200 * DAY_US
    page = await (await at.sign_in("dpo")).open("/console/requests")
    assert "days late" in page.text


async def test_an_ended_request_is_found_by_its_state_only(at):
    done = await request_of(at, Right.OBJECTION)
    browser = await at.sign_in("dpo")
    place = f"/console/requests/{done.id}"
    assert place not in (await browser.open("/console/requests")).links
    page = await browser.open(f"/console/requests?state={done.state.value}")
    assert place in page.links


async def test_looking_at_a_request_is_an_event_and_shows_no_value(at):
    request = await request_of(at, Right.ERASURE)
    browser = await at.sign_in("dpo")
    page = await page_of(browser, request)
    assert "What an erasure will do" in page.text
    assert not any(value in page.html for value in PERSONAL)
    (event,) = await at.world.events("rights_request.view")
    assert event["resource"] == f"rights_request:{request.id}"


@pytest.mark.parametrize("name", ["rr_x", "x", "rr_01m83h7c99ekmr7rn3an80jz28"])
async def test_a_request_nobody_made_is_a_calm_page(at, name):
    browser = await at.sign_in("dpo")
    assert (await browser.open(f"/console/requests/{name}")).answer.status_code == 404


# --- steps ----------------------------------------------------------------------------


async def test_a_request_is_taken_up_paused_resumed_extended_and_fulfilled(at):
    request = await request_of(at, Right.RESTRICTION, details={"ground": "unlawful"})
    browser = await at.sign_in("dpo")
    for name in ("take_up", "pause", "resume", "fulfil"):
        page = await step(browser, request, name)
        assert page.answer.status_code == 200, (name, page.text)
    assert (await at.desk.read(request)).state.value == "fulfilled"
    acted = [e for e in await at.world.events() if e["actor"]["id"] == at.staff["dpo"]["staff_id"]]
    assert {"rights_request.take_up", "rights_request.pause"} <= {e["action"] for e in acted}


@pytest.mark.parametrize("name", ["resume", "nothing", "", "extend"])
async def test_a_step_that_the_state_does_not_allow_changes_nothing(at, name):
    request = await request_of(at)
    browser = await at.sign_in("dpo")
    page = await step(browser, request, name, reason="no such reason")
    assert page.answer.status_code in {404, 409, 422}
    assert (await at.desk.read(request)).version == request.version


async def test_a_refusal_needs_a_second_person_and_stands_in_the_register(at):
    request = await request_of(at)
    browser = await at.sign_in("dpo")
    await step(browser, request, "refuse", reason="third_party")
    own = await step(browser, request, "refuse", reason="third_party")
    assert own.answer.status_code == 409
    assert "Nobody approves their own request" in own.text
    (refused,) = await at.world.events("approval.answer")
    assert (refused["decision"], refused["reason"]) == ("deny", "own_request")
    other = await at.sign_in("second")
    assert f"/console/requests/{request.id}" in (await other.open("/console/approvals")).links
    assert "A refusal was proposed" in (await page_of(other, request)).text
    wrong = await step(other, request, "refuse", reason="legal_obligation")
    assert wrong.answer.status_code == 409
    assert (await at.desk.read(request)).state.value != "refused"
    await step(other, request, "refuse", reason="third_party")
    assert (await at.desk.read(request)).state.value == "refused"
    page = await (await at.sign_in("auditor")).open("/console/refusals")
    assert "third_party" in page.text
    assert await at.world.member_id(at.member) not in page.html


async def test_a_second_account_of_the_proposer_does_not_approve_a_refusal(at):
    for name in ("ann", "ann-too"):
        at.staff[name] = await at.runtime.staff.add(
            at.world.operator, name, "dpo", brand="main", person="p17", one_time=False
        )
    request = await request_of(at)
    await step(await at.sign_in("ann"), request, "refuse", reason="third_party")
    page = await step(await at.sign_in("ann-too"), request, "refuse", reason="third_party")
    assert page.answer.status_code == 409
    (refused,) = await at.world.events("approval.answer")
    assert refused["actor"]["id"] == at.staff["ann-too"]["staff_id"]
    assert (await at.desk.read(request)).state.value != "refused"


@pytest.mark.parametrize(("holder", "ends"), [(None, False), ("p17", False), ("p18", True)])
async def test_what_a_client_proposed_is_seconded_by_another_person_or_proposed_anew(
    at, holder, ends
):
    at.staff["ann"] = await at.runtime.staff.add(
        at.world.operator, "ann", "dpo", brand="main", person="p17", one_time=False
    )
    app = await at.world.app("handler", "rights-requests:handle", person=holder)
    request = await request_of(at)
    path = f"/v1/rights-requests/{request.id}:refuse"
    assert (await app.post(path, {"reason": "third_party"})).status_code == 200
    await step(await at.sign_in("ann"), request, "refuse", reason="third_party")
    found = await at.desk.read(request)
    assert (found.state.value == "refused") is ends
    if not ends:
        assert found.proposed_by == at.staff["ann"]["staff_id"]
        assert len(await at.world.events("rights_request.drop_proposal")) == 1
        assert (await app.post(path, {"reason": "third_party"})).status_code == 403


@pytest.mark.parametrize("end", ["declined", "run out"])
async def test_a_refusal_that_nobody_approved_falls_and_is_proposed_anew(at, end):
    request = await request_of(at)
    await step(await at.sign_in("dpo"), request, "refuse", reason="third_party")
    other = await at.sign_in("second")
    if end == "declined":
        (held,) = await at.world.fetch("SELECT id, request_hash FROM approval")
        csrf = other.page.form("sign-out").fields["csrf"]
        bound = bytes(held["request_hash"]).hex()
        fields = {"csrf": csrf, "bound": bound, "answer": "decline"}
        page = await other.post(f"/console/approvals/{held['id']}", fields)
        assert page.answer.status_code == 200, page.text
    else:
        at.runtime.clock.jump_us = GOOD_FOR_US
        other = await at.sign_in("second")
    assert "A refusal was proposed" not in (await page_of(other, request)).text
    await step(other, request, "refuse", reason="legal_obligation")
    found = await at.desk.read(request)
    assert (found.state.value, found.proposed_by) == ("verified", at.staff["second"]["staff_id"])
    assert len(await at.world.events("rights_request.drop_proposal")) == 1
    page = await step(await at.sign_in("dpo"), request, "refuse", reason="legal_obligation")
    assert page.answer.status_code == 200, page.text
    assert (await at.desk.read(request)).state.value == "refused"


async def test_the_first_page_counts_requests_of_ones_own_brand_only(at):
    await request_of(at)
    at.staff["away"] = await at.runtime.staff.add(
        at.world.operator, "away", "dpo", brand="elsewhere", one_time=False
    )
    waiting = []
    for name in ("dpo", "away"):
        page = await (await at.sign_in(name)).open("/console/")
        waiting.append(re.search(r'class="num">(\d+)', page.html)[1])
    assert waiting == ["1", "0"]


async def test_a_request_is_opened_at_the_counter_from_the_page_that_found_the_member(at):
    for role in ("dpo", "clerk"):
        browser = await at.sign_in(role)
        await browser.open("/console/members")
        await browser.send("/console/members", kind="phone", value=PHONE, region="TH")
        page = await browser.send(
            "/console/requests/open", right="access", checked="id_document_seen"
        )
        opened = (await at.world.events("rights_request.open"))[-1]
        assert opened["actor"]["id"] == at.staff[role]["staff_id"]
        assert opened["resource"].partition(":")[2] in page.html
        assert page.url.path.startswith(
            "/console/requests/rr_" if role == "dpo" else "/console/members"
        )


@pytest.mark.parametrize("wrong", [{"member": "mem_x"}, {"right": "all"}, {"checked": "no"}])
async def test_a_counter_form_with_a_hole_opens_nothing(at, wrong):
    browser = await at.sign_in("dpo")
    fields = {
        "csrf": browser.page.form("sign-out").fields["csrf"],
        "member": await at.world.member_id(at.member),
        "right": "access",
        "checked": "id_document_seen",
        **wrong,
    }
    page = await browser.post("/console/requests/open", fields)
    assert page.answer.status_code == 422
    assert await at.world.events("rights_request.open") == []


@pytest.mark.parametrize("role", ["auditor", "admin", "operator", "marketer", "clerk"])
async def test_no_other_role_sees_or_handles_a_request(at, role):
    request = await request_of(at, via=Via.PORTAL)
    browser = await at.sign_in(role)
    csrf = browser.page.form("sign-out").fields["csrf"]
    place = f"/console/requests/{request.id}"
    assert (await browser.open(place)).answer.status_code == 403
    assert (await browser.open(f"{place}/certificate")).answer.status_code == 403
    answer = await browser.post(place, {"csrf": csrf, "step": "fulfil"})
    assert answer.answer.status_code == 403


async def test_the_certificate_of_an_ended_request_is_handed_out_on_record(at):
    request = await request_of(
        at, Right.ERASURE, via=Via.COUNTER, details={"checked": "called_back"}
    )
    browser = await at.sign_in("dpo")
    early = await browser.open(f"/console/requests/{request.id}/certificate")
    assert early.answer.status_code == 409
    await step(browser, request, "fulfil")
    page = await browser.open(f"/console/requests/{request.id}/certificate")
    assert page.answer.status_code == 200, page.text
    assert "attachment" in page.answer.headers["content-disposition"]
    assert len(await at.world.events("rights_request.certificate")) == 1
