"""The verifier against a bundle that is made to be read in two ways, to crash it or to fill it.

Whoever hands a bundle over chose every byte of it. What the verifier calls good must be what any
other program finds in it, and nothing in it may end the check in any other way than by a report.
"""

import os
import stat
import struct
import zlib
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.note import Checkpoint, Cosigner, Signer, Verifier, sign_note
from audit.verify import BadKeyError, main, verify_bundle

SIZE = 300
LOG = Signer.from_seed("log.example/tests", bytes(range(32)))
WITNESS = Cosigner.from_seed("witness.example/one", bytes(range(1, 33)))


@pytest.fixture(scope="module")
def files(make_log, tmp_path_factory):
    """The files of an honest bundle."""
    from audit.export import write_bundle

    root = tmp_path_factory.mktemp("honest") / "bundle"
    write_bundle(root, make_log(SIZE))
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def folder_of(files, root):
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def codes(report):
    return {finding.code for finding in report.findings}


# --- zips, written by hand ------------------------------------------------------------


class Zip:
    """Files of a zip before it is written; each may lie in every field of its two headers."""

    def __init__(self, files, method=8):
        self.members = [Member(name.encode(), data, method) for name, data in files.items()]
        self.hidden = {}
        self.before_directory = b""
        self.comment = b""
        self.end = {}
        self.zip64 = None

    def member(self, name):
        return next(one for one in self.members if one.name == name.encode())

    def write(self, path):
        out, directory = b"", b""
        for at, one in enumerate(self.members):
            out += self.hidden.get(at, b"")
            directory += one.central(len(out))
            out += one.local()
        out += self.before_directory
        start = len(out)
        out += directory
        if self.zip64 is not None:
            there = len(out)
            count, size, offset = self.zip64(len(self.members), len(directory), start)
            out += struct.pack(
                "<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, offset
            )
            out += struct.pack("<4sIQI", b"PK\6\7", 0, there, 1)
        told = {"count": len(self.members), "size": len(directory), "offset": start} | self.end
        out += struct.pack(
            "<4sHHHHIIH", b"PK\5\6", 0, 0, told["count"], told["count"], told["size"],
            told["offset"], len(self.comment),
        ) + self.comment  # fmt: skip
        path.write_bytes(out)
        return path


class Member:
    def __init__(self, name, data, method=8):
        self.name = self.local_name = name
        self.method = self.local_method = method
        self.packed = deflate(data) if method == 8 else data
        self.size, self.crc, self.flags, self.attributes = len(data), zlib.crc32(data), 0, 0
        self.made_by, self.extra, self.local_extra, self.behind = 3 << 8 | 20, b"", b"", b""
        self.local_sizes = None

    def local(self):
        sizes = self.local_sizes or (self.crc, len(self.packed), self.size)
        return b"".join(
            [
                struct.pack("<4sHHHHH", b"PK\3\4", 20, self.flags, self.local_method, 0, 33),
                struct.pack("<IIIHH", *sizes, len(self.local_name), len(self.local_extra)),
                self.local_name, self.local_extra, self.packed, self.behind,
            ]
        )  # fmt: skip

    def central(self, offset):
        return b"".join(
            [
                struct.pack("<4sHHHHHH", b"PK\1\2", self.made_by, 20, self.flags, self.method, 0, 33),
                struct.pack("<III", self.crc, len(self.packed), self.size),
                struct.pack("<HHHHHII", len(self.name), len(self.extra), 0, 0, 0, self.attributes, offset),
                self.name, self.extra,
            ]
        )  # fmt: skip


def deflate(data, *, end=True):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush(zlib.Z_FINISH if end else zlib.Z_SYNC_FLUSH)


def to_the_sum(data, crc):
    """Four bytes behind which the CRC-32 of data is another one: a checksum is no hash."""
    state, want = zlib.crc32(data) ^ 0xFFFFFFFF, crc ^ 0xFFFFFFFF
    for _ in range(4):
        at = next(at for at in range(256) if CRC_TABLE[at] >> 24 == want >> 24)
        want = ((want ^ CRC_TABLE[at]) << 8 | at) & 0xFFFFFFFF
    return (state ^ want).to_bytes(4, "little")


