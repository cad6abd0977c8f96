"""Every statement of every room, found where modules hold them."""

import importlib
import pkgutil
from collections.abc import Iterator

from kernel import Statement

ROOMS = (
    *("kernel", "vault", "audit", "policies", "consent", "members", "loyalty", "disclosure"),
    *("dsar", "backup", "service"),
)


def placed_statements() -> Iterator[tuple[str, Statement]]:
    """Give every statement that a module of any room holds, with its place."""
    for room in ROOMS:
        package = importlib.import_module(room)
        names = [room] + [
            found.name
            for found in pkgutil.walk_packages(package.__path__, f"{room}.")
            if ".migrations" not in found.name
        ]
        for name in names:
            for attribute, value in vars(importlib.import_module(name)).items():
                if isinstance(value, Statement):
                    yield f"{name}.{attribute}", value


def statements() -> Iterator[Statement]:
    """Give every statement that a module of any room holds."""
    for _, statement in placed_statements():
        yield statement
