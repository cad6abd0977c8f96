"""The rights of a member: who read my data, a copy of it, and being erased."""

import asyncio
import http.client
import io
import zipfile
from typing import Any

import orjson

from dsar import verify_certificate
from service.demo.campaign import Joined
from service.demo.officer import Officer
from service.demo.receiver import Receiver
from service.demo.scene import Scene
from service.demo.stage import Api, DemoError, expect, view_path

REQUESTS = "/v1/rights-requests"
_ATTEMPTS = 200
_PAUSE_SECONDS = 0.2


async def who_read(scene: Scene, crm: Api, member: str) -> None:
    """Show the member who read her data."""
    scene.stage.step("Who read my data?")
    answer = expect(await crm.call("GET", f"/v1/members/{member}/disclosures"), 200, "disclosures")
    names = {client["client_id"]: name for name, client in scene.clients.items()}
    scene.stage.table(
        ["when (UTC)", "who", "purpose", "fields", "decision"],
        [
            [
                reading["at"][:19],
                names.get(reading["by"]["id"], reading["by"]["role"]),
                reading["purpose"],
                ", ".join(reading["fields"]) or "—",
                reading["reason"] or reading["decision"],
            ]
            for reading in answer["disclosures"]
        ],
    )


async def ask(
    scene: Scene, crm: Api, member: str, point: str, right: str, **details: str
) -> tuple[dict[str, Any], str]:
    """Open a request and prove who asks; gives it and its path."""
    body = {"member": member, "right": right, "details": details}
    request = expect(await crm.call("POST", REQUESTS, body), 201, "rights request")
    path = f"{REQUESTS}/{request['id']}"
    expect(await crm.call("POST", f"{path}:verify", {"contact_point": point}), 200, "code")
    code = {"contact_point": point, "code": scene.code_for(point)}
    expect(await crm.call("POST", f"{path}:verify", code), 200, "proof")
    return request, path


async def copy(
    scene: Scene, crm: Api, desk: Api, officer: Officer, member: str, point: str
) -> None:
    """Let her ask for a copy of her data, and the officer see to it."""
    scene.stage.step("Somying asks for a copy of everything; the law's clock starts")
    request, path = await ask(scene, crm, member, point, "access", lang="en")
    introduction = {"to": scene.clients["desk"]["client_id"]}
    expect(await crm.call("POST", f"/v1/members/{member}:introduce", introduction), 200, "meet")
    law = request["law"]
    scene.stage.done(f"{request['id']}, due {request['safe_due']} by {law['source']}")
    await officer.send(f"/console/requests/{request['id']}", {"step": "fulfil"})
    archive = await _download(desk, f"{path}/export")
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        names = sorted(opened.namelist())
        held = orjson.loads(opened.read("data.json"))
    scene.stage.done(f"downloaded once: {', '.join(names)} ({len(held)} parts)")
    again, _ = await desk.fetch(f"{path}/export")
    if again != http.client.NOT_FOUND:
        raise DemoError("a copy could be downloaded twice")
    scene.stage.done("the second download: 404, the copy is gone")


async def erase(
    scene: Scene,
    crm: Api,
    desk: Api,
    officer: Officer,
    member: str,
    point: str,
) -> dict[str, Any]:
    """Let her ask to be erased; gives the request as it ended."""
    scene.stage.step("She asks to be erased; her keys are destroyed and nothing opens")
    request, path = await ask(scene, crm, member, point, "erasure", ground="no_longer_needed")
    plan = expect(await desk.call("GET", f"{path}/plan"), 200, "plan")
    scene.stage.table(
        ["what", "result", "until", "law"],
        [
            [one["what"], one["result"], one.get("until") or "—", one.get("law") or "—"]
            for one in plan["results"]
        ],
    )
    await officer.send(f"/console/requests/{request['id']}", {"step": "fulfil"})
    done = expect(await desk.call("GET", path), 200, "erasure")
    if done["state"] not in {"fulfilled", "partly_fulfilled"}:
        raise DemoError("the erasure did not end")
    scene.stage.done(f"{done['state']}; whom the request was about is forgotten too")
    return done


async def wait(scene: Scene, crm: Api, joined: Joined) -> None:
    """Open one more request, which stays in the officer's queue."""
    request, _ = await ask(scene, crm, joined.id, joined.point, "portability", lang="th")
    scene.stage.done(
        f"another waits in the queue of the console: {request['right']}, due {request['safe_due']}"
    )


async def gone(
    scene: Scene, crm: Api, sender: Api, receiver: Receiver, member: str, known: str
) -> None:
    """Show that nobody reads her any more, and that the sender was told."""
    told = await asyncio.to_thread(receiver.next_about, "member.erased", known)
    scene.stage.done(f"webhook, signature verified: {told['type']} {told['data']['id']}")
    answer = expect(
        await sender.call("GET", view_path(known, "marketing", "sms")), 404, "read after erasure"
    )
    scene.stage.done(f"sender: 404 {answer['reason']}")
    answer = expect(
        await crm.call("GET", view_path(member, "membership", None)), 404, "read after erasure"
    )
    scene.stage.done(f"crm: 404 {answer['reason']}")


async def certify(scene: Scene, desk: Api, request: dict[str, Any]) -> None:
    """Fetch the certificate and verify it as a stranger would."""
    status, note = await desk.fetch(f"{REQUESTS}/{request['id']}/certificate")
    if status != http.client.OK:
        raise DemoError("there is no certificate of the erasure")
    said = verify_certificate(note.decode(), scene.runtime.audit.vkey)
    scene.stage.done(f"certificate, checked offline: {said['request']['id']}")


async def _download(desk: Api, path: str) -> bytes:
    """Wait until the worker has made the copy, and take it."""
    for _ in range(_ATTEMPTS):
        status, data = await desk.fetch(path)
        if status == http.client.OK:
            return data
        await asyncio.sleep(_PAUSE_SECONDS)
    raise DemoError("the copy was not made in time")