def _crc_row(value):
    for _ in range(8):
        value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)
    return value


CRC_TABLE = [_crc_row(value) for value in range(256)]


def go_on_behind_the_size(made):
    """Lines behind those that the header counts, and four bytes that make the checksum fit."""
    one = made.member("events.ndjson")
    honest = zlib.decompress(one.packed, -15)
    more = honest + b'{"index":300,"event":{"id":"evt_forged"}}\n'
    one.packed = deflate(more + to_the_sum(more, one.crc))


def hide_behind_the_stream(made):
    made.member("events.ndjson").packed += b"hidden"


def stop_before_the_end_of_the_stream(made):
    one = made.member("events.ndjson")
    one.packed = deflate(zlib.decompress(one.packed, -15), end=False)


def hide_a_file_between_files(made):
    made.hidden[2] = Member(b"events.ndjson", b"another story").local()


def hide_a_file_before_the_first(made):
    made.hidden[0] = Member(b"events.ndjson", b"another story").local()


def hide_a_file_before_the_directory(made):
    made.before_directory = Member(b"events.ndjson", b"another story").local()


def give_two_files_one_place(made):
    one = made.member("README.md")
    made.before_directory = b""
    write = one.local
    one.local = lambda: b""
    assert write()


def name_a_second_directory(made):
    """One end tells of the files in `README.md`, the other of those around it."""
    other = Zip({"checkpoint": b"", "events.ndjson": b"another story"})
    inner = b"".join(one.local() for one in other.members)
    made.members.insert(0, Member(b"README.md", inner, 0))
    made.members = [
        one for at, one in enumerate(made.members) if at == 0 or one.name != b"README.md"
    ]
    made.zip64 = lambda count, size, start: (count, size, start)
    made.end = {"count": 2, "size": 100, "offset": 39}


def hide_a_second_end_in_the_directory(made):
    made.zip64 = lambda count, size, start: (count - 1, size, start)


def give_a_file_two_names(made):
    made.member("README.md").local_name = b"events.txt"


def give_a_file_a_second_name_in_unicode(made):
    one = made.member("README.md")
    field = struct.pack("<BI", 1, zlib.crc32(one.name)) + b"events.ndjson"
    one.extra = one.local_extra = struct.pack("<HH", 0x7075, len(field)) + field


def end_a_name_within(made):
    made.members.append(Member(b"events.ndjson\0.txt", b"another story"))


def differ_in_case_only(made):
    made.members.append(Member(b"Events.NDJSON", b"another story"))


def give_two_ways_of_packing(made):
    made.member("README.md").local_method = 0


def give_two_sizes(made):
    one = made.member("README.md")
    one.local_sizes = (one.crc, len(one.packed) - 1, one.size)


def claim_a_descriptor_that_is_not_there(made):
    one = made.member("README.md")
    one.flags |= 8
    one.local_sizes = (0, 0, 0)
    one.behind = b"x" * 16


def leave_the_folder(made):
    made.members.append(Member(b"../../etc/cron.d/job", b"* * * * * root sh"))


def leave_the_folder_for_the_root(made):
    made.members.append(Member(b"/etc/cron.d/job", b"* * * * * root sh"))


def leave_the_folder_with_backslashes(made):
    made.members.append(Member(b"..\\..\\job", b"* * * * * root sh"))


def write_a_tile_through_a_dot(made):
    made.members.append(Member(b"./events.ndjson", b"another story"))


def make_a_file_a_link(made):
    made.member("README.md").attributes = (stat.S_IFLNK | 0o777) << 16


def put_content_into_a_folder(made):
    made.members.append(Member(b"tile/", b"another story"))


def comment_at_the_end(made):
    made.comment = b"another story"


def end_in_a_comment_that_looks_like_an_end(made):
    made.comment = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0, 0, 0, 0, 0)


