"""One contract for every KMS: what it wrapped opens in its own place, and nowhere else, or never.

`file` and `passphrase` work on real files, `pkcs11` on a real SoftHSM token, `aws-kms` and
`vault-transit` through their real client libraries against servers on loopback that hold real
keys; another implementation of AWS KMS has the last word on the shape of our requests.
"""

import copy
import itertools
import json
import pickle
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from kernel import UnavailableError, YinyomError
from tests.support.kms import AWS_SECRET, TOKEN, AwsKms, Transit, serving, soft_token
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
CHEAP = 4
_LABELS = itertools.count()


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


def pkcs11_kms(_, __):
    token = soft_token()
    label = f"yinyom-{next(_LABELS)}"
    name = [token.label]

    def at(key):
        return Pkcs11KeyProvider(token.module, name[0], token.pin, key=key)

    at(label).prepare()
    at(label + "-other").prepare()
    return Kms(
        lambda: at(label),
        lambda: at(label + "-other"),
        lambda: name.__setitem__(0, "no such token"),
        lambda: [token.pin],
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


# --- servers that attack --------------------------------------------------------------


@pytest.fixture(params=["aws-kms", "vault-transit"])
def remote(request, stack):
    """A server, the provider that asks it, and something that it wrapped."""
    if request.param == "vault-transit":
        pytest.importorskip("hvac", reason="install the extra [vault]")
    server = stack(AwsKms() if request.param == "aws-kms" else Transit())
    if request.param == "aws-kms":
        server.make("alias/yinyom")
        return server, aws(server.url), aws(server.url).wrap(SECRET, CONTEXT)
    transit(server.url).prepare()
    return server, transit(server.url), transit(server.url).wrap(SECRET, CONTEXT)


BODIES = {
    "nothing": b"",
    "no json": b"<html>sign in</html>",
    "a list": b"[]",
    "null": b"null",
    "an empty object": b"{}",
    "the wrong types": b'{"data": {"plaintext": 7, "ciphertext": [], "latest_version": "x"}}',
    "no base64": b'{"data": {"plaintext": "%%%"}, "Plaintext": "%%%", "CiphertextBlob": "%%%"}',
    "deep": b"[" * 100_000,
    "another version": b'{"data": {"ciphertext": "vault:v0:", "latest_version": 0, '
    b'"min_available_version": 9}}',
}


@pytest.mark.parametrize("status", [200, 204, 302, 400, 403, 404, 429, 500, 503])
@pytest.mark.parametrize("body", BODIES)
def test_an_answer_that_is_none_is_an_error_with_a_way_out(remote, status, body, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)  # the client's own pauses between tries
    server, provider, wrapped = remote
    server.attack = lambda _: (status, BODIES[body])
    for act in (
        lambda: provider.unwrap(wrapped, CONTEXT),
        lambda: provider.wrap(SECRET, CONTEXT),
    ):
        with pytest.raises((KeyRingError, UnavailableError, UnreadableError)) as caught:
            act()
        shown = chain_of(caught.value)
        assert caught.value.remedy
        assert TOKEN not in shown
        assert AWS_SECRET not in shown
        assert "sign in" not in shown
    assert not provider.health().ok


def test_what_a_server_says_of_an_error_is_not_repeated(remote, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    server, provider, wrapped = remote
    said = b'{"__type": "secret \\u0e2a", "message": "secret", "errors": ["secret"]}'
    server.attack = lambda _: (400, said)
    for act in (lambda: provider.wrap(SECRET, CONTEXT), lambda: provider.unwrap(wrapped, CONTEXT)):
        with pytest.raises(YinyomError) as caught:
            act()
        assert "secret " not in chain_of(caught.value)


def test_a_redirect_takes_no_token_anywhere(stack):
    pytest.importorskip("hvac", reason="install the extra [vault]")
    server, elsewhere = stack(Transit()), stack(Transit())
    provider = transit(server.url)
    provider.prepare()
    server.redirect = elsewhere.url
    with pytest.raises(YinyomError):
        provider.wrap(SECRET, CONTEXT)
    assert elsewhere.headers == []


def test_a_proxy_of_the_environment_gets_no_token(stack, monkeypatch):
    pytest.importorskip("hvac", reason="install the extra [vault]")
    server, proxy = stack(Transit()), stack(Transit())
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("http_proxy", proxy.url)
    transit(server.url).prepare()
    assert proxy.headers == []
    assert server.seen


def test_a_server_that_never_answers_is_given_up(stack):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UnavailableError):
            aws(url, timeout_seconds=0.2).unwrap(b"x", CONTEXT)
        pytest.importorskip("hvac", reason="install the extra [vault]")
        waiting = VaultTransitKeyProvider(url, TOKEN, timeout_seconds=0.2)
        with pytest.raises(UnavailableError):
            waiting.wrap(SECRET, CONTEXT)


@pytest.mark.parametrize(
    "address",
    [
        "http://vault.example:8200",
        "http://127.0.0.1.example",
        "ftp://127.0.0.1",
        "vault",
        "",
        "https://name:password@vault.example",
        "https://",
        "http://[::1",
        "file:///etc/passwd",
    ],
)
def test_no_key_goes_in_the_clear_to_another_machine(address):
    pytest.importorskip("hvac", reason="install the extra [vault]")
    with pytest.raises(KeyRingError) as caught:
        VaultTransitKeyProvider(address, TOKEN)
    assert "password@" not in caught.value.diagnostics()
    if address:
        with pytest.raises(KeyRingError):
            aws(address)


@pytest.mark.parametrize("name", ["", "a/b", "../sys", "a b", "a?x", "ä"])
def test_a_name_of_a_key_that_leads_elsewhere_is_refused(name):
    pytest.importorskip("hvac", reason="install the extra [vault]")
    with pytest.raises(KeyRingError):
        VaultTransitKeyProvider("http://127.0.0.1:1", TOKEN, key=name)
    if name != "a/b":
        with pytest.raises(KeyRingError):
            VaultTransitKeyProvider("http://127.0.0.1:1", TOKEN, mount=f"transit/{name}")


def test_ring_and_controller_stand_readable_in_the_encryption_context(stack):
    server = stack(AwsKms())
    server.make("alias/yinyom")
    aws(server.url).wrap(SECRET, CONTEXT)
    assert server.asked[-1]["EncryptionContext"] == {
        "yinyom-ring": "ring_one",
        "yinyom-tenant": "main",
        "yinyom-purpose": "outer",
    }


def test_a_trim_that_was_interrupted_is_finished(stack):
    pytest.importorskip("hvac", reason="install the extra [vault]")
    server = stack(Transit())
    provider = transit(server.url)
    provider.prepare()
    provider.rotate()
    server.attack = lambda path: (503, b"{}") if path.endswith("/trim") else None
    with pytest.raises(UnavailableError):
        provider.destroy("1")
    assert "1" in provider.health().versions  # out of use, and not destroyed
    server.attack = None
    assert provider.destroy("1")
    assert provider.health().versions == ("2",)
    assert set(server.keys["yinyom"]) == {2}


def test_a_rotation_that_aws_takes_its_time_for_is_not_begun_again(stack):
    server = stack(AwsKms())
    server.make("alias/yinyom")
    server.slow = True
    hasty = AwsKmsKeyProvider(
        "alias/yinyom",
        region="x",
        endpoint=server.url,
        access_key="A",
        secret_key=AWS_SECRET,
        rotation_seconds=0,
    )
    for _ in range(2):
        with pytest.raises(UnavailableError, match="still rotating"):
            hasty.rotate()
    assert server.seen.count("RotateKeyOnDemand") == 1
    assert hasty.health().version == "1"
    server.finish()
    assert hasty.health().version == "2"


def test_another_implementation_of_aws_kms_understands_us():
    moto = pytest.importorskip("moto", reason="install the extra [test]")
    import boto3

    with moto.mock_aws():
        made = boto3.client("kms", region_name="ap-southeast-1", **CREDENTIALS).create_key()
        provider = AwsKmsKeyProvider(
            made["KeyMetadata"]["Arn"],
            region="ap-southeast-1",
            access_key="AKIAEXAMPLE",
            secret_key=AWS_SECRET,
        )
        wrapped = provider.wrap(SECRET, CONTEXT)
        assert provider.unwrap(wrapped, CONTEXT) == SECRET
        with pytest.raises(UnreadableError):
            provider.unwrap(wrapped, ring_context("ring_two", "main", "outer"))
        assert provider.health().version == "1"
        assert provider.rotate() == "2"
        assert provider.unwrap(wrapped, CONTEXT) == SECRET
        assert not provider.destroy("1")
        key = boto3.client("kms", region_name="ap-southeast-1", **CREDENTIALS)
        key.disable_key(KeyId=made["KeyMetadata"]["KeyId"])
        assert not provider.health().ok


CREDENTIALS = {"aws_access_key_id": "AKIAEXAMPLE", "aws_secret_access_key": AWS_SECRET}


# --- the passphrase -------------------------------------------------------------------


@pytest.fixture
def sealed(tmp_path):
    path = tmp_path / "kms-root"
    PassphraseKeyProvider(path, PASSPHRASE, log_n=CHEAP).make()
    return path


@pytest.mark.parametrize("passphrase", [PASSPHRASE + "x", PASSPHRASE.upper(), "x" * 12])
def test_another_passphrase_opens_nothing_and_is_not_repeated(sealed, passphrase):
    wrapped = PassphraseKeyProvider(sealed, PASSPHRASE).wrap(SECRET, CONTEXT)
    provider = PassphraseKeyProvider(sealed, passphrase)
    with pytest.raises(KeyRingError, match="does not open") as caught:
        provider.unwrap(wrapped, CONTEXT)
    assert passphrase not in chain_of(caught.value)
    assert not provider.health().ok


@pytest.mark.parametrize("passphrase", ["", "x", "elevenchars", "กขคงจฉชซฌญฎ"])
def test_no_passphrase_and_a_short_one_are_refused(tmp_path, passphrase):
    with pytest.raises(KeyRingError) as caught:
        PassphraseKeyProvider(tmp_path / "kms-root", passphrase)
    assert caught.value.remedy


def test_the_same_words_typed_on_another_keyboard_open(tmp_path):
    path = tmp_path / "kms-root"
    PassphraseKeyProvider(path, "café au lait ½ ｆｕｌｌ", log_n=CHEAP).make()
    wrapped = PassphraseKeyProvider(path, "café au lait ½ full").wrap(SECRET, CONTEXT)
    assert PassphraseKeyProvider(path, "café au lait 1⁄2 full").unwrap(wrapped, CONTEXT) == SECRET


def test_a_rotation_changes_the_passphrase(sealed):
    wrapped = PassphraseKeyProvider(sealed, PASSPHRASE).wrap(SECRET, CONTEXT)
    changing = PassphraseKeyProvider(sealed, PASSPHRASE, "quite another passphrase", log_n=CHEAP)
    assert changing.rotate() == "2"
    assert changing.unwrap(wrapped, CONTEXT) == SECRET
    new = changing.wrap(SECRET, CONTEXT)
    assert changing.destroy("1")
    afterwards = PassphraseKeyProvider(sealed, "quite another passphrase")
    assert afterwards.unwrap(new, CONTEXT) == SECRET
    with pytest.raises(KeyRingError):
        PassphraseKeyProvider(sealed, PASSPHRASE).unwrap(new, CONTEXT)


SPOILT = {
    "a cost that would take all memory": {"log_n": 40},
    "a cost that is none": {"log_n": 0},
    "a cost that is text": {"log_n": "4"},
    "a cost that is true": {"log_n": True},
    "another cost": {"log_n": CHEAP + 1},
    "another block size": {"r": 1},
    "more lanes": {"p": 1_000_000},
    "another function": {"kdf": "md5"},
    "another format": {"format": "yinyom-passphrase/2"},
    "no salt": {"salt": ""},
    "a salt of somebody else": {"salt": "AAAAAAAAAAAAAAAAAAAAAA=="},
    "no root": {"root": ""},
    "a root that is null": {"root": None},
    "a root that is no base64": {"root": "%"},
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_changed_file_of_a_sealed_root_is_refused(sealed, name):
    wrapped = PassphraseKeyProvider(sealed, PASSPHRASE).wrap(SECRET, CONTEXT)
    document = json.loads(sealed.read_text()) | SPOILT[name]
    sealed.write_text(json.dumps(document))
    with pytest.raises(KeyRingError):
        PassphraseKeyProvider(sealed, PASSPHRASE).unwrap(wrapped, CONTEXT)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"7", b"\xff" * 64, b"ab" * 32 + b"\n"])
