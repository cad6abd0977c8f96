"""The scene of the demo: the internal apps, the staff, and where their credentials lie."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from service.demo.stage import HOST, Api, Stage
from service.runtime import Runtime
from service.settings import Settings
from service.tasks import system_caller
from vault import write_private

CLIENTS: Mapping[str, tuple[str, ...]] = {
    "crm": (
        "members:write",
        "members:introduce",
        "duplicates:read",
        "audit:read",
        "purpose:membership",
        "purpose:marketing",
    ),
    "till": ("purpose:membership",),
    "sender": ("purpose:marketing",),
    "cdp": ("purpose:analytics", "purpose:profiling"),
}


@dataclass(slots=True)
class Scene:
    """Who plays, and on which open registry."""

    stage: Stage
    runtime: Runtime
    settings: Settings
    port: int
    clients: dict[str, dict[str, Any]] = field(default_factory=dict)

    def api(self, name: str) -> Api:
        """Give a client for one of the internal apps."""
        return Api(self.port, self.clients[name])


async def set_the_scene(scene: Scene, credentials_file: Path) -> None:
    """Make the internal apps, or take those of an earlier demo in the same place."""
    scene.stage.step("Four internal apps, each with the purposes its work needs")
    scene.clients = _known_clients(credentials_file)
    if not scene.clients:
        for name, scopes in CLIENTS.items():
            scene.clients[name] = await scene.runtime.clients.add(
                system_caller("cli"), name, scopes, brand=scene.settings.brand
            )
    write_private(
        credentials_file,
        orjson.dumps(
            {
                "base_url": f"http://{HOST}:{scene.port}",
                "clients": scene.clients,
                "staff": {},
                "outbox": str(scene.settings.outbox_file),
            },
            option=orjson.OPT_INDENT_2,
        ),
        replace=True,
    )
    scene.stage.table(
        ["app", "scopes"],
        [[name, " ".join(c["scopes"])] for name, c in scene.clients.items()],
    )


def _known_clients(credentials_file: Path) -> dict[str, dict[str, Any]]:
    """Give the clients of an earlier demo in the same place."""
    if not credentials_file.exists():
        return {}
    known: dict[str, dict[str, Any]] = orjson.loads(credentials_file.read_bytes())["clients"]
    return known
