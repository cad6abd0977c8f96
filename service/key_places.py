"""Whether a key and what it opens would fall into the same hands, through the same copy.

A backup of the database that also takes the keys is a backup in the clear: whoever gets hold of
it reads every member, and an erased one for as long as it is kept. The judgement is pure; the
places come from the settings and from the store that backups go to.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from service.files import KEY_RING_FILE, KMS_ROOT_FILE
from service.settings import Settings

_FOLDER_STORE = "folder:"
_ROOT_IN_FILES = {"file", "passphrase"}


@dataclass(frozen=True, slots=True)
class KeyPlaces:
    """Where keys are, by the setting that says so, and where the database and its backups go."""

    keys: Mapping[str, Path]
    database: Path | None
    data_dir: Path
    store: Path | None
    root_opens_alone: bool


@dataclass(frozen=True, slots=True)
class SharedPlace:
    """A key and what it opens in one place: `bad` is refused, `warn` needs care with copies."""

    state: Literal["bad", "warn"]
    says: str


def key_places(settings: Settings, store: str | None) -> KeyPlaces:
    """Take the places from the settings and a store's address, links in them resolved."""
    kms, keys_dir = settings.kms, settings.keys_dir
    keys = {"vault.keys_dir": keys_dir / KEY_RING_FILE}
    if kms.provider in _ROOT_IN_FILES:
        keys["kms.root_file"] = kms.root_file or keys_dir / KMS_ROOT_FILE
    if kms.erasable_dir is not None:
        keys["kms.erasable_dir"] = kms.erasable_dir / "erasable"
    folder = None
    if store is not None and store.startswith(_FOLDER_STORE):
        folder = Path(store.removeprefix(_FOLDER_STORE).removeprefix("//")).resolve()
    return KeyPlaces(
        keys={setting: path.resolve() for setting, path in keys.items()},
        database=None if settings.on_postgres else settings.database_file.resolve(),
        data_dir=settings.data_dir.resolve(),
        store=folder,
        root_opens_alone=kms.provider == "file",
    )


def key_folders(settings: Settings) -> list[Path]:
    """Give every folder that holds a key."""
    return sorted({key.parent for key in key_places(settings, None).keys.values()})


def shared_places(places: KeyPlaces) -> list[SharedPlace]:
    """Name each key that would be copied together with the database or one of its backups."""
    found = []
    for setting, key in places.keys.items():
        folder, name = key.parent, key.name
        if places.database is not None and places.database.is_relative_to(folder):
            says = f"{setting}: {name} lies where the database lies, and any copy takes both"
            found.append(SharedPlace("bad", f"{says}; give the keys a folder of their own"))
        if places.store is not None and _overlap(places.store, folder):
            says = f"{setting}: {name} and the backup store are in one folder"
            found.append(SharedPlace("bad", f"{says}; move one of them"))
    root = places.keys.get("kms.root_file")
    apart = places.database is None or root is None or not root.is_relative_to(places.data_dir)
    if places.root_opens_alone and not apart and not found:
        says = f"a copy of all of {places.data_dir.name}/ holds the KMS root and the database"
        remedy = "leave the keys out of it, or set kms.root_file to another disk"
        found.append(SharedPlace("warn", f"{says}; {remedy}"))
    return found


def _overlap(store: Path, folder: Path) -> bool:
    return store.is_relative_to(folder) or folder.is_relative_to(store)
