"""The key ring: it opens whole, under its own root, from files nobody else can read, or not."""

import errno
import itertools
import json
import os

import pytest

from kernel import ConfigurationError, UnavailableError
from vault import (
    FileKeyProvider,
    KeyRingError,
    UnreadableError,
    create_key_ring,
    open_key_ring,
    read_private,
    write_private,
)
from vault.keyring import SECRETS


@pytest.fixture
def files(tmp_path):
    """The paths of a root, a ring, a backup and a kit, none of which exists."""
    names = ("kms-root", "key-ring.json", "ring-backup.age", "recovery-kit.txt")
    return [tmp_path / "keys" / name for name in names]


@pytest.fixture
def ring(files):
    root, path, *_ = files
    return create_key_ring(path, FileKeyProvider.create(root), "main")


def opened(files):
    root, path, *_ = files
    return open_key_ring(path, FileKeyProvider(root))


def refused(act, *words):
    with pytest.raises(KeyRingError) as caught:
        act()
    error = caught.value
    assert isinstance(error, ConfigurationError)
    assert error.remedy
    assert error.exit_code == 3
    for word in words:
        assert word in error.diagnostics()
    return error


def test_what_was_made_opens_again(files, ring):
    again = opened(files)
    assert (again.id, again.tenant, again.version) == (ring.id, "main", 1)
    assert again.material() == ring.material()
    wrapped = ring.wrap(b"k" * 32, b"context")
    assert again.unwrap(1, wrapped, b"context") == b"k" * 32


def test_two_rings_share_no_secret(files, ring, tmp_path):
    other = create_key_ring(
        tmp_path / "b" / "ring", FileKeyProvider.create(tmp_path / "b" / "root"), "main"
    )
    secrets = [each.secret(name) for each in (ring, other) for name in SECRETS]
    assert len(set(secrets)) == 2 * len(SECRETS)
    assert all(len(secret) == 32 for secret in secrets)


def test_nothing_of_a_ring_is_readable_in_its_files_or_its_repr(files, ring):
    root, path, *_ = files
    secret = json.loads(ring.material())
    hidden = [*secret["roots"].values(), *secret["secrets"].values()]
    shown = path.read_text() + repr(ring)
    assert not [value for value in hidden if value in shown]
    assert root.read_text().strip() not in shown


def test_files_and_folder_are_for_their_owner_alone(files, ring):
    root, path, *_ = files
    assert {file.stat().st_mode & 0o777 for file in (root, path)} == {0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601, 0o644, 0o777])
@pytest.mark.parametrize("which", [0, 1])
def test_a_file_that_others_may_touch_is_refused(files, ring, mode, which):
    files[which].chmod(mode)
    refused(lambda: opened(files), "other users", "chmod 600")


@pytest.mark.parametrize("which", [0, 1])
def test_a_missing_file_says_where_it_belongs(files, ring, which):
    files[which].unlink()
    refused(lambda: opened(files), files[which].name, "yinyom init")


def test_a_folder_in_the_place_of_a_file_is_refused(files, ring):
    files[1].unlink()
    files[1].mkdir()
    refused(lambda: opened(files))


def test_another_root_does_not_open_the_ring(files, ring):
    files[0].unlink()
    FileKeyProvider.create(files[0])
    refused(lambda: opened(files), "KMS root", "recovery kit")


@pytest.mark.parametrize(
    "text", ["", "\n", "zz" * 32, "ab" * 31, "ab" * 33, "é" * 64, "ab" * 32 + " x"]
)
def test_a_root_that_is_no_256_bit_key_is_refused(files, ring, text):
    files[0].write_text(text)
    refused(lambda: opened(files), "key")


def damage(path, change):
    document = json.loads(path.read_text())
    changed = change(document)
    path.write_text(json.dumps(document if changed is None else changed))


