"""Changes of the key ring: one call to the KMS opens it, and no crash or race loses a root."""

import errno
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable

import pytest

from kernel import UnavailableError
from vault import (
    FileKeyProvider,
    KeyRingError,
    ProviderHealth,
    UnreadableError,
    create_key_ring,
    open_key_ring,
    write_private,
)
from vault.keyring import SECRETS

# Newer Pythons warn of threads at a fork; pytest-xdist has some, and the children use none.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
KEY = b"k" * 32


class KeepingProvider(FileKeyProvider):
    """A KMS that, like that of AWS, keeps every version of its root."""

    destroys = False

    def destroy(self, _version):
        return False


class CountingProvider:
    """Counts what a real provider is asked, and keeps the buffers it gave away."""

    destroys = True

    def __init__(self, inner):
        self._inner = inner
        self.name = inner.name
        self.asked = []
        self.given = []

    def wrap(self, secret, context):
        self.asked.append("wrap")
        return self._inner.wrap(secret, context)

    def unwrap(self, wrapped, context):
        self.asked.append("unwrap")
        self.given.append(self._inner.unwrap(wrapped, context))
        return self.given[-1]

    def rotate(self):
        self.asked.append("rotate")
        return self._inner.rotate()

    def destroy(self, version):
        self.asked.append("destroy")
        return self._inner.destroy(version)

    def health(self):
        self.asked.append("health")
        return self._inner.health()


@pytest.fixture(params=[FileKeyProvider, KeepingProvider], ids=["destroys", "keeps"])
def kind(request):
    return request.param


@pytest.fixture
def keys(tmp_path):
    return tmp_path / "keys"


@pytest.fixture
def ring(kind, keys):
    return create_key_ring(keys / "key-ring.json", kind.create(keys / "kms-root"), "main")


def opened(keys, kind=FileKeyProvider):
    return open_key_ring(keys / "key-ring.json", kind(keys / "kms-root"))


def names(keys):
    return {file.name for file in keys.iterdir()}


# --- one call -------------------------------------------------------------------------


def test_one_call_to_the_kms_opens_every_root_and_secret(keys):
    provider = FileKeyProvider.create(keys / "kms-root")
    ring = create_key_ring(keys / "key-ring.json", provider, "main")
    wrapped = [(ring.version, ring.wrap(KEY, b"here"))]
    for number in range(2, 8):
        ring.add_root().add_secret(f"index/{number}")
        wrapped.append((ring.version, ring.wrap(KEY, b"here")))
    counting = CountingProvider(FileKeyProvider(keys / "kms-root"))
    again = open_key_ring(keys / "key-ring.json", counting)
    assert [again.unwrap(version, each, b"here") for version, each in wrapped] == [KEY] * 7
    assert again.secrets() == ring.secrets()
    assert counting.asked == ["unwrap"]
    for _ in range(3):
        again.reopen()
        again.add_root()
        again.drop_roots(below=again.version)
        again.add_secret("index/99")
    assert counting.asked == ["unwrap"]


def test_what_another_process_wrapped_anew_costs_one_call_more(keys):
    provider = FileKeyProvider.create(keys / "kms-root")
    ring = create_key_ring(keys / "key-ring.json", provider, "main")
    counting = CountingProvider(FileKeyProvider(keys / "kms-root"))
    elsewhere = open_key_ring(keys / "key-ring.json", counting)
    ring.rotate_kms()
    elsewhere.add_root()
    elsewhere.reopen()
    assert counting.asked == ["unwrap", "unwrap"]
    assert ring.reopen().versions == (1, 2)
    ring.add_root()
    assert elsewhere.reopen().versions == (1, 2, 3)
    assert counting.asked == ["unwrap", "unwrap"]


def test_the_buffer_that_the_kms_gave_is_overwritten(keys):
    counting = CountingProvider(FileKeyProvider.create(keys / "kms-root"))
    create_key_ring(keys / "key-ring.json", counting, "main")
    open_key_ring(keys / "key-ring.json", counting)
    (buffer,) = counting.given
    assert buffer == bytearray(32)


