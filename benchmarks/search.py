"""Searching a piece of a name among a million, with nothing searchable at rest.

Against a regular expression over a list of the same names and, where SQLite was built with it,
an FTS5 trigram index, which stores every name in the clear. Medians of interleaved rounds, CPU
time of this process.
"""

import argparse
import os
import random
import re
import sqlite3
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.report import Bound, Target, number, table, targets_table
from benchmarks.rounds import say
from disclosure import search_words
from disclosure.names import PART
from service.search.letters import to_letters
from service.search.projection import Projection

MOST_MS = 25.0
MOST_BYTES = 100.0
_BRAND = b"main"
_MOST = 100
_ROUNDS = 9
_CONSONANTS = "กขคงจชซญดตถทธนบปผพฟภมยรลวศสหอ"
_VOWELS = "าิีุูเแโไะ"
_LATIN = ("som", "chai", "ying", "porn", "wan", "siri", "kit", "nan", "rat", "phat", "mali", "dee")
_HAN = "王李張陳林黃吳劉蔡楊許鄭謝郭洪邱曾廖賴徐明美志家雅淑俊宏怡文"


@dataclass(frozen=True)
class Names:
    """Made-up names, and pieces of some of them to look for."""

    names: Sequence[tuple[str, str]]
    pieces: Sequence[str]


def make_names(count: int, seed: int = 20261123) -> Names:
    """Make names of members: mostly Thai, some Latin, some Chinese; few families have many."""
    choice = random.Random(seed)

    def thai(least: int, most: int) -> str:
        syllables = range(choice.randint(least, most))
        return "".join(choice.choice(_CONSONANTS) + choice.choice(_VOWELS) for _ in syllables)

    def latin(least: int, most: int) -> str:
        return "".join(choice.choice(_LATIN) for _ in range(choice.randint(least, most)))

    def han(count: int) -> str:
        return "".join(choice.choice(_HAN) for _ in range(count))

    given = [thai(2, 4) for _ in range(20_000)]
    family = [thai(4, 7) for _ in range(50_000)]
    made = []
    for _ in range(count):
        kind = choice.random()
        if kind < 0.8:
            made.append((family[int(len(family) * choice.random() ** 3)], choice.choice(given)))
        elif kind < 0.95:
            made.append((latin(2, 4), latin(1, 3)))
        else:
            made.append((han(1), han(2)))
    pieces = [
        given[7],
        given[11][1:],
        family[40_000][2:9],
        "somwan",
        "ratphat",
        "王明",
        "ไม่มีใครชื่อนี้",
        "zzzz",
    ]
    return Names(made, pieces)


def measure_search(
    count: int = 1_000_000, rounds: int = _ROUNDS
) -> tuple[list[Target], list[list[str]]]:
    """Measure; gives the figures with their targets, and the rows of the contenders."""
    people = make_names(count)
    ids = [os.urandom(16) for _ in range(count)]
    say(f"{count} names made; filling")
    projection = Projection(1 << 32)
    for member, names in zip(ids, people.names, strict=True):
        letters = memoryview(to_letters(PART.join(name.casefold() for name in names)))
        projection.put(member, 1, 0, _BRAND, letters)
    contenders: dict[str, Callable[[str], int]] = {
        "yinyom": _ours(projection),
        "re over a list of str": _regular_expression(people),
    }
    trigram = _trigram(people)
    if trigram is not None:
        contenders["SQLite FTS5 trigram, names at rest"] = trigram
    times: dict[str, list[float]] = {name: [] for name in contenders}
    ratios: dict[str, list[float]] = {name: [] for name in contenders}
    slowest: list[float] = []
    for _ in range(rounds):
        spent = {name: _spent(find, people.pieces) for name, find in contenders.items()}
        for name, each in spent.items():
            times[name].append(statistics.mean(each))
            ratios[name].append(statistics.mean(each) / statistics.mean(spent["yinyom"]))
        slowest.append(max(spent["yinyom"]))
    rows = [
        [
            name,
            f"{number(statistics.median(taken) * 1000)} ms",
            f"{number(statistics.median(ratios[name]))}×",
        ]
        for name, taken in times.items()
    ]
    regular = statistics.median(ratios["re over a list of str"])
    targets = [
        Target(
            f"substring over {count:,} names",
            statistics.median(times["yinyom"]) * 1000,
            Bound.AT_MOST,
            MOST_MS,
            "ms",
        ),
        Target(
            "the slowest piece of them",
            statistics.median(slowest) * 1000,
            Bound.AT_MOST,
            MOST_MS,
            "ms",
        ),
        Target("re over a list, times slower", regular, Bound.AT_LEAST, 1.0, "×"),
        Target("memory of a member", projection.size / count, Bound.AT_MOST, MOST_BYTES, "bytes"),
    ]
    return targets, rows


def _spent(find: Callable[[str], int], pieces: Sequence[str]) -> list[float]:
    each = []
    for piece in pieces:
        began = time.process_time()
        find(piece)
        each.append(time.process_time() - began)
    return each


def _ours(projection: Projection) -> Callable[[str], int]:
    def find(piece: str) -> int:
        words = [
            [bytearray(to_letters(word)) for word in some]
            for some in search_words(piece).alternatives
        ]
        return len(projection.find(_BRAND, words, 0b11, None, _MOST).hits)

    return find


def _regular_expression(people: Names) -> Callable[[str], int]:
    forms = [PART.join(name.casefold() for name in names) for names in people.names]

    def find(piece: str) -> int:
        fits = re.compile(re.escape(piece)).search
        return sum(1 for form in forms if fits(form))

    return find


def _trigram(people: Names) -> Callable[[str], int] | None:
    file = sqlite3.connect(":memory:")
    try:
        file.execute("CREATE VIRTUAL TABLE held USING fts5(form, tokenize='trigram')")
    except sqlite3.OperationalError:
        return None
    file.executemany(
        "INSERT INTO held(form) VALUES (?)", ((" ".join(names),) for names in people.names)
    )

    def find(piece: str) -> int:
        # Under three letters a trigram index helps nothing, and SQLite reads every row.
        question = "SELECT rowid FROM held WHERE form LIKE ? LIMIT ?"
        return len(file.execute(question, (f"%{piece}%", _MOST)).fetchall())

    return find


def main(arguments: list[str]) -> int:
    """Measure and print; 1 when a target is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks search")
    parser.add_argument("--members", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    given = parser.parse_args(arguments)
    targets, rows = measure_search(given.members, given.rounds)
    print("## Searching a piece of a name\n")
    print(table(["contender", "a search, CPU", "of yinyom"], rows), end="\n\n")
    print(targets_table(targets))
    return int(any(one.verdict == "miss" for one in targets))
