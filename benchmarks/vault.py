"""The vault against the raw cipher calls, and against what one would take from PyPI instead.

Everything runs in this process with keys in hand, in turns, by CPU time; only what waits for a
disk or for a second process is taken by the clock on the wall. A target that is missed is
printed as missed.
"""

import argparse
import asyncio
import hmac
import os
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks import search, vault_bulk, vault_erase, vault_rotation
from benchmarks.report import Bound, Target, table, targets_table
from benchmarks.rounds import say
from benchmarks.servers import machine, workplace
from benchmarks.turns import Turns
from benchmarks.vault_peers import peers
from benchmarks.vault_world import FIELDS, TABLE, World, cell_context, opened_world
from kernel import id_bytes
from vault import ORDINARY, OwnerKey
from vault.cell import Places, open_many, open_one, seal_many
from vault.index import BlindIndex
from vault.wrapping import wrap

IN_A_ROW = 100
PEER_TARGETS = {"fernet": (8, 6), "utils": (11, 9), "tink": (5.5, 7)}


@dataclass
class Results:
    """Everything one run found: tables by title, targets, and what could not be measured."""

    tables: list[tuple[str, str]] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)

    def at_most(self, name: str, value: float | None, target: float, reason: str = "") -> None:
        self.targets.append(Target(name, value, Bound.AT_MOST, target, "x", reason=reason))

    def at_least(self, name: str, value: float | None, target: float, reason: str = "") -> None:
        self.targets.append(Target(name, value, Bound.AT_LEAST, target, "x", reason=reason))


# --- cells ----------------------------------------------------------------------------


def raw_decrypt(cipher: AESGCM, nonce: bytes, body: bytes, context: bytes) -> bytes:
    """What our opening of one cell is held against: the call alone, in a function of its own."""
    return cipher.decrypt(nonce, body, context)


def cells(results: Results, rounds: int) -> None:
    """One cell of 32 bytes: ours against the raw call in a function of the same shape."""
    cipher, places, row = AESGCM(os.urandom(32)), Places(1, "main", TABLE), os.urandom(16)
    cell = seal_many(cipher, places, row, {"phone": "x" * 32})["phone"]
    nonce, body, context = cell[2:14], cell[14:], places.of["phone"] + row

    def bare() -> None:
        decrypt = cipher.decrypt
        for _ in range(IN_A_ROW):
            decrypt(nonce, body, context)

    def raw() -> None:
        for _ in range(IN_A_ROW):
            raw_decrypt(cipher, nonce, body, context)

    def ours() -> None:
        for _ in range(IN_A_ROW):
            open_one(cipher, places, "phone", row, cell)

    def text() -> None:
        for _ in range(IN_A_ROW):
            open_one(cipher, places, "phone", row, cell).decode()

    base = "AESGCM.decrypt in a function"
    found = Turns(
        {
            base: (raw, IN_A_ROW),
            "AESGCM.decrypt alone": (bare, IN_A_ROW),
            "our open_one, bytes": (ours, IN_A_ROW),
            "our open_one, text": (text, IN_A_ROW),
        }
    ).run(rounds)
    results.tables.append(("One cell of 32 bytes", found.table(base)))
    ratio = found.ratio("our open_one, bytes", base)
    results.at_most("open one cell / raw AESGCM.decrypt", ratio, 1.35)


# --- records --------------------------------------------------------------------------