def test_a_file_that_is_no_sealed_root_is_refused(sealed, text):
    sealed.write_bytes(text)
    with pytest.raises(KeyRingError):
        PassphraseKeyProvider(sealed, PASSPHRASE).wrap(SECRET, CONTEXT)


def test_a_sealed_root_is_not_taken_for_another_version(sealed):
    provider = PassphraseKeyProvider(sealed, PASSPHRASE, log_n=CHEAP)
    provider.rotate()
    shutil.copy2(sealed, sealed.with_name("kms-root.2"))
    with pytest.raises(KeyRingError):
        provider.wrap(SECRET, CONTEXT)


# --- files and tokens -----------------------------------------------------------------


def test_a_root_that_others_may_read_is_refused(tmp_path):
    for make in (FileKeyProvider, lambda path: PassphraseKeyProvider(path, PASSPHRASE, log_n=4)):
        path = tmp_path / make.__name__ / "kms-root"
        make(path).make()
        wrapped = make(path).wrap(SECRET, CONTEXT)
        make(path).rotate()
        for mode in (0o640, 0o604, 0o660):
            path.chmod(mode)
            with pytest.raises(KeyRingError, match="other users"):
                make(path).unwrap(wrapped, CONTEXT)


def test_a_key_on_the_token_cannot_be_taken_from_it():
    token = soft_token()
    import pkcs11

    label = f"yinyom-{next(_LABELS)}"
    Pkcs11KeyProvider(token.module, token.label, token.pin, key=label).prepare()
    found = pkcs11.lib(str(token.module)).get_token(token_label=token.label)
    with found.open(user_pin=token.pin) as session:
        (key,) = session.get_objects({pkcs11.Attribute.LABEL: label})
        assert key[pkcs11.Attribute.SENSITIVE]
        assert not key[pkcs11.Attribute.EXTRACTABLE]
        with pytest.raises(pkcs11.PKCS11Error):
            key[pkcs11.Attribute.VALUE]