def pack_in_a_way_nobody_knows(made):
    one = made.member("events.ndjson")
    one.method = one.local_method = 14
    one.packed = b"\x09\x04\x05\x00\x5d\x00\x00\x80\x00" + b"\xff" * 40


def claim_ten_gigabytes(made):
    made.member("events.ndjson").size = 10 * 2**30 % 2**32


def claim_a_place_out_of_this_world(made):
    one = made.member("README.md")
    one.local_sizes = (one.crc, len(one.packed), one.size)
    central = one.central
    field = struct.pack("<HHQ", 1, 8, 2**64 - 1)
    one.extra = field
    one.central = lambda _: central(0xFFFFFFFF)


def claim_a_length_out_of_this_world(made):
    one = made.member("README.md")
    crc, size = one.crc, one.size
    one.extra = one.local_extra = struct.pack("<HHQQ", 1, 16, size, 2**64 - 1)
    packed = one.packed
    one.local_sizes = (crc, 0xFFFFFFFF, 0xFFFFFFFF)
    one.central = lambda offset: (
        struct.pack("<4sHHHHHH", b"PK\1\2", one.made_by, 20, 0, 8, 0, 33)
        + struct.pack("<III", crc, 0xFFFFFFFF, 0xFFFFFFFF)
        + struct.pack("<HHHHHII", len(one.name), len(one.extra), 0, 0, 0, 0, offset)
        + one.name
        + one.extra
    )
    assert packed


def claim_it_before_a_descriptor(made):
    claim_a_length_out_of_this_world(made)
    one = made.member("README.md")
    one.flags, central = 8, one.central
    one.central = lambda offset: central(offset)[:8] + b"\x08\0" + central(offset)[10:]


TRICKS = [
    go_on_behind_the_size,
    hide_behind_the_stream,
    stop_before_the_end_of_the_stream,
    hide_a_file_between_files,
    hide_a_file_before_the_first,
    hide_a_file_before_the_directory,
    give_two_files_one_place,
    name_a_second_directory,
    hide_a_second_end_in_the_directory,
    give_a_file_two_names,
    give_a_file_a_second_name_in_unicode,
    end_a_name_within,
    differ_in_case_only,
    give_two_ways_of_packing,
    give_two_sizes,
    claim_a_descriptor_that_is_not_there,
    leave_the_folder,
    leave_the_folder_for_the_root,
    leave_the_folder_with_backslashes,
    write_a_tile_through_a_dot,
    make_a_file_a_link,
    put_content_into_a_folder,
    comment_at_the_end,
    end_in_a_comment_that_looks_like_an_end,
    pack_in_a_way_nobody_knows,
    claim_ten_gigabytes,
    claim_a_place_out_of_this_world,
    claim_a_length_out_of_this_world,
    claim_it_before_a_descriptor,
]


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: trick.__name__)
def test_a_zip_that_can_be_read_in_two_ways_is_refused(files, tmp_path, vkey, trick):
    made = Zip(files)
    assert verify_bundle(made.write(tmp_path / "honest.zip"), vkey).ok
    trick(made)
    report = verify_bundle(made.write(tmp_path / "bundle.zip"), vkey)
    assert codes(report) & {"unexpected", "unreadable", "events"}, report.findings


def described_behind(made, form):
    for one in made.members:
        sizes = one.crc, len(one.packed), one.size
        one.flags, one.local_sizes = one.flags | 8, (0, 0, 0)
        one.behind = b"PK\7\10" + struct.pack(form, *sizes)


def large_fields(made):
    made.zip64 = lambda count, size, start: (count, size, start)
    made.end = {"count": 0xFFFF, "size": 0xFFFFFFFF, "offset": 0xFFFFFFFF}
    for one in made.members:
        one.local_sizes = (one.crc, 0xFFFFFFFF, 0xFFFFFFFF)
        one.local_extra = struct.pack("<HHQQ", 1, 16, one.size, len(one.packed))


