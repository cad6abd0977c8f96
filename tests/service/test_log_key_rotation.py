"""What lives off the log's key goes on after a rotation: witnesses, anchors, backups, receipts."""

# ruff: noqa: F811 (fixtures are asked for by name)

import asyncio
import json
import shutil

import pytest

from audit import AnchorVerdict, Cosigner, Witness, WitnessVerdict, ask_witness, verify_stored_log
from audit.anchoring import overlap_name
from audit.verify import verify_bundle
from kernel import ConflictError
from service.audit_commands import audit_export, audit_verify_db
from service.commands import COMMANDS
from service.recovering import recover
from service.settings import AuditSettings
from tests.support.invariants import assert_log_is_whole
from tests.support.stores import begin, create, folder_store, kit_of, restore  # noqa: F401
from tests.support.world import App, open_world

pytestmark = pytest.mark.anyio

COSIGNER = Cosigner.from_seed("witness.example/rotation", bytes(range(32)))


@pytest.fixture
def kept(folder_store):
    return folder_store


async def rotate(world, *, confirmed=True):
    asked = {"confirmed": confirmed, "operator": None}
    return await COMMANDS["audit.rotate_key"](world.runtime, lambda *_: None, **asked)


async def events(world, count=1):
    async with world.runtime.database.unit_of_work() as work:
        for at in range(count):
            await world.runtime.audit.record(work, world.operator, "test.event", count=at)
    await world.runtime.sequencer.drain()


async def assert_sound(world):
    await world.runtime.sequencer.drain()
    await assert_log_is_whole(world)
    report, misleading = await verify_stored_log(world.runtime.database, world.runtime.audit)
    assert (report.findings, misleading) == ((), [])


# --- witnesses ------------------------------------------------------------------------


def witness_of(folder, clock, *keys):
    folder.mkdir(exist_ok=True)
    return Witness(COSIGNER, keys, folder / "witness.db", clock)


async def ask(world, witness):
    async def post(body):
        reply = witness.add_checkpoint(body)
        return reply.status, reply.text

    runtime = world.runtime
    return (await ask_witness(runtime.database, runtime.clock, COSIGNER.verifier, post)).verdict


async def test_a_witness_that_was_told_both_keys_never_stops(settings, tmp_path):
    async with open_world(settings, background=False) as world:
        old = world.runtime.log_key.signer.verifier
        alone = witness_of(tmp_path / "w", world.runtime.clock, old)
        await events(world)
        assert await ask(world, alone) is WitnessVerdict.COSIGNED
        told = await rotate(world, confirmed=False)
        both = witness_of(
            tmp_path / "w", world.runtime.clock, old, type(old).from_vkey(told["vkey"])
        )
        await rotate(world)
        await events(world)
        assert await ask(world, alone) is WitnessVerdict.REFUSED, "it knows the old key alone"
        assert await ask(world, both) is WitnessVerdict.COSIGNED
        out = tmp_path / "log"
        await events(world)
        assert await ask(world, both) is WitnessVerdict.COSIGNED
        await audit_export(world.runtime, lambda *_: None, out=str(out))
        assert verify_bundle(out, old.vkey).ok


async def test_a_witness_that_saw_the_new_key_takes_no_head_of_a_stolen_old_one(settings, tmp_path):
    from audit.note import Checkpoint, sign_checkpoint
    from audit.witness import write_submission

    async with open_world(settings, background=False) as world:
        old = world.runtime.log_key.signer
        await rotate(world)
        await events(world)
        new = world.runtime.log_key.signer
        keys = old.verifier, new.verifier
        witness = witness_of(tmp_path / "w", world.runtime.clock, *keys)
        assert await ask(world, witness) is WitnessVerdict.COSIGNED
        (row,) = await world.fetch(
            "SELECT size, root FROM audit_checkpoint ORDER BY size DESC LIMIT 1"
        )
        head = Checkpoint(old.name, row["size"], bytes(row["root"]))
        for signers, status in (((old,), 403), ((new,), 200), ((old, new), 200)):
            note = sign_checkpoint(head, *signers)
            reply = witness.add_checkpoint(write_submission(row["size"], [], note))
            assert reply.status == status, reply.text


# --- anchors --------------------------------------------------------------------------


def with_anchors(settings, tmp_path):
    (tmp_path / "anchors").mkdir()
    audit = AuditSettings(anchors=(f"folder:{tmp_path / 'anchors'}",))
    return settings.model_copy(update={"audit": audit})


@pytest.fixture
def anchored(settings, tmp_path):
    return with_anchors(settings, tmp_path)


