"""What is not fit to answer does not start: exit code 3, what is wrong, what to do, no damage."""

import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.support.serving import COMMAND, environment, free_port, serving, yinyom

CONFIGURATION = 3


@pytest.fixture
def data_dir(sqlite_settings) -> Path:
    """A registry that was set up and is not open."""
    return sqlite_settings.data_dir


def serve(data_dir: Path, **env: str):
    return yinyom("serve", "--port", free_port(), data_dir=data_dir, seconds=120, **env)


def fingerprint(data_dir: Path) -> dict[str, bytes]:
    """Every file of the registry, except the lock and what SQLite makes to look at a file."""
    passing = {"yinyom.lock", "registry.db-shm", "registry.db-wal"}
    return {
        str(file.relative_to(data_dir)): file.read_bytes()
        for file in sorted(data_dir.rglob("*"))
        if file.is_file() and file.name not in passing
    }


def refused(data_dir: Path, *words: str, **env: str) -> None:
    """Serving is refused in these words, and nothing has changed."""
    before = fingerprint(data_dir)
    ran = serve(data_dir, **env)
    assert ran.code == CONFIGURATION, ran.said
    assert "Traceback" not in ran.said
    for word in (*words, "Next:"):
        assert word in ran.said
    assert fingerprint(data_dir) == before


def test_a_folder_without_a_registry(tmp_path):
    ran = serve(tmp_path / "nothing")
    assert ran.code == CONFIGURATION
    assert "no registry in this data directory" in ran.said
    assert "yinyom init" in ran.said
    assert not (tmp_path / "nothing").exists()


def test_no_keys(data_dir):
    shutil.rmtree(data_dir / "keys")
    refused(data_dir, "the key ring is missing", "put the keys back")


def test_no_kms_root(data_dir):
    (data_dir / "keys" / "kms-root").unlink()
    refused(data_dir, "kms-root", "is missing", "put the key back")


def test_no_key_ring(data_dir):
    (data_dir / "keys" / "key-ring.json").unlink()
    refused(data_dir, "the key ring is missing")


def test_init_makes_no_new_ring_beside_an_old_database(data_dir):
    shutil.rmtree(data_dir / "keys")
    ran = yinyom("init", "--yes", data_dir=data_dir)
    assert ran.code == CONFIGURATION
    assert "not its key ring" in ran.said
    assert not list((data_dir / "keys").iterdir())


def test_a_wrong_root_key(data_dir):
    root = data_dir / "keys" / "kms-root"
    root.write_text("00" * 32)
    refused(data_dir, "does not open this key ring")


def test_a_root_key_that_is_no_key(data_dir):
    (data_dir / "keys" / "kms-root").write_text("สมหญิง")
    refused(data_dir, "kms-root")


def test_a_damaged_key_ring(data_dir):
    ring = data_dir / "keys" / "key-ring.json"
    ring.write_bytes(ring.read_bytes()[:-40])
    refused(data_dir, "key-ring.json is damaged")


def test_the_key_ring_of_another_registry(data_dir, tmp_path):
    other = tmp_path / "other"
    assert yinyom("init", "--yes", data_dir=other).code == 0
    shutil.rmtree(data_dir / "keys")
    shutil.copytree(other / "keys", data_dir / "keys")
    refused(data_dir, "belongs to another key ring", "Put back")


@pytest.mark.parametrize("name", ["kms-root", "key-ring.json"])
def test_a_key_file_that_others_may_read(data_dir, name):
    (data_dir / "keys" / name).chmod(0o640)
    refused(data_dir, name, "other users", "chmod 600")


def test_no_database(data_dir):
    for file in data_dir.glob("registry.db*"):
        file.unlink()
    refused(data_dir, "no registry in it", "yinyom init")


def test_a_database_that_is_none(data_dir):
    (data_dir / "registry.db").write_bytes(b"not a database, but long enough to be looked at" * 99)
    refused(data_dir, "registry.db is not a database")


@pytest.mark.parametrize(("revision", "words"), [("9999", "newer than"), ("0000", "older than")])
def test_the_schema_of_another_version(data_dir, revision, words):
    with sqlite3.connect(data_dir / "registry.db") as database:
        database.execute("UPDATE alembic_version SET version_num = ?", [revision])
    database.close()
    refused(data_dir, words)


def overlay(data_dir: Path, text: str) -> Path:
    folder = data_dir.parent / "pack"
    folder.mkdir()
    (folder / "purposes.toml").write_text(text, encoding="utf-8")
    return folder


def test_a_policy_pack_that_was_changed_and_not_activated(data_dir):
    pack = overlay(data_dir, '[purposes.marketing.title]\nen = "News"\n')
    env = {"YINYOM_POLICIES__PACK_DIR": str(pack)}
    refused(data_dir, "changed since it was activated", "policies activate", **env)
    assert yinyom("policies", "activate", data_dir=data_dir, **env).code == 0
    with serving(settings_of(data_dir), **env) as server:
        assert server.end() == 0


def settings_of(data_dir: Path):
    from service.settings import Settings

    return Settings(data_dir=data_dir)


def test_a_broken_policy_pack_is_refused_by_file_and_key(data_dir):
    pack = overlay(data_dir, '[purposes.marketing]\nfields = ["shoe_size"]\n')
    env = {"YINYOM_POLICIES__PACK_DIR": str(pack)}
    refused(data_dir, "purposes.toml", "marketing", **env)


def test_an_unknown_setting(data_dir):
    (data_dir / "yinyom.toml").write_text("[server]\nprot = 1\n")
    refused(data_dir, "/server/prot")


def test_a_settings_file_that_is_no_toml(data_dir):
    (data_dir / "yinyom.toml").write_text("server = [[[\n")
    refused(data_dir, "yinyom.toml cannot be read")


def test_an_engine_that_nobody_knows(data_dir):
    refused(data_dir, "database.url", YINYOM_DATABASE__URL="mysql://root@localhost/x")


def test_postgres_that_does_not_answer(data_dir):
    url = f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"
    refused(data_dir, "cannot be reached", YINYOM_DATABASE__URL=url)


def test_another_log_name_than_the_log_was_begun_with(data_dir):
    refused(data_dir, "audit.origin", YINYOM_AUDIT__ORIGIN="example.org/other")


def test_several_workers_on_sqlite(data_dir):
    ran = yinyom("serve", "--workers", "2", data_dir=data_dir, seconds=30)
    assert ran.code == CONFIGURATION
    assert "one writer" in ran.said


def test_a_second_server_on_the_same_registry(sqlite_settings):
    with serving(sqlite_settings) as first:
        ran = serve(sqlite_settings.data_dir)
        assert ran.code == CONFIGURATION
        assert "another process has this registry open" in ran.said
        assert first.cli("clients", "list").code == 0


def test_a_port_that_is_taken(sqlite_settings, tmp_path):
    with serving(sqlite_settings) as first:
        other = tmp_path / "other"
        assert yinyom("init", "--yes", data_dir=other).code == 0
        ran = yinyom("serve", "--port", first.port, data_dir=other, seconds=30)
    assert ran.code == CONFIGURATION, ran.said
    assert "Traceback" not in ran.said
    assert str(first.port) in ran.said


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")
class TestFileSystem:
    def mounted(self, folder: Path, options: str) -> None:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
            capture_output=True,
            check=False,
        )
        if mounted.returncode:
            pytest.skip("this machine does not let root mount a tmpfs")

    @pytest.fixture
    def small_disk(self, tmp_path):
        folder = tmp_path / "disk"
        folder.mkdir()
        self.mounted(folder, "size=3m,mode=0700")
        yield folder
        subprocess.run(["umount", "-l", str(folder)], check=True)

    def test_a_full_disk_leaves_nothing_half_made(self, small_disk):
        (small_disk / "filler").write_bytes(b"x" * (3 * 1024 * 1024 - 64 * 1024))
        data_dir = small_disk / "data"
        ran = yinyom("init", "--yes", data_dir=data_dir)
        assert ran.code == CONFIGURATION, ran.said
        assert "Traceback" not in ran.said
        (small_disk / "filler").unlink()
        again = yinyom("init", "--yes", data_dir=data_dir)
        assert again.code == 0, again.said

    def test_a_disk_that_may_only_be_read(self, small_disk):
        data_dir = small_disk / "data"
        assert yinyom("init", "--yes", data_dir=data_dir).code == 0
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
        ran = serve(data_dir)
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
        assert ran.code == CONFIGURATION, ran.said
        assert "Traceback" not in ran.said
        assert "cannot be written" in ran.said


def test_the_command_line_does_not_need_a_place_to_say_how_it_is_used():
    ended = subprocess.run(
        [*COMMAND, "--help"], env=environment(), cwd="/", capture_output=True, check=False
    )
    assert ended.returncode == 0
