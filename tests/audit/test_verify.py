"""The verifier against whoever holds the bundle: each tamper is caught and its place named."""

import ast
import base64
import os
import shutil
import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.merkle import fold, leaf_hash
from audit.note import Checkpoint, Signer, sign_checkpoint, sign_note
from audit.tiles import TilePath, decode_entries, encode_entries
from audit.verify import MAX_FINDINGS, BadKeyError, main, verify_bundle

VERIFIER = Path(__file__).parents[2] / "audit" / "verify.py"
VECTOR = Path(__file__).parents[1] / "vectors" / "audit" / "bundle"

# 700 events: two full bundles and one of 188; 66,000: two levels of full tiles.
SMALL, LARGE = 700, 66_000


def files_of(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def lay_out(files, destination):
    """Write files as a folder, or as a zip when the destination is named so, afresh."""
    shutil.rmtree(destination, ignore_errors=True)
    if destination.suffix == ".zip":
        with zipfile.ZipFile(destination, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        for name, data in files.items():
            path = destination / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return destination


def flip(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.fixture(scope="module")
def bundles(make_log, tmp_path_factory):
    """The files of honest bundles of two sizes."""
    from audit.export import write_bundle

    made = {}
    for size in (SMALL, LARGE):
        destination = tmp_path_factory.mktemp("honest") / "bundle"
        write_bundle(destination, make_log(size))
        made[size] = files_of(destination)
    return made


@pytest.fixture(params=["", ".zip"], ids=["folder", "zip"])
def verify(request, tmp_path, vkey):
    """Verify a dictionary of files, once as a folder and once as a zip."""
    return lambda files, *more, key=vkey: verify_bundle(
        lay_out(files, tmp_path / f"bundle{request.param}"), key, *more
    )


def found(report):
    return [(finding.code, finding.index, finding.path) for finding in report.findings]


# Honest bundles.


@pytest.mark.parametrize("suffix", ["", ".zip"])
@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537])
def test_an_honest_bundle_passes(export, make_log, vkey, size, suffix):
    log = make_log(size)
    report = verify_bundle(export(log, suffix), vkey)
    assert report.findings == ()
    assert report.ok
    assert not report.incomplete
    assert (report.size, report.origin) == (size, "log.example/tests")
    assert base64.b64decode(report.root) == log.edge.root()
    assert report.unchecked == ("README.md",)


def test_the_bundle_of_the_vectors_passes(own_vectors):
    vectors = own_vectors("notes")
    report = verify_bundle(VECTOR, vectors["vkey"])
    assert report.findings == ()
    assert report.unchecked == ()


# Half an event is no entry of an honest log; Hypothesis takes such words from our own code.
_entries = st.binary(max_size=60).filter(
    lambda b: not (b"\n" in b or b.startswith(b'{"action"') or b'"manifest"' in b)
)


@settings(deadline=None, max_examples=40)
@given(st.lists(_entries, max_size=600))
def test_no_honest_log_raises_a_false_alarm(make_log, tmp_path_factory, vkey, entries):
    from audit.export import write_bundle

    log = make_log(0)
    log.append(entries)
    destination = tmp_path_factory.mktemp("honest") / "bundle.zip"
    write_bundle(destination, log)
    assert verify_bundle(destination, vkey).findings == ()


# Tampers with files. Each gives the files and says what is to be found.


def edit_event_line(files):
    files["events.ndjson"] = files["events.ndjson"].replace(b'"evt_300"', b'"evt_30O"')
    return [("events", 300, "events.ndjson")]


def swap_event_lines(files):
    lines = files["events.ndjson"].splitlines(keepends=True)
    lines[10], lines[20] = lines[20], lines[10]
    files["events.ndjson"] = b"".join(lines)
    return [("events", 10, "events.ndjson")]


def drop_event_line(files):
    lines = files["events.ndjson"].splitlines(keepends=True)
    del lines[400]
    files["events.ndjson"] = b"".join(lines)
    return [("events", 400, "events.ndjson")]


def drop_last_event_line(files):
    lines = files["events.ndjson"].splitlines(keepends=True)
    files["events.ndjson"] = b"".join(lines[:-1])
    return [("events", 699, "events.ndjson")]


def cut_event_lines_within_one(files):
    files["events.ndjson"] = files["events.ndjson"][:-5]
    return [("events", 699, "events.ndjson")]


def add_event_line(files):
    files["events.ndjson"] += b'{"index":700,"event":{}}\n'
    return [("events", 700, "events.ndjson")]


def drop_event_lines(files):
    del files["events.ndjson"]
    return [("missing", None, "events.ndjson")]


def edit_entry(files):
    files["tile/entries/001"] = files["tile/entries/001"].replace(b"evt_300", b"evt_30O")
    return [("entry", 300, "tile/entries/001"), ("events", 300, "events.ndjson")]


def edit_entry_at_the_edge(files):
    name = "tile/entries/002.p/188"
    files[name] = files[name].replace(b"evt_699", b"evt_69O")
    return [("entry", 699, name), ("events", 699, "events.ndjson")]


def edit_entry_and_its_line(files):
    edit_entry(files)
    edit_event_line(files)
    return [("entry", 300, "tile/entries/001")]


def edit_entry_line_and_leaf(files):
    edit_entry_and_its_line(files)
    entry = decode_entries(files["tile/entries/001"])[44]
    tile = files["tile/0/001"]
    files["tile/0/001"] = tile[: 44 * 32] + leaf_hash(entry) + tile[45 * 32 :]
    return [("rewritten", 256, "tile/0/001")]


def edit_entry_and_leaf_but_not_its_line(files):
    edit_entry_line_and_leaf(files)
    files["events.ndjson"] = files["events.ndjson"].replace(b'"evt_30O"', b'"evt_300"')
    return [("events", 300, "events.ndjson"), ("rewritten", 256, "tile/0/001")]


def edit_an_entry_and_the_leaf_of_another(files):
    edit_entry_and_its_line(files)
    files["tile/0/001"] = flip(files["tile/0/001"], 54 * 32)
    return [("tile", 300, "tile/0/001")]


def rebuild_every_tile_over_an_edited_entry(files):
    edit_entry_line_and_leaf(files)
    tile = files["tile/1/000.p/2"]
    files["tile/1/000.p/2"] = tile[:32] + fold(files["tile/0/001"])
    return [("root", None, "checkpoint")]


def swap_entries(files):
    entries = decode_entries(files["tile/entries/000"])
    entries[3], entries[200] = entries[200], entries[3]
    files["tile/entries/000"] = encode_entries(entries)
    return [("events", 3, "events.ndjson"), ("entry", 3, "tile/entries/000")]


def repeat_entry_over_its_neighbour(files):
    entries = decode_entries(files["tile/entries/000"])
    entries[101] = entries[100]
    files["tile/entries/000"] = encode_entries(entries)
    return [("events", 101, "events.ndjson"), ("entry", 101, "tile/entries/000")]


def insert_entry(files):
    entries = decode_entries(files["tile/entries/001"])
    entries.insert(7, entries[6])
    files["tile/entries/001"] = encode_entries(entries)
    return [("bundle", 263, "tile/entries/001")]


def remove_entry(files):
    entries = decode_entries(files["tile/entries/001"])
    del entries[9]
    files["tile/entries/001"] = encode_entries(entries)
    return [("bundle", 265, "tile/entries/001")]


def remove_last_entry(files):
    name = "tile/entries/002.p/188"
    files[name] = encode_entries(decode_entries(files[name])[:-1])
    return [("bundle", 699, name)]


def append_to_bundle(files):
    files["tile/entries/002.p/188"] += b"\0\2{}"
    return [("bundle", 700, "tile/entries/002.p/188")]


def append_half_an_entry(files):
    files["tile/entries/000"] += b"\0\2{"
    return [("bundle", 256, "tile/entries/000")]


def cut_bundle(files):
    files["tile/entries/000"] = files["tile/entries/000"][:-1]
    return [("bundle", 255, "tile/entries/000")]


def edit_leaf(files):
    files["tile/0/001"] = flip(files["tile/0/001"], 44 * 32)
    return [("tile", 300, "tile/0/001")]


def edit_leaf_at_the_edge(files):
    files["tile/0/002.p/188"] = flip(files["tile/0/002.p/188"], 0)
    return [("tile", 512, "tile/0/002.p/188")]


def edit_upper_tile(files):
    files["tile/1/000.p/2"] = flip(files["tile/1/000.p/2"], 40)
    return [("tile", 256, "tile/1/000.p/2")]


def edit_entry_and_upper_tile(files):
    edit_entry_and_its_line(files)
    edit_upper_tile(files)
    return [
        ("tile", 300, "tile/0/001"),
        ("tile", 256, "tile/1/000.p/2"),
        ("root", None, "checkpoint"),
    ]


def cut_tile_by_a_byte(files):
    files["tile/0/000"] = files["tile/0/000"][:-1]
    return [("tile", 0, "tile/0/000")]


def append_to_tile(files):
    files["tile/0/000"] += bytes(32)
    return [("tile", 0, "tile/0/000")]


def append_far_too_much_to_tile(files):
    files["tile/0/000"] += bytes(100_000)
    return [("unexpected", 0, "tile/0/000")]


def delete_tile(files):
    del files["tile/0/001"]
    return [("missing", 256, "tile/0/001")]


def delete_upper_tile(files):
    del files["tile/1/000.p/2"]
    return [("missing", 0, "tile/1/000.p/2")]


def delete_bundle(files):
    del files["tile/entries/001"]
    return [("missing", 256, "tile/entries/001")]


def delete_bundle_and_tile(files):
    del files["tile/entries/001"]
    del files["tile/0/001"]
    return [("missing", 256, "tile/entries/001"), ("missing", 256, "tile/0/001")]


def delete_bundle_and_event_lines(files):
    del files["tile/entries/001"]
    del files["events.ndjson"]
    return [("missing", 256, "tile/entries/001"), ("missing", None, "events.ndjson")]


def delete_tail(files):
    del files["tile/entries/002.p/188"]
    del files["tile/0/002.p/188"]
    lines = files["events.ndjson"].splitlines(keepends=True)
    files["events.ndjson"] = b"".join(lines[:512])
    return [("missing", 512, "tile/entries/002.p/188"), ("missing", 512, "tile/0/002.p/188")]


def add_tile_beyond_the_end(files):
    files["tile/0/003"] = bytes(8_192)
    return [("unexpected", None, "tile/0/003")]


def add_tile_of_another_width(files):
    files["tile/0/002"] = bytes(8_192)
    return [("unexpected", None, "tile/0/002")]


def add_bundle_under_a_crooked_name(files):
    files["tile/entries/x000/001"] = files["tile/entries/001"]
    return [("unexpected", None, "tile/entries/x000/001")]


def add_stray_file_among_the_tiles(files):
    files["tile/entries/evil.txt"] = b"read me"
    return [("unexpected", None, "tile/entries/evil.txt")]


def change_size(files):
    files["checkpoint"] = files["checkpoint"].replace(b"\n700\n", b"\n699\n")
    return [("signature", None, "checkpoint"), ("unexpected", None, None)]


def change_root(files):
    root = files["checkpoint"].split(b"\n")[2]
    other = base64.b64encode(flip(base64.b64decode(root), 0))
    files["checkpoint"] = files["checkpoint"].replace(root, other)
    return [("signature", None, "checkpoint"), ("root", None, "checkpoint")]


def cut_root_to_31_bytes(files):
    root = files["checkpoint"].split(b"\n")[2]
    short = base64.b64encode(base64.b64decode(root)[:31])
    files["checkpoint"] = files["checkpoint"].replace(root, short)
    return [("checkpoint", None, "checkpoint")]


def change_origin(files):
    files["checkpoint"] = files["checkpoint"].replace(
        b"log.example/tests\n", b"log.example/other\n"
    )
    return [("signature", None, "checkpoint"), ("origin", None, "checkpoint")]


def drop_signature(files):
    files["checkpoint"] = files["checkpoint"].rpartition(b"\xe2\x80\x94")[0]
    return [("checkpoint", None, "checkpoint")]


def drop_root_and_sign_again(files):
    signer = Signer.from_seed("log.example/tests", bytes(range(32)))
    files["checkpoint"] = sign_note("log.example/tests\n700\n", signer).encode()
    return [("checkpoint", None, "checkpoint")]


def append_to_checkpoint(files):
    files["checkpoint"] += b"and so on\n"
    return [("checkpoint", None, "checkpoint")]


def break_checkpoint(files):
    files["checkpoint"] = b"\xff" + files["checkpoint"]
    return [("checkpoint", None, "checkpoint")]


def put_control_characters_into_checkpoint(files):
    files["checkpoint"] = b"\x1b[2J" + files["checkpoint"]
    return [("checkpoint", None, "checkpoint")]


def inflate_checkpoint(files):
    files["checkpoint"] = bytes(2_000_000)
    return [("unexpected", None, "checkpoint")]


def delete_checkpoint(files):
    del files["checkpoint"]
    return [("missing", None, "checkpoint")]


def empty_bundle(files):
    files.clear()
    files["README.md"] = b"all is well"
    return [("missing", None, "checkpoint")]


TAMPERS = [
    edit_event_line,
    swap_event_lines,
    drop_event_line,
    drop_last_event_line,
    cut_event_lines_within_one,
    add_event_line,
    drop_event_lines,
    edit_entry,
    edit_entry_at_the_edge,
    edit_entry_and_its_line,
    edit_entry_line_and_leaf,
    edit_entry_and_leaf_but_not_its_line,
    edit_an_entry_and_the_leaf_of_another,
    rebuild_every_tile_over_an_edited_entry,
    swap_entries,
    repeat_entry_over_its_neighbour,
    insert_entry,
    remove_entry,
    remove_last_entry,
    append_to_bundle,
    append_half_an_entry,
    cut_bundle,
    edit_leaf,
    edit_leaf_at_the_edge,
    edit_upper_tile,
    edit_entry_and_upper_tile,
    cut_tile_by_a_byte,
    append_to_tile,
    append_far_too_much_to_tile,
    delete_tile,
    delete_upper_tile,
    delete_bundle,
    delete_bundle_and_tile,
    delete_bundle_and_event_lines,
    delete_tail,
    add_tile_beyond_the_end,
    add_tile_of_another_width,
    add_bundle_under_a_crooked_name,
    add_stray_file_among_the_tiles,
    change_size,
    change_root,
    cut_root_to_31_bytes,
    change_origin,
    drop_signature,
    drop_root_and_sign_again,
    append_to_checkpoint,
    break_checkpoint,
    put_control_characters_into_checkpoint,
    inflate_checkpoint,
    delete_checkpoint,
    empty_bundle,
]


@pytest.mark.parametrize("tamper", TAMPERS, ids=lambda tamper: tamper.__name__)
def test_a_tampered_bundle_is_caught_and_the_place_named(bundles, verify, tamper):
    files = dict(bundles[SMALL])
    expected = tamper(files)
    report = verify(files)
    assert not report.ok
    reported = found(report)
    if tamper is change_size:
        assert reported[0] == expected[0]
        assert "unexpected" in {code for code, *_ in reported}
    else:
        assert sorted(reported, key=str) == sorted(expected, key=str)
    assert all(finding.detail for finding in report.findings)
    only_missing = {code for code, *_ in expected} == {"missing"}
    assert report.incomplete == only_missing


def test_in_a_large_log_a_changed_entry_under_two_levels_of_tiles_is_named(bundles, verify):
    files = dict(bundles[LARGE])
    files["tile/entries/123"] = flip(files["tile/entries/123"], 30)
    assert ("entry", 123 * 256, "tile/entries/123") in found(verify(files))


def test_in_a_large_log_a_changed_middle_tile_is_named(bundles, verify):
    files = dict(bundles[LARGE])
    files["tile/1/000"] = flip(files["tile/1/000"], 123 * 32)
    assert found(verify(files)) == [("tile", 123 * 256, "tile/1/000")]


def test_in_a_large_log_a_subtree_rewritten_below_a_true_tile_is_named(bundles, verify):
    files = dict(bundles[LARGE])
    name = str(TilePath(-1, 123))
    entries = [entry.replace(b"evt_31500", b"evt_3150O") for entry in decode_entries(files[name])]
    files[name] = encode_entries(entries)
    files["events.ndjson"] = files["events.ndjson"].replace(b'"evt_31500"', b'"evt_3150O"')
    files["tile/0/123"] = b"".join(leaf_hash(entry) for entry in entries)
    assert found(verify(files)) == [("rewritten", 123 * 256, "tile/0/123")]
    tile = files["tile/1/000"]
    files["tile/1/000"] = tile[: 123 * 32] + fold(files["tile/0/123"]) + tile[124 * 32 :]
    assert found(verify(files)) == [("rewritten", 0, "tile/1/000")]


def test_a_hopeless_bundle_ends_the_check_and_says_so(bundles, verify):
    files = {name: data for name, data in bundles[LARGE].items() if "entries" not in name}
    report = verify(files)
    assert len(report.findings) == MAX_FINDINGS + 1
    assert report.findings[-1].code == "stopped"
    assert report.incomplete


def test_a_checkpoint_that_claims_a_million_million_events_does_not_hang_the_check(verify):
    signer = Signer.from_seed("log.example/tests", bytes(range(32)))
    note = sign_checkpoint(Checkpoint(signer.name, 10**12, bytes(32)), signer)
    report = verify({"checkpoint": note.encode(), "events.ndjson": b""})
    assert report.findings[-1].code == "stopped"


# Keys.


def test_a_bundle_of_another_key_is_refused(bundles, verify):
    other = Signer.from_seed("log.example/tests", bytes(32)).vkey
    report = verify(dict(bundles[SMALL]), key=other)
    assert found(report) == [("signature", None, "checkpoint")]
    assert other.rpartition("+")[0] in report.findings[0].detail


def test_a_rewritten_log_signed_by_a_key_that_came_along_is_refused(make_log, export, verify):
    log = make_log(300)
    log.signer = Signer.from_seed("log.example/tests", bytes(32))
    files = files_of(export(log))
    files["key.txt"] = log.signer.vkey.encode()
    report = verify(files)
    assert found(report) == [("signature", None, "checkpoint")]
    assert "key.txt" in report.unchecked


def test_a_bundle_of_another_log_under_the_same_key_is_refused(bundles, verify):
    signer = Signer.from_seed("log.example/tests", bytes(range(32)))
    files = dict(bundles[SMALL])
    head = Checkpoint.parse(files["checkpoint"].decode().partition("\n\n")[0] + "\n")
    stray = Checkpoint("log.example/else", head.size, head.root)
    files["checkpoint"] = sign_note(stray.body(), signer).encode()
    assert found(verify(files)) == [("origin", None, "checkpoint")]


@pytest.mark.parametrize(
    "key",
    [
        "",
        "log.example/tests",
        "log.example/tests+00000000+AAAA",
        f"a+{sha256(b'a' + bytes([10, 1])).hexdigest()[:8]}+AQ==",
        f"a+{sha256(b'a' + bytes([10, 2]) + bytes(32)).hexdigest()[:8]}+Ag{'A' * 42}",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ],
)
def test_a_malformed_key_is_wrong_usage_and_not_a_finding(bundles, verify, key):
    with pytest.raises(BadKeyError):
        verify(dict(bundles[SMALL]), key=key)
    with pytest.raises(BadKeyError):
        verify(dict(bundles[SMALL]), None, [key])


def test_a_witness_that_did_not_sign_is_missed(own_vectors, verify):
    vectors = own_vectors("notes")
    files = files_of(VECTOR)
    witnesses = [vectors["witness_vkey"]]
    unsigned = verify(files, None, witnesses, key=vectors["vkey"])
    assert found(unsigned) == [("witness", None, "checkpoint")]
    files["checkpoint"] = vectors["three_cosigned"].encode()
    assert verify(files, None, witnesses, key=vectors["vkey"]).ok
    cosigned = vectors["three_cosigned"]
    last = "B" if cosigned[-8] == "A" else "A"  # a character of the witness's signature
    files["checkpoint"] = f"{cosigned[:-8]}{last}{cosigned[-7:]}".encode()
    forged = verify(files, None, witnesses, key=vectors["vkey"])
    assert found(forged) == [("witness", None, "checkpoint")]


# An older checkpoint.


@pytest.mark.parametrize("old", [0, 1, 255, 256, 257, 511, 512, 513, 699, 700])
def test_a_log_that_grew_from_the_older_checkpoint_passes(make_log, bundles, verify, old):
    note = make_log(old).checkpoint_note()
    assert verify(dict(bundles[SMALL]), note).findings == ()


def test_a_log_cut_short_behind_the_older_checkpoint_is_caught(make_log, bundles, verify):
    report = verify(dict(bundles[SMALL]), make_log(701).checkpoint_note())
    assert found(report) == [("rollback", 700, None)]


@pytest.mark.parametrize("old", [1, 256, 300, 700])
def test_history_rewritten_by_the_holder_of_the_signing_key_is_caught(
    make_log, export, verify, old
):
    log = make_log(0)
    honest = make_log(700)
    log.append([b'{"id":"evt_forged"}', *honest.stored[1:]])
    forged = files_of(export(log))
    report = verify(forged, make_log(old).checkpoint_note())
    assert found(report) == [("fork", 0, None)]
    assert verify(forged).ok, "the bundle alone cannot show it"


def test_an_older_checkpoint_that_cannot_be_used_is_said_so(make_log, bundles, verify):
    files = dict(bundles[SMALL])
    stranger = make_log(300)
    stranger.signer = Signer.from_seed("log.example/tests", bytes(32))
    own = Signer.from_seed("log.example/tests", bytes(range(32)))
    elsewhere = sign_note(Checkpoint("log.example/else", 3, bytes(32)).body(), own)
    for note in ("", "garbage", stranger.checkpoint_note(), elsewhere):
        assert found(verify(files, note)) == [("old-checkpoint", None, None)]
    del files["tile/0/000"]
    del files["tile/entries/000"]
    codes = {code for code, *_ in found(verify(files, make_log(300).checkpoint_note()))}
    assert "missing" in codes


def test_an_older_checkpoint_over_missing_files_is_not_called_consistent(
    make_log, bundles, tmp_path, vkey
):
    files = dict(bundles[SMALL])
    for name in ("tile/0/000", "tile/entries/000", "tile/1/000.p/2", "events.ndjson"):
        del files[name]
    report = verify_bundle(
        lay_out(files, tmp_path / "bundle"), vkey, make_log(300).checkpoint_note()
    )
    assert ("old-checkpoint", None, None) in found(report)


# Zips and folders.


def test_a_truncated_zip_is_unreadable(export, vkey):
    path = export(300, ".zip")
    whole = path.read_bytes()
    for keep in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:keep])
        assert found(verify_bundle(path, vkey)) == [("unreadable", None, None)]