HONEST = [
    lambda made: described_behind(made, "<III"),
    lambda made: described_behind(made, "<IQQ"),
    large_fields,
    lambda made: made.members.reverse(),
    lambda made: made.members.insert(0, Member(b"tile/", b"", 0)),
    lambda made: made.members.append(Member("หมายเหตุ.txt".encode(), b"note")),
]


@pytest.mark.parametrize("write", HONEST, ids=range(len(HONEST)))
@pytest.mark.parametrize("method", [0, 8])
def test_an_honest_bundle_packed_by_another_program_passes(files, tmp_path, vkey, write, method):
    made = Zip(files, method)
    write(made)
    report = verify_bundle(made.write(tmp_path / "bundle.zip"), vkey)
    assert report.findings == ()
    assert (report.size, "README.md" in report.unchecked) == (SIZE, True)


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_no_zip_ends_the_check_in_another_way_than_by_a_report(files, tmp_path_factory, vkey, data):
    path = Zip(files).write(tmp_path_factory.mktemp("zip") / "bundle.zip")
    whole = bytearray(path.read_bytes())
    directory = whole.index(b"PK\1\2")
    for _ in range(data.draw(st.integers(1, 4))):
        least = data.draw(st.sampled_from([0, directory, len(whole) - 22]))
        at = data.draw(st.integers(least, len(whole) - 1))
        whole[at] = data.draw(st.sampled_from([0, 1, 8, 0x50, 0x7F, 0xFF, whole[at] ^ 0x10]))
    del whole[data.draw(st.integers(len(whole) - 3, len(whole))) :]
    path.write_bytes(whole)
    report = verify_bundle(path, vkey)
    assert report.ok == (not report.findings)


# --- folders --------------------------------------------------------------------------


def test_a_folder_with_a_link_in_it_is_refused(files, tmp_path, vkey):
    honest = folder_of(files, tmp_path / "honest")
    for name in ("events.ndjson", "tile", "tile/0", "README.md"):
        root = folder_of(files, tmp_path / name.replace("/", "-"))
        (root / name).rename(tmp_path / "elsewhere")
        (root / name).symlink_to(tmp_path / "elsewhere")
        assert codes(verify_bundle(root, vkey)) & {"unexpected", "unreadable"}
        (tmp_path / "elsewhere").rename(tmp_path / f"was-{name.replace('/', '-')}")
    linked = tmp_path / "linked"
    linked.symlink_to(honest)
    assert verify_bundle(linked, vkey).ok, "the way to the bundle is the caller's own"


@pytest.mark.parametrize("name", ["checkpoint", "events.ndjson", "tile/0/000", "note"])
def test_a_pipe_in_the_place_of_a_file_does_not_hang_the_check(files, tmp_path, vkey, name):
    root = folder_of(files, tmp_path / "bundle")
    (root / name).unlink(missing_ok=True)
    os.mkfifo(root / name)
    assert codes(verify_bundle(root, vkey)) & {"unexpected", "unreadable"}


def test_a_folder_without_end_is_not_walked_to_its_end(files, tmp_path, vkey):
    root = folder_of(files, tmp_path / "bundle")
    (root / "/".join("a" * 300)).mkdir(parents=True)
    assert codes(verify_bundle(root, vkey)) == {"unexpected"}


@pytest.mark.parametrize("name", ["tile/00/000", "tile/0/x000/000", "tile/entries/000.p/0"])
def test_a_tile_under_a_second_name_is_unexpected(files, tmp_path, vkey, name):
    report = verify_bundle(folder_of(files | {name: b"another"}, tmp_path / "bundle"), vkey)
    assert [(finding.code, finding.path) for finding in report.findings] == [("unexpected", name)]


