"""What the indexes of a registry leak, in numbers: the report behind `yinyom vault lint`.

The five identifiers are measured as they lie in the database. Coarse indexes, which a catalogue
may declare, are predicted from how such values are spread; without a written reason for taking
their leak the report is not ok.
"""

from collections.abc import Mapping
from dataclasses import asdict
from time import perf_counter
from typing import Any

from policies import CatalogueField, CoarseForm, CoarseIndex, PolicyPack
from vault import (
    SPACES,
    TAG_BITS,
    BlindIndex,
    Indexes,
    IndexVersion,
    beacon_bits,
    coincidences,
    enumeration_seconds,
    flat,
    harden,
    recovery_from_histogram,
    recovery_from_shares,
    seasonal,
    zipf,
)

MANY = 1_000_000
"""Members at which a coarse index is measured besides the present number: leaks grow with it."""
_TIMED_TAGS = 20_000
_TIMED_HARDENED = 4

# How values are spread where no list was counted: a model, said to be one in the report.
_SPREADS: Mapping[str, tuple[str, list[float]]] = {
    "name": ("50,000 names, falling with the rank (Zipf 0.9)", zipf(50_000, 0.9)),
    "gender": ("two halves and one in a hundred", [0.5, 0.49, 0.01]),
    "postcode": ("1,000 postcodes, falling with the rank (Zipf 0.9)", zipf(1_000, 0.9)),
    "language": ("three languages, nine in ten one of them", [0.9, 0.07, 0.03]),
    "keyword": ("five words, falling with the rank (Zipf 1)", zipf(5, 1.0)),
}


def lint(
    pack: PolicyPack,
    indexes: Indexes,
    histograms: Mapping[tuple[str, int], Mapping[int, int]],
    members: int,
    tags_a_second: float,
    hardened_rate: float,
) -> dict[str, Any]:
    """Say what each index leaks.

    `ok` is False where a coarse one has no accepted leakage, and where an index is not yet
    hardened that the catalogue wants so.
    """
    coarse = [
        _coarse(field, field.coarse, members)
        for field in pack.fields.values()
        if field.coarse is not None
    ]
    findings = [
        {
            "field": one["field"],
            "says": f"a coarse index over {one['of']} lets a thief of the database name the value "
            f"of {one['recovery_at_a_million']:.0%} of a million members, and nobody accepted it",
            "remedy": 'Leave it out of fields.toml, or write accept_leakage = "the reason".',
        }
        for one in coarse
        if one["accept_leakage"] is None
    ]
    findings += [
        {
            "field": field.key,
            "says": "the catalogue wants this index hardened, and it is not",
            "remedy": f"Run `yinyom vault reindex --kind {field.index.value}`.",
        }
        for field in pack.fields.values()
        if field.hardened and field.index and not indexes.live(field.index.value).hardened
    ]
    return {
        "ok": not findings,
        "members": members,
        "tags_a_second": round(tags_a_second),
        "indexes": [
            _identifier(one, histogram, hardened_rate if one.hardened else tags_a_second)
            for one in indexes.all()
            for histogram in [histograms.get((one.kind, one.version), {})]
        ],
        "coarse": coarse,
        "findings": findings,
    }


def tag_rate() -> float:
    """Measure how many tags one core of this machine makes in a second."""
    index = BlindIndex(bytes(32))
    began = perf_counter()
    for at in range(_TIMED_TAGS):
        index.tag("phone", f"+668{at:08}")
    return _TIMED_TAGS / (perf_counter() - began)


def hardened_rate() -> float:
    """Measure how many hardened tags one core of this machine makes in a second."""
    began = perf_counter()
    for at in range(_TIMED_HARDENED):
        harden(f"{at:013}", "ring")
    return _TIMED_HARDENED / (perf_counter() - began)


def _identifier(
    one: IndexVersion, histogram: Mapping[int, int], tags_a_second: float
) -> dict[str, Any]:
    tags = sum(histogram.values())
    owners = sum(shared * many for shared, many in histogram.items())
    space = SPACES[one.kind]
    return {
        "kind": one.kind,
        "version": one.version,
        "form": one.form,
        "hardened": one.hardened,
        "state": one.state.value,
        "owners": owners,
        "tags": tags,
        "most_shared": max(histogram, default=0),
        "recovery": round(recovery_from_histogram(histogram), 6),
        **_bounds(owners, tags),
        "space": space.name,
        "space_size": space.size,
        "enumeration_seconds": enumeration_seconds(space, tags_a_second),
    }


def _coarse(field: CatalogueField, coarse: CoarseIndex, members: int) -> dict[str, Any]:
    assumed, shares = _spread(field, coarse)
    return {
        "field": field.key,
        "of": coarse.form.value,
        "partitions": coarse.partitions,
        "accept_leakage": coarse.accept_leakage,
        "stored": False,
        "values": len(shares),
        "assumed": assumed,
        "recovery": round(recovery_from_shares(shares, members, coarse.partitions), 4),
        "recovery_at_a_million": round(recovery_from_shares(shares, MANY, coarse.partitions), 4),
        **_bounds(MANY, len(shares) * coarse.partitions),
    }


def _spread(field: CatalogueField, coarse: CoarseIndex) -> tuple[str, list[float]]:
    if coarse.form is CoarseForm.LAST4:
        return "10,000 endings, all alike", flat(10_000)
    if coarse.form is CoarseForm.MONTH:
        return "twelve months that swing by 8 % over the year", seasonal(0.08)
    return _SPREADS[field.kind.value]


def _bounds(owners: int, tags: int) -> dict[str, Any]:
    """Give the rules of CipherSweet and AWS beside what there is."""
    rule = coincidences(owners, tags)
    bits = beacon_bits(tags)
    return {
        "coincidences": {**asdict(rule), "within": rule.within},
        "beacon_bits": None if bits is None else list(bits),
        "tag_bits": TAG_BITS,
    }