def records(results: Results, rounds: int, world: World) -> None:
    """A record of twelve fields: read with its key unwrapped, and a new member sealed."""
    vault, member = world.vault, world.member()
    cipher, row = AESGCM(member.raw_key), id_bytes(member.id)
    places = Places(1, vault.tenant, TABLE)
    ready = [
        (cell[2:14], cell[14:], cell_context(name, member.id, cell))
        for name, cell in member.cells.items()
    ]
    found, missing = peers()

    def raw() -> None:
        decrypt = cipher.decrypt
        for nonce, body, context in ready:
            decrypt(nonce, body, context)

    def in_hand() -> object:
        return open_many(cipher, places, row, member.cells)

    rows = [(member.ticket, member.key, member.id, member.cells)]

    def read() -> object:
        return vault.open_many(TABLE, rows)[0]

    def new() -> object:
        key = os.urandom(32)
        wrap(world.kek, key, world.key_context(member.id))
        return vault.seal(OwnerKey(member.id, ORDINARY, 1, key), TABLE, member.id, FIELDS)

    contenders = {
        "12 raw AESGCM.decrypt": (raw, 1),
        "ours: open, key in hand, text": (in_hand, 1),
        "ours: unwrap and open, text": (read, 1),
        "ours: new member, key made, wrapped, 12 sealed": (new, 1),
    }
    for peer in found:
        sealed = peer.seal_all(FIELDS)
        if [peer.open(one) for one in sealed] != list(FIELDS.values()):
            raise AssertionError(f"{peer.label} does not open what it sealed")
        contenders[f"{peer.label}: open"] = (lambda p=peer, s=sealed: [p.open(one) for one in s], 1)
        contenders[f"{peer.label}: seal"] = (lambda p=peer: p.seal_all(FIELDS), 1)
    if read() != FIELDS:
        raise AssertionError("the vault does not open what it sealed")
    turns = Turns(contenders).run(rounds)
    base, ours = "12 raw AESGCM.decrypt", "ours: unwrap and open, text"
    made = "ours: new member, key made, wrapped, 12 sealed"
    size = sum(len(value.encode()) for value in FIELDS.values())
    results.tables.append((f"A record of 12 fields, {size} bytes", turns.table(base)))
    name = "12-field read with key unwrapping / 12 raw AESGCM.decrypt"
    results.at_most(name, turns.ratio(ours, base), 1.8)
    for peer in found:
        opening, sealing = PEER_TARGETS[peer.key]
        results.at_least(
            f"decrypt 12 fields: {peer.label} / ours",
            turns.ratio(f"{peer.label}: open", ours),
            opening,
        )
        results.at_least(
            f"encrypt a new member: {peer.label} / ours",
            turns.ratio(f"{peer.label}: seal", made),
            sealing,
        )
    for key, reason in missing.items():
        opening, sealing = PEER_TARGETS[key]
        results.at_least(f"decrypt 12 fields: {key} / ours", None, opening, reason)
        results.at_least(f"encrypt a new member: {key} / ours", None, sealing, reason)
    stored(results, world, found)


def stored(results: Results, world: World, found: list) -> None:
    """What twelve fields take in the database."""
    member = world.member()
    ours = sum(map(len, member.cells.values()))
    rows = [["ours, as the catalogue pads them", str(ours), "and 60 for the member's wrapped key"]]
    rows += [[peer.label, str(peer.stored(FIELDS)), ""] for peer in found]
    results.tables.append(("Bytes stored for 12 fields", table(["what", "bytes", ""], rows)))
    fernet = next(peer for peer in found if peer.key == "fernet")
    results.at_most("12 fields stored: ours / Fernet", ours / fernet.stored(FIELDS), 0.45)


def tags(results: Results, rounds: int) -> None:
    """The tag by which a member is found, against the standard library's HMAC."""
    key = os.urandom(32)
    index = BlindIndex(key)
    form = "+66812345678"

    def stdlib() -> None:
        for _ in range(IN_A_ROW):
            hmac.digest(key, form.encode(), "sha256")[:16]

    def ours() -> None:
        for _ in range(IN_A_ROW):
            index.tag("phone", form)

    turns = Turns({"hmac.digest": (stdlib, IN_A_ROW), "our tag": (ours, IN_A_ROW)}).run(rounds)
    results.tables.append(("Exact-match tag", turns.table("hmac.digest")))
    results.at_most("exact-match tag / hmac.digest", turns.ratio("our tag", "hmac.digest"), 0.4)


# --- the run --------------------------------------------------------------------------


async def measure(results: Results, options: argparse.Namespace, folder: Path) -> None:
    say("one cell")
    cells(results, options.rounds)
    async with opened_world(folder) as world:
        say("records of twelve fields, ours and the peers'")
        records(results, options.rounds, world)
        say("tags")
        tags(results, options.rounds)
        say(f"{options.members} members in memory")
        vault_bulk.measure(results, options.rounds, options.members, world)
        say("rotations")
        await vault_rotation.measure(results, options.members, world, folder)
    say("searching names")
    targets, rows = search.measure_search(options.members)
    results.targets += targets
    header = ["what", "one search", "ratio to ours"]
    results.tables.append((f"A piece of a name among {options.members}", table(header, rows)))
    say("erasing")
    await vault_erase.measure(results, options.erasures, folder)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks vault", description=__doc__)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--members", type=int, default=1_000_000)
    parser.add_argument("--erasures", type=int, default=300)
    options = parser.parse_args(arguments)
    results = Results()
    with workplace() as folder:
        shape = machine(folder, None)
        asyncio.run(measure(results, options, folder))
    print("## The vault\n")
    print(
        f"{shape['cores']} cores ({shape['cpu']}), Python {shape['python']}, "
        f"load {shape['load_average_at_start']} at start and {os.getloadavg()[0]:.2f} at the end; "
        f"medians of {options.rounds} rounds in turn.\n"
    )
    print(targets_table(results.targets))
    for title, text in results.tables:
        print(f"\n### {title}\n\n{text}")
    return 0
