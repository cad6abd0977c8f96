"""A pack of evidence in a real browser, opened from a file: green when honest, else red and why."""

import json
import re
import zipfile
from pathlib import Path

import pytest

from audit.evidence import Exhibit, pack_files
from audit.manifest import manifest_of, row_path, write_rows
from audit.merkle import inclusion_proof, leaf_hash
from audit.note import Checkpoint, Cosigner, Signer, Verifier, sign_checkpoint
from audit.proof import RowProof
from audit.tiles import TileNodes, TreeEdge
from policies.layers import Layers
from tests.e2e.conftest import ARGUMENTS, CHROMIUM

pytestmark = pytest.mark.slow
ORIGIN = "log.example/tests"
SIGNER = Signer.from_seed(ORIGIN, bytes(range(32)))
WITNESS = Cosigner.from_seed("witness.example/one", bytes(range(1, 33)))
SIZE, CHOSEN = 700, (0, 255, 256, 511, 698, 699)
TEXTS = {"pack/pack.toml": 'name = "สมดุล"\n', "overlay/pack.toml": "version = 2\n"}
POLICY = Layers(
    {"pack.toml": TEXTS["pack/pack.toml"]}, {"pack.toml": TEXTS["overlay/pack.toml"]}
).digest()


def body(index):
    said = {
        "action": "member.view",
        "actor": {"id": "self", "role": "member", "via": "portal"},
        "decision": "allow",
        "fields": ["phone"],
        "id": f"evt_{index}",
        "policy": POLICY,
        "subject": {"epoch": "2026-11", "token": f"{index:032x}"},
        "ts": "2026-11-23T03:00:00.123456Z",
    }
    return json.dumps(said, sort_keys=True, separators=(",", ":")).encode()


def pack_of(size=SIZE, chosen=CHOSEN, signer=SIGNER):
    edge, tiles = TreeEdge(), {}
    edge, changed = edge.append([leaf_hash(body(index)) for index in range(size)])
    for level, n, data in changed:
        tiles[level, n] = data
    note = sign_checkpoint(Checkpoint(signer.name, size, edge.root()), signer)
    note += WITNESS.cosign(note.partition("\n\n")[0] + "\n", 1_700_000_000)
    nodes = TileNodes(lambda level, n: tiles[level, n])
    exhibits = [
        Exhibit(index, body(index), tuple(inclusion_proof(index, size, nodes))) for index in chosen
    ]
    return pack_files(exhibits, note, {POLICY: TEXTS}, [POLICY], ["filter.member"])


def bulk_pack(**changes):
    """A pack about one member, of one event that tells of nine; `changes` are of the row's file."""
    disclosed = {f"{at * 7919:032x}": ["email", "phone"][: at % 2 + 1] for at in range(9)}
    fields, rows = write_rows(disclosed)
    said = {**json.loads(body(0)), "fields": list(fields), "count": 9}
    del said["subject"]
    said["manifest"] = manifest_of(rows)._asdict()
    raw = json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
    note = sign_checkpoint(Checkpoint(ORIGIN, 1, leaf_hash(raw)), SIGNER)
    row, path = row_path(rows, 4)
    exhibit = Exhibit(0, raw, (), RowProof(4, row, tuple(path)))
    files = pack_files([exhibit], note, {POLICY: TEXTS}, [POLICY], ["filter.member"])
    name = "rows/000000000000.json"
    return {**files, name: json.dumps({**json.loads(files[name]), **changes}).encode()}


