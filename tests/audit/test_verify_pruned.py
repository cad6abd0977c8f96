"""What went by rule is told from what is missing, from the files alone, and strangers agree."""

import base64
import json

import pytest

from audit.export import write_bundle
from audit.merkle import leaf_hash
from audit.verify import verify_bundle

SIZE = 700


def telling(index, first, last, gaps=(), **changes):
    """An entry that says what a prune took, with whatever a forger would change."""
    gone = last - first + 1 - sum(b - a + 1 for a, b in gaps)
    said = {"month": "2020-01", "rule": "readings", "first": first, "last": last}
    if gaps:
        said["except"] = [list(gap) for gap in gaps]
    event = {"id": f"evt_{index}", "action": "retention.pruned", "count": gone, "pruned": said}
    event |= changes
    return json.dumps(event, sort_keys=True, separators=(",", ":")).encode()


class PrunedLog:
    """A log of which some bodies are gone."""

    def __init__(self, log, gone):
        self._log, self._gone = log, set(gone)
        self.size = log.size

    def checkpoint_note(self):
        return self._log.checkpoint_note()

    def tile(self, *place):
        return self._log.tile(*place)

    def entries(self, start, end):
        for index, entry in enumerate(self._log.entries(start, end), start):
            yield None if index in self._gone else entry


@pytest.fixture
def pruned(make_log, tmp_path):
    """Write the bundle of a log of 700 events and those given, without the bodies gone."""

    def write(gone, *entries, suffix=""):
        log = make_log(SIZE)
        log.append(list(entries))
        path = tmp_path / f"bundle{suffix}"
        write_bundle(path, PrunedLog(log, gone))
        return path

    return write


def found(report):
    return [(finding.code, finding.index) for finding in report.findings]


GONE = [*range(10, 20), *range(25, 300)]


@pytest.mark.parametrize("suffix", ["", ".zip"])
def test_what_an_event_of_the_log_names_was_pruned_by_policy(pruned, vkey, suffix):
    path = pruned(GONE, telling(SIZE, 10, 299, [(20, 24)]), suffix=suffix)
    report = verify_bundle(path, vkey)
    assert report.findings == ()
    assert report.pruned == len(GONE)
    assert report.as_json()["pruned"] == len(GONE)


def test_a_bundle_with_a_gap_is_left_out_and_its_rest_is_in_the_lines(pruned):
    path = pruned(GONE, telling(SIZE, 10, 299, [(20, 24)]))
    bundles = sorted(file.name for file in (path / "tile/entries").rglob("*") if file.is_file())
    assert bundles == ["189"]  # of 701 events, 512 to 700
    lines = [json.loads(line) for line in (path / "events.ndjson").read_text().splitlines()]
    assert [line["index"] for line in lines] == [n for n in range(SIZE + 1) if n not in GONE]


def test_events_in_turn_may_name_the_gaps_of_one_another(pruned, vkey):
    path = pruned(GONE, telling(SIZE, 25, 299), telling(SIZE + 1, 10, 19))
    assert verify_bundle(path, vkey).pruned == len(GONE)


@pytest.mark.parametrize(
    ("said", "missing"),
    [
        (telling(SIZE, 10, 298, [(20, 24)]), [299]),
        (telling(SIZE, 11, 299, [(20, 24)]), [10]),
        (telling(SIZE, 10, 299, [(20, 24)], count=1), [10, 256]),
        (telling(SIZE, 10, 299, [(20, 24)], count=True), [10, 256]),
        (telling(SIZE, 10, 299, [(20, 24)], action="member.view"), [10, 256]),
        (telling(SIZE, 10, 299, [(24, 20)]), [10, 256]),
        (telling(SIZE, 10, 299, [(20, 300)]), [10, 256]),
        (telling(SIZE, 10, SIZE), [10, 256]),
        (telling(SIZE, 10, 299, [(20, 24)], pruned=None), [10, 256]),
        (telling(SIZE, 10, 299, [(20, 24)], pruned={"first": "10", "last": 299}), [10, 256]),
        (b'"action":"retention.pruned"', [10, 256]),
    ],
)
def test_what_no_sound_event_names_is_missing(pruned, vkey, said, missing):
    report = verify_bundle(pruned(GONE, said), vkey)
    assert found(report) == [("missing", index) for index in missing]
    assert report.incomplete


