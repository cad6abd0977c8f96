"""Nobody witnesses their own log: not with its key of today, nor with one it ever had."""

import base64

import pytest

from audit import (
    Cosigner,
    Signer,
    Verifier,
    ask_witness,
    cosigned_checkpoint,
    cosigning_repository,
    hand_over,
    verify_stored_log,
)
from audit.note import Checkpoint, split_note
from kernel import ConfigurationError, InvalidRequestError
from service.commands import COMMANDS, doctor
from service.runtime import Runtime
from service.settings import AuditSettings, WitnessSettings
from service.witnesses import Witnesses
from service.witnessing import open_witness
from tests.support.world import open_world

pytestmark = pytest.mark.anyio

SEED = bytes([9]) * 32
STRANGER = Cosigner.from_seed("witness.example/w1", SEED)
NOW_S = 1_700_000_000


def silent(_done, _total):
    """Nobody looks."""


async def rotate(world, *, confirmed=True):
    asked = {"confirmed": confirmed, "operator": None}
    return await COMMANDS["audit.rotate_key"](world.runtime, silent, **asked)


def told_of(vkey):
    one = WitnessSettings(url="http://127.0.0.1:9", vkey=vkey)
    return AuditSettings(witnesses=(one,))


def as_witness(vkey):
    """The same key as a witness would write it."""
    return Verifier("witness.example/w1", 4, Verifier.from_vkey(vkey).public).vkey


def own_cosigner(world):
    """A witness that signs with the log's own seed."""
    (seed,) = world.runtime.vault.log_seeds().values()
    return Cosigner.from_seed("witness.example/w1", seed)


def next_key(world):
    """A seed that the ring holds and the log does not sign with yet, as a log's and a witness's."""
    ring = world.runtime.vault.buckets.ring
    version = ring.add_log_seed(1)
    seed = ring.log_seeds()[version]
    new = Signer.from_seed(world.runtime.audit.origin, seed)
    return new, Cosigner.from_seed("witness.example/w1", seed)


def text_of(body):
    return split_note(body.decode().partition("\n\n")[2])[0]


async def ask(world, verifier, post):
    return await ask_witness(world.runtime.database, world.runtime.clock, verifier, post)


def answering(cosigner):
    async def post(body):
        return 200, cosigner.cosign(text_of(body), NOW_S)

    return post


async def kept(world):
    return await world.fetch("SELECT witness FROM audit_cosignature")


@pytest.fixture
async def quiet(settings):
    async with open_world(settings, background=False) as world:
        await world.runtime.sequencer.drain()
        yield world


async def test_a_registry_does_not_start_with_a_key_of_its_own_log_for_a_witness(settings):
    async with open_world(settings, background=False) as world:
        first = (await rotate(world))["old_vkey"]
        second = world.runtime.audit.vkey
        prepared = (await rotate(world, confirmed=False))["vkey"]
    assert len({first, second, prepared}) == 3
    for vkey in (first, second, prepared):
        told = settings.model_copy(update={"audit": told_of(as_witness(vkey))})
        with pytest.raises(ConfigurationError, match="a key of this very log"):
            await Runtime.open(told)
    async with open_world(settings.model_copy(update={"audit": told_of(STRANGER.vkey)})) as world:
        assert world.runtime.witnesses


async def test_an_ended_key_is_the_logs_own_also_where_the_way_to_it_was_broken(quiet):
    first = (await rotate(quiet))["old_vkey"]
    await quiet.unguard("audit_key")
    await quiet.execute("UPDATE audit_key SET note = 'x', new_vkey = 'x'")
    asked = await ask(quiet, Verifier.from_vkey(as_witness(first)), answering(own_cosigner(quiet)))
    assert (asked.verdict, asked.size) == ("unfit_key", None)


async def test_what_the_log_signed_as_its_own_witness_is_neither_asked_for_nor_kept(quiet):
    own = own_cosigner(quiet)

    async def never(_body):
        pytest.fail("the log was asked to witness itself")

    other = Signer.from_seed("log.example/other", SEED).verifier
    for verifier in (own.verifier, Verifier.from_vkey(quiet.runtime.audit.vkey), other):
        asked = await ask(quiet, verifier, never)
        assert (asked.verdict, asked.verdict.alarming) == ("unfit_key", False)
    assert await kept(quiet) == []


async def test_a_key_that_becomes_the_logs_while_its_answer_is_on_the_way_is_not_kept(quiet):
    runtime = quiet.runtime
    new, witness = next_key(quiet)

    async def post(body):
        await hand_over(runtime.sequencer, runtime.audit, new, quiet.operator)
        return 200, witness.cosign(text_of(body), NOW_S)

    asked = await ask(quiet, witness.verifier, post)
    assert (runtime.log_key.signer.vkey, asked.verdict) == (new.vkey, "unfit_key")
    assert await kept(quiet) == []


