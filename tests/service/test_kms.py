"""A registry on each KMS: made, opened with one call, and not opened at all without its key."""

import json

import pytest

from kernel import ConfigurationError, UnavailableError
from service.commands import doctor
from service.kms import open_ring
from service.runtime import Runtime
from service.settings import KmsSettings, Settings, VaultSettings, read_settings, redacted
from service.setup import set_up
from tests.support.kms import AWS_SECRET, TOKEN, AwsKms, Transit, serving, soft_token
from tests.support.serving import yinyom

pytestmark = pytest.mark.anyio
PASSPHRASE = "five random words of mine"


def no_progress(*_):
    pass


@pytest.fixture(params=["file", "passphrase", "aws-kms", "vault-transit", "pkcs11"])
def on_kms(request, tmp_path):
    """Settings of a registry on one KMS, and a count of what that KMS was asked to open."""
    kind = request.param
    opened = []
    if kind == "aws-kms":
        server = AwsKms()
        server.make("alias/yinyom")
        with serving(server):
            kms = KmsSettings(
                provider=kind,
                aws_key="alias/yinyom",
                aws_region="ap-southeast-7",
                aws_endpoint=server.url,
                aws_access_key="AKIAEXAMPLE",
                aws_secret_key=AWS_SECRET,
            )
            yield settings_of(tmp_path, kms), lambda: server.seen.count("Decrypt")
        return
    if kind == "vault-transit":
        pytest.importorskip("hvac", reason="install the extra [vault]")
        server = Transit()
        with serving(server):
            kms = KmsSettings(provider=kind, vault_address=server.url, vault_token=TOKEN)
            yield settings_of(tmp_path, kms), lambda: server.seen.count("POST decrypt/yinyom")
        return
    if kind == "pkcs11":
        token = soft_token()
        kms = KmsSettings(
            provider=kind,
            pkcs11_module=token.module,
            pkcs11_token=token.label,
            pkcs11_pin=token.pin,
            pkcs11_key=tmp_path.name,
        )
    else:
        kms = KmsSettings(provider=kind, passphrase=PASSPHRASE)
    yield settings_of(tmp_path, kms), lambda: len(opened)


def settings_of(tmp_path, kms):
    return Settings(data_dir=tmp_path / "registry", kms=kms)


async def test_a_registry_is_made_and_opened_on_every_kms(on_kms):
    settings, calls = on_kms
    await set_up(settings)
    before = calls()
    runtime = await Runtime.open(settings)
    try:
        # What needs no server is counted in tests/vault.
        assert calls() - before == int(settings.kms.provider in {"aws-kms", "vault-transit"})
        found = await doctor(runtime, no_progress)
        (ring,) = [check for check in found["checks"] if check["check"] == "key_ring"]
        assert ring["state"] == "ok"
        places = [check["state"] for check in found["checks"] if check["check"] == "key_places"]
        assert places == (["warn"] if settings.kms.provider == "file" else [])
    finally:
        await runtime.close()
    again = await set_up(settings)
    assert not again.kit_is_new
    ring_file = (settings.keys_dir / "key-ring.json").read_text()
    assert json.loads(ring_file)["kms"] == settings.kms.provider
    has_erasable = any(file.name.startswith("erasable-") for file in settings.keys_dir.iterdir())
    assert has_erasable is (settings.kms.provider == "aws-kms")
    assert (settings.keys_dir / "kms-root").exists() is (
        settings.kms.provider in {"file", "passphrase"}
    )


async def test_a_ring_is_rotated_and_sealed_on_every_kms(on_kms):
    settings, _ = on_kms
    await set_up(settings)
    ring = open_ring(settings)
    wrapped = ring.wrap_newest(b"k" * 32, b"here")
    ring.add_root()
    ring.rotate_kms()
    old = (settings.keys_dir / "key-ring.json").read_bytes()
    ring.seal_outer()
    again = open_ring(settings)
    assert again.unwrap(*wrapped, b"here") == b"k" * 32
    assert again.secrets() == ring.secrets()
    (settings.keys_dir / "key-ring.json").write_bytes(old)
    with pytest.raises(ConfigurationError):
        open_ring(settings)


