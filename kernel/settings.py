"""Where settings come from: `yinyom.toml`, the environment, and secret files.

Every key can be set as `YINYOM_<SECTION>__<KEY>`; `YINYOM_<SECTION>__<KEY>_FILE` names a file
that holds the value, so that a secret need not stand in a process's environment.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from kernel.errors import ConfigurationError, FieldProblem

PREFIX = "YINYOM_"
_DELIMITER = "__"
_FILE_SUFFIX = "_FILE"

Root = TypeVar("Root", bound="SettingsRoot")


class Section(BaseModel):
    """One group of settings; frozen, and a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SettingsRoot(BaseSettings):
    """Base of the one root of settings; see `load_settings`."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=PREFIX,
        env_nested_delimiter=_DELIMITER,
        toml_file=None,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (the library's signature)
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (the library's signature)
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (same)
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: explicit values, environment, secret files, TOML."""
        return (
            init_settings,
            _Environment(settings_cls),
            _SecretFiles(settings_cls),
            TomlConfigSettingsSource(settings_cls),
        )


def _secret_files(root: type[BaseSettings]) -> dict[str, tuple[str, ...]]:
    """Give the variables that name a secret file, each with the place of its key.

    `…__OUTBOX_FILE` is a key of its own when there is one; only a name that becomes a key by
    dropping `_FILE` names a secret.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name in os.environ:
        if name.startswith(PREFIX) and name.endswith(_FILE_SUFFIX):
            whole = name[len(PREFIX) :].lower()
            place = tuple(whole[: -len(_FILE_SUFFIX)].split(_DELIMITER))
            if _is_key(root, place) and not _is_key(root, tuple(whole.split(_DELIMITER))):
                found[name] = place
    return found


def _is_key(model: type[BaseModel], place: tuple[str, ...]) -> bool:
    field = model.model_fields.get(place[0])
    if field is None or len(place) == 1:
        return field is not None
    inner = field.annotation
    return isinstance(inner, type) and issubclass(inner, BaseModel) and _is_key(inner, place[1:])


class _Environment(EnvSettingsSource):
    """The environment without the variables that name secret files."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        secrets = {name.lower() for name in _secret_files(self.settings_cls)}
        loaded = super()._load_env_vars()
        return {name: value for name, value in loaded.items() if name.lower() not in secrets}


class _SecretFiles(PydanticBaseSettingsSource):
    """Reads `YINYOM_SECTION__KEY_FILE=/run/secrets/x` as the value of section.key."""

    def get_field_value(
        self,
        field: Any,  # noqa: ARG002 (the library's signature)
        field_name: str,
    ) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, keys in _secret_files(self.settings_cls).items():
            place = found
            for key in keys[:-1]:
                place = place.setdefault(key, {})
            try:
                text = Path(os.environ[name]).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigurationError(f"{name} names a file that cannot be read") from error
            place[keys[-1]] = text.rstrip("\r\n")
        return found


def load_settings(kind: type[Root], toml_file: Path | None, **explicit: Any) -> Root:
    """Load the settings, or say which key is wrong without repeating its value."""
    configured = type(
        kind.__name__, (kind,), {"model_config": SettingsConfigDict(toml_file=toml_file)}
    )
    try:
        loaded: Root = configured(**explicit)
    except ValidationError as error:
        raise ConfigurationError(
            "a setting is wrong",
            errors=[
                FieldProblem("/" + "/".join(map(str, e["loc"])), e["type"], e["msg"])
                for e in error.errors(include_input=False, include_url=False)
            ],
            remedy="Mend yinyom.toml or the environment; "
            "`yinyom doctor --settings` shows what is in force.",
        ) from None
    except (ValueError, OSError) as error:
        raise ConfigurationError("yinyom.toml cannot be read as TOML") from error
    return loaded
