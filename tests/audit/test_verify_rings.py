"""The verifier tells which ring of evidence caught a lie, takes many kept heads, exits as told."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from audit.note import Cosigner, Signer
from audit.tiles import decode_entries, encode_entries
from audit.verify import BadKeyError, main, read_checkpoints, verify_bundle

VERIFIER = Path(__file__).parents[2] / "audit" / "verify.py"
WITNESS = Cosigner.from_seed("witness.example/one", bytes(range(1, 33)))


def cosigned(note):
    text = note.partition("\n\n")[0] + "\n"
    return note + WITNESS.cosign(text, 1_700_000_000)


def forged(make_log, size, at):
    """A log of which the holder of the signing key wrote one event anew."""
    log = make_log(0)
    honest = make_log(size)
    log.append([*honest.stored[:at], b'{"id":"evt_forged"}', *honest.stored[at + 1 :]])
    return log


def edit(bundle, index):
    path = bundle / f"tile/entries/{index // 256:03}"
    entries = decode_entries(path.read_bytes())
    entries[index % 256] = entries[index % 256].replace(b"evt_", b"evt-")
    path.write_bytes(encode_entries(entries))


# --- rings ----------------------------------------------------------------------------


def test_the_signed_tree_catches_a_changed_event_and_names_it(export, vkey):
    bundle = export(700)
    edit(bundle, 300)
    report = verify_bundle(bundle, vkey)
    assert (report.first_bad_index, report.ring) == (300, "tree")


def test_an_older_checkpoint_catches_what_the_key_holder_did(make_log, export, vkey):
    bundle = export(forged(make_log, 700, 300))
    assert verify_bundle(bundle, vkey).ok, "the bundle alone cannot show it"
    report = verify_bundle(bundle, vkey, make_log(400).checkpoint_note())
    assert (report.ok, report.ring) == (False, "anchor")


def test_a_witness_catches_it_where_the_older_checkpoint_bears_its_name(make_log, export, vkey):
    bundle = export(forged(make_log, 700, 300))
    note = cosigned(make_log(400).checkpoint_note())
    report = verify_bundle(bundle, vkey, note, [WITNESS.vkey])
    assert {finding.code: finding.ring for finding in report.findings} == {
        "witness": "witness",
        "fork": "witness",
    }
    assert report.ring == "witness"


def test_many_kept_heads_bracket_where_history_was_changed(make_log, export, vkey):
    notes = [make_log(size).checkpoint_note() for size in (650, 1, 299, 300, 301, 256, 700, 300)]
    for at in (0, 255, 256, 299, 300, 650):
        bundle = export(forged(make_log, 700, at))
        report = verify_bundle(bundle, vkey, notes)
        (only,) = report.findings
        assert only.code == "fork"
        assert only.index == max(s for s in (0, 1, 256, 299, 300, 301, 650) if s <= at)
    assert verify_bundle(export(700), vkey, notes).ok


def test_two_heads_of_one_size_that_differ_cannot_both_be_continued(make_log, export, vkey):
    notes = [log.checkpoint_note() for log in (make_log(300), forged(make_log, 300, 7))]
    for bundle in (export(700), export(forged(make_log, 700, 7))):
        report = verify_bundle(bundle, vkey, notes)
        assert [finding.code for finding in report.findings] == ["fork"]


def test_one_kept_head_that_cannot_be_used_does_not_hide_another(make_log, export, vkey):
    bundle = export(forged(make_log, 700, 300))
    report = verify_bundle(bundle, vkey, ["garbage", make_log(400).checkpoint_note()])
    assert {finding.code for finding in report.findings} == {"old-checkpoint", "fork"}


# --- a folder of anchors --------------------------------------------------------------


@pytest.fixture
def anchors(make_log, tmp_path):
    folder = tmp_path / "anchors" / "log.example" / "tests"
    folder.mkdir(parents=True)
    for size in (5, 100, 699):
        (folder / f"{size:020}.note").write_text(make_log(size).checkpoint_note(), "utf-8")
    (folder / "README.txt").write_text("not a checkpoint")
    return tmp_path / "anchors"


def test_every_anchor_under_a_folder_must_be_continued(make_log, export, vkey, anchors):
    notes = read_checkpoints([], anchors)
    assert len(notes) == 3
    assert verify_bundle(export(700), vkey, notes).ok
    assert not verify_bundle(export(forged(make_log, 700, 60)), vkey, notes).ok
    cut = verify_bundle(export(600), vkey, notes)
    assert [(finding.code, finding.index) for finding in cut.findings] == [("rollback", 600)]


def test_a_folder_without_anchors_is_wrong_usage_and_not_a_passing_check(export, vkey, tmp_path):
    (tmp_path / "none").mkdir()
    for folder in ("none", "nowhere"):
        done = run(export(3), "--key", vkey, "--anchors", tmp_path / folder)
        assert done.returncode == 2


# --- keys -----------------------------------------------------------------------------


def test_a_key_inside_the_bundle_is_never_trusted(make_log, export, vkey):
    log = make_log(3)
    log.signer = Signer.from_seed("log.example/tests", bytes(32))
    bundle = export(log)
    for name in ("key", "vkey", "checkpoint.key", "README.md", "verify.py"):
        (bundle / name).write_text(log.signer.vkey + "\n")
    report = verify_bundle(bundle, vkey)
    assert [finding.code for finding in report.findings] == ["signature"]
    assert verify_bundle(bundle, log.signer.vkey).ok
    with pytest.raises(BadKeyError):
        verify_bundle(bundle, str(bundle / "key"))


# --- the program ----------------------------------------------------------------------


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, str(VERIFIER), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_json_says_index_and_ring_and_the_exit_code_is_the_same(make_log, export, vkey, anchors):
    bundle = export(700)
    good = run(bundle, "--key", vkey, "--anchors", anchors, "--json")
    assert good.returncode == 0
    assert json.loads(good.stdout)["ok"] is True
    edit(bundle, 300)
    bad = run(bundle, "--key", vkey, "--json")
    told = json.loads(bad.stdout)
    assert bad.returncode == 1
    assert (told["first_bad_index"], told["ring"], told["ok"]) == (300, "tree", False)
    assert {one["path"] for one in told["found"]} == {"events.ndjson", "tile/entries/001"}
    text = run(bundle, "--key", vkey)
    assert "first bad event 300\ncaught by ring i: the signed tree\nNOT OK\n" in text.stdout


def test_an_incomplete_bundle_is_a_failed_check_that_says_incomplete(export, vkey):
    bundle = export(700)
    (bundle / "tile/0/000").unlink()
    done = run(bundle, "--key", vkey, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["incomplete"] is True


def test_several_older_checkpoints_may_be_given(make_log, export, vkey, tmp_path, capsys):
    kept = []
    for size in (10, 300):
        kept += ["--old", str(tmp_path / f"{size}")]
        (tmp_path / f"{size}").write_text(make_log(size).checkpoint_note(), "utf-8")
    assert main([str(export(700)), "--key", vkey, *kept]) == 0
    assert main([str(export(forged(make_log, 700, 20))), "--key", vkey, *kept]) == 1
    assert "caught by ring ii: an older checkpoint" in capsys.readouterr().out


def test_without_cryptography_nothing_is_called_good_or_bad(export, vkey, tmp_path):
    (tmp_path / "cryptography.py").write_text("raise ImportError('not here')")
    done = run(export(3), "--key", vkey, PYTHONPATH=str(tmp_path))
    assert done.returncode == 3
    assert done.stdout == ""
    assert "cryptography" in done.stderr