def zipped(files, path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def changed(files, name, at):
    data = files[name]
    return {**files, name: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    playwright = pytest.importorskip("playwright.sync_api", reason="install the extra [test]")
    if not CHROMIUM.exists():
        pytest.skip("no /usr/bin/chromium; install the Debian package chromium")
    folder = tmp_path_factory.mktemp("page")
    (folder / "verify.html").write_bytes(pack_of(3, (0,))["verify.html"])
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        opened = browser.new_context(offline=True, locale="en-GB").new_page()
        opened.complaints = []
        opened.on("pageerror", lambda error: opened.complaints.append(str(error)))
        opened.on("console", lambda line: opened.complaints.append(line.text))
        opened.goto((folder / "verify.html").as_uri())
        yield opened
        browser.close()


@pytest.fixture
def check(page, tmp_path):
    """Check files as an officer does; gives the colour and the reasons."""

    def run(files, key=SIGNER.vkey, witnesses=""):
        path = files if isinstance(files, Path) else zipped(files, tmp_path / "pack.zip")
        page.fill("#key", key)
        page.fill("#witnesses", witnesses)
        page.set_input_files("#pack", str(path))
        page.click("#form button")
        page.wait_for_selector("#result:not([hidden])")
        items = page.query_selector_all("#reasons li")
        reasons = [(item.get_attribute("data-reason"), item.inner_text()) for item in items]
        return page.get_attribute("#result", "class"), reasons

    return run


def test_an_honest_pack_is_green_from_a_file_without_a_network(page, check):
    colour, reasons = check(pack_of(), witnesses=WITNESS.vkey)
    assert colour == "ok"
    assert "The evidence holds" in page.inner_text("#verdict")
    assert page.locator("#events tbody tr").count() == len(CHOSEN)
    assert [key for key, _ in reasons] == ["uncovered"]
    assert "events.csv" in reasons[0][1]
    assert "policies/" not in reasons[0][1]
    assert page.complaints == []


def test_the_row_of_one_member_is_proven_and_shows_what_went_out_of_them(page, check):
    files = bulk_pack()
    assert [name for name in files if name.startswith("rows/")] == ["rows/000000000000.json"]
    assert check(files)[0] == "ok"
    cells = page.locator("#events tbody td").all_inner_texts()
    assert f"{4 * 7919:032x}" in cells
    assert "email" in cells
    without = {name: data for name, data in files.items() if not name.startswith("rows/")}
    assert check(without)[0] == "ok"
    assert "× 9" in page.locator("#events tbody td").all_inner_texts()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"row": f"{5 * 7919:032x} 3"}, "row"),
        ({"row": f"{4 * 7919:032x} 3"}, "row"),
        ({"place": 5}, "row"),
        ({"place": 9}, "row"),
        ({"hashes": []}, "row"),
        ({"hashes": ["AAAA"]}, "row"),
        ({"row": "nobody"}, "malformed"),
        ({"row": None}, "malformed"),
        ({"place": -1}, "malformed"),
        ({"hashes": "AAAA"}, "malformed"),
    ],
)
def test_a_changed_row_is_red(check, changes, reason):
    colour, reasons = check(bulk_pack(**changes))
    assert (colour, [key for key, _ in reasons]) == ("bad", [reason])


def test_a_row_without_its_event_or_of_one_without_rows_is_red(check):
    row = bulk_pack()["rows/000000000000.json"]
    for name, reason in (("rows/000000000000.json", "row"), ("rows/000000000001.json", "missing")):
        colour, reasons = check({**pack_of(), name: row})
        assert (colour, [key for key, _ in reasons]) == ("bad", [reason])


