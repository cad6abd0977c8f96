"""A typed sealed value shows nothing, goes nowhere, and opens for a ticket only."""

import copy
import dataclasses
import json
import logging
import os
import pickle
import subprocess
import sys
from datetime import date
from pathlib import Path

import msgpack
import orjson
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kernel import NotAllowedError, id_bytes, new_id
from tests.support.world import open_world, recorded
from vault import ORDINARY, AccessTicket, Sealed, UnreadableError
from vault.cell import Places, seal_many

REPOSITORY = Path(__file__).resolve().parents[2]


def cell_of(value="1990-02-28", *, owner=None, key=None):
    places = Places(1, "main", "member")
    row = id_bytes(owner or new_id("mem"))
    return seal_many(AESGCM(key or bytes(32)), places, row, {"birth_date": value})["birth_date"]


SEALED = Sealed("birth_date", cell_of(), date.fromisoformat)


@pytest.mark.parametrize(
    "show", [repr, str, "{}".format, "{:>60}".format, "{!r}".format, "%s".__mod__, "{0:s}".format]
)
def test_it_shows_its_field_and_nothing_else(show):
    assert show(SEALED) == "<sealed birth_date>"


def test_a_log_line_or_an_error_shows_its_field_and_nothing_else(caplog):
    logging.getLogger("test").warning("row %s %r", SEALED, {"held": SEALED})
    assert caplog.messages == ["row <sealed birth_date> {'held': <sealed birth_date>}"]
    assert SEALED.cell.hex() not in repr(ValueError(SEALED))


@pytest.mark.parametrize(
    "write",
    [
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
        json.dumps,
        orjson.dumps,
        msgpack.packb,
        bytes,
        bytearray,
        len,
        iter,
        vars,
        bool,
        float,
        dataclasses.asdict,
        lambda one: one + b"",
        lambda one: one[0],
        lambda one: one < b"",
        lambda one: "birth" in one,
    ],
)
def test_it_goes_into_no_pickle_no_json_and_no_computation(write):
    with pytest.raises((TypeError, NotAllowedError)):
        write(SEALED)


def test_two_of_them_are_never_equal():
    other = Sealed(SEALED.field, SEALED.cell, SEALED.read)
    assert other != SEALED
    assert len({SEALED, other}) == 2


@pytest.mark.anyio
async def test_it_opens_to_its_type_for_a_ticket_and_for_nothing_else(sqlite_settings):
    async with open_world(sqlite_settings, background=False) as world:
        vault, owner = world.runtime.vault, new_id("mem")
        async with recorded(world.runtime.database) as work:
            keys = await vault.make_keys(work, owner, (ORDINARY,))
        key = keys[ORDINARY]
        cells = vault.seal(key, "member", owner, {"birth_date": "1990-02-28", "phone": "1"})
        sealed = Sealed("birth_date", cells["birth_date"], date.fromisoformat)
        good = AccessTicket("evt_x", owner, frozenset({"birth_date"}))
        assert vault.open_value(good, key, "member", owner, sealed) == date(1990, 2, 28)
        for wrong in (
            None,
            "evt_x",
            AccessTicket("evt_x", new_id("mem"), good.fields),
            AccessTicket("evt_x", owner, frozenset({"phone"})),
        ):
            with pytest.raises(NotAllowedError):
                vault.open_value(wrong, key, "member", owner, sealed)
        elsewhere = Sealed("birth_date", cells["phone"], date.fromisoformat)
        with pytest.raises(UnreadableError):
            vault.open_value(good, key, "member", owner, elsewhere)


# --- types ----------------------------------------------------------------------------

SNIPPET = """
from datetime import date
from vault import AccessTicket, OwnerKey, Sealed, Vault

def read(vault: Vault, ticket: AccessTicket, key: OwnerKey, cell: bytes) -> date:
    sealed = Sealed("birth_date", cell, date.fromisoformat)
    {0}
"""
GOOD = 'return vault.open_value(ticket, key, "member", "mem_x", sealed)'
BAD = {
    "no ticket": 'return vault.open_value(key, "member", "mem_x", sealed)',
    "None for a ticket": 'return vault.open_value(None, key, "member", "mem_x", sealed)',
    "an event for a ticket": 'return vault.open_value("evt_x", key, "member", "mem_x", sealed)',
    "a tuple for a ticket": (
        'return vault.open_value(("evt_x", "mem_x", frozenset[str]()), key, "m", "mem_x", sealed)'
    ),
    "cells without a ticket": 'vault.open(key, "member", "mem_x", {"phone": cell}); return date.min',
    "rows without tickets": (
        'vault.open_many("member", [(key, "mem_x", {"phone": cell})]); return date.min'
    ),
    "another type than was sealed": (
        'found: int = vault.open_value(ticket, key, "m", "mem_x", sealed); return date.min'
    ),
    "the sealed value as if it were opened": "return sealed",
}


@pytest.mark.slow
def test_without_a_ticket_it_does_not_type_check(tmp_path):
    pytest.importorskip("mypy", reason="mypy is not installed")
    files = {}
    for at, (name, line) in enumerate([("good", GOOD), *BAD.items()]):
        files[name] = tmp_path / f"snippet_{at}.py"
        files[name].write_text(SNIPPET.replace("{0}", line))
    checked = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary"),
            f"--cache-dir={tmp_path / 'cache'}",
            *map(str, files.values()),
        ],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert checked.returncode == 1, checked.stdout + checked.stderr
    faulty = {Path(line.partition(":")[0]).name for line in checked.stdout.splitlines()}
    assert files["good"].name not in faulty
    assert {name for name in BAD if files[name].name not in faulty} == set()