def test_an_event_put_into_the_lines_alone_names_nothing(pruned, vkey):
    path = pruned([3, SIZE - 1], b'{"id":"evt_x"}')
    lines = (path / "events.ndjson").read_bytes().splitlines(keepends=True)
    forged = b'{"index":%d,"event":%b}\n' % (SIZE - 1, telling(SIZE - 1, 3, 3))
    at = next(n for n, line in enumerate(lines) if line.startswith(b'{"index":%d,' % SIZE))
    (path / "events.ndjson").write_bytes(b"".join([*lines[:at], forged, *lines[at:]]))
    report = verify_bundle(path, vkey)
    assert not report.ok
    assert ("entry", SIZE - 1) in found(report)


@pytest.mark.parametrize("change", ["edited", "dropped", "twice", "swapped", "noise"])
def test_a_changed_line_beside_a_gap_is_caught(pruned, vkey, change):
    path = pruned(GONE, telling(SIZE, 10, 299, [(20, 24)]))
    lines = (path / "events.ndjson").read_bytes().splitlines(keepends=True)
    assert lines[11].startswith(b'{"index":21,')
    if change == "edited":
        lines[11] = lines[11].replace(b'"nonce":"0', b'"nonce":"1')
    elif change == "dropped":
        del lines[11]
    elif change == "twice":
        lines.insert(11, lines[11])
    elif change == "swapped":
        lines[11], lines[12] = lines[12], lines[11]
    else:
        lines[11] = b"noise\n"
    (path / "events.ndjson").write_bytes(b"".join(lines))
    report = verify_bundle(path, vkey)
    assert not report.ok
    assert report.first_bad_index == {"twice": 22, "swapped": 23}.get(change, 21)


def test_a_changed_tile_beside_a_gap_is_caught(pruned, vkey):
    path = pruned(GONE, telling(SIZE, 10, 299, [(20, 24)]))
    tile = path / "tile/0/000"
    data = tile.read_bytes()
    tile.write_bytes(data[:400] + bytes([data[400] ^ 1]) + data[401:])  # the leaf of event 12
    assert not verify_bundle(path, vkey).ok


def test_strangers_read_tiles_and_prove_what_is_left(pruned, make_log, vkey):
    """A program that walks entry bundles says that a file is missing, never that one is wrong."""
    aics = pytest.importorskip("aics_tlog", reason="aics-tlog is not installed")
    said = telling(SIZE, 10, 299, [(20, 24)])
    path = pruned(GONE, said)
    note = aics.parse_note((path / "checkpoint").read_bytes())
    assert aics.verify_note(note, [aics.parse_vkey(vkey)])
    head = aics.parse_checkpoint(note.text)
    reader = aics.FileSystemTileReader(path)
    with pytest.raises(aics.TileMissingError):
        aics.audit_tiles(reader, head.size, head.root)
    before = aics.parse_checkpoint(aics.parse_note(make_log(300).checkpoint_note()).text)
    proof = aics.consistency_proof_from_tiles(reader, before.size, head.size)
    assert aics.verify_consistency(before.size, head.size, before.root, head.root, proof)
    for line in (path / "events.ndjson").read_bytes().splitlines():
        index = json.loads(line)["index"]
        entry = line[len(b'{"index":%d,"event":' % index) : -1]
        proof = aics.inclusion_proof_from_tiles(reader, index, head.size)
        assert aics.verify_inclusion(leaf_hash(entry), index, head.size, proof, head.root)
    assert base64.b64encode(head.root).decode() == verify_bundle(path, vkey).root