DAMAGES = {
    "a list": lambda _: [],
    "null": lambda _: "null",
    "a number": lambda _: 7,
    "no format": lambda d: d.pop("format") and None,
    "no id": lambda d: d.pop("id") and None,
    "an id that is a number": lambda d: d.update(id=7),
    "no tenant": lambda d: d.pop("tenant") and None,
    "a tenant that is a list": lambda d: d.update(tenant=["main"]),
    "no roots": lambda d: d.pop("roots") and None,
    "empty roots": lambda d: d.update(roots={}),
    "roots that are a list": lambda d: d.update(roots=["x"]),
    "roots that are text": lambda d: d.update(roots="x"),
    "a root of version zero": lambda d: d.update(roots={"0": d["roots"]["1"]}),
    "a root of version x": lambda d: d.update(roots={"x": d["roots"]["1"]}),
    "a root that is no base64": lambda d: d["roots"].update({"1": "§§§"}),
    "a root that is a number": lambda d: d["roots"].update({"1": 5}),
    "a root that is short": lambda d: d["roots"].update({"1": "AAAA"}),
    "a root that is empty": lambda d: d["roots"].update({"1": ""}),
    "no secrets": lambda d: d.pop("secrets") and None,
    "secrets that are a list": lambda d: d.update(secrets=[]),
    "a secret that is null": lambda d: d["secrets"].update(index=None),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_ring_is_refused_with_a_way_out(files, ring, name):
    damage(files[1], DAMAGES[name])
    refused(lambda: opened(files))


@pytest.mark.parametrize("secret", SECRETS)
def test_a_ring_without_one_of_its_secrets_is_refused(files, ring, secret):
    damage(files[1], lambda document: document["secrets"].pop(secret) and None)
    refused(lambda: opened(files), "damaged")


@pytest.mark.parametrize("text", ["", "{", "[1", "\x00", "not json"])
def test_a_ring_that_is_no_json_is_refused(files, ring, text):
    files[1].write_text(text)
    refused(lambda: opened(files), "damaged")


def test_a_ring_that_is_not_even_text_is_refused(files, ring):
    files[1].write_bytes(bytes(range(256)))
    refused(lambda: opened(files), "damaged")


def test_a_ring_of_a_later_format_is_refused_and_not_called_damaged(files, ring):
    damage(files[1], lambda document: document.update(format="yinyom-key-ring/9"))
    error = refused(lambda: opened(files), "format")
    assert "damaged" not in error.diagnostics()


def wrapped_values(document):
    for version in document["roots"]:
        yield "roots", version
    for name in document["secrets"]:
        yield "secrets", name


def test_no_wrapped_value_of_a_ring_can_be_changed_or_stand_in_another_place(files, ring):
    original = files[1].read_text()
    places = list(wrapped_values(json.loads(original)))
    for section, name in places:
        document = json.loads(original)
        text = document[section][name]
        document[section][name] = ("B" if text[0] == "A" else "A") + text[1:]
        files[1].write_text(json.dumps(document))
        refused(lambda: opened(files), "KMS root")
    for first, second in itertools.pairwise(places):
        document = json.loads(original)
        here, there = document[first[0]], document[second[0]]
        here[first[1]], there[second[1]] = there[second[1]], here[first[1]]
        files[1].write_text(json.dumps(document))
        refused(lambda: opened(files), "KMS root")


@pytest.mark.parametrize("name", ["id", "tenant"])
def test_a_ring_cannot_be_given_another_name(files, ring, name):
    damage(files[1], lambda document: document.update({name: document[name] + "x"}))
    refused(lambda: opened(files), "KMS root")


def test_every_flipped_bit_of_a_wrapped_key_is_refused(ring):
    wrapped = ring.wrap(b"k" * 32, b"context")
    for bit in range(8 * len(wrapped)):
        changed = bytearray(wrapped)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(UnreadableError):
            ring.unwrap(1, bytes(changed), b"context")
    for length in range(len(wrapped)):
        with pytest.raises(UnreadableError):
            ring.unwrap(1, wrapped[:length], b"context")
    for context in (b"", b"contex", b"context\0"):
        with pytest.raises(UnreadableError):
            ring.unwrap(1, wrapped, context)
    for version in (0, 2, 255):
        with pytest.raises(UnreadableError):
            ring.unwrap(version, wrapped, b"context")


def test_nothing_that_exists_is_overwritten(files, ring):
    root, path, *_ = files
    before = root.read_bytes(), path.read_bytes()
    refused(lambda: FileKeyProvider.create(root), "exists")
    refused(lambda: create_key_ring(path, FileKeyProvider(root), "main"), "exists")
    assert (root.read_bytes(), path.read_bytes()) == before


def test_a_private_file_is_whole_or_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "secret"
    write_private(path, b"old")
    full = OSError(errno.ENOSPC, "disk")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(full))
    with pytest.raises(UnavailableError, match="No space left") as caught:
        write_private(path, b"new", replace=True)
    assert "Free some space" in caught.value.remedy
    monkeypatch.undo()
    assert read_private(path, "the secret") == b"old"
    write_private(path, b"new", replace=True)
    assert read_private(path, "the secret") == b"new"
    assert [file.name for file in tmp_path.iterdir()] == ["secret"]