def test_damage_within_a_zipped_file_is_named(export, vkey):
    path = export(300, ".zip")
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("tile/entries/000")
        at = member.header_offset + 30 + len(member.filename) + member.compress_size // 2
    path.write_bytes(flip(path.read_bytes(), at))
    assert ("unreadable", 0, "tile/entries/000") in found(verify_bundle(path, vkey))


def test_damage_in_the_zipped_events_is_named(export, vkey):
    path = export(300, ".zip")
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("events.ndjson")
        at = member.header_offset + 30 + len(member.filename) + member.compress_size // 2
    path.write_bytes(flip(path.read_bytes(), at))
    report = verify_bundle(path, vkey)
    assert [finding.path for finding in report.findings] == ["events.ndjson"]


def test_damaged_events_beside_a_missing_bundle_are_both_named(export, vkey):
    path = export(300)
    files = files_of(path)
    del files["tile/entries/000"]
    damaged = lay_out(files, path.with_suffix(".zip"))
    with zipfile.ZipFile(damaged) as archive:
        crc = archive.getinfo("events.ndjson").CRC.to_bytes(4, "little")
    damaged.write_bytes(damaged.read_bytes().replace(crc, flip(crc, 0)))
    assert {(code, where) for code, _, where in found(verify_bundle(damaged, vkey))} == {
        ("missing", "tile/entries/000"),
        ("unreadable", "events.ndjson"),
    }


