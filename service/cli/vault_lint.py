"""`yinyom vault lint`: what the declared indexes leak, for people."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli.shell import DONE, FAILED_CHECK, WRONG, Json, ask, say, show, table

_HEAD = [
    "Index",
    "Owners",
    "Tags",
    "Named by frequency",
    "Members a tag",
    "Bits",
    "With the key",
]
_LITTLE = 0.001


def vault_lint(
    pack: Annotated[
        Path | None, typer.Option(help="A pack to judge before it is activated.", metavar="DIR")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print what the declared indexes leak; fails on a leak that nobody accepted."""
    folder = None if pack is None else str(pack.resolve())
    answer = ask("vault.lint", {"pack": folder}, as_json=as_json)

    def text() -> None:
        rows = [
            [
                f"{one['kind']} v{one['version']}" + " hardened" * one["hardened"],
                str(one["owners"]),
                str(one["tags"]),
                _percent(one["recovery"]),
                _coincidences(one["coincidences"]),
                _bits(one),
                _enumeration(one["enumeration_seconds"]),
            ]
            for one in answer["indexes"]
        ]
        table(f"Identifiers of {answer['members']} members", _HEAD, rows, "No index.")
        say("  Named by frequency: whose value a thief of the database alone can name.")
        say("  Members a tag: CipherSweet's rule. Bits: what AWS allows a beacon.")
        say("  With the key: every value of the smallest space tried on one core.")
        for one in answer["coarse"]:
            _say_coarse(one)
        for finding in answer["findings"]:
            say(f"{finding['field']}: {finding['says']}", WRONG)
            say(f"  {finding['remedy']}")
        if answer["ok"]:
            say("no low-entropy tag is declared without an accepted leak", DONE)

    show(answer, as_json=as_json, text=text)
    if not answer["ok"]:
        sys.exit(FAILED_CHECK)


def _say_coarse(one: dict[str, Any]) -> None:
    many, now = _percent(one["recovery_at_a_million"]), _percent(one["recovery"])
    say(f"{one['field']}, coarse by {one['of']} in {one['partitions']} partitions")
    say(f"  ○ named by frequency: {now} now, {many} of a million ({one['assumed']})")
    say(f"  ○ members a tag, of a million: {_coincidences(one['coincidences'])}")
    say(f"  ○ bits: {_bits(one)}")
    if one["accept_leakage"] is not None:
        say(f"  ○ accepted: {one['accept_leakage']}")
    say("  ○ not stored: this version measures coarse tags and keeps none")


def _percent(share: float) -> str:
    return "under 0.1%" if 0 < share < _LITTLE else f"{share:.1%}"


def _coincidences(rule: dict[str, Any]) -> str:
    verdict = "inside" if rule["within"] else "outside"
    return f"{rule['members_a_tag']:.1f}, {verdict} 2 to {rule['most']:.0f}"


def _bits(one: dict[str, Any]) -> str:
    allowed = one["beacon_bits"]
    told = "none allowed" if allowed is None else f"{allowed[0]} to {allowed[1]} allowed"
    return f"{one['tag_bits']}, {told}"


def _enumeration(seconds: float | None) -> str:
    if seconds is None:
        return "from lists only"
    for unit, size in (("years", 31_557_600), ("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