def test_a_wrong_pin_and_a_library_that_is_none_are_refused(tmp_path):
    token = soft_token()
    wrong = Pkcs11KeyProvider(token.module, token.label, "00000000", key="yinyom")
    with pytest.raises(KeyRingError, match="PinIncorrect") as caught:
        wrong.wrap(SECRET, CONTEXT)
    assert "00000000" not in chain_of(caught.value)
    (tmp_path / "library.so").write_bytes(b"no library")
    for module in (tmp_path / "library.so", tmp_path / "missing.so", None):
        with pytest.raises(KeyRingError, match=r"pkcs11_module|library"):
            Pkcs11KeyProvider(module, token.label, token.pin)


@pytest.mark.parametrize(
    "make",
    [
        lambda: AwsKmsKeyProvider("", region="x"),
        lambda: VaultTransitKeyProvider("", TOKEN),
        lambda: VaultTransitKeyProvider("https://vault.example", ""),
        lambda: Pkcs11KeyProvider(Path("/x.so"), "", "1234"),
        lambda: Pkcs11KeyProvider(Path("/x.so"), "token", ""),
    ],
)
def test_a_setting_that_is_missing_is_named(make):
    with pytest.raises(KeyRingError, match=r"kms\.[a-z0-9_]+ is not set") as caught:
        make()
    assert caught.value.remedy
