"""The formats as promises: foreign vectors, our own written by foreign code, and a live registry.

Wycheproof's cases pass through our own opening functions. The vectors beside the documents were
written with another library, by a script that imports nothing of ours; the same script opens a
registry that this code wrote.
"""

import importlib.util
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kernel import id_bytes
from tests.support.world import open_world
from vault import (
    FileKeyProvider,
    Identifier,
    PassphraseKeyProvider,
    StoredTag,
    UnreadableError,
    WrappedKey,
    contexts,
    open_key_ring,
    service,
    wrapping,
    write_private,
)
from vault.cell import Places, open_one, seal_many
from vault.index import BlindIndex
from vault.owner_key import OwnerKey
from vault.tags import Tags

FOLDER = Path(__file__).parents[1] / "vectors" / "vault"


def load(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def foreign():
    """The script that shares no code with the product, or a visible skip."""
    pytest.importorskip("Crypto", reason="pycryptodome is not installed: no second opinion")
    spec = importlib.util.spec_from_file_location("vault_vectors", FOLDER / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- our own vectors ------------------------------------------------------------------


@pytest.mark.parametrize("at", range(len(load("cells"))))
def test_a_cell_written_by_another_library_opens_and_is_what_we_would_write(at, monkeypatch):
    vector = load("cells")[at]
    key = AESGCM(bytes.fromhex(vector["key"]))
    row, sealed = id_bytes(vector["row_id"]), bytes.fromhex(vector["cell"])
    pads = {vector["field"]: vector["pad"]} if vector["pad"] else {}
    places = Places(vector["key_version"], vector["tenant"], vector["table"], pads)
    assert open_one(key, places, vector["field"], row, sealed).decode() == vector["value"]
    monkeypatch.setattr(os, "urandom", lambda _: bytes.fromhex(vector["nonce"]))
    written = seal_many(key, places, row, {vector["field"]: vector["value"]})
    assert written == {vector["field"]: sealed}


@pytest.mark.parametrize("name", ["ring", "ring-erasable"])
def test_a_ring_written_by_another_library_opens(tmp_path, name):
    vector = load(name)
    files = {
        "kms-root": vector["kms_root"].encode() + b"\n",
        "key-ring.json": json.dumps(vector["document"]).encode(),
        f"erasable-{vector['document']['id']}-3": bytes.fromhex(vector["erasable"]),
    }
    for file, content in files.items():
        write_private(tmp_path / file, content)
    ring = open_key_ring(tmp_path / "key-ring.json", FileKeyProvider(tmp_path / "kms-root"))
    assert (ring.id, ring.tenant, ring.version) == (
        vector["document"]["id"],
        vector["document"]["tenant"],
        2,
    )
    assert json.loads(ring.material())["roots"] == vector["roots"]
    for secret, value in vector["secrets"].items():
        assert ring.secret(secret).hex() == value


def test_a_root_under_a_passphrase_written_by_another_library_opens(tmp_path):
    vector = load("passphrase")
    write_private(tmp_path / "kms-root.2", json.dumps(vector["file"]).encode())
    provider = PassphraseKeyProvider(tmp_path / "kms-root", vector["passphrase"])
    opened = provider.unwrap(bytes.fromhex(vector["wrapped"]), bytes.fromhex(vector["context"]))
    assert opened.hex() == vector["secret"]


def test_the_foreign_script_opens_a_root_that_we_sealed(foreign, tmp_path):
    path = tmp_path / "kms-root"
    PassphraseKeyProvider(path, "quite a long passphrase", log_n=4).make()
    wrapped = PassphraseKeyProvider(path, "quite a long passphrase").wrap(b"k" * 32, b"here")
    document = json.loads(path.read_text())
    root = foreign.open_passphrase_root(document, "quite a long passphrase", 1)
    assert foreign.unwrap(root, wrapped[4:], wrapped[:4] + b"here") == b"k" * 32


def test_keys_written_by_another_library_open():
    roots, vectors = load("ring")["roots"], load("keys")
    for vector in vectors["keys"]:
        root = AESGCM(bytes.fromhex(roots[str(vector["ring_version"])]))
        bucket, version = vector["bucket"], vector["bucket_version"]
        kek = wrapping.unwrap(
            root,
            bytes.fromhex(vector["wrapped_bucket"]),
            contexts.bucket_context(vectors["tenant"], bucket, version),
        )
        key = WrappedKey(
            vector["owner_id"],
            vector["kind"],
            vector["version"],
            bucket,
            version,
            bytes.fromhex(vector["wrapped"]),
        )
        context = contexts.key_context(
            vectors["tenant"], key.owner_id, key.kind, key.version, bucket, version
        )
        assert wrapping.unwrap(AESGCM(kek), key.wrapped, context).hex() == vector["key"]


def test_tags_and_digests_are_those_of_the_document():
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.hmac import HMAC

    vectors = load("tags")
    for vector in vectors["tags"]:
        secret = bytes.fromhex(vectors["index_secrets"][str(vector["version"])])
        index = BlindIndex(secret, vector["version"])
        assert index.tag(vector["kind"], vector["form"]).hex() == vector["tag"]
    vault = service.Vault.__new__(service.Vault)
    vault._digest_key = HMAC(bytes.fromhex(vectors["digest_secret"]), hashes.SHA256())
    for vector in vectors["digests"]:
        parts = [bytes.fromhex(part) for part in vector["parts"]]
        assert vault.keyed_digest(vector["label"], *parts).hex() == vector["digest"]


def test_tags_of_the_suppression_list_are_those_of_the_document_and_open_where_they_were_sealed():
    vectors = load("tags")

    class Ring:
        tenant = vectors["tenant"]

        @staticmethod
        def secret(_name):
            return bytes.fromhex(vectors["suppression_secret"])

    tags = Tags(Ring)
    key = OwnerKey(vectors["owner_id"], "ordinary", 1, bytes.fromhex(vectors["owner_key"]))
    for vector in vectors["suppressions"]:
        form = vector["form"]
        identifier = Identifier(vector["kind"], lambda _version, form=form: form)
        assert tags.suppression_tag(identifier).hex() == vector["tag"]
        sealed = bytes.fromhex(vector["sealed"])
        stored = StoredTag(vector["field"], vector["kind"], b"", 1, sealed)
        assert tags._opened(key, stored).hex() == vector["tag"]
        with pytest.raises(UnreadableError):
            tags._opened(key, replace(stored, field=vector["kind"]))


def test_the_vectors_are_what_the_foreign_script_writes(foreign, tmp_path, monkeypatch):
    monkeypatch.setattr(foreign, "HERE", tmp_path)
    monkeypatch.setattr("sys.argv", ["make.py"])
    foreign.main()
    for name in ("ring", "ring-erasable", "passphrase", "keys", "cells", "tags"):
        assert (tmp_path / f"{name}.json").read_bytes() == (FOLDER / f"{name}.json").read_bytes()


@pytest.mark.anyio
async def test_the_foreign_script_opens_a_registry_that_we_wrote(foreign, sqlite_settings):
    fields = {"given_name": "สมหญิง", "family_name": "歐陽", "email": "somying@example.com"}
    async with open_world(sqlite_settings) as world:
        member = await (await world.app()).register(fields, phone="081-234-5678")
        member_id = await world.member_id(member)
    opened = foreign.open_member(sqlite_settings.data_dir, member_id)
    assert opened == fields | {"phone": "+66812345678"}


# --- Wycheproof -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def wycheproof(vectors_dir):
    def cases(name, **wanted):
        file = vectors_dir / "wycheproof" / f"{name}.json"
        if not file.exists():
            pytest.skip(f"wycheproof/{name}.json is not in the vectors folder")
        for group in json.loads(file.read_text())["testGroups"]:
            if all(group[key] == value for key, value in wanted.items()):
                yield from group["tests"]

    return cases


def test_wycheproof_cases_of_our_suite_are_opened_or_refused_by_our_own_code(wycheproof):
    seen = {"valid": 0, "invalid": 0}
    for case in wycheproof("aes_gcm_test", keySize=256, ivSize=96, tagSize=128):
        key, iv, aad, message, sealed = (
            bytes.fromhex(case[name]) for name in ("key", "iv", "aad", "msg", "ct")
        )
        body = sealed + bytes.fromhex(case["tag"])
        seen[case["result"]] += 1
        places = Places(1, "t", "t")
        places.of["f"] = aad
        as_cell = (AESGCM(key), places, "f", b"", b"\x01\x01" + iv + body)
        if case["result"] == "invalid":
            with pytest.raises(UnreadableError):
                wrapping.unwrap(AESGCM(key), iv + body, aad)
            with pytest.raises(UnreadableError):
                open_one(*as_cell)
            continue
        assert wrapping.unwrap(AESGCM(key), iv + body, aad) == message, case["tcId"]
        assert open_one(*as_cell) == message, case["tcId"]
    assert seen["valid"] > 20
    assert seen["invalid"] > 20


def test_wycheproof_hmac_agrees_with_the_tags_we_make(wycheproof):
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.hmac import HMAC

    count = 0
    for case in wycheproof("hmac_sha256_test", tagSize=256):
        mac = HMAC(bytes.fromhex(case["key"]), hashes.SHA256()).copy()
        mac.update(bytes.fromhex(case["msg"]))
        agrees = mac.finalize().hex() == case["tag"]
        assert agrees == (case["result"] == "valid"), case["tcId"]
        count += 1
    assert count > 50
