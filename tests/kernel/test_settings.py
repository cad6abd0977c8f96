"""Settings come from four places in a known order; a wrong one is named, never quoted."""

import pytest
from pydantic import Field, ValidationError

from kernel import ConfigurationError
from kernel.settings import Section, SettingsRoot, load_settings

SECRET = "hunter2-สมหญิง"


class Store(Section):
    url: str = ""
    pool_size: int = Field(10, ge=1)
    mode: str = Field("fast", pattern="^(fast|safe)$")


class Messages(Section):
    outbox_file: str = ""


class Settings(SettingsRoot):
    name: str = "main"
    store: Store = Store()
    messages: Messages = Messages()


@pytest.fixture
def toml(tmp_path):
    def write(text):
        path = tmp_path / "yinyom.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def secret_file(tmp_path):
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n", encoding="utf-8")
    return path


def places(error):
    return {problem.pointer for problem in error.errors}


def test_nothing_given_means_the_defaults():
    assert load_settings(Settings, None).model_dump() == Settings().model_dump()


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        (f'[store]\nurl_ = "{SECRET}"', "/store/url_"),
        (f'colour = "{SECRET}"', "/colour"),
        (f'[store]\npool_size = "{SECRET}"', "/store/pool_size"),
        (f'[store]\nmode = "{SECRET}"', "/store/mode"),
        (f'store = "{SECRET}"', "/store"),
    ],
)
def test_a_wrong_key_is_named_and_its_value_is_not_repeated(toml, text, pointer):
    with pytest.raises(ConfigurationError) as caught:
        load_settings(Settings, toml(text))
    assert places(caught.value) == {pointer}
    assert SECRET not in caught.value.diagnostics()
    assert caught.value.__cause__ is None  # a traceback must not bring the value back
    assert caught.value.__suppress_context__


def test_a_wrong_value_in_the_environment_is_not_repeated(monkeypatch):
    monkeypatch.setenv("YINYOM_STORE__POOL_SIZE", SECRET)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(Settings, None)
    assert places(caught.value) == {"/store/pool_size"}
    assert SECRET not in caught.value.diagnostics()


def test_a_misspelt_key_in_the_environment_is_refused(monkeypatch):
    monkeypatch.setenv("YINYOM_STORE__POOL_SISE", "4")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(Settings, None)
    assert places(caught.value) == {"/store/pool_sise"}


@pytest.mark.parametrize("text", ["[store", "store = ", f"name = {SECRET}"])
def test_a_file_that_is_not_toml_is_refused(toml, text):
    with pytest.raises(ConfigurationError) as caught:
        load_settings(Settings, toml(text))
    assert SECRET not in caught.value.diagnostics()


def test_a_secret_file_that_is_not_there_is_named_by_its_key(monkeypatch, tmp_path):
    monkeypatch.setenv("YINYOM_STORE__URL_FILE", str(tmp_path / "absent"))
    with pytest.raises(ConfigurationError, match="YINYOM_STORE__URL_FILE"):
        load_settings(Settings, None)


def test_a_secret_file_gives_the_value_without_its_line_end(monkeypatch, secret_file):
    monkeypatch.setenv("YINYOM_STORE__URL_FILE", str(secret_file))
    assert load_settings(Settings, None).store.url == SECRET


def test_a_secret_file_may_give_a_key_of_the_root(monkeypatch, secret_file):
    monkeypatch.setenv("YINYOM_NAME_FILE", str(secret_file))
    assert load_settings(Settings, None).name == SECRET


def test_a_key_that_ends_in_file_is_a_key_and_names_no_secret(monkeypatch, tmp_path):
    monkeypatch.setenv("YINYOM_MESSAGES__OUTBOX_FILE", str(tmp_path / "absent"))
    loaded = load_settings(Settings, None)
    assert loaded.messages.outbox_file == str(tmp_path / "absent")


def test_a_misspelt_secret_is_refused(monkeypatch, secret_file):
    monkeypatch.setenv("YINYOM_STORE__URI_FILE", str(secret_file))
    with pytest.raises(ConfigurationError) as caught:
        load_settings(Settings, None)
    assert places(caught.value) == {"/store/uri_file"}


def test_variables_of_other_programs_are_not_read(monkeypatch, secret_file):
    monkeypatch.setenv("STORE__URL_FILE", str(secret_file))
    monkeypatch.setenv("STORE__URL", SECRET)
    assert load_settings(Settings, None).store.url == ""


def test_each_source_overrides_the_ones_below_it(monkeypatch, toml, secret_file):
    file = toml('name = "toml"\n[store]\nurl = "toml"\npool_size = 3\n')
    loaded = load_settings(Settings, file)
    assert (loaded.name, loaded.store.url, loaded.store.pool_size) == ("toml", "toml", 3)

    monkeypatch.setenv("YINYOM_STORE__URL_FILE", str(secret_file))
    assert load_settings(Settings, file).store.url == SECRET

    monkeypatch.setenv("YINYOM_STORE__URL", "environment")
    loaded = load_settings(Settings, file)
    assert loaded.store.url == "environment"
    assert loaded.store.pool_size == 3  # its neighbours in the section stay

    loaded = load_settings(Settings, file, store={"url": "explicit"})
    assert loaded.store.url == "explicit"


def test_settings_do_not_change_once_loaded():
    loaded = load_settings(Settings, None)
    with pytest.raises(ValidationError, match="frozen"):
        loaded.name = "other"
    with pytest.raises(ValidationError, match="frozen"):
        loaded.store.url = "other"
