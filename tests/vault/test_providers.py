"""One contract for every KMS: what it wrapped opens in its own place, and nowhere else, or never.

`file` and `passphrase` work on real files, `pkcs11` on a real SoftHSM token, `aws-kms` and
`vault-transit` through their real client libraries against servers on loopback that hold real
keys; another implementation of AWS KMS has the last word on the shape of our requests.
"""

import copy
import itertools
import os
import pickle
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from kernel import UnavailableError, YinyomError
from tests.support.kms import AWS_SECRET, TOKEN, AwsKms, Transit, serving
from vault import KeyRingError, UnreadableError
from vault.providers import (
    AwsKmsKeyProvider,
    FileKeyProvider,
    KeyProvider,
    PassingKeyProvider,
    PassphraseKeyProvider,
    Pkcs11KeyProvider,
    VaultTransitKeyProvider,
)
from vault.ring_file import ring_context

SECRET = bytes(range(32))
CONTEXT = ring_context("ring_one", "main", "outer")
PASSPHRASE = "correct horse battery staple"
PIN = "27182818"
HSM_TOKEN = "yinyom-tests"
CHEAP = 4
_LABELS = itertools.count()
SOFTHSM = next(Path("/usr/lib").glob("**/softhsm/libsofthsm2.so"), None)


@dataclass
class Kms:
    """One kind of KMS: how it is reached, one with another key, and how it goes away."""

    again: Callable[[], KeyProvider]
    other: Callable[[], KeyProvider]
    lose: Callable[[], None]
    secrets: Callable[[], list[str]]


def file_kms(tmp_path, _):
    path, other = tmp_path / "keys" / "kms-root", tmp_path / "other" / "kms-root"
    FileKeyProvider.create(path)
    FileKeyProvider.create(other)
    return Kms(
        lambda: FileKeyProvider(path),
        lambda: FileKeyProvider(other),
        lambda: shutil.rmtree(path.parent),
        lambda: [path.read_text().strip()],
    )


def passphrase_kms(tmp_path, _):
    def at(folder, passphrase):
        path = tmp_path / folder / "kms-root"
        return PassphraseKeyProvider(path, passphrase, log_n=CHEAP)

    at("keys", PASSPHRASE).make()
    at("other", PASSPHRASE).make()
    return Kms(
        lambda: at("keys", PASSPHRASE),
        lambda: at("other", PASSPHRASE),
        lambda: shutil.rmtree(tmp_path / "keys"),
        lambda: [PASSPHRASE],
    )


def aws(url, key="alias/yinyom", timeout_seconds=5.0):
    return AwsKmsKeyProvider(
        key,
        region="ap-southeast-7",
        endpoint=url,
        access_key="AKIAEXAMPLE",
        secret_key=AWS_SECRET,
        timeout_seconds=timeout_seconds,
    )


def aws_kms(_, stack):
    server = stack(AwsKms())
    server.make("alias/yinyom")
    server.make("alias/other")
    url = [server.url]
    return Kms(
        lambda: aws(url[0]),
        lambda: aws(url[0], "alias/other"),
        lambda: url.__setitem__(0, nobody_there()),
        lambda: [AWS_SECRET],
    )


def transit(url, key="yinyom", token=TOKEN):
    return VaultTransitKeyProvider(url, token, key=key, timeout_seconds=5.0)


def transit_kms(_, stack):
    server = stack(Transit())
    url = [server.url]
    transit(server.url).prepare()
    transit(server.url, "other").prepare()
    return Kms(
        lambda: transit(url[0]),
        lambda: transit(url[0], "other"),
        lambda: url.__setitem__(0, nobody_there()),
        lambda: [TOKEN],
    )


@pytest.fixture(scope="session")
def softhsm(tmp_path_factory):
    """A SoftHSM token; its library reads configuration and tokens once in a process."""
    if SOFTHSM is None or shutil.which("softhsm2-util") is None:
        pytest.skip("softhsm2 is not installed (.ci/debian-packages)")
    pytest.importorskip("pkcs11", reason="install the extra [pkcs11]")
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    words = f"--init-token --free --label {HSM_TOKEN} --pin {PIN} --so-pin {PIN}".split()
    subprocess.run(["softhsm2-util", *words], check=True, capture_output=True)


def pkcs11_kms(_, __):
    label = f"yinyom-{next(_LABELS)}"
    name = [HSM_TOKEN]

    def at(key):
        return Pkcs11KeyProvider(SOFTHSM, name[0], PIN, key=key)

    at(label).prepare()
    at(label + "-other").prepare()
    return Kms(
        lambda: at(label),
        lambda: at(label + "-other"),
        lambda: name.__setitem__(0, "no such token"),
        lambda: [PIN],
    )


def passing_kms(_, __):
    provider = PassingKeyProvider()
    return Kms(lambda: provider, PassingKeyProvider, lambda: pytest.skip("in RAM"), list)


KINDS = {
    "file": file_kms,
    "passphrase": passphrase_kms,
    "aws-kms": aws_kms,
    "vault-transit": transit_kms,
    "pkcs11": pkcs11_kms,
    "passing": passing_kms,
}


def nobody_there() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def stack():
    """Starts servers that end with the test."""
    open_servers = []

    def start(server):
        context = serving(server)
        context.__enter__()
        open_servers.append(context)
        return server

    yield start
    for context in open_servers:
        context.__exit__(None, None, None)


@pytest.fixture(params=KINDS)
def kms(request, tmp_path, stack):
    if request.param == "pkcs11":
        request.getfixturevalue("softhsm")
    if request.param == "vault-transit":
        pytest.importorskip("hvac", reason="install the extra [vault]")
    return KINDS[request.param](tmp_path, stack)


