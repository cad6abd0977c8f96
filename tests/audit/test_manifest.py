"""Manifests: rows of many members under one event, each provable, none to be changed unnoticed."""

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from audit.errors import EventError, ManifestError, ProofError
from audit.event import Actor, AuditEvent, canonical_bytes, check
from audit.export import write_bundle
from audit.manifest import (
    MOST_BYTES,
    MOST_ROWS,
    Manifest,
    check_row,
    manifest_of,
    most_rows,
    read_row,
    row_path,
    row_width,
    split_rows,
    write_rows,
)
from audit.verify import verify_bundle

TOKENS = st.binary(min_size=16, max_size=16).map(bytes.hex)
NAMES = [f"field_{at:02}" for at in range(9)]


def root_of(rows):
    """The tree of RFC 6962, written down as the RFC says it."""
    if len(rows) == 1:
        return hashlib.sha256(b"\x00" + rows[0]).digest()
    half = 1 << (len(rows) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + root_of(rows[:half]) + root_of(rows[half:])).digest()


def some(number, fields=("phone",)):
    return write_rows({f"{at * 7919:032x}": fields for at in range(number)})


@given(st.dictionaries(TOKENS, st.sets(st.sampled_from(NAMES)), min_size=1, max_size=40))
@hypothesis_settings(max_examples=60, deadline=None)
def test_rows_say_what_was_disclosed_of_whom_and_every_one_is_proven(disclosed):
    fields, data = write_rows(disclosed)
    rows = split_rows(data)
    manifest = manifest_of(data)
    assert manifest == Manifest(len(disclosed), root_of(rows).hex())
    event = {"fields": list(fields), "manifest": manifest._asdict()}
    for place in range(len(rows)):
        row, path = row_path(data, place)
        read = check_row(event, row, place, path)
        assert set(read.fields) == disclosed[read.token]
    assert [row[:32].decode() for row in rows] == sorted(disclosed)


def test_own_vectors_hold(own_vectors):
    for vector in own_vectors("manifests"):
        fields, data = write_rows(vector["disclosed"])
        assert (list(fields), data.decode()) == (vector["fields"], vector["file"])
        assert manifest_of(data)._asdict() == vector["manifest"]
        for place, path in enumerate(vector["paths"]):
            row, hashes = row_path(data, place)
            assert [each.hex() for each in hashes] == path
            read = check_row({"manifest": vector["manifest"], "fields": fields}, row, place, hashes)
            assert sorted(vector["disclosed"][read.token]) == list(read.fields)


def test_the_fullest_manifest_keeps_its_bounds():
    fields, data = write_rows(
        {f"{at:032x}": NAMES * 2 + [f"more_{n:03}" for n in range(91)] for at in range(MOST_ROWS)}
    )
    assert len(fields) == 100
    assert len(split_rows(data)) == MOST_ROWS
    assert len(data) == MOST_ROWS * row_width(100) <= MOST_BYTES
    assert most_rows(400) * row_width(400) <= MOST_BYTES
    with pytest.raises(ManifestError):
        some(MOST_ROWS + 1)
    with pytest.raises(ManifestError):
        write_rows({})
    with pytest.raises(ManifestError):
        write_rows({"short": ["phone"]})


@pytest.mark.parametrize(
    "row",
    [b"", b"x", b"0" * 32, b"g" * 32 + b" 1", b"0" * 32 + b"-1", b"0" * 32 + b" 2", b"A" * 32 + b" 1",
     b"0" * 32 + b" 01", b"0" * 32 + b" \xff"],
)  # fmt: skip
def test_what_is_no_row_is_not_read_as_one(row):
    with pytest.raises(ManifestError):
        read_row(row, 0, ["phone"])


def test_another_row_another_place_or_another_path_proves_nothing():
    fields, data = some(7)
    event = {"fields": list(fields), "manifest": manifest_of(data)._asdict()}
    row, path = row_path(data, 3)
    other, _ = row_path(data, 4)
    for faulty in (
        (event, other, 3, path),
        (event, row, 2, path),
        (event, row, 3, path[:-1]),
        (event, row, 3, [b"\x00" * 32, *path[1:]]),
        (event, row, 3, [*path, b"\x00" * 32]),
        ({**event, "manifest": {"rows": 3, "root": event["manifest"]["root"]}}, row, 3, path),
        ({**event, "manifest": {"rows": 7}}, row, 3, path),
        ({**event, "manifest": None}, row, 3, path),
        ({"fields": ["phone"]}, row, 3, path),
    ):
        with pytest.raises(ProofError):
            check_row(*faulty)