async def test_what_a_key_of_the_log_signed_before_counts_for_nothing_and_everybody_is_told(quiet):
    runtime = quiet.runtime
    new, witness = next_key(quiet)
    asked = await ask(quiet, witness.verifier, answering(witness))
    assert asked.verdict == "cosigned"
    runtime.witnesses = Witnesses(told_of(witness.vkey), runtime.database, runtime.clock)
    assert (await runtime.witnesses.status())["verified_size"] == asked.size
    await hand_over(runtime.sequencer, runtime.audit, new, quiet.operator)
    told = await runtime.witnesses.status()
    assert (told["unfit"], told["verified_size"], told["alarm"]) == (True, None, False)
    (row,) = told["witnesses"]
    assert (row["size"], row["last_answer"]) == (0, "unfit_key")
    checks = (await doctor(runtime, silent))["checks"]
    assert [one["state"] for one in checks if one["check"] == "witnesses"] == ["bad"]
    report, _ = await verify_stored_log(runtime.database, runtime.audit)
    assert [finding.code for finding in report.findings] == ["witness"]


async def test_a_line_that_the_log_wrote_under_its_own_head_is_found(quiet):
    own = own_cosigner(quiet)
    async with quiet.runtime.database.read() as session:
        size, note = await cosigned_checkpoint(session)
    line = own.cosign(split_note(note)[0], NOW_S)
    async with quiet.runtime.database.unit_of_work() as work:
        await cosigning_repository.add_cosignature(work, size, own.vkey, line, 1)
    report, _ = await verify_stored_log(quiet.runtime.database, quiet.runtime.audit)
    assert [finding.code for finding in report.findings] == ["witness"]


# --- answers that are not what they claim ---------------------------------------------


def as_log_of_its_name(text, _head):
    """A signature of type 1 by the witness's own seed, under the witness's own name."""
    return Signer.from_seed(STRANGER.verifier.name, SEED).sign(text)


def plain_under_the_cosigners_id(text, _head):
    """The bytes of a log's signature, under the id of the key that cosigns."""
    plain = STRANGER._private.sign(text.encode())
    return line_of(STRANGER.verifier.key_id + plain)


def plain_with_a_time_before_it(text, _head):
    """As before, with a time that nothing signed."""
    plain = NOW_S.to_bytes(8) + STRANGER._private.sign(text.encode())
    return line_of(STRANGER.verifier.key_id + plain)


def a_time_put_back(text, _head):
    """A true cosignature that says another time than was signed."""
    signed = split_note(text + "\n" + STRANGER.cosign(text, NOW_S))[1][0][2]
    return line_of(STRANGER.verifier.key_id + (NOW_S - 1).to_bytes(8) + signed[8:])


def cosigned_by_the_log(text, head):
    """A cosignature by the log's own key, under the id of the witness's."""
    signed = split_note(text + "\n" + head.cosign(text, NOW_S))[1][0][2]
    return line_of(STRANGER.verifier.key_id + signed)


def of_another_head(text, _head):
    """A true cosignature of an empty log of that name."""
    return STRANGER.cosign(Checkpoint(text.partition("\n")[0], 0, bytes(32)).body(), NOW_S)


def a_type_nobody_knows(text, _head):
    """The line of a key whose type is that of another algorithm."""
    signed = split_note(text + "\n" + STRANGER.cosign(text, NOW_S))[1][0][2]
    return line_of(bytes([6, 6, 6, 6]) + signed)


def line_of(signature):
    return f"\u2014 {STRANGER.verifier.name} {base64.b64encode(signature).decode()}\n"


HOSTILE = [
    as_log_of_its_name,
    plain_under_the_cosigners_id,
    plain_with_a_time_before_it,
    a_time_put_back,
    cosigned_by_the_log,
    of_another_head,
    a_type_nobody_knows,
]


async def test_no_signature_of_another_type_time_or_head_is_kept(quiet):
    own = own_cosigner(quiet)
    for hostile in HOSTILE:

        async def post(body, hostile=hostile):
            return 200, hostile(text_of(body), own)

        asked = await ask(quiet, STRANGER.verifier, post)
        assert asked.verdict == "refused", hostile.__name__
    assert await kept(quiet) == []

    async def and_a_true_one(body):
        text = text_of(body)
        return 200, "".join(each(text, own) for each in HOSTILE) + STRANGER.cosign(text, NOW_S)

    assert (await ask(quiet, STRANGER.verifier, and_a_true_one)).verdict == "cosigned"
    assert [row["witness"] for row in await kept(quiet)] == [STRANGER.vkey]


def test_a_witness_takes_no_key_for_a_logs_that_is_a_witnesss_or_its_own(tmp_path):
    (tmp_path / "w").mkdir(mode=0o700)
    log = Signer.from_seed("log.example/one", bytes(32))
    _, vkey = open_witness(tmp_path / "w", "witness.example/w1", [log.vkey])
    own = Verifier("log.example/one", 1, Verifier.from_vkey(vkey).public).vkey
    for wrong in (vkey, STRANGER.vkey, own):
        with pytest.raises(InvalidRequestError, match="--log"):
            open_witness(tmp_path / "w", "witness.example/w1", [log.vkey, wrong])
