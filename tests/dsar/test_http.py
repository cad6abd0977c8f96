"""Rights requests as apps see them over HTTP: the whole path, and what is refused on it."""

import io
import json
import zipfile

import pytest

from dsar import verify_certificate
from kernel import Caller, RequestId, new_id
from service.tasks import system_caller
from tests.support.world import EVERYTHING

pytestmark = pytest.mark.anyio

HANDLER = (
    *EVERYTHING,
    "rights-requests:open",
    "rights-requests:handle",
    "restrictions:write",
    "governance:read",
)
PATH = "/v1/rights-requests"


@pytest.fixture
async def desk(world):
    """An app that opens and handles requests."""
    return await world.app("desk", *HANDLER, person="ann")


@pytest.fixture
async def member(desk):
    return await desk.register(given_name="สมหญิง", phone="081-234-5678")


async def opened(app, member, right="access", **details):
    answer = await app.post(PATH, {"member": member.id, "right": right, "details": details})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def proven(app, request):
    point = request["contact_points"][0]["id"]
    path = f"{PATH}/{request['id']}:verify"
    assert (await app.post(path, {"contact_point": point})).status_code == 200
    body = {"contact_point": point, "code": app.world.code_for(point)}
    return await app.post(path, body)


async def work(app):
    """Let the worker do what waits for it."""
    while await app.world.runtime.worker.run_one():
        pass


async def test_a_copy_from_the_request_to_the_download(world, desk, member):
    request = await opened(desk, member, lang="en")
    assert request["state"] == "identity_pending"
    assert request["law"]["source"] == "PDPA s.30 para 4"
    path = f"{PATH}/{request['id']}"
    assert (await desk.post(f"{path}:fulfil")).status_code == 403
    assert (await desk.get(f"{path}/export")).status_code == 403
    assert (await proven(desk, request)).json()["state"] == "verified"
    assert (await desk.post(f"{path}:fulfil")).json()["state"] == "in_progress"
    assert (await desk.get(f"{path}/export")).status_code == 404
    await work(desk)
    done = (await desk.get(path)).json()
    assert (done["state"], done["member"]) == ("fulfilled", member.id)
    answer = await desk.get(f"{path}/export")
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["cache-control"] == "no-store"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert "สมหญิง" in archive.read("data.json").decode()
    replay = await desk.get(f"{path}/export")
    assert (replay.status_code, replay.json()["reason"]) == (404, "export_gone")


async def test_an_app_that_does_not_know_the_member_fetches_nobodys_copy(world, desk, member):
    stranger = await world.app("stranger", *HANDLER)
    request = await opened(desk, member)
    path = f"{PATH}/{request['id']}"
    await proven(desk, request)
    await desk.post(f"{path}:fulfil")
    await work(desk)
    assert (await stranger.get(f"{path}/export")).status_code == 404
    assert (await desk.get(f"{path}/export")).status_code == 200


async def test_an_erasure_from_the_plan_to_the_certificate(world, desk, member):
    request = await opened(desk, member, "erasure", ground="no_longer_needed")
    path = f"{PATH}/{request['id']}"
    assert (await desk.get(f"{path}/plan")).status_code == 403
    await proven(desk, request)
    plan = (await desk.get(f"{path}/plan")).json()
    assert plan["whole"] is True
    assert (await desk.get(f"{path}/certificate")).status_code == 409
    done = (await desk.post(f"{path}:fulfil")).json()
    assert (done["state"], done["member"]) == ("fulfilled", None)
    assert done["results"][: len(plan["results"])] == plan["results"]
    assert (await desk.view(member)).status_code == 404
    note = (await desk.get(f"{path}/certificate")).text
    key = (await desk.get("/v1/audit/key")).text
    assert verify_certificate(note, key)["request"]["id"] == request["id"]