@pytest.mark.parametrize("size", [1, 2, 3, 255, 256, 257])
def test_honest_packs_of_every_edge_are_green(check, size):
    chosen = tuple(sorted({0, size // 2, size - 1}))
    assert check(pack_of(size, chosen))[0] == "ok"


def test_one_byte_of_an_event_a_proof_or_the_checkpoint_makes_it_red(check):
    files = pack_of()
    event, proof = "events/000000000256.json", "proofs/000000000256.tlog-proof"
    assert check(changed(files, event, 20)) == (
        "bad",
        [
            (
                "path",
                f"{event}: event and proof do not lead to the signed root: one of them was changed",
            )
        ],
    )
    hashes = files[proof].index(b"\n", 30) + 5
    assert check(changed(files, proof, hashes))[1][0][0] == "path"
    assert check(changed(files, proof, 27))[1][0][0] in {"malformed", "index"}
    assert check(changed(files, proof, len(files[proof]) - 9))[1][0][0] == "other_head"
    root = files["checkpoint"].index(b"\n700\n") + 10
    told = [key for key, _ in check(changed(files, "checkpoint", root))[1]]
    assert told[0] in {"signature", "malformed"}
    assert check(changed(files, "checkpoint", 4))[1][0][0] in {"signature", "unsigned", "origin"}


def test_a_key_that_did_not_sign_makes_it_red_also_when_it_lies_in_the_pack(check):
    mine = Signer.from_seed(ORIGIN, bytes(32))
    forged = {**pack_of(signer=mine), "key": mine.vkey.encode()}
    colour, reasons = check(forged)
    assert (colour, reasons[0][0]) == ("bad", "unsigned")
    elsewhere = Signer.from_seed("log.example/other", bytes(range(32)))
    assert {key for key, _ in check(pack_of(), elsewhere.vkey)[1]} >= {"unsigned", "origin"}


def test_a_key_that_is_none_checks_nothing_and_calls_nothing_good(check):
    for text in ("nonsense", SIGNER.vkey[:-4] + "AAAA", WITNESS.vkey):
        colour, reasons = check(pack_of(), text)
        assert (colour, [key for key, _ in reasons]) == ("unsure", ["bad_key"])


def test_a_witness_that_did_not_sign_makes_it_red(check):
    other = Cosigner.from_seed("witness.example/two", bytes(range(2, 34)))
    colour, reasons = check(pack_of(), witnesses=f"{WITNESS.vkey}\n{other.vkey}")
    assert (colour, reasons) == (
        "bad",
        [("unwitnessed", "witness.example/two: a witness you named has not signed this")],
    )


def test_files_that_are_missing_swapped_or_doubled_make_it_red(check, tmp_path):
    files = pack_of()
    first, second = "events/000000000000.json", "events/000000000255.json"
    for name in (first, "proofs/000000000000.tlog-proof", "checkpoint"):
        without = {each: data for each, data in files.items() if each != name}
        assert check(without) == ("bad", [("missing", f"{name}: the file is missing")])
    swapped = {**files, first: files[second], second: files[first]}
    assert {key for key, _ in check(swapped)[1]} == {"path"}
    moved = {**files, "proofs/000000000000.tlog-proof": files["proofs/000000000255.tlog-proof"]}
    assert check(moved)[1][0][0] == "index"
    path = zipped(files, tmp_path / "doubled.zip")
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr(first, files[second])
    assert check(path)[1][0][0] == "twice"
    raw = zipped(files, tmp_path / "cut.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(raw[:-7])
    assert check(tmp_path / "cut.zip")[1][0][0] == "bad_zip"
    nothing = {name: data for name, data in files.items() if "000000" not in name}
    assert check(nothing)[1][0][0] == "empty"


def crooked(path, files, trick):
    """A pack that another program would read otherwise than the page, were it to let it through."""
    zipped(files, path)
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start, (first, *_, last) = archive.start_dir, archive.infolist()
    if trick == "another name before the file":
        raw[first.header_offset + 30] ^= 1
    elif trick == "another size before the file":
        raw[first.header_offset + 22] ^= 1
    elif trick == "a file between the files and their directory":
        hidden = raw[last.header_offset : start]
        raw[start:start] = hidden
        raw[-6:-2] = (start + len(hidden)).to_bytes(4, "little")
    elif trick == "a comment that is longer than the file":
        raw[-2] = 9
    return bytes(raw)


@pytest.mark.parametrize(
    "trick",
    [
        "another name before the file",
        "another size before the file",
        "a file between the files and their directory",
        "a comment that is longer than the file",
    ],
)
def test_a_pack_that_could_be_read_in_two_ways_is_red(check, tmp_path, trick):
    path = tmp_path / "crooked.zip"
    path.write_bytes(crooked(path, pack_of(), trick))
    colour, reasons = check(path)
    assert (colour, reasons[0][0]) == ("bad", "bad_zip")


def test_names_that_differ_in_case_only_are_one_name(check):
    files = pack_of()
    assert check({**files, "Events/000000000000.JSON": b"{}"})[1][0][0] == "twice"


def test_an_event_under_a_second_name_is_not_counted_twice(check):
    files = pack_of()
    twice = {
        "events/0000000000000.json": files["events/000000000000.json"],
        "proofs/0000000000000.tlog-proof": files["proofs/000000000000.tlog-proof"],
    }
    colour, reasons = check(files | twice)
    assert (colour, [key for key, _ in reasons]) == ("bad", ["index"])


def test_a_policy_that_no_event_names_is_not_covered(check):
    digest = Layers({"pack.toml": 'name = "mine"'}, {}).digest().removeprefix("sha256:")
    colour, reasons = check(pack_of() | {f"policies/{digest}/pack/pack.toml": b'name = "mine"'})
    assert colour == "ok"
    assert f"policies/{digest}" in reasons[0][1]


def test_one_key_given_for_two_parties_checks_nothing(check):
    own = Verifier("witness.example/own", 4, SIGNER.verifier.public).vkey
    again = Verifier("witness.example/two", 4, WITNESS.verifier.public).vkey
    for witnesses in (own, f"{WITNESS.vkey}\n{again}"):
        colour, reasons = check(pack_of(), witnesses=witnesses)
        assert (colour, [key for key, _ in reasons]) == ("unsure", ["one_key"])


def test_names_that_a_script_knows_do_no_harm(page, check):
    names = ("__proto__", "constructor", "policies/__proto__/pack/x", "events/__proto__.json")
    colour, reasons = check(pack_of() | dict.fromkeys(names, b"{}"))
    assert (colour, [key for key, _ in reasons]) == ("ok", ["uncovered"])
    assert (
        page.evaluate("() => ({}).polluted === undefined && Object.keys(Object.prototype).length")
        == 0
    )
    many = check(pack_of() | {f"note-{at}": b"" for at in range(500)})[1][0][1]
    assert many.endswith("…")


def test_what_a_pack_says_is_shown_as_text_and_nothing_else(page, check):
    name = "<img src=x onerror=document.title='stolen'>.txt"
    check(pack_of() | {name: b""})
    assert name in page.inner_text("#reasons")
    assert page.locator("#reasons img").count() == 0
    assert "stolen" not in page.title()


def test_every_word_of_the_page_is_there_in_three_languages(page):
    words = page.evaluate("() => Object.fromEntries(Object.entries(WORDS).map(([l, w]) => [l, w]))")
    assert set(words) == {"en", "th", "zh-Hant"}
    for told in words.values():
        assert set(told) == set(words["en"])
        for key, text in told.items():
            assert text.strip()
            assert set(re.findall(r"{\w+}", text)) == set(re.findall(r"{\w+}", words["en"][key]))


def test_a_policy_text_that_is_not_of_its_digest_makes_it_red(check):
    files = pack_of()
    (name,) = [each for each in files if each.endswith("overlay/pack.toml")]
    assert check(changed(files, name, 3))[1][0][0] == "policy"


def test_a_browser_without_ed25519_says_so_and_calls_nothing_good(page, check):
    page.evaluate(
        "() => { crypto.subtle.importKey = () => Promise.reject(new DOMException('', 'NotSupportedError')); }"
    )
    try:
        colour, reasons = check(pack_of())
        assert (colour, [key for key, _ in reasons]) == ("unsure", ["no_ed25519"])
    finally:
        page.evaluate("() => { delete crypto.subtle.importKey; }")
    assert check(pack_of())[0] == "ok"


def test_the_page_speaks_three_languages_and_can_send_nothing(page, check):
    for code, word in (("th", "ตรวจหลักฐาน"), ("zh-Hant", "驗證"), ("en", "Check")):
        page.click(f"#languages button[lang={code}]")
        assert word in page.inner_text("h1")
        assert page.get_attribute("html", "lang") == code
    sent = page.evaluate("() => fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')")
    assert sent == "refused"
    assert any("Content Security Policy" in line for line in page.complaints)
    page.complaints.clear()


def test_axe_finds_nothing_on_the_page(page, check, axe_source):
    check(pack_of())
    page.evaluate(axe_source)
    found = page.evaluate("() => axe.run()")
    assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []
