"""A cell opens in its own place under its own key, and every other attempt is one same error."""

import itertools

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel import new_id
from vault import UnreadableError
from vault.cell import OVERHEAD_BYTES, Places, length_prefixed, open_many, open_one, seal_many

KEY = AESGCM(bytes(range(32)))
ROW = bytes(range(16))
HOME = {"tenant": "main", "table": "member", "field": "phone", "row_id": ROW}


def seal(value="+66812345678", *, cipher=KEY, version=1, pads=None, **place_of):
    at = HOME | place_of
    places = Places(version, at["tenant"], at["table"], pads)
    return seal_many(cipher, places, at["row_id"], {at["field"]: value})[at["field"]]


def open_it(cell, *, cipher=KEY, version=1, **place_of):
    at = HOME | place_of
    places, field = Places(version, at["tenant"], at["table"]), at["field"]
    try:
        alone = open_one(cipher, places, field, at["row_id"], cell)
    except UnreadableError:
        with pytest.raises(UnreadableError):
            open_many(cipher, places, at["row_id"], {field: cell})
        raise
    assert open_many(cipher, places, at["row_id"], {field: cell}) == {field: alone.decode()}
    return alone.decode()


def refused(cell, **change):
    with pytest.raises(UnreadableError) as caught:
        open_it(cell, **change)
    return str(caught.value), caught.value.diagnostics()


def test_what_was_sealed_opens():
    assert open_it(seal("สมหญิง 歐陽 \n \U0001f600")) == "สมหญิง 歐陽 \n \U0001f600"
    assert open_it(seal("")) == ""


def test_every_flipped_bit_is_refused():
    cell = seal()
    for bit in range(8 * len(cell)):
        changed = bytearray(cell)
        changed[bit // 8] ^= 1 << bit % 8
        refused(bytes(changed))


def test_every_shorter_and_longer_cell_is_refused():
    cell = seal()
    for length in range(len(cell)):
        refused(cell[:length])
    for more in (b"\0", b"\0" * 16, cell):
        refused(cell + more)
        refused(more + cell)


PLACES = {
    "tenant": ["main", "mai", "mainm", "MAIN", "", "main\0"],
    "table": ["member", "import_row", "membe", "rmember", ""],
    "field": ["phone", "phone.2", "email", "phon", "", "ephone"],
    "row_id": [ROW, ROW[::-1], bytes(16), b"\xff" * 16],
}


@pytest.mark.parametrize("part", PLACES)
def test_no_part_of_a_cells_place_can_be_another(part):
    home, *others = PLACES[part]
    assert HOME[part] == home
    for other in others:
        refused(seal(), **{part: other})
        refused(seal(**{part: other}))


def test_a_cell_opens_in_one_place_of_the_whole_matrix():
    keys = {name: AESGCM(AESGCM.generate_key(256)) for name in ("hers", "his")}
    places = [
        {"cipher": keys[who], "version": version, "tenant": tenant, "table": table,
         "field": field, "row_id": row}
        for who, version, tenant, table, field, row in itertools.product(
            keys, (1, 2), ("main", "other"), ("member", "import_row"), ("phone", "email"),
            (ROW, bytes(16)),
        )
    ]  # fmt: skip
    assert len(places) == 64
    for at, home in enumerate(places):
        cell = seal("x", **home)
        opened = []
        for there, other in enumerate(places):
            try:
                opened.append((there, open_it(cell, **other)))
            except UnreadableError:
                continue
        assert opened == [(at, "x")]


def test_parts_of_a_place_cannot_run_into_each_other():
    refused(seal(table="member", field="phone"), table="memberp", field="hone")
    refused(seal(tenant="a", table="bc"), tenant="ab", table="c")
    assert length_prefixed("ab") + length_prefixed("c") != length_prefixed("a") + length_prefixed(
        "bc"
    )


def test_every_refusal_says_the_same_and_nothing_of_the_value():
    other_key = AESGCM(bytes(32))
    cell = seal("+66812345678")
    messages = {
        refused(cell[:-1]),
        refused(cell, cipher=other_key),
        refused(cell, field="email"),
        refused(cell, version=2),
        refused(b""),
        refused(b"\x02" + cell[1:]),
    }
    assert len(messages) == 1
    assert "66812345678" not in str(messages)


@pytest.mark.parametrize("suite", [0, 2, 3, 255])
def test_an_unknown_suite_is_refused_and_never_passed_through(suite):
    refused(bytes([suite]) + seal()[1:])


def test_a_plaintext_is_never_taken_for_a_cell():
    for plain in (b"+66812345678", b"\x01\x01" + b"+66812345678" * 4, b"x" * 200):
        refused(plain)


def test_what_is_sealed_but_is_no_text_is_refused():
    places, nonce = Places(1, "main", "member"), bytes(12)
    places.meet(["phone"])
    for at, content in ((places, b"\xff\xfe"), (places.padded, b"\xff\x80\0\0")):
        cell = at.header + nonce + KEY.encrypt(nonce, content, at.of["phone"] + ROW)
        with pytest.raises(UnreadableError):
            open_many(KEY, places, ROW, {"phone": cell})


def test_what_is_no_bytes_at_all_is_refused_like_everything_else():
    for wrong in (None, 5, "\x01\x01" + "x" * 60, [1, 1], {}, 1.5):
        with pytest.raises(UnreadableError):
            open_many(KEY, Places(1, "main", "member"), ROW, {"phone": wrong})
        with pytest.raises(UnreadableError):
            open_one(KEY, Places(1, "main", "member"), "phone", ROW, wrong)


@pytest.mark.parametrize("version", [0, 256, -1])
def test_no_cell_is_sealed_under_a_version_that_does_not_fit(version):
    with pytest.raises(ValueError, match="key version"):
        seal(version=version)


def test_no_nonce_is_drawn_twice():
    nonces = [
        cell[2:14]
        for _ in range(200)
        for cell in seal_many(
            KEY, Places(1, "main", "member"), ROW, {f"f{at}": "x" for at in range(12)}
        ).values()
    ]
    assert len(set(nonces)) == len(nonces)


def test_a_cell_is_thirty_bytes_longer_than_its_value():
    for value in ("", "x", "ก", "x" * 4_000):
        assert len(seal(value)) == OVERHEAD_BYTES + len(value.encode()) == 30 + len(value.encode())


texts = st.text(max_size=60)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "b", "c.2", "d"]), texts), st.integers(1, 255), texts)
def test_whatever_is_sealed_together_opens_apart(values, version, tenant):
    places = Places(version, tenant, "member", {"b": 16, "c": 32})
    cells = seal_many(KEY, places, ROW, values)
    assert cells.keys() == values.keys()
    assert open_many(KEY, places, ROW, cells) == values


