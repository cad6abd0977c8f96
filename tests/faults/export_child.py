"""A process that exports an audience, in chunks of a few, until a step of a chunk kills it.

`export_child.py STEP WHEN NTH DATA_DIR [URL]`: the process ends by SIGKILL before the step of the
chunk of that number or after it; with `-` for a step it exports on until somebody else kills it.
Each line on its output is something that the registry had handed out when it was written.
"""

import asyncio
import json
import sys
from collections.abc import MutableMapping
from typing import Any

from disclosure import audience
from kernel.logging import configure_logging
from tests.faults.child import settings_of, tell
from tests.faults.dying import die_at, place_of
from tests.support.world import App, World, open_world

STEPS = {
    "event": "audit.bulk:append_event",
    "rows": "audit.bulk:add_manifest",
    "decided": "disclosure.service:record_bulk",
    "opening": "disclosure.opening:Opening.open",
    "chunk": "disclosure.audience:Audiences.chunk",
    "handing out": "tests.faults.export_child:hand_out",
}
"""What is done for each chunk one after the other; its events commit between the third and fourth."""
IN_CHUNK = 5
SCOPES = ("purpose:marketing", "audiences:export")


def hand_out(data: bytes) -> None:
    """Be the client that reads: what came this far has left the registry."""
    for line in data.splitlines():
        tell(out=json.loads(line))


async def export(world: World, app: App) -> None:
    """Ask for the whole audience, over the registry's own door, and read to the end."""
    asked = False

    async def receive() -> MutableMapping[str, Any]:
        nonlocal asked
        if asked:
            await asyncio.sleep(3_600)
        asked = True
        body = json.dumps({"purpose": "marketing", "channel": "sms"}).encode()
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 200
        elif message.get("body"):
            # By the name in its module, where the step that kills has been put.
            sys.modules["tests.faults.export_child"].hand_out(message["body"])

    path = "/v1/audiences:export"
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [
            (b"authorization", f"Bearer {app.token}".encode()),
            (b"content-type", b"application/json"),
        ],
        "client": ("127.0.0.1", 1),
        "server": ("registry", 80),
    }
    await world.edge(scope, receive, send)


async def main(step: str, when: str, nth: int, data_dir: str, url: str = "") -> None:
    configure_logging("error")
    audience._MEMBERS_IN_CHUNK = IN_CHUNK
    async with open_world(settings_of(data_dir, url)) as world:
        made = await world.runtime.clients.list()
        app = await world.app(f"sender-{len(made)}", *SCOPES)
        tell(client=app.id)
        if step != "-":
            die_at(*place_of(STEPS[step]), when, nth)
        while True:
            await export(world, app)


if __name__ == "__main__":
    from tests.faults.export_child import main as run

    asyncio.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:]))