async def test_without_its_key_a_registry_says_how_to_get_one(tmp_path):
    bare = settings_of(tmp_path, KmsSettings(provider="passphrase", passphrase=PASSPHRASE))
    await set_up(bare)
    for kms in (
        KmsSettings(),
        KmsSettings(provider="passphrase"),
        KmsSettings(provider="passphrase", passphrase="another one altogether"),
        KmsSettings(provider="aws-kms"),
        KmsSettings(provider="vault-transit"),
        KmsSettings(provider="vault-transit", vault_address="https://vault.example"),
        KmsSettings(provider="pkcs11"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            await Runtime.open(bare.model_copy(update={"kms": kms}))
        assert caught.value.remedy
        assert caught.value.exit_code == 3
        shown = caught.value.diagnostics()
        assert PASSPHRASE not in shown
        assert "altogether" not in shown


@pytest.mark.parametrize("provider", ["passphrase", "aws-kms", "vault-transit", "pkcs11"])
async def test_nothing_is_made_where_a_kms_is_not_told_its_key(tmp_path, provider):
    settings = settings_of(tmp_path, KmsSettings(provider=provider))
    with pytest.raises(ConfigurationError):
        await set_up(settings)
    assert not [file for file in settings.keys_dir.iterdir() if file.is_file()]
    assert not settings.database_file.exists()


async def test_a_root_and_an_erasable_secret_go_where_the_settings_say(tmp_path):
    elsewhere = tmp_path / "other-disk"
    kms = KmsSettings(root_file=elsewhere / "root", erasable_dir=elsewhere)
    settings = settings_of(tmp_path, kms)
    await set_up(settings)
    assert (elsewhere / "root").exists()
    assert not (settings.keys_dir / "kms-root").exists()
    assert open_ring(settings).tenant == "main"
    server = AwsKms()
    server.make("alias/yinyom")
    with serving(server):
        kms = KmsSettings(
            provider="aws-kms",
            aws_key="alias/yinyom",
            aws_region="x",
            aws_endpoint=server.url,
            aws_access_key="A",
            aws_secret_key=AWS_SECRET,
            erasable_dir=elsewhere,
        )
        other = Settings(data_dir=tmp_path / "second", kms=kms)
        await set_up(other)
        ring = open_ring(other)
        (file,) = elsewhere.glob("erasable-*")
        assert file.name == f"erasable-{ring.id}-1"
        assert not list(other.keys_dir.glob("erasable-*"))


async def test_the_doctor_refuses_a_key_in_the_folder_of_its_database(tmp_path):
    data_dir = tmp_path / "registry"
    settings = Settings(data_dir=data_dir, vault=VaultSettings(keys_dir=data_dir))
    await set_up(settings)
    runtime = await Runtime.open(settings)
    try:
        found = await doctor(runtime, no_progress)
    finally:
        await runtime.close()
    assert not found["ok"]
    bad = [check for check in found["checks"] if check["check"] == "key_places"]
    assert {check["state"] for check in bad} == {"bad"}
    assert "vault.keys_dir" in bad[0]["says"]


async def test_the_doctor_says_that_the_kms_is_away_and_the_registry_goes_on(tmp_path):
    server = AwsKms()
    server.make("alias/yinyom")
    with serving(server):
        kms = KmsSettings(
            provider="aws-kms",
            aws_key="alias/yinyom",
            aws_region="x",
            aws_endpoint=server.url,
            aws_access_key="A",
            aws_secret_key=AWS_SECRET,
            timeout_seconds=20,
        )
        settings = settings_of(tmp_path, kms)
        await set_up(settings)
        runtime = await Runtime.open(settings)
    try:
        found = await doctor(runtime, no_progress)
        (ring,) = [check for check in found["checks"] if check["check"] == "key_ring"]
        assert ring["state"] == "bad"
        assert "does not answer" in ring["says"]
        assert AWS_SECRET not in ring["says"]
        before = runtime.vault.ring_version
        with pytest.raises(UnavailableError):
            await runtime.keys.rotations.rotate_kms()
        assert runtime.vault.ring_version == before
    finally:
        await runtime.close()
    with serving(server):
        again = settings.model_copy(
            update={"kms": kms.model_copy(update={"aws_endpoint": server.url})}
        )
        assert open_ring(again).version == before


SECRETS = {
    "YINYOM_KMS__PASSPHRASE": "passphrase-nobody-may-see",
    "YINYOM_KMS__NEXT_PASSPHRASE": "next-passphrase-nobody-may-see",
    "YINYOM_KMS__VAULT_TOKEN": "token-nobody-may-see",
    "YINYOM_KMS__AWS_SECRET_KEY": "secret-key-nobody-may-see",
    "YINYOM_KMS__PKCS11_PIN": "pin-nobody-may-see",
    "YINYOM_KMS__VAULT_ADDRESS": "https://somebody:password-nobody-may-see@vault.example:8200",
    "YINYOM_KMS__AWS_ENDPOINT": "https://kms.example?nobody-may-see",
}


@pytest.mark.parametrize("by_file", [False, True])
def test_no_secret_of_a_kms_is_shown_with_the_settings(tmp_path, monkeypatch, by_file):
    for name, value in SECRETS.items():
        if by_file:
            (tmp_path / name).write_text(value + "\n")
            monkeypatch.setenv(name + "_FILE", str(tmp_path / name))
        else:
            monkeypatch.setenv(name, value)
    settings = read_settings(tmp_path)
    assert settings.kms.passphrase.get_secret_value() == SECRETS["YINYOM_KMS__PASSPHRASE"]
    shown = json.dumps(redacted(settings)) + repr(settings)
    hidden = [value for name, value in SECRETS.items() if "ADDRESS" not in name]
    assert not [value for value in hidden if value in json.dumps(redacted(settings))]
    assert "nobody-may-see" not in json.dumps(redacted(settings))
    assert "passphrase-nobody" not in shown
    assert "pin-nobody" not in shown


@pytest.mark.slow
def test_the_command_line_makes_a_registry_on_a_passphrase_from_a_file(tmp_path):
    secret = tmp_path / "passphrase"
    secret.write_text(PASSPHRASE + "\n")
    given = {
        "YINYOM_KMS__PROVIDER": "passphrase",
        "YINYOM_KMS__PASSPHRASE_FILE": str(secret),
    }
    data_dir = tmp_path / "registry"
    refused = yinyom("init", "--yes", data_dir=data_dir, YINYOM_KMS__PROVIDER="passphrase")
    assert refused.code == 3
    assert "YINYOM_KMS__PASSPHRASE_FILE" in refused.err
    made = yinyom("init", "--yes", data_dir=data_dir, **given)
    assert made.code == 0, made.err
    assert yinyom("vault", "status", data_dir=data_dir, **given).code == 0
    assert yinyom("vault", "status", data_dir=data_dir).code == 3
    left = [file for file in data_dir.rglob("*") if file.is_file()]
    assert not [file for file in left if PASSPHRASE.encode() in file.read_bytes()]