@pytest.mark.parametrize(
    ("first", "second"), [(None, None), ("ann", None), (None, "bob"), ("ann", "ann")]
)
async def test_another_client_is_no_second_person_unless_both_are_known_to_be_somebody(
    world, desk, member, first, second
):
    apps = [
        await world.app(name, *HANDLER, person=person)
        for name, person in (("one", first), ("two", second))
    ]  # each with a secret of its own, and nothing to say in whose hands
    request = await opened(desk, member)
    path = f"{PATH}/{request['id']}"
    assert (await apps[0].post(f"{path}:refuse", {"reason": "third_party"})).status_code == 200
    answer = await apps[1].post(f"{path}:refuse", {"reason": "third_party"})
    assert (answer.status_code, answer.json()["reason"]) == (403, "second_person_needed")
    assert (await desk.get(path)).json()["state"] == "identity_pending"


async def test_a_client_never_seconds_what_somebody_of_the_staff_proposed(world, desk, member):
    add = world.runtime.staff.add
    ann = await add(world.operator, "ann", "dpo", brand="main", person="ann", one_time=False)
    bob = await world.app("bob", *HANDLER, person="bob")
    request = await opened(desk, member)
    caller = Caller(ann["staff_id"], "dpo", "console", "main", RequestId(new_id("req")))
    runtime = world.runtime
    async with runtime.database.unit_of_work() as work:
        await runtime.rights_requests.refuse(
            work, caller, request["id"], "third_party", now_us=runtime.clock.now_us()
        )
    for app in (bob, desk):
        answer = await app.post(f"{PATH}/{request['id']}:refuse", {"reason": "third_party"})
        assert (answer.status_code, answer.json()["reason"]) == (403, "second_person_needed")


async def test_a_refusal_tells_why_by_which_law_and_where_to_complain(world, desk, member):
    second = await world.app("second", *HANDLER, person="bob")
    request = await opened(desk, member)
    path = f"{PATH}/{request['id']}"
    body = {"reason": "third_party"}
    proposed = (await desk.post(f"{path}:refuse", body)).json()
    assert (proposed["state"], proposed["refusal_proposed"]) == ("identity_pending", "third_party")
    alone = await desk.post(f"{path}:refuse", body)
    assert (alone.status_code, alone.json()["reason"]) == (403, "second_person_needed")
    refused = (await second.post(f"{path}:refuse", body)).json()
    assert refused["state"] == "refused"
    assert refused["refusal"]["law"] == "PDPA s.30 para 2, s.31 para 3"
    assert "PDPC" in refused["refusal"]["complain_to"]["en"]
    register = (await desk.get("/v1/refusals")).json()["requests"]
    assert [one["id"] for one in register] == [request["id"]]
    assert (await desk.post(f"{path}:fulfil")).status_code == 409


async def test_an_app_that_may_only_open_reads_and_decides_nothing(world, desk, member):
    opener = await world.app("opener", *EVERYTHING, "rights-requests:open")
    request = await opened(desk, member)
    path = f"{PATH}/{request['id']}"
    for method, place, body in (
        ("GET", PATH, None),
        ("GET", path, None),
        ("GET", f"{path}/plan", None),
        ("GET", f"{path}/certificate", None),
        ("GET", "/v1/refusals", None),
        ("POST", f"{path}:fulfil", None),
        ("POST", f"{path}:pause", None),
        ("POST", f"{path}:resume", None),
        ("POST", f"{path}:extend", {"reason": "complexity"}),
        ("POST", f"{path}:refuse", {"reason": "third_party"}),
        ("POST", "/v1/restrictions", {"member": member.id, "ground": "unlawful"}),
    ):
        answer = await opener.request(method, place, json=body)
        assert answer.status_code == 403, (method, place, answer.text)