@pytest.mark.parametrize("answer", [b"", b"x" * 31, b"x" * 32, b"x" * 33])
def test_a_kms_that_answers_with_something_else_opens_nothing(ring, keys, answer):
    provider = CountingProvider(FileKeyProvider(keys / "kms-root"))
    provider.unwrap = lambda *_: bytearray(answer)
    with pytest.raises(KeyRingError, match="does not open"):
        open_key_ring(keys / "key-ring.json", provider)


def test_the_ring_of_another_kms_is_refused_by_name(ring, keys):
    path = keys / "key-ring.json"
    document = json.loads(path.read_text()) | {"kms": "aws-kms"}
    path.write_text(json.dumps(document))
    with pytest.raises(KeyRingError) as caught:
        opened(keys)
    assert "aws-kms" in caught.value.remedy


# --- changes --------------------------------------------------------------------------


def test_a_new_root_wraps_and_the_older_ones_still_open(ring, keys, kind):
    old = ring.wrap(KEY, b"here")
    assert ring.add_root() is ring
    new = ring.wrap_newest(KEY, b"here")
    assert new[0] == 2
    for each in (ring, opened(keys, kind)):
        assert each.versions == (1, 2)
        assert each.unwrap(1, old, b"here") == each.unwrap(*new, b"here") == KEY
        with pytest.raises(UnreadableError):
            each.unwrap(2, old, b"here")


def test_dropped_roots_open_nothing_and_the_newest_stays(ring, keys, kind):
    old, secrets = ring.wrap(KEY, b"here"), ring.secrets()
    ring.add_root()
    new = ring.wrap(KEY, b"here")
    with pytest.raises(KeyRingError):
        ring.drop_roots(below=3)
    ring.drop_roots(below=2)
    for each in (ring, opened(keys, kind)):
        assert each.versions == (2,)
        with pytest.raises(UnreadableError):
            each.unwrap(1, old, b"here")
        assert each.unwrap(2, new, b"here") == KEY
        assert each.secrets() == secrets


def test_a_secret_is_added_once_and_kept_through_everything(ring, keys, kind):
    made = ring.add_secret("index/2")
    assert len(made) == 32
    assert ring.add_secret("index/2") == made
    ring.add_root().drop_roots(below=2)
    ring.rewrap_outer()
    ring.rotate_kms()
    assert opened(keys, kind).secret("index/2") == made
    ring.drop_secret("index")
    assert "index" not in opened(keys, kind).secrets()
    with pytest.raises(KeyRingError):
        ring.drop_secret("index/2")


@pytest.mark.parametrize("name", [name for name in SECRETS if name != "index"])
def test_a_secret_without_which_nothing_starts_is_not_dropped(ring, keys, kind, name):
    with pytest.raises(KeyRingError):
        ring.drop_secret(name)
    assert name in opened(keys, kind).secrets()


@pytest.mark.parametrize(
    "name", ["", "Index", "index/0", "index/02", "index/2/3", "index/x", "../x", "index\n"]
)
def test_a_name_that_is_none_is_refused(ring, name):
    with pytest.raises(KeyRingError):
        ring.add_secret(name)


@pytest.mark.parametrize("name", ["outer", "wrapping", "root/1"])
def test_a_secret_never_takes_the_context_of_another_key(ring, name):
    with pytest.raises(KeyRingError):
        ring.add_secret(name)


def test_a_ring_put_in_the_place_of_this_one_is_not_taken_over(ring, keys, kind, tmp_path):
    path = keys / "key-ring.json"
    path.unlink()
    create_key_ring(path, kind(keys / "kms-root"), "main")
    for act in (ring.reopen, ring.add_root, ring.rotate_kms):
        with pytest.raises(KeyRingError, match="another ring"):
            act()


# --- nothing old opens any more -------------------------------------------------------


def test_no_copy_of_an_old_file_opens_after_a_seal(ring, keys, kind, tmp_path):
    for act in (lambda: None, ring.seal_outer, ring.rotate_kms, ring.seal_outer):
        act()
        shutil.copy2(keys / "key-ring.json", tmp_path / "old.json")
        ring.seal_outer()
        shutil.copy2(keys / "key-ring.json", tmp_path / "new.json")
        shutil.copy2(tmp_path / "old.json", keys / "key-ring.json")
        with pytest.raises(KeyRingError):
            opened(keys, kind)
        shutil.copy2(tmp_path / "new.json", keys / "key-ring.json")
        assert opened(keys, kind).secrets() == ring.secrets()


