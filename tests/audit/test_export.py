"""Bundles: whole or not there, the same bytes for the same log, and the layout of the vectors."""

import json
import zipfile
from pathlib import Path

import pytest

from audit.errors import ExportError
from audit.export import write_bundle
from audit.tiles import TilePath, decode_entries

VECTOR = Path(__file__).parents[1] / "vectors" / "audit" / "bundle"


def files_of(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def unzipped(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_bundle_of_the_vectors_is_written_byte_for_byte(make_log, own_vectors, tmp_path):
    log = make_log(0)
    vectors = own_vectors("notes")
    log.signer = type(log.signer).from_seed(vectors["origin"], bytes.fromhex(vectors["seed"]))
    log.append([vector["bytes"].encode() for vector in own_vectors("events")])
    write_bundle(tmp_path / "bundle", log)
    written = files_of(tmp_path / "bundle")
    readme = written.pop("README.md").decode()
    assert written == files_of(VECTOR)
    assert vectors["origin"] in readme
    assert "--key" in readme


def test_the_verifier_key_is_nowhere_in_the_bundle(export, vkey):
    material = vkey.rpartition("+")[2].encode()
    assert not any(material in data for data in files_of(export(300)).values())


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 5_000])
def test_a_zip_holds_the_files_of_the_folder(export, size):
    assert unzipped(export(size, ".zip")) == files_of(export(size))


def test_one_log_makes_one_zip_byte_for_byte(export):
    assert export(700, ".zip").read_bytes() == export(700, ".zip").read_bytes()


def test_the_layout_is_that_of_a_tiled_log(export, make_log):
    log = make_log(70_000)
    written = files_of(export(log))
    tiles = {name for name in written if name.startswith("tile/")}
    bundles = {name for name in tiles if name.startswith("tile/entries/")}
    assert len(bundles) == 274
    assert len(tiles - bundles) == 274 + 2 + 1
    assert {"tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"} < tiles
    assert decode_entries(written["tile/entries/001"]) == log.stored[256:512]
    assert all(str(TilePath.parse(name)) == name for name in tiles)


def test_each_line_of_the_events_is_the_index_and_the_entry_as_stored(export, make_log):
    log = make_log(300)
    lines = files_of(export(log))["events.ndjson"].splitlines()
    assert [json.loads(line)["index"] for line in lines] == list(range(300))
    assert lines[299] == b'{"index":299,"event":' + log.stored[299] + b"}"


def test_progress_is_told_up_to_the_last_event(make_log, tmp_path):
    told = []
    write_bundle(tmp_path / "a", make_log(5_000), lambda done, total: told.append((done, total)))
    assert told == [(4_096, 5_000), (5_000, 5_000)]


@pytest.mark.parametrize("name", ["bundle", "bundle.zip"])
def test_what_is_there_already_is_never_overwritten(make_log, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ExportError):
        write_bundle(tmp_path / name, make_log(3))
    assert (tmp_path / name).read_text() == "mine"
    assert left_in(tmp_path) == [name]


def test_a_folder_with_something_in_it_is_never_written_into(make_log, tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "mine").write_text("mine")
    with pytest.raises(ExportError):
        write_bundle(folder, make_log(3))
    assert left_in(folder) == ["mine"]


def test_an_empty_folder_may_become_the_bundle(make_log, tmp_path):
    (tmp_path / "bundle").mkdir()
    write_bundle(tmp_path / "bundle", make_log(3))
    assert "checkpoint" in left_in(tmp_path / "bundle")


def test_a_destination_in_a_folder_that_does_not_exist_is_refused(make_log, tmp_path):
    with pytest.raises(ExportError):
        write_bundle(tmp_path / "nowhere" / "bundle", make_log(3))


class Failing:
    """A log whose database goes away in the middle of the export."""

    def __init__(self, log):
        self._log = log

    def __getattr__(self, name):
        return getattr(self._log, name)

    def entries(self, start, end):
        if start:
            raise ConnectionError("the database went away")
        return self._log.entries(start, end)


@pytest.mark.parametrize("suffix", ["", ".zip"])
def test_an_export_that_fails_leaves_nothing_behind(make_log, tmp_path, suffix):
    destination = tmp_path / f"bundle{suffix}"
    with pytest.raises(ConnectionError):
        write_bundle(destination, Failing(make_log(5_000)))
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("suffix", ["", ".zip"])
def test_a_destination_taken_meanwhile_is_not_overwritten_by_a_folder(make_log, tmp_path, suffix):
    log = make_log(300)
    destination = tmp_path / f"bundle{suffix}"

    def take(_done, _total):
        destination.mkdir()
        (destination / "mine").write_text("mine")

    with pytest.raises(ExportError):
        write_bundle(destination, log, take)
    assert left_in(destination) == ["mine"]
    assert left_in(tmp_path) == [destination.name]


def test_a_source_with_fewer_events_than_its_checkpoint_is_refused(make_log, tmp_path):
    log = make_log(300)
    log.entries = lambda start, end: iter(log.stored[start : end - 1])
    with pytest.raises(ExportError, match="299"):
        write_bundle(tmp_path / "bundle", log)
    log.stored.pop()
    with pytest.raises(ExportError, match="checkpoint"):
        write_bundle(tmp_path / "bundle", log)
    assert left_in(tmp_path) == []


def test_an_entry_of_two_lines_is_not_exported_as_a_line(make_log, tmp_path):
    log = make_log(2)
    log.append([b'{"a":1}\n{"b":2}'])
    with pytest.raises(ExportError, match="event 2"):
        write_bundle(tmp_path / "bundle", log)


def test_a_malformed_checkpoint_is_not_exported(make_log, tmp_path):
    log = make_log(2)
    log.checkpoint_note = lambda: "log.example/tests\n2\n"
    with pytest.raises(ExportError, match="malformed"):
        write_bundle(tmp_path / "bundle", log)
