"""Where settings come from: `yinyom.toml`, the environment, and secret files.

Every key can be set as `YINYOM_<SECTION>__<KEY>`; `YINYOM_<SECTION>__<KEY>_FILE` names a file
that holds the value, so that a secret need not stand in a process's environment.
"""

import os
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_settings import (
    BaseSettings,
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
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (the library's signature)
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (same)
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: explicit values, environment, secret files, TOML."""
        return (
            init_settings,
            env_settings,
            _SecretFiles(settings_cls),
            TomlConfigSettingsSource(settings_cls),
        )


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
        for name, path in os.environ.items():
            if name.startswith(PREFIX) and name.endswith(_FILE_SUFFIX):
                keys = name[len(PREFIX) : -len(_FILE_SUFFIX)].lower().split(_DELIMITER)
                place = found
                for key in keys[:-1]:
                    place = place.setdefault(key, {})
                try:
                    place[keys[-1]] = Path(path).read_text(encoding="utf-8").rstrip("\n")
                except OSError as error:
                    raise ConfigurationError(f"{name} names a file that cannot be read") from error
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
