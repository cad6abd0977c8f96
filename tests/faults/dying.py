"""A step of the product that kills its process, by SIGKILL, before it is done or right after."""

import functools
import importlib
import inspect
import os
import signal
from collections.abc import Callable
from typing import Any


def place_of(step: str) -> tuple[Any, str]:
    """Find `module:Class.function`: give what holds the function, and its name."""
    module, path = step.split(":")
    *outer, name = path.split(".")
    place: Any = importlib.import_module(module)
    for part in outer:
        place = getattr(place, part)
    return place, name


def die_at(
    place: Any,
    name: str,
    when: str,
    nth: int = 1,
    armed: Callable[[], bool] = lambda: True,
) -> None:
    """Let the nth call of a function that finds it armed kill the process `before` or `after`."""
    genuine = getattr(place, name)
    calls = 0

    def passed(moment: str) -> None:
        nonlocal calls
        if moment == when and armed():
            calls += 1
            if calls == nth:
                os.kill(os.getpid(), signal.SIGKILL)

    @functools.wraps(genuine)
    def at_once(*arguments: Any, **named: Any) -> Any:
        passed("before")
        answer = genuine(*arguments, **named)
        passed("after")
        return answer

    @functools.wraps(genuine)
    async def later(*arguments: Any, **named: Any) -> Any:
        passed("before")
        answer = await genuine(*arguments, **named)
        passed("after")
        return answer

    setattr(place, name, later if inspect.iscoroutinefunction(genuine) else at_once)