def test_the_erasable_secret_is_there_where_it_is_needed_and_is_needed(ring, keys, kind):
    files = [keys / name for name in names(keys) if name.startswith("erasable-")]
    assert len(files) == (0 if kind.destroys else 1)
    ring.seal_outer()
    after = [keys / name for name in names(keys) if name.startswith("erasable-")]
    assert len(after) == len(files)
    assert not set(files) & set(after)
    if kind.destroys:
        return
    (file,) = after
    assert file.stat().st_mode & 0o777 == 0o600
    secret = file.read_bytes()
    assert secret not in (keys / "key-ring.json").read_bytes()
    for damage in (os.urandom(32), secret[:31], b"", None):
        file.unlink(missing_ok=True)
        if damage is not None:
            write_private(file, damage)
        with pytest.raises(KeyRingError) as caught:
            opened(keys, kind)
        assert caught.value.remedy
    write_private(file, secret, replace=True)
    file.chmod(0o640)
    with pytest.raises(KeyRingError, match="other users"):
        opened(keys, kind)
    file.chmod(0o600)
    assert opened(keys, kind).secrets() == ring.secrets()


def test_an_overwritten_root_leaves_no_byte_of_itself(keys, monkeypatch):
    provider = FileKeyProvider.create(keys / "kms-root")
    ring = create_key_ring(keys / "key-ring.json", provider, "main")
    before = (keys / "kms-root").read_bytes()
    held = os.open(keys / "kms-root", os.O_RDONLY)
    try:
        ring.rotate_kms()
        left = os.pread(held, 1000, 0)
    finally:
        os.close(held)
    assert len(left) == len(before)
    assert not [at for at in range(len(before) - 8) if before[at : at + 8] in left]
    assert names(keys) == {"kms-root.2", "key-ring.json"}


def test_a_secret_that_cannot_be_overwritten_is_an_error_and_the_ring_opens(ring, keys, kind):
    (old,) = [
        keys / name
        for name in names(keys)
        if name == "kms-root" * kind.destroys or name.startswith("erasable-")
    ]
    kept = old.read_bytes()
    old.unlink()
    old.symlink_to(keys / "moved")  # what a destruction refuses to follow
    write_private(keys / "moved", kept)
    with pytest.raises(UnavailableError, match="could not be destroyed"):
        ring.seal_outer()
    assert (keys / "moved").read_bytes() == kept
    old.unlink()
    assert opened(keys, kind).secrets() == ring.secrets()


def test_a_ring_that_cannot_destroy_the_old_root_says_so_and_opens(keys):
    provider = CountingProvider(FileKeyProvider.create(keys / "kms-root"))
    ring = create_key_ring(keys / "key-ring.json", provider, "main")
    provider.health = lambda: ProviderHealth(ok=False, version="", versions=(), says="no answer")
    with pytest.raises(UnavailableError, match="not destroyed"):
        ring.rotate_kms()
    del provider.health
    assert opened(keys).secrets() == ring.secrets()
    ring.rotate_kms()
    assert names(keys) == {"kms-root.3", "key-ring.json"}


# --- crashes and races ----------------------------------------------------------------

_STEPS = {"open", "os.rename", "os.remove", "fcntl.flock"}
CHANGES: dict[str, Callable] = {
    "add_root": lambda ring: ring.add_root(),
    "drop_roots": lambda ring: ring.drop_roots(below=2),
    "add_secret": lambda ring: ring.add_secret("index/2"),
    "drop_secret": lambda ring: ring.drop_secret("index/9"),
    "rewrap_outer": lambda ring: ring.rewrap_outer(),
    "rotate_kms": lambda ring: ring.rotate_kms(),
    "seal_outer": lambda ring: ring.seal_outer(),
}


