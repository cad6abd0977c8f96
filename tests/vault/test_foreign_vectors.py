"""Every case of Wycheproof and NIST CAVP that our formats can express, through our own code.

Usable is AES-GCM with a nonce of 96 bits and a tag of 128, of any key size. Each valid case is
sealed (by the seam that takes nonces, which nothing in the product calls from outside) and
opened as a cell and, where its message is a key, unwrapped; each invalid one is refused.
"""

import inspect
import itertools
import json

import cryptography
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vault import UnreadableError, cell
from vault.cell import Places, open_many, open_one
from vault.wrapping import unwrap, unwrap_into

HEADER = b"\x01\x01"
CAVP = "ciphers/AES/GCM"


class Message(str):
    """Bytes of a vector in the place of a text: cells seal what a text encodes to."""

    __slots__ = ("data",)

    def __new__(cls, data):
        made = super().__new__(cls, "")
        made.data = data
        return made

    def encode(self, *_):
        return self.data


def placed(context):
    """Places at which the associated data of a cell is exactly `context`."""
    places = Places(1, "t", "t")
    places.meet(["f"])
    places.of["f"] = context
    return places


def assert_sealed_and_opened(key, nonce, context, message, body, *, name):
    cipher, places = AESGCM(key), placed(context)
    sealed = cell._seal(cipher, places, b"", {"f": Message(message)}, nonce)["f"]
    assert sealed == HEADER + nonce + body, name
    assert open_one(cipher, places, "f", b"", sealed) == message, name
    try:
        text = message.decode()
    except UnicodeDecodeError:
        with pytest.raises(UnreadableError):
            open_many(cipher, places, b"", {"f": sealed})
    else:
        assert open_many(cipher, places, b"", {"f": sealed}) == {"f": text}, name
    assert unwrap(cipher, nonce + body, context) == message, name
    if len(message) == 32:
        assert unwrap_into(cipher, nonce + body, context) == message, name
    else:
        with pytest.raises(UnreadableError):
            unwrap_into(cipher, nonce + body, context)


def assert_refused(key, nonce, context, body, *, name):
    cipher, places = AESGCM(key), placed(context)
    sealed = HEADER + nonce + body
    for attempt in (
        lambda: open_one(cipher, places, "f", b"", sealed),
        lambda: open_many(cipher, places, b"", {"f": sealed}),
        lambda: unwrap(cipher, nonce + body, context),
        lambda: unwrap_into(cipher, nonce + body, context),
    ):
        with pytest.raises(UnreadableError):
            attempt()
            pytest.fail(f"{name} was opened")


# --- Wycheproof -----------------------------------------------------------------------


def test_every_usable_case_of_wycheproof(vectors_dir):
    file = vectors_dir / "wycheproof" / "aes_gcm_test.json"
    if not file.exists():
        pytest.skip("wycheproof/aes_gcm_test.json is not in the vectors folder")
    seen = {"valid": 0, "invalid": 0}
    left_out = 0
    document = json.loads(file.read_text())
    for group in document["testGroups"]:
        if (group["ivSize"], group["tagSize"]) != (96, 128):
            left_out += len(group["tests"])
            continue
        for case in group["tests"]:
            key, nonce, context, message, body, tag = (
                bytes.fromhex(case[part]) for part in ("key", "iv", "aad", "msg", "ct", "tag")
            )
            name = f"tcId {case['tcId']}"
            seen[case["result"]] += 1
            if case["result"] == "valid":
                assert_sealed_and_opened(key, nonce, context, message, body + tag, name=name)
            else:
                assert_refused(key, nonce, context, body + tag, name=name)
    assert seen["valid"] >= 100
    assert seen["invalid"] >= 60
    assert sum(seen.values()) + left_out == document["numberOfTests"]


# --- NIST CAVP ------------------------------------------------------------------------


def cavp(name):
    """Cases of one response file: its section's sizes, and the case's own lines."""
    vectors = pytest.importorskip("cryptography_vectors", reason="no CAVP: install [test]")
    section, case = {}, {}
    with vectors.open_vector_file(f"{CAVP}/{name}", "r") as file:
        for line in map(str.strip, file):
            if line.startswith("["):
                key, _, value = line.strip("[]").partition("=")
                section[key.strip()] = int(value)
            elif not line or line.startswith("#"):
                if case:
                    yield dict(section), case
                    case = {}
            elif line == "FAIL":
                case["FAIL"] = ""
            else:
                key, _, value = line.partition("=")
                case[key.strip()] = value.strip()
        if case:
            yield dict(section), case


@pytest.mark.parametrize(
    "name",
    [
        f"gcm{what}{bits}.rsp"
        for what, bits in itertools.product(("Decrypt", "EncryptExtIV"), (128, 192, 256))
    ],
)
def test_every_usable_case_of_cavp(name):
    seen = {"valid": 0, "refused": 0}
    for section, case in cavp(name):
        if (section["IVlen"], section["Taglen"]) != (96, 128):
            continue
        key, nonce, context, body, tag = (
            bytes.fromhex(case[part]) for part in ("Key", "IV", "AAD", "CT", "Tag")
        )
        where = f"{name} {section} count {case['Count']}"
        if "FAIL" in case:
            seen["refused"] += 1
            assert_refused(key, nonce, context, body + tag, name=where)
        else:
            seen["valid"] += 1
            message = bytes.fromhex(case["PT"])
            assert_sealed_and_opened(key, nonce, context, message, body + tag, name=where)
    assert sum(seen.values()) == 375
    assert seen["refused"] > 100 if "Decrypt" in name else seen["refused"] == 0


def test_the_vectors_are_those_of_the_library_in_use():
    vectors = pytest.importorskip("cryptography_vectors", reason="no CAVP: install [test]")
    assert vectors.__version__ == cryptography.__version__


# --- what the cases are bound to ------------------------------------------------------


def test_every_flipped_bit_of_every_part_of_the_associated_data_is_refused():
    cipher, row = AESGCM(bytes(range(32))), bytes(range(16))
    for pads in ({}, {"phone": 16}):
        places = Places(7, "main", "member", pads)
        sealed = cell.seal_many(cipher, places, row, {"phone": "+66812345678"})["phone"]
        place = places.padded if pads else places
        whole = place.of["phone"] + row
        assert open_one(cipher, places, "phone", row, sealed) == b"+66812345678"
        for bit in range(8 * len(whole)):
            changed = bytearray(whole)
            changed[bit // 8] ^= 1 << bit % 8
            place.of["phone"] = bytes(changed[:-16])
            at = bytes(changed[-16:])
            with pytest.raises(UnreadableError):
                open_one(cipher, places, "phone", at, sealed)
            with pytest.raises(UnreadableError):
                open_many(cipher, places, at, {"phone": sealed})


def test_every_flipped_bit_of_the_context_of_a_wrapped_key_is_refused():
    from vault.contexts import key_context
    from vault.wrapping import wrap

    kek, key = AESGCM(bytes(32)), bytes(range(32))
    whole = key_context("main", "mem_01k8zqv4g3fsd0jt7h2m9xc5ne", "ordinary", 1, 5, 2)
    wrapped = wrap(kek, key, whole)
    assert unwrap_into(kek, wrapped, whole) == key
    for bit in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(UnreadableError):
            unwrap_into(kek, wrapped, bytes(changed))
    for length in range(len(whole)):
        with pytest.raises(UnreadableError):
            unwrap_into(kek, wrapped, whole[:length])


def test_what_seals_for_the_product_draws_its_own_nonces():
    assert list(inspect.signature(cell.seal_many).parameters) == [
        "cipher",
        "places",
        "row",
        "values",
    ]