# --- notes and keys -------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "log.example/tests\r\n3\r\n{root}\r\n",
        "log.example/tests\n03\n{root}\n",
        "log.example/tests\n+3\n{root}\n",
        "log.example/tests\n-3\n{root}\n",
        "log.example/tests\n 3\n{root}\n",
        "log.example/tests\n\u0663\n{root}\n",
        "log.example/tests\n9223372036854775808\n{root}\n",
        "log.example/tests\n3\n{root}\nextra\n",
        "log.example/tests\n3\n{root}\n\n",
        "log.example/tests\n3\n\n{root}\n",
        "log.example/tests\u202e\n3\n{root}\n",
        "log.example/tests\x9b31m\n3\n{root}\n",
        "log.example/tests\x7f\n3\n{root}\n",
        "log.example/\ufefftests\n3\n{root}\n",
    ],
)
def test_a_checkpoint_that_could_be_read_otherwise_is_malformed(make_log, tmp_path, vkey, text):
    root = make_log(3).checkpoint_note().split("\n")[2]
    body = text.replace("{root}", root)
    note = f"{body}\n" + LOG.sign(body)
    report = verify_bundle(folder_of({"checkpoint": note.encode()}, tmp_path / "bundle"), vkey)
    assert [finding.code for finding in report.findings] == ["checkpoint"]
    assert report.origin is None


def test_of_several_signatures_by_one_key_the_first_counts(files, tmp_path, vkey):
    note = files["checkpoint"].decode()
    forged = note.split("\n\n")[0] + "\n\n" + Signer.from_seed(LOG.name, bytes(32)).sign("x\n")
    line = note.rpartition("\u2014")[2]
    broken = line.replace(line[-12], "A" if line[-12] != "A" else "B", 1)
    blob = note.rpartition(" ")[2].strip()
    wrong = blob[:10] + ("A" if blob[10] != "A" else "B") + blob[11:]
    assert broken != line
    for text, good in [
        (note + f"\u2014 {LOG.name} {wrong}\n", True),
        (note.replace(blob, wrong) + f"\u2014 {LOG.name} {blob}\n", False),
        (forged, False),
    ]:
        root = folder_of(files | {"checkpoint": text.encode()}, tmp_path / str(len(text)))
        assert verify_bundle(root, vkey).ok == good


def test_keys_of_the_wrong_kind_and_keys_used_twice_are_wrong_usage(files, tmp_path, vkey):
    root = folder_of(files, tmp_path / "bundle")
    public = LOG.verifier.public
    own = Verifier("witness.example/one", 4, public).vkey
    again = Verifier("witness.example/two", 4, WITNESS.verifier.public).vkey
    for key, witnesses in [
        (WITNESS.vkey, []),
        (Verifier(LOG.name, 4, public).vkey, []),
        (vkey, [vkey]),
        (vkey, [Verifier("witness.example/one", 1, WITNESS.verifier.public).vkey]),
        (vkey, [own]),
        (vkey, [WITNESS.vkey, WITNESS.vkey]),
        (vkey, [WITNESS.vkey, again]),
    ]:
        with pytest.raises(BadKeyError):
            verify_bundle(root, key, None, witnesses)


def test_a_log_does_not_witness_itself(make_log, tmp_path, vkey):
    """The holder of the log's key can make a cosignature with it; nobody may take it for one."""
    log = make_log(3)
    itself = Cosigner.from_seed("witness.example/one", bytes(range(32)))
    text = log.checkpoint_note().partition("\n\n")[0] + "\n"
    note = log.checkpoint_note() + itself.cosign(text, 1_700_000_000)
    root = folder_of({"checkpoint": note.encode()}, tmp_path / "bundle")
    with pytest.raises(BadKeyError):
        verify_bundle(root, vkey, None, [itself.vkey])


# --- events ---------------------------------------------------------------------------