def test_damage_to_the_checksum_of_the_zipped_events_is_named(export, vkey):
    path = export(300, ".zip")
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        crc = archive.getinfo("events.ndjson").CRC.to_bytes(4, "little")
    path.write_bytes(data.replace(crc, flip(crc, 0)))
    report = verify_bundle(path, vkey)
    assert {(code, where) for code, _, where in found(report)} == {("unreadable", "events.ndjson")}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_zipped_files_of_one_name_are_refused(export, vkey):
    path = export(300, ".zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("events.ndjson", b"another story")
    assert found(verify_bundle(path, vkey)) == [("unexpected", None, "events.ndjson")]


def test_data_before_or_after_a_zip_is_refused(export, vkey):
    path = export(300, ".zip")
    whole = path.read_bytes()
    for data in (b"#!/bin/sh\n" + whole, whole + b"more"):
        path.write_bytes(data)
        assert found(verify_bundle(path, vkey)) == [("unexpected", None, None)]


def test_an_encrypted_zip_member_is_unreadable(export, vkey):
    path = export(3, ".zip")
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\1\2", data.index(b"PK\1\2") + 1)
    assert b"checkpoint" in data[at : at + 60]
    data[at + 8] |= 1
    path.write_bytes(data)
    assert ("unreadable", None, "checkpoint") in found(verify_bundle(path, vkey))


def test_folders_named_in_a_zip_do_no_harm(export, vkey):
    path = export(3, ".zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.mkdir("tile/entries")
    assert verify_bundle(path, vkey).ok


def test_no_bundle_at_all_is_missing(tmp_path, vkey):
    assert found(verify_bundle(tmp_path / "nothing", vkey)) == [("missing", None, None)]
    (tmp_path / "file").write_text("no zip")
    assert found(verify_bundle(tmp_path / "file", vkey)) == [("unreadable", None, None)]


def test_a_folder_in_the_place_of_a_file_is_unreadable(bundles, tmp_path, vkey):
    files = dict(bundles[SMALL])
    del files["events.ndjson"]
    path = lay_out(files, tmp_path / "bundle")
    (path / "events.ndjson").mkdir()
    assert found(verify_bundle(path, vkey)) == [("unreadable", None, "events.ndjson")]


# A million random edits would do no better than these: any byte, anywhere.


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_no_byte_of_a_bundle_can_be_changed(bundles, tmp_path_factory, vkey, data):
    files = dict(bundles[SMALL])
    name = data.draw(st.sampled_from(sorted(set(files) - {"README.md"})))
    files[name] = flip(files[name], data.draw(st.integers(0, len(files[name]) - 1)))
    report = verify_bundle(lay_out(files, tmp_path_factory.mktemp("edited") / "b.zip"), vkey)
    assert name in {finding.path for finding in report.findings}
    if name != "checkpoint":
        assert {finding.path for finding in report.findings} <= {name, "events.ndjson"}


# The program, and its independence.


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-I", str(VERIFIER), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": ""},
    )