def test_an_event_with_a_manifest_is_of_its_shape():
    event = AuditEvent(
        id="evt_01k9z6m3q8x7v5t2r4n6p8s0w1",
        ts=1_793_000_000_000_000,
        nonce=bytes(16),
        actor=Actor("cli_01k9z6m3q8x7v5t2r4n6p8s0w1", "app", "api"),
        action="audience.export",
        decision="allow",
        count=7,
        manifest=Manifest(7, "ab" * 32),
    )
    check(event)
    assert json.loads(canonical_bytes(event))["manifest"] == {"rows": 7, "root": "ab" * 32}
    for faulty in (
        replace(event, manifest=Manifest(8, "ab" * 32)),
        replace(event, manifest=Manifest(0, "ab" * 32), count=0),
        replace(event, manifest=Manifest(1_001, "ab" * 32), count=1_001),
        replace(event, manifest=Manifest(7, "AB" * 32)),
        replace(event, manifest=Manifest(7, "ab" * 16)),
        replace(event, manifest=Manifest(True, "ab" * 32), count=1),
    ):
        with pytest.raises(EventError):
            check(faulty)


# --- in a bundle ----------------------------------------------------------------------

AT = 300


@pytest.fixture
def bundle(make_log, tmp_path):
    """Write a bundle of 600 events of which one, at 300, tells of five members."""

    def write(suffix="", **changes):
        log = make_log(AT)
        fields, data = some(5, ("email", "phone"))
        said = {"id": "evt_x", "fields": list(fields), "count": 5}
        said |= {"manifest": manifest_of(data)._asdict()} | changes
        log.append([json.dumps(said, sort_keys=True, separators=(",", ":")).encode()])
        log.append([b'{"id":"evt_%d"}' % at for at in range(299)])
        log.rows[AT] = data
        path = tmp_path / f"bundle{suffix}"
        write_bundle(path, log)
        return path

    return write


def found(path, vkey):
    report = verify_bundle(path, vkey)
    assert {finding.ring for finding in report.findings} <= {"tree"}
    return [(finding.code, finding.index) for finding in report.findings]


@pytest.mark.parametrize("suffix", ["", ".zip"])
def test_a_bundle_with_rows_holds(bundle, vkey, suffix):
    report = verify_bundle(bundle(suffix), vkey)
    assert report.findings == ()
    assert report.unchecked == ("README.md",)


def rows_file(path):
    return path / f"manifests/{AT:012}.rows"


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b" 3\n", b" 1\n", 1),
        lambda data: data[35:],
        lambda data: data + data[-35:],
        lambda data: data[35:70] + data[:35] + data[70:],
        lambda data: data[:-1],
        lambda data: data + b"\n",
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: b"0" * 32 + data[32:] if data[0:1] != b"0" else b"1" * 32 + data[32:],
        lambda _: b"",
        lambda _: b"\n",
    ],
)
def test_a_changed_missing_or_added_row_is_named(bundle, vkey, change):
    path = bundle()
    before = rows_file(path).read_bytes()
    rows_file(path).write_bytes(change(before))
    assert rows_file(path).read_bytes() != before
    assert found(path, vkey) == [("manifest", AT)]


def test_a_missing_file_of_rows_makes_a_bundle_incomplete(bundle, vkey):
    path = bundle()
    rows_file(path).unlink()
    report = verify_bundle(path, vkey)
    assert [(f.code, f.index) for f in report.findings] == [("missing", AT)]
    assert report.incomplete


@pytest.mark.parametrize(
    "name", [f"{AT + 1:012}.rows", f"{600:012}.rows", "300.rows", "0000000000300.rows", "rows"]
)
def test_rows_that_no_event_names_are_refused(bundle, vkey, name):
    path = bundle()
    (path / "manifests" / name).write_bytes(rows_file(path).read_bytes())
    assert [code for code, _ in found(path, vkey)] == ["unexpected"]


@pytest.mark.parametrize(
    "changes",
    [
        {"manifest": {"rows": 5}},
        {"manifest": {"rows": "5", "root": "ab" * 32}},
        {"manifest": {"rows": 5, "root": "ab"}},
        {"manifest": {"rows": 5, "root": "ab" * 32, "more": 1}},
        {"manifest": {"rows": 4, "root": "ab" * 32}},
        {"fields": 7},
        {"subject": {}},
        {"count": None},
    ],
)
def test_an_event_that_names_rows_in_no_known_way_is_found(bundle, vkey, changes):
    assert ("manifest", AT) in found(bundle(**changes), vkey)


def test_rows_out_of_order_or_twice_do_not_pass_though_the_root_fits(bundle, vkey):
    _, data = some(5, ("email", "phone"))
    rows = data.splitlines(keepends=True)
    for forged in (b"".join(reversed(rows)), rows[0] * 5, data.replace(b" 3", b" 7")):
        path = bundle(manifest=manifest_of(forged)._asdict())
        rows_file(path).write_bytes(forged)
        assert found(path, vkey) == [("manifest", AT)]
        for file in sorted(path.rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()