def test_an_entry_that_is_more_than_one_line_is_refused(make_log, tmp_path, vkey):
    """The log's own key has signed it; in the lines it would pass for events that are not there."""
    from audit.export import write_bundle

    log = make_log(3)
    log.append([b'{"id":"evt_3"}}\n{"index":4,"event":{"id":"evt_forged"}'])
    honest = make_log(3)
    honest.append([b'{"id":"evt_3"}'])
    write_bundle(tmp_path / "bundle", honest)
    for path in honest.tiles:
        data = log.tiles[path]
        (tmp_path / "bundle" / f"tile/{path[0]}/000.p/4").write_bytes(data)
    entry = log.stored[3]
    entries = tmp_path / "bundle/tile/entries/000.p/4"
    entries.write_bytes(b"".join(len(each).to_bytes(2) + each for each in [*log.stored[:3], entry]))
    lines = b"".join(b'{"index":%d,"event":%b}\n' % line for line in enumerate(log.stored))
    (tmp_path / "bundle/events.ndjson").write_bytes(lines)
    (tmp_path / "bundle/checkpoint").write_text(log.checkpoint_note())
    report = verify_bundle(tmp_path / "bundle", vkey)
    assert [(finding.code, finding.index) for finding in report.findings] == [("events", 3)]


def pruned_bundle(make_log, tmp_path, saying, gone=range(10, 300)):
    """A bundle of 300 events and one that says something of deletions; those named are not there."""
    from audit.export import write_bundle
    from tests.audit.test_verify_pruned import PrunedLog

    log = make_log(SIZE)
    log.append([saying])
    write_bundle(tmp_path / "bundle", PrunedLog(log, gone))
    return tmp_path / "bundle"


PRUNED = b'{"action":"retention.pruned","count":%b,"pruned":{%b"first":%b,"last":%b}}'


@pytest.mark.parametrize(
    "saying",
    [
        PRUNED % (b"290.0", b"", b"10.0", b"299.0"),
        PRUNED % (b"291", b"", b"9.5", b"299.5"),
        PRUNED % (b"290", b"", b"1e1", b"299"),
        PRUNED % (b"NaN", b"", b"NaN", b"299"),
        PRUNED % (b"290", b'"except":[[]],', b"10", b"299"),
        PRUNED % (b"290", b'"except":[[20,24,30]],', b"10", b"299"),
        PRUNED % (b"290", b'"except":{"0":1},', b"10", b"299"),
        PRUNED % (b"9" * 5000, b"", b"10", b"299"),
        b'{"action":"retention.pruned","pruned":' + b"[" * 60_000,
        b'{"action":"retention.pruned","pruned":' + b'{"a":' * 12_000,
    ],
    ids=range(10),
)
def test_what_an_event_says_in_no_whole_numbers_or_without_end_names_nothing(
    make_log, tmp_path, vkey, saying
):
    report = verify_bundle(pruned_bundle(make_log, tmp_path, saying), vkey)
    assert codes(report) == {"missing"}
    assert report.pruned == 0


def test_a_hostile_number_of_deletions_does_not_fill_the_memory(make_log, tmp_path, vkey):
    """Each event may name thousands of places; kept are those at which something is gone."""
    from audit.verify import _Gone

    gone = _Gone()
    gone.lacks(0, [None] * 2 + [b"{}"] * 254)
    places = ",".join(f"[{at},{at}]" for at in range(1, 20_000, 2))
    said = f'{{"action":"retention.pruned","count":10001,"pruned":{{"except":[{places}],'
    said += '"first":0,"last":20000}}'
    for index in range(30_000, 30_005):
        gone.hear(index, said.encode())
    assert len(gone._named) == 5


# --- the program ----------------------------------------------------------------------


def test_a_bundle_that_is_not_there_is_wrong_usage(tmp_path, vkey, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "nothing"), "--key", vkey])
    assert "nothing" in capsys.readouterr().err


def test_what_the_checkpoint_calls_itself_reaches_no_terminal_as_a_command(tmp_path, vkey, capsys):
    name = "log.example/\x9b2Jtests"
    note = sign_note(
        Checkpoint(name, 0, sha256().digest()).body(), Signer.from_seed(name, bytes(32))
    )
    root = folder_of({"checkpoint": note.encode(), "\x1b[2J": b""}, tmp_path / "bundle")
    assert main([str(root), "--key", vkey]) == 1
    out = capsys.readouterr().out
    assert all(letter.isprintable() or letter == "\n" for letter in out)