def test_the_file_runs_alone_and_its_exit_code_tells(export, make_log, vkey, tmp_path):
    bundle = export(300)
    old = tmp_path / "old"
    old.write_text(make_log(200).checkpoint_note())
    good = run(bundle, "--key", vkey, "--old", old)
    assert (good.returncode, good.stdout.splitlines()[-1]) == (0, "OK")
    assert "not covered by the signature: README.md" in good.stdout
    (bundle / "tile/0/000").unlink()
    bad = run(bundle, "--key", vkey)
    assert (bad.returncode, bad.stdout.splitlines()[-1]) == (1, "NOT OK")
    assert "missing: event 0, tile/0/000: the file is missing" in bad.stdout
    assert bad.stderr == ""


def test_wrong_usage_exits_with_2(export, vkey, tmp_path, capsys):
    bundle = export(3)
    assert run(bundle).returncode == 2
    assert run(bundle, "--key", "nonsense").returncode == 2
    with pytest.raises(SystemExit, match="2"):
        main([str(bundle), "--key", vkey, "--old", str(tmp_path / "nothing")])
    assert "nothing" in capsys.readouterr().err


def test_the_report_goes_to_standard_output(export, vkey, capsys):
    assert main([str(export(3)), "--key", vkey]) == 0
    assert capsys.readouterr().out.startswith("log   log.example/tests\nsize  3\n")
    other = Signer.from_seed("log.example/tests", bytes(32)).vkey
    assert main([str(export(3)), "--key", other]) == 1
    assert "BAD   signature: checkpoint: not signed by" in capsys.readouterr().out


def test_the_first_bad_index_is_the_lowest(bundles, verify):
    files = dict(bundles[SMALL])
    assert verify(files).first_bad_index is None
    edit_leaf_at_the_edge(files)
    edit_leaf(files)
    assert verify(files).first_bad_index == 300


def test_the_verifier_imports_the_standard_library_and_cryptography_only():
    tree = ast.parse(VERIFIER.read_text())
    roots = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            roots.add(node.module.partition(".")[0])
    assert roots - sys.stdlib_module_names == {"cryptography"}