def in_child(act) -> int:
    """Do something in a child process; gives its exit status, negative for a signal."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            act()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at(step, keys, kind, change) -> bool:
    """Carry out a change in a child that is killed before its n-th step on files; did it come?"""

    def act():
        ring = opened(keys, kind)
        seen = 0

        def hook(event, arguments):
            nonlocal seen
            if event in _STEPS:
                seen += 1
                if seen == step:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        change(ring)

    status = in_child(act)
    assert status in (0, -signal.SIGKILL)
    return status != 0


@pytest.mark.parametrize("name", CHANGES)
def test_a_kill_before_any_step_leaves_the_old_ring_or_the_new_one(
    ring, keys, kind, name, tmp_path
):
    first = ring.wrap(KEY, b"here")
    ring.add_root()
    ring.add_secret("index/9")
    second, secrets = ring.wrap(KEY, b"here"), ring.secrets()
    shutil.copytree(keys, tmp_path / "before")
    step, came = 0, True
    while came:
        step += 1
        shutil.rmtree(keys)
        shutil.copytree(tmp_path / "before", keys)
        came = killed_at(step, keys, kind, CHANGES[name])
        left = opened(keys, kind)
        assert left.id == ring.id
        assert left.unwrap(2, second, b"here") == KEY
        assert left.versions in {(1, 2), (1, 2, 3) if name == "add_root" else (2,)}
        if 1 in left.versions:
            assert left.unwrap(1, first, b"here") == KEY
        kept = {n: v for n, v in left.secrets().items() if n not in {"index/2", "index/9"}}
        assert kept == {n: v for n, v in secrets.items() if n != "index/9"}
        CHANGES[name](left)  # what was interrupted is done again, and is whole
        again = opened(keys, kind)
        assert again.secrets() == left.secrets()
        assert again.unwrap(2, second, b"here") == KEY
        assert not [n for n in names(keys) if n.startswith("erasable") and n.endswith(".new")]
        erasables = [n for n in names(keys) if n.startswith("erasable-")]
        assert len(erasables) == (0 if kind.destroys else 1)
        if kind.destroys and name in {"rotate_kms", "seal_outer"}:
            roots = [n for n in names(keys) if n.startswith("kms-root") and ".new" not in n]
            assert len(roots) == 1
    assert step > 3  # the matrix had steps to kill at


@pytest.mark.parametrize("name", CHANGES)
def test_a_disk_that_is_full_leaves_the_old_ring_in_the_file_and_in_ram(
    ring, keys, kind, name, monkeypatch
):
    ring.add_root()
    ring.add_secret("index/9")
    before = ring.versions, ring.secrets()

    def full(_):
        raise OSError(errno.ENOSPC, "disk")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(UnavailableError):
            CHANGES[name](ring)
    assert (ring.versions, ring.secrets()) == before
    again = opened(keys, kind)
    assert (again.versions, again.secrets()) == before
    CHANGES[name](ring)
    assert opened(keys, kind).secrets() == ring.secrets()


def test_a_kill_while_a_ring_is_made_leaves_none_or_a_whole_one(keys, kind, tmp_path):
    step, came = 0, True
    while came:
        step += 1
        shutil.rmtree(keys, ignore_errors=True)
        kind.create(keys / "kms-root")

        def act(step=step):
            provider = kind(keys / "kms-root")
            seen = 0

            def hook(event, _):
                nonlocal seen
                if event in _STEPS:
                    seen += 1
                    if seen == step:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(hook)
            create_key_ring(keys / "key-ring.json", provider, "main")

        status = in_child(act)
        assert status in (0, -signal.SIGKILL)
        came = status != 0
        if not (keys / "key-ring.json").exists():
            create_key_ring(keys / "key-ring.json", kind(keys / "kms-root"), "main")
        assert set(opened(keys, kind).secrets()) == set(SECRETS)
    assert step > 2


def test_changes_of_several_processes_at_once_are_all_kept(ring, keys, kind):
    first = ring.wrap(KEY, b"here")

    def work(number):
        mine = opened(keys, kind)
        for turn in range(4):
            mine.add_secret(f"index/{10 * number + turn + 1}")
            mine.add_root()
            mine.rewrap_outer()
        if number == 1:
            mine.rotate_kms()

    children = []
    for number in range(1, 4):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                work(number)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    last = opened(keys, kind)
    wanted = {f"index/{10 * number + turn + 1}" for number in range(1, 4) for turn in range(4)}
    assert wanted <= set(last.secrets())
    assert last.versions == tuple(range(1, 14))
    assert ring.reopen().secrets() == last.secrets()
    assert ring.unwrap(1, first, b"here") == KEY