async def test_heads_of_either_key_are_anchors_and_the_overlap_is_one_of_them(anchored, tmp_path):
    async with open_world(anchored, background=False) as world:
        await events(world, 3)
        await world.runtime.anchors.anchor()
        await rotate(world)
        await events(world, 3)
        (told,) = await world.runtime.anchors.anchor()
        assert told.verdict is AnchorVerdict.HELD
        (rotation,) = await world.fetch("SELECT * FROM audit_key")
        (sink,) = world.runtime.anchors.sinks
        name = overlap_name(rotation["origin"], rotation["size"])
        assert (await sink.get(name)).decode() == rotation["note"]
        count, wrong, silent = await world.runtime.anchors.check_all()
        assert (count >= 3, wrong, silent) == (True, [], [])
        assert (await audit_verify_db(world.runtime, lambda *_: None))["ok"]
        notes = [path.read_text() for path in (tmp_path / "anchors").rglob("*.note")]
        out = tmp_path / "log.zip"
        await audit_export(world.runtime, lambda *_: None, out=str(out))
        for key in (rotation["old_vkey"], rotation["new_vkey"]):
            assert verify_bundle(out, key, notes).ok
        assert world.runtime.anchors.state() == "ok"


async def test_a_head_of_a_stolen_old_key_behind_its_overlap_stops_nothing_and_is_told(anchored):
    from audit.anchoring import anchor_name
    from audit.note import Checkpoint, sign_checkpoint

    async with open_world(anchored, background=False) as world:
        await events(world)
        stolen = world.runtime.log_key.signer
        await rotate(world)
        await events(world)
        await world.runtime.anchors.anchor()
        (sink,) = world.runtime.anchors.sinks
        head = Checkpoint(stolen.name, 1_000, bytes(32))
        note = sign_checkpoint(head, stolen)
        await sink.put(anchor_name(stolen.name, 1_000), note.encode())
        (told,) = await world.runtime.anchors.anchor()
        assert told.verdict is AnchorVerdict.SPOILED
        await events(world)
        assert (await world.http.get("/readyz")).json()["checks"]["sequencer"] != "log-forked"


async def test_a_database_from_before_the_rotation_finds_by_the_overlap_that_it_is_too_old(
    sqlite_settings, tmp_path
):
    """Database and keys are put back together: the old key is there, and must sign nothing."""
    anchored = with_anchors(sqlite_settings, tmp_path)
    async with open_world(anchored, background=False) as world:
        await events(world)
    shutil.copytree(anchored.data_dir, tmp_path / "before")
    async with open_world(anchored, background=False) as world:
        await rotate(world)
        await events(world, 3)
        await world.runtime.anchors.anchor()
    shutil.rmtree(anchored.data_dir)
    shutil.copytree(tmp_path / "before", anchored.data_dir)
    async with open_world(anchored, background=False) as world:
        assert world.runtime.sequencer.state.reason == "log-older-than-anchor"
        made = await COMMANDS["audit.new_origin"](
            world.runtime, lambda *_: None, confirmed=True, operator=None
        )
        assert made["done"]


# --- backups --------------------------------------------------------------------------


@pytest.mark.parametrize("again", [False, True], ids=["as shipped", "and a later backup"])
async def test_a_restore_goes_on_under_the_key_of_today_with_the_way_from_the_first(
    settings, kept, restore, again, tmp_path
):
    async with open_world(kept.used_by(settings), background=False) as world:
        crm = await world.app()
        member = await crm.register(phone="081-234-5678")
        await world.runtime.sequencer.drain()
        await begin(world, kept)
        first = world.runtime.audit.vkey
        made = await create(world)
        told = await rotate(world)
        await events(world, 2)
        if again:
            await create(world)
    restored, said = await restore(settings, kept)
    assert said["log_refused"] is None
    async with open_world(restored) as world:
        assert world.runtime.audit.vkey == told["vkey"]
        assert list(world.runtime.vault.log_seeds()) == [2]
        app = App(world, world.http, {"client_id": crm.id, "client_secret": crm.secret})
        await app.sign_in()
        assert (await app.view(member)).status_code == 200
        await world.rest()
        await assert_sound(world)
        out = tmp_path / "log"
        await audit_export(world.runtime, lambda *_: None, out=str(out))
        assert verify_bundle(out, first).ok
    older, said = await restore(
        settings, kept, generation=made["generation"], allow_older=True, name="older"
    )
    async with open_world(older, background=False) as world:
        assert world.runtime.audit.vkey == told["vkey"], "the data go back, the log does not"
        await assert_sound(world)


async def test_a_backup_taken_between_telling_and_signing_restores_under_the_old_key(
    settings, kept, restore
):
    async with open_world(kept.used_by(settings), background=False) as world:
        await events(world)
        await begin(world, kept)
        told = await rotate(world, confirmed=False)
        await create(world)
        old = world.runtime.audit.vkey
    restored, _ = await restore(settings, kept)
    async with open_world(restored, background=False) as world:
        assert world.runtime.audit.vkey == old
        await assert_sound(world)
        assert (await rotate(world))["vkey"] == told["vkey"], "and goes on with what was begun"
        await assert_sound(world)


