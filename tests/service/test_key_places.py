"""A key that would be copied together with what it opens is named, wherever a setting puts it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.key_places import KeyPlaces, key_places, shared_places
from service.settings import BackupSettings, DatabaseSettings, KmsSettings, Settings, VaultSettings

POSTGRES = DatabaseSettings(url="postgresql://registry@db.example/yinyom")


def states(settings, store=None):
    return [found.state for found in shared_places(key_places(settings, store))]


@pytest.fixture
def folders(tmp_path):
    for name in ("data", "keys", "store", "disk"):
        (tmp_path / name).mkdir()
    return tmp_path


def settings_of(folders, *, keys=None, database=None, **kms):
    return Settings(
        data_dir=folders / "data",
        vault=VaultSettings(keys_dir=keys),
        kms=KmsSettings(**kms),
        database=database or DatabaseSettings(),
        backup=BackupSettings(),
    )


def test_keys_in_the_folder_of_the_database_are_refused(folders):
    assert "bad" in states(settings_of(folders, keys=folders / "data"))


def test_a_database_anywhere_under_the_folder_of_keys_is_refused(folders):
    assert "bad" in states(settings_of(folders, keys=folders))


def test_a_root_in_the_folder_of_the_database_is_refused(folders):
    root = folders / "data" / "root"
    assert states(settings_of(folders, keys=folders / "keys", root_file=root)) == ["bad"]


def test_an_erasable_secret_in_the_folder_of_the_database_is_refused(folders):
    settings = settings_of(
        folders,
        keys=folders / "keys",
        provider="aws-kms",
        aws_key="alias/x",
        erasable_dir=folders / "data",
    )
    assert states(settings) == ["bad"]


@pytest.mark.parametrize("inside", ["", "deeper/still"])
@pytest.mark.parametrize("database", [None, POSTGRES])
def test_keys_in_or_around_the_store_of_backups_are_refused(folders, inside, database):
    elsewhere = folders / "keys"
    within = settings_of(folders, keys=folders / "store" / inside, database=database)
    assert "bad" in states(within, f"folder:{folders / 'store'}")
    around = settings_of(folders, keys=elsewhere, database=database)
    assert "bad" in states(around, f"folder:{elsewhere / inside / 'store'}")
    assert "bad" in states(around, f"folder://{elsewhere / inside / 'store'}")


def test_a_link_does_not_hide_where_the_keys_are(folders):
    (folders / "innocent").symlink_to(folders / "data")
    assert "bad" in states(settings_of(folders, keys=folders / "innocent"))


def test_the_embedded_profile_is_told_to_leave_the_keys_out_of_copies(folders):
    assert states(settings_of(folders)) == ["warn"]
    assert states(settings_of(folders), "s3://bucket/prefix") == ["warn"]


@pytest.mark.parametrize(
    "apart",
    [
        {"root_file": Path("/elsewhere/kms-root")},
        {"provider": "passphrase"},
        {"provider": "aws-kms"},
        {"provider": "vault-transit"},
        {"provider": "pkcs11"},
    ],
)
def test_a_root_that_no_copy_of_the_data_holds_is_well(folders, apart):
    assert states(settings_of(folders, **apart)) == []


def test_postgresql_and_keys_in_the_data_directory_are_apart(folders):
    assert states(settings_of(folders, database=POSTGRES), f"folder:{folders / 'store'}") == []


NAMES = st.lists(st.sampled_from("abc"), max_size=3).map(lambda parts: Path("/", *parts))


@given(NAMES, NAMES, NAMES)
def test_no_copy_of_one_folder_holds_a_key_and_its_database_unnoticed(keys, data, store):
    places = KeyPlaces(
        {"vault.keys_dir": keys / "key-ring.json", "kms.root_file": keys / "kms-root"},
        data / "registry.db",
        data,
        store,
        root_opens_alone=True,
    )
    found = {each.state for each in shared_places(places)}
    root, database = keys / "kms-root", data / "registry.db"
    if root.parent in database.parents or store in root.parents or keys in (store, *store.parents):
        assert "bad" in found
    elif data in root.parents:
        assert found == {"warn"}
    else:
        assert not found
