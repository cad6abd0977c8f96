"""The scene of the demo: the internal apps, the staff, and where their credentials lie."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from service.demo.stage import Api, Stage
from service.runtime import Runtime
from service.settings import Settings
from service.staff import make_staff
from service.tasks import system_caller
from vault import write_private

CLIENTS: Mapping[str, tuple[str, ...]] = {
    "crm": (
        "members:write",
        "members:introduce",
        "members:search",
        "duplicates:read",
        "audit:read",
        "rights-requests:open",
        "purpose:membership",
        "purpose:marketing",
    ),
    "till": ("loyalty:write", "purpose:membership"),
    "sender": (
        "audiences:export",
        "changes:read",
        "suppressions:read",
        "webhooks:manage",
        "purpose:marketing",
    ),
    "desk": ("rights-requests:handle", "purpose:membership"),
    "cdp": ("audiences:query", "changes:read", "purpose:analytics", "purpose:profiling"),
}


@dataclass(slots=True)
class Scene:
    """Who plays, and on which open registry.

    `port` is that of the story; `base_url` is where the registry is to be found after it.
    """

    stage: Stage
    runtime: Runtime
    settings: Settings
    port: int
    base_url: str
    clients: dict[str, dict[str, Any]] = field(default_factory=dict)
    staff: dict[str, dict[str, Any]] = field(default_factory=dict)

    def api(self, name: str) -> Api:
        """Give a client for one of the internal apps."""
        return Api(self.port, self.clients[name])

    def code_for(self, contact_point: str) -> str:
        """Give the code that went out last to a contact point."""
        lines = self.settings.outbox_file.read_bytes().splitlines()
        codes = [orjson.loads(line) for line in lines]
        mine = (c for c in reversed(codes) if c["contact_point"] == contact_point and "code" in c)
        return str(next(mine)["code"])


async def set_the_scene(scene: Scene, credentials_file: Path) -> None:
    """Make the internal apps, or take those of an earlier demo in the same place."""
    scene.stage.step("Five internal apps, each with the purposes its work needs")
    scene.clients, scene.staff = _known(credentials_file)
    if not scene.staff:
        scene.staff = await make_staff(
            scene.runtime.staff, system_caller("cli"), brand=scene.settings.brand
        )
    if not scene.clients:
        for name, scopes in CLIENTS.items():
            scene.clients[name] = await scene.runtime.clients.add(
                system_caller("cli"), name, scopes, brand=scene.settings.brand
            )
    write_private(
        credentials_file,
        orjson.dumps(
            {
                "base_url": scene.base_url,
                "clients": scene.clients,
                "staff": scene.staff,
                "outbox": str(scene.settings.outbox_file.absolute()),
            },
            option=orjson.OPT_INDENT_2,
        ),
        replace=True,
    )
    scene.stage.table(
        ["app", "scopes"],
        [[name, " ".join(c["scopes"])] for name, c in scene.clients.items()],
    )
    scene.stage.done(f"and one account for each role of the staff: {', '.join(scene.staff)}")


def _known(credentials_file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give the apps and the staff of an earlier demo in the same place."""
    if not credentials_file.exists():
        return {}, {}
    known: dict[str, Any] = orjson.loads(credentials_file.read_bytes())
    return known["clients"], known["staff"]