async def test_a_rotation_waits_for_a_backup_that_is_being_made(sqlite_settings, kept, monkeypatch):
    """It began before the new seed was there, so another one is made; nobody has to come again."""
    async with open_world(kept.used_by(sqlite_settings), background=False) as world:
        await begin(world, kept)
        backups, refused = world.runtime.backups, asyncio.Event()
        genuine = backups.create

        async def create(*details):
            try:
                return await genuine(*details)
            except ConflictError:
                refused.set()
                raise

        monkeypatch.setattr(backups, "create", create)
        async with backups._turn:
            rotating = asyncio.create_task(rotate(world))
            await asyncio.wait_for(refused.wait(), 60)
            assert not rotating.done()
            assert await world.events("audit.key_rotated") == []
        told = await rotating
        assert (told["done"], told["vkey"]) == (True, world.runtime.audit.vkey)
        assert len(await world.fetch("SELECT * FROM backup_set")) == 2


async def test_a_recovery_with_the_kit_brings_the_new_key_back(settings):
    async with open_world(settings, background=False) as world:
        await events(world)
        told = await rotate(world)
    for root in settings.keys_dir.glob("kms-root*"):
        root.unlink()
    answer = await recover(
        settings,
        kit_of(settings),
        ring_folder_at=None,
        accept_loss=False,
        progress=lambda *_: None,
    )
    assert answer["vkey"] == told["vkey"]
    async with open_world(settings, background=False) as world:
        assert world.runtime.audit.vkey == told["vkey"]
        await assert_sound(world)


# --- what is proven with the key ------------------------------------------------------


async def test_receipts_of_before_and_of_after_are_checked(settings):
    async with open_world(settings, background=False) as world:
        crm = await world.app()
        member = await crm.register(consents={"marketing": "sms"})
        await world.runtime.sequencer.drain()
        consent = member.consents[0]["id"]

        async def receipt():
            return (await crm.get(f"/v1/consents/{consent}/receipt")).json()

        before = await receipt()
        await rotate(world)
        await world.runtime.sequencer.drain()
        at_once = await receipt()
        await events(world)
        after = await receipt()
        assert before["receipt"]["log"] != after["receipt"]["log"] == world.runtime.audit.vkey
        for document in (before, at_once, after):
            assert "proof" in document
            said = (await crm.post("/v1/receipts:verify", document)).json()
            assert (said["valid"], said["finding"]) == (True, None)
            from consent.verify import verify_document

            key = world.runtime.receipts.public_key()
            assert verify_document(json.loads(json.dumps(document)), key).ok


async def test_a_process_that_missed_the_rotation_proves_with_the_key_of_now(settings):
    from audit import AuditLog, Signer
    from service.log_key import log_key

    async with open_world(settings, background=False) as world:
        runtime = world.runtime
        key = log_key(
            Signer.from_seed(runtime.audit.origin, runtime.vault.log_seeds()[1]), runtime.vault
        )
        other = AuditLog(key, runtime.clock, runtime.pack.digest)
        await rotate(world)
        await events(world)
        (event,) = await world.events("test.event")
        async with runtime.database.read() as session:
            proof = await other.prove(session, event["id"])
            assert await other.verify(session, event["id"]) is not None
        assert key.has_signed(proof.note)
        assert other.vkey == runtime.audit.vkey


async def test_evidence_is_under_a_head_that_the_key_of_now_signed(settings, tmp_path):
    import zipfile

    async with open_world(settings, background=False) as world:
        old = world.runtime.log_key.signer.verifier
        witness = witness_of(tmp_path / "w", world.runtime.clock, old)
        await events(world)
        assert await ask(world, witness) is WitnessVerdict.COSIGNED
        await rotate(world)
        made = await COMMANDS["audit.evidence"](
            world.runtime, lambda *_: None, out=str(tmp_path / "pack.zip")
        )
        with zipfile.ZipFile(tmp_path / "pack.zip") as pack:
            note = pack.read("checkpoint").decode()
        assert made["vkey"] == world.runtime.audit.vkey
        assert world.runtime.log_key.has_signed(note)


async def test_a_log_under_another_name_may_rotate_and_the_name_before_stays_checked(
    settings, tmp_path
):
    from audit import begin_new_origin

    async with open_world(settings, background=False) as world:
        await events(world)
        await rotate(world)
        await events(world)
        runtime = world.runtime
        old = runtime.log_key.signer
        await begin_new_origin(
            runtime.sequencer,
            old,
            old.under(f"{old.name}/2"),
            runtime.clock,
            runtime.pack.digest,
            world.operator,
        )
    async with open_world(settings, background=False) as world:
        second = world.runtime.audit.vkey
        await events(world)
        await rotate(world)
        await events(world)
        await assert_sound(world)
        assert (await audit_verify_db(world.runtime, lambda *_: None))["ok"]
        out = tmp_path / "log"
        await audit_export(world.runtime, lambda *_: None, out=str(out))
        assert verify_bundle(out, second).ok
        ended = tmp_path / "ended"
        await COMMANDS["audit.export_ended"](
            world.runtime, lambda *_: None, out=str(ended), origin=old.name
        )
        assert verify_bundle(ended, old.vkey).ok
        assert len(verify_bundle(ended, old.vkey).keys) == 2