def test_an_id_is_sixteen_bytes_of_a_place():
    from kernel import id_bytes

    assert len(id_bytes(new_id("mem"))) == 16


# --- padding --------------------------------------------------------------------------

PADS = {"phone": 16}


@pytest.mark.parametrize(("block", "longest"), [(16, 15), (32, 31)])
def test_padded_values_up_to_a_block_are_of_one_length(block, longest):
    cells = {len(seal("x" * length, pads={"phone": block})) for length in range(longest + 1)}
    assert cells == {OVERHEAD_BYTES + block}
    assert len(seal("x" * (longest + 1), pads={"phone": block})) == OVERHEAD_BYTES + 2 * block


def test_a_padded_value_opens_as_it_was_whatever_it_ends_with():
    for value in ("", "f", "\0", "x\0\0", "\x80", "ก" * 7, "x" * 15, "x" * 16, "x" * 40):
        assert open_it(seal(value, pads=PADS)) == value


def test_every_flipped_bit_of_a_padded_cell_is_refused():
    cell = seal("female", pads=PADS)
    for bit in range(8 * len(cell)):
        changed = bytearray(cell)
        changed[bit // 8] ^= 1 << bit % 8
        refused(bytes(changed))


def test_a_cell_cannot_be_made_to_pass_as_padded_or_as_not():
    refused(b"\x81" + seal("x\x80")[1:])
    refused(b"\x01" + seal("x", pads=PADS)[1:])


def test_a_cell_that_says_padded_and_holds_no_padding_is_refused():
    places = Places(1, "main", "member").padded
    places.meet(["phone"])
    for content in (b"", b"female", bytes(16), b"\x80x"):
        nonce = bytes(12)
        cell = b"\x81\x01" + nonce + KEY.encrypt(nonce, content, places.of["phone"] + ROW)
        refused(cell)


def test_a_second_contact_point_is_padded_like_the_first():
    places = Places(1, "main", "member", {"phone": 32})
    cells = seal_many(KEY, places, ROW, {"phone": "1", "phone.2": "123", "email": "1"})
    assert {field: len(cell) for field, cell in cells.items()} == {
        "phone": OVERHEAD_BYTES + 32,
        "phone.2": OVERHEAD_BYTES + 32,
        "email": OVERHEAD_BYTES + 1,
    }


def test_what_is_kept_of_fields_has_an_end():
    places = Places(1, "main", "member", PADS)
    for at in range(10_000):
        cells = seal_many(KEY, places, ROW, {f"f{at}": "x", "phone": "1"})
        if at % 1_000 == 0:
            assert open_many(KEY, places, ROW, cells) == {f"f{at}": "x", "phone": "1"}
    assert len(places.of) <= 4_098
    assert len(places.blocks) == 1
