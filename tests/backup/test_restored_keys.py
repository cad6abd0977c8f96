"""A restore stands on the KMS of its own settings, and the loss of the old KMS root is survived."""

import shutil

import pytest

from kernel import ConfigurationError
from service.settings import KmsSettings
from tests.support.kms import AWS_SECRET, AwsKms, serving
from tests.support.stores import begin, create, kit_of
from tests.support.world import open_world

pytestmark = pytest.mark.anyio
PASSPHRASE = KmsSettings(provider="passphrase", passphrase="five random words of mine")


@pytest.fixture
def aws():
    server = AwsKms()
    server.make("alias/yinyom")
    with serving(server):
        yield KmsSettings(
            provider="aws-kms",
            aws_key="alias/yinyom",
            aws_region="ap-southeast-7",
            aws_endpoint=server.url,
            aws_access_key="AKIAEXAMPLE",
            aws_secret_key=AWS_SECRET,
        )


@pytest.mark.parametrize("kind", ["passphrase", "aws-kms"])
async def test_without_the_old_root_a_registry_comes_back_on_another_kms(
    sqlite_settings, folder_store, restore, kind, aws, tmp_path
):
    settings = folder_store.used_by(sqlite_settings)
    async with open_world(settings) as world:
        crm = await world.app()
        member = await crm.register({"given_name": "ชัย"}, phone="082-345-6789")
        await begin(world, folder_store)
        await create(world)
    kit = tmp_path / "kit.txt"
    shutil.copy2(kit_of(settings), kit)
    shutil.rmtree(settings.data_dir)  # the machine, its root and its key ring
    kms = aws if kind == "aws-kms" else PASSPHRASE
    made, _ = await restore(settings.model_copy(update={"kms": kms}), folder_store, kit=kit)
    made = made.model_copy(update={"kms": kms})
    async with open_world(made) as world:
        again = type(crm)(world, world.http, {"client_id": crm.id, "client_secret": crm.secret})
        await again.sign_in()
        assert (await again.view(member)).json()["data"]["given_name"] == "ชัย"
        await again.register(phone="081-234-5678")
    erasables = [file for file in made.keys_dir.iterdir() if file.name.startswith("erasable-")]
    assert len(erasables) == int(kind == "aws-kms")
    for other in (KmsSettings(), *([PASSPHRASE] if kind == "aws-kms" else [aws])):
        with pytest.raises(ConfigurationError):
            async with open_world(made.model_copy(update={"kms": other})):
                pass


async def test_a_restore_takes_no_key_away_from_the_registry_that_still_lives(
    sqlite_settings, folder_store, restore, aws, tmp_path
):
    elsewhere = tmp_path / "erasable"
    elsewhere.mkdir()
    root = tmp_path / "roots" / "kms-root"
    async with open_world(folder_store.used_by(sqlite_settings)) as world:
        await begin(world, folder_store)
        await create(world)
    kept = (elsewhere / "erasable-of-another", root)
    root.parent.mkdir()
    for file in kept:
        file.write_bytes(b"a key of the registry that lives")
    for kms in (
        aws.model_copy(update={"erasable_dir": elsewhere}),
        KmsSettings(root_file=root),
    ):
        settings = folder_store.used_by(sqlite_settings).model_copy(update={"kms": kms})
        await restore(settings, folder_store, name=f"onto-{kms.provider}")
    assert [file.read_bytes() for file in kept] == [b"a key of the registry that lives"] * 2
    assert list(elsewhere.iterdir()) == [kept[0]]
    assert list(root.parent.iterdir()) == [root]