async def test_another_brand_sees_nothing_of_a_request(world, desk, member):
    other = await world.app("other", *HANDLER, brand="other")
    request = await opened(desk, member)
    path = f"{PATH}/{request['id']}"
    assert (await other.get(PATH)).json()["requests"] == []
    for place in (path, f"{path}/plan", f"{path}/export", f"{path}/certificate"):
        assert (await other.get(place)).status_code == 404
    for step in ("fulfil", "pause", "resume"):
        assert (await other.post(f"{path}:{step}")).status_code == 404


async def test_a_wrong_code_is_refused_and_a_repeated_request_is_opened_once(world, desk, member):
    body = {"member": member.id, "right": "access"}
    headers = {"Idempotency-Key": "once"}
    first = await desk.post(PATH, body, headers=headers)
    again = await desk.post(PATH, body, headers=headers)
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"
    point = first.json()["contact_points"][0]["id"]
    code = f"{(int(world.code_for(point)) + 1) % 1_000_000:06}"
    answer = await desk.post(
        f"{PATH}/{first.json()['id']}:verify", {"contact_point": point, "code": code}
    )
    assert (answer.status_code, answer.json()["reason"]) == (403, "code_wrong")


async def test_a_correction_repeats_no_value_in_any_answer(world, desk, member):
    details = {"fields": {"family_name": "ใจงามมาก"}, "formats": {"phone_region": "TH"}}
    request = await opened(desk, member, "rectification", **details)
    answer = await proven(desk, request)
    path = f"{PATH}/{request['id']}"
    texts = [json.dumps(request), answer.text, (await desk.post(f"{path}:fulfil")).text]
    await work(desk)
    texts += [(await desk.get(path)).text, (await desk.get(PATH)).text]
    assert not any("ใจงาม" in text or "\\u0e43\\u0e08\\u0e07" in text for text in texts)
    view = await desk.view(member, fields="family_name")
    assert view.json()["data"]["family_name"] == "ใจงามมาก"


async def test_a_restriction_over_http_begins_and_ends(world, desk, member):
    body = {"member": member.id, "ground": "accuracy_contested", "until": "2030-01-31"}
    made = (await desk.post("/v1/restrictions", body)).json()
    assert (made["ended"], made["until"]) == (False, "2030-01-31T17:00:00.000000Z")
    assert (await desk.view(member)).status_code == 423
    other = await world.app("other", *HANDLER, brand="other")
    assert (await other.request("DELETE", f"/v1/restrictions/{made['id']}")).status_code == 404
    ended = await desk.request("DELETE", f"/v1/restrictions/{made['id']}")
    assert ended.json()["ended"] is True
    assert (await desk.view(member)).status_code == 200
    late = {**body, "until": "2020-01-31"}
    assert (await desk.post("/v1/restrictions", late)).status_code == 422


async def test_the_queue_is_paged_and_filtered_by_state(world, desk, member):
    for _ in range(3):
        await opened(desk, member)
    pending = (await desk.get(PATH, params={"state": "identity_pending"})).json()
    assert (len(pending["requests"]), pending["next_cursor"]) == (3, None)
    assert (await desk.get(PATH, params={"state": "refused"})).json()["requests"] == []
    assert (await desk.get(PATH, params={"state": "lost"})).status_code == 422


async def test_the_worker_asks_who_has_heard_of_an_erasure(world, desk, member):
    request = await opened(desk, member, "erasure")
    await proven(desk, request)
    await desk.post(f"{PATH}/{request['id']}:fulfil")
    rows = await world.fetch("SELECT id, payload FROM job WHERE kind = 'rights_consumers'")
    payload = json.loads(bytes(rows[0]["payload"]))
    await world.runtime.rights_requests.ask_consumers(
        world.operator, payload["request_id"], payload["member_id"], payload["looks"]
    )
    async with world.runtime.database.read() as session:
        found = await world.runtime.rights_requests.read(session, request["id"])
    assert [one["state"] for one in found.outcome["consumers"]] == ["no_webhook"]
    assert (
        await world.runtime.rights_requests.carry_out(request["id"], system_caller("worker"))
        is None
    )
