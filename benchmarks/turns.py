"""Small pieces of code measured in turn, by the CPU time of this process.

Everybody runs in every round, in a rotated order, so neighbours' load and clock speed fall on
all alike; a ratio is taken inside one round before the median over rounds is.
"""

import gc
import statistics
import time
from collections.abc import Callable, Mapping

from benchmarks.report import table

ROUND_SECONDS = 0.02


class Turns:
    """Contenders by name, each with how many units one call of it does, and their figures."""

    def __init__(self, contenders: Mapping[str, tuple[Callable[[], object], int]]) -> None:
        self._contenders = dict(contenders)
        self._found: dict[str, list[float]] = {name: [] for name in contenders}

    def run(self, rounds: int) -> "Turns":
        """Measure everybody `rounds` times; the first, unmeasured turn finds how often to call."""
        times = {name: _calls(call) for name, (call, _) in self._contenders.items()}
        order = list(self._contenders)
        for number in range(rounds):
            for name in order[number % len(order) :] + order[: number % len(order)]:
                call, units = self._contenders[name]
                gc.collect(0)
                spent = _spent(call, times[name])
                self._found[name].append(spent / times[name] / units)
        return self

    def us(self, name: str) -> float:
        """Give the median CPU time of one unit in µs."""
        return statistics.median(self._found[name]) / 1000

    def ratio(self, name: str, to: str) -> float:
        """Give the median over rounds of one contender's time by another's."""
        pairs = zip(self._found[name], self._found[to], strict=True)
        return statistics.median(one / other for one, other in pairs)

    def table(self, base: str) -> str:
        """Write everybody's median and ratio to one of them as a Markdown table."""
        rows = [
            [name, f"{self.us(name):.2f}", f"{self.ratio(name, base):.2f}"]
            for name in self._contenders
        ]
        return table(["what", "µs CPU", f"ratio to {base}"], rows)


def _spent(call: Callable[[], object], times: int) -> int:
    begun = time.process_time_ns()
    for _ in range(times):
        call()
    return time.process_time_ns() - begun


def _calls(call: Callable[[], object]) -> int:
    times = 1
    while (spent := _spent(call, times)) < ROUND_SECONDS * 1e9 / 4:
        times *= 2
    return max(1, int(times * ROUND_SECONDS * 1e9 / spent))