# --- the contract ---------------------------------------------------------------------


def test_what_was_wrapped_opens_again_elsewhere(kms):
    wrapped = kms.again().wrap(SECRET, CONTEXT)
    opened = kms.again().unwrap(wrapped, CONTEXT)
    assert opened == SECRET
    assert isinstance(opened, bytearray)  # the caller overwrites it
    assert SECRET not in wrapped
    assert kms.again().wrap(SECRET, CONTEXT) != wrapped


@pytest.mark.parametrize(
    "other",
    [
        ring_context("ring_two", "main", "outer"),
        ring_context("ring_one", "elsewhere", "outer"),
        ring_context("ring_one", "main", "root/1"),
        ring_context("ring_onem", "ain", "outer"),
    ],
)
def test_another_context_is_refused(kms, other):
    wrapped = kms.again().wrap(SECRET, CONTEXT)
    with pytest.raises(UnreadableError):
        kms.again().unwrap(wrapped, other)


def test_every_flipped_bit_is_refused(kms):
    provider = kms.again()
    wrapped = provider.wrap(SECRET, CONTEXT)
    for bit in range(8 * len(wrapped)):
        changed = bytearray(wrapped)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(UnreadableError):
            provider.unwrap(bytes(changed), CONTEXT)


def test_every_truncation_and_every_addition_is_refused(kms):
    provider = kms.again()
    wrapped = provider.wrap(SECRET, CONTEXT)
    for changed in (*(wrapped[:n] for n in range(len(wrapped))), wrapped + b"\0", wrapped * 2):
        with pytest.raises(UnreadableError):
            provider.unwrap(changed, CONTEXT)


def test_another_key_is_refused(kms):
    wrapped = kms.again().wrap(SECRET, CONTEXT)
    with pytest.raises(UnreadableError):
        kms.other().unwrap(wrapped, CONTEXT)


def test_after_a_rotation_the_old_opens_and_the_new_version_wraps(kms):
    old = kms.again().wrap(SECRET, CONTEXT)
    before = kms.again().health()
    version = kms.again().rotate()
    after = kms.again().health()
    assert before.ok
    assert after.ok
    assert after.version == version != before.version
    assert set(before.versions) | {version} == set(after.versions)
    new = kms.again().wrap(SECRET, CONTEXT)
    for wrapped in (old, new):
        assert kms.again().unwrap(wrapped, CONTEXT) == SECRET


def test_a_destroyed_version_opens_nothing_any_more_and_the_newest_does(kms):
    old = kms.again().wrap(SECRET, CONTEXT)
    first = kms.again().health().version
    newest = kms.again().rotate()
    new = kms.again().wrap(SECRET, CONTEXT)
    provider = kms.again()
    assert provider.destroy(first) is provider.destroys
    if not provider.destroys:
        assert kms.again().unwrap(old, CONTEXT) == SECRET
        return
    for each in (provider, kms.again()):
        with pytest.raises(UnreadableError):
            each.unwrap(old, CONTEXT)
        assert each.unwrap(new, CONTEXT) == SECRET
    assert kms.again().health().versions == (newest,)
    assert kms.again().destroy(first) is True  # a resumed run destroys it again


def test_the_version_in_use_is_never_destroyed(kms):
    provider = kms.again()
    wrapped = provider.wrap(SECRET, CONTEXT)
    provider.rotate()
    if not provider.destroys:
        assert provider.destroy(provider.health().version) is False
        return
    with pytest.raises(KeyRingError):
        provider.destroy(provider.health().version)
    assert kms.again().unwrap(wrapped, CONTEXT) == SECRET


def test_a_process_that_did_not_rotate_opens_what_the_new_version_wrapped(kms):
    elsewhere = kms.again()
    elsewhere.wrap(SECRET, CONTEXT)
    kms.again().rotate()
    wrapped = kms.again().wrap(SECRET, CONTEXT)
    assert elsewhere.unwrap(wrapped, CONTEXT) == SECRET
    assert elsewhere.unwrap(elsewhere.wrap(SECRET, CONTEXT), CONTEXT) == SECRET


def test_a_kms_that_is_gone_says_what_where_and_what_next_and_no_secret(kms):
    provider = kms.again()
    wrapped = provider.wrap(SECRET, CONTEXT)
    secrets = kms.secrets()
    kms.lose()
    for act in (
        lambda: kms.again().unwrap(wrapped, CONTEXT),
        lambda: kms.again().wrap(SECRET, CONTEXT),
        lambda: kms.again().rotate(),
    ):
        with pytest.raises((KeyRingError, UnavailableError)) as caught:
            act()
        error = caught.value
        assert error.detail
        assert error.remedy
        assert not isinstance(error, UnreadableError)
        shown = chain_of(error)
        assert not [secret for secret in secrets if secret in shown]
    health = kms.again().health()
    assert not health.ok
    assert health.says
    assert not [secret for secret in secrets if secret in health.says]


def test_no_kms_prints_pickles_or_copies_its_secrets(kms):
    provider = kms.again()
    secrets = kms.secrets()
    shown = f"{provider!r} {provider} {kms.again().health()!r}"
    assert not [secret for secret in secrets if secret in shown]
    for act in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            act(provider)


def chain_of(error):
    """Everything that a traceback would print of an error and of what it came from."""
    shown = []
    while error is not None:
        shown += [
            repr(error),
            str(error),
            error.diagnostics() if isinstance(error, YinyomError) else "",
        ]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(shown)
