"""All settings of an installation; every default serves the embedded profile."""

import re
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, field_validator

from kernel.settings import Section, SettingsRoot, load_settings

DATABASE_FILE = "registry.db"
SETTINGS_FILE = "yinyom.toml"
NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,40}$"  # of tenants and brands
_MAY_HOLD_A_PASSWORD = (
    "database.url",
    "database.owner_url",
    "database.sequencer_url",
    "kms.vault_address",
    "kms.aws_endpoint",
)
_PLAIN_URL = re.compile(
    r"(?P<scheme>[a-z+0-9]+)://(?P<user>[^@/?#]*@)?(?P<place>[\w.:,\[\]-]*(?:/[\w.-]*)?)"
)


class DatabaseSettings(Section):
    """Which engine holds the registry; empty means SQLite in the data directory.

    `owner_url` is the role that owns the tables and migrates, where it is not the one that works;
    with `require_separate_role` nothing starts under a role that owns them. `sequencer_url` is the
    role that sequences and prunes, where the one of `url` may not.
    """

    url: str = ""
    owner_url: str = ""
    sequencer_url: str = ""
    require_separate_role: bool = False
    pool_size: int = Field(10, ge=1, le=200)


class VaultSettings(Section):
    """Where the key ring lives, how finely member keys are bucketed, how its backup is kept fresh.

    A ring backup is made whole every so many hours, added to every so many seconds, and kept for
    so many days after the next one: a kit opens nobody who was erased longer ago than that.
    """

    keys_dir: Path | None = None
    bucket_bits: int = Field(0, ge=0, le=16)
    seal_every_hours: int = Field(0, ge=0, le=24 * 30)
    ring_backup_hours: int = Field(24, ge=1, le=168)
    ring_backup_seconds: int = Field(60, ge=5, le=86_400)
    ring_backup_days: int = Field(7, ge=0, le=15)


class KmsSettings(Section):
    """Which KMS keeps the root key, and how it is reached; there is no default key.

    Secrets are best given as files: `YINYOM_KMS__PASSPHRASE_FILE` and so on. The erasable secret
    exists only where a KMS cannot destroy one version of its root (docs/formats/keys.md).
    """

    provider: Literal["file", "passphrase", "aws-kms", "vault-transit", "pkcs11"] = "file"
    timeout_seconds: float = Field(10.0, gt=0, le=60)
    root_file: Path | None = None
    erasable_dir: Path | None = None
    passphrase: SecretStr | None = None
    next_passphrase: SecretStr | None = None
    aws_key: str = ""
    aws_region: str = ""
    aws_endpoint: str = ""
    aws_access_key: str = ""
    aws_secret_key: SecretStr | None = None
    vault_address: str = ""
    vault_token: SecretStr | None = None
    vault_key: str = "yinyom"
    vault_mount: str = "transit"
    vault_namespace: str = ""
    vault_ca_file: Path | None = None
    pkcs11_module: Path | None = None
    pkcs11_token: str = ""
    pkcs11_pin: SecretStr | None = None
    pkcs11_key: str = "yinyom"


class PolicySettings(Section):
    """The customer's own policy pack, laid over the packaged one."""

    pack_dir: Path | None = None


class WitnessSettings(Section):
    """A witness of the log: where it is asked, and the key its signatures are checked with."""

    url: str = Field(pattern=r"^(https://|http://(127\.0\.0\.1|localhost|\[::1\])[:/])\S{1,200}$")
    vkey: str = Field(min_length=10, max_length=400)


class AuditSettings(Section):
    """The log's name, its sequencer, who signs and keeps its head; what its views go by.

    An anchor is `folder:PATH` or `s3://BUCKET/PREFIX`, reached with the access of `[backup]`. A
    bucket with Object Lock is told to keep each head so many days, which nobody can shorten.
    `hours` on `working_days` (Monday is 1) by the clock of `zone`, an IANA name, or of the
    jurisdiction: what people read outside of them is after hours. Whoever reads data of more than
    `members_a_day` members shows in a view. Where `sequencer` is "elsewhere" this process neither
    sequences nor anchors nor prunes: another one, with a role for it, does.
    """

    origin: str = Field("yinyom.local/log", pattern=r"^[a-z0-9.-]+(/[a-z0-9._/-]+)?$")
    sequencer: Literal["here", "elsewhere"] = "here"
    poll_ms: int = Field(50, ge=5, le=10_000)
    batch_size: int = Field(5_000, ge=1, le=5_000)
    pending_limit: int = Field(100_000, ge=1)
    pending_seconds: int = Field(60, ge=1, le=3_600)
    witnesses: tuple[WitnessSettings, ...] = ()
    witness_quorum: int = Field(1, ge=1, le=16)
    anchors: tuple[str, ...] = ()
    anchor_seconds: int = Field(60, ge=1, le=3_600)
    anchor_lock_days: int = Field(365, ge=0, le=36_500)
    hours: str = Field("08:00-20:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$")
    working_days: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7)
    zone: str = Field("", max_length=64)
    members_a_day: int = Field(500, ge=1, le=1_000_000_000)

    @field_validator("hours")
    @classmethod
    def _opens_before_it_closes(cls, hours: str) -> str:
        opens, closes = hours.split("-")
        if opens >= closes:
            raise ValueError("it closes before it opens")
        return hours

    @field_validator("working_days")
    @classmethod
    def _are_days(cls, days: tuple[int, ...]) -> tuple[int, ...]:
        if not set(days) <= set(range(1, 8)):
            raise ValueError("a day of the week is 1 (Monday) to 7 (Sunday)")
        return days

    @field_validator("zone")
    @classmethod
    def _is_known(cls, zone: str) -> str:
        if zone:
            try:
                ZoneInfo(zone)
            except (ValueError, OSError, KeyError) as error:
                raise ValueError("no such zone on this machine") from error
        return zone


class ControllerSettings(Section):
    """Who decides why and how data is used, as receipts and the record of processing say it."""

    name: str = Field("", max_length=200)
    contact: str = Field("", max_length=200)
    dpo_contact: str = Field("", max_length=200)
    address: str = Field("", max_length=400)
    storage_location: str = Field("", max_length=200)


class ServerSettings(Section):
    """How the service answers."""

    host: str = "127.0.0.1"
    port: int = Field(8420, ge=0, le=65_535)
    metrics_port: int | None = Field(None, ge=0, le=65_535)
    workers: int = Field(1, ge=1, le=64)
    token_minutes: int = Field(10, ge=1, le=60)
    max_body_bytes: int = Field(1_048_576, ge=1024)


class MemberSettings(Section):
    """How long a merge can be undone, rows set aside are kept, how large a file may be imported."""

    merge_undo_days: int = Field(30, ge=1, le=365)
    quarantine_days: int = Field(30, ge=1, le=365)
    max_import_bytes: int = Field(33_554_432, ge=1024, le=268_435_456)


class LogSettings(Section):
    """What is written to the log; personal data never is."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    requests: bool = True


class MessageSettings(Section):
    """Where one-time codes go while no SMS or mail port is configured, and how many an hour.

    A network address may stand for a whole branch behind one router.
    """

    outbox_file: Path | None = None
    codes_per_address: int = Field(20, ge=1, le=100_000)


class RightsSettings(Section):
    """How requests of members are handled: the house's own pace, never a law's number."""

    access_target_days: int = Field(15, ge=1, le=365)
    target_days: int = Field(30, ge=1, le=365)
    warn_days: int = Field(5, ge=0, le=60)
    step_up_minutes: int = Field(15, ge=1, le=120)
    export_hours: int = Field(72, ge=1, le=720)
    one_person: bool = False


class AudienceSettings(Section):
    """From which size on a count of members is told, and to which multiple it is rounded down."""

    minimum: int = Field(10, ge=2, le=1_000)
    step: int = Field(5, ge=1, le=1_000)


class BudgetSettings(Section):
    """How many distinct members a client may read in a day (UTC), unless it has its own number."""

    members_a_day: int = Field(250_000, ge=1, le=1_000_000_000)


class EmergencySettings(Section):
    """How many members an officer may read in full in a day (UTC) because of an emergency."""

    reads_a_day: int = Field(3, ge=0, le=1_000)


class SearchSettings(Section):
    """Whether names are held in memory to be searched, how much of it, and how often one may.

    `check_minutes`: after so long what is held is compared with the registry again.
    """

    enabled: bool = True
    max_mb: int = Field(512, ge=8, le=65_536)
    check_minutes: int = Field(60, ge=1, le=1_440)
    queries_per_hour: int = Field(1_000, ge=1, le=1_000_000)


class WebhookSettings(Section):
    """Where webhooks may go besides public addresses, and how long a receiver may take."""

    hosts: tuple[str, ...] = ()
    timeout_seconds: float = Field(10.0, gt=0, le=60)
    retry_hours: int = Field(72, ge=1, le=720)


class BackupSettings(Section):
    """The pace of backups, and how this machine reaches an S3 store.

    The store itself is agreed on with `yinyom backup init`. Without an access key the usual AWS
    sources are asked. `keep_days` and `ring_days` together stay within the 90 days in which an
    erasure must have reached every copy (docs/formats/backup.md).
    """

    every_hours: int = Field(24, ge=0, le=168)
    ring_days: int = Field(15, ge=1, le=15)
    keep_days: int = Field(75, ge=1, le=75)
    s3_endpoint: str = ""
    s3_region: str = ""
    s3_access_key: str = ""
    s3_secret_key: SecretStr | None = None


class Settings(SettingsRoot):
    """The root of all settings; frozen, passed in, never a global."""

    data_dir: Path = Path("yinyom-data")
    tenant: str = Field("main", pattern=NAME_PATTERN)
    brand: str = Field("main", pattern=NAME_PATTERN)
    jurisdiction: str = Field("TH", pattern=r"^[A-Z]{2}(-[A-Z]{2})?$")
    database: DatabaseSettings = DatabaseSettings()
    vault: VaultSettings = VaultSettings()
    kms: KmsSettings = KmsSettings()
    policies: PolicySettings = PolicySettings()
    audit: AuditSettings = AuditSettings()
    controller: ControllerSettings = ControllerSettings()
    server: ServerSettings = ServerSettings()
    members: MemberSettings = MemberSettings()
    log: LogSettings = LogSettings()
    messages: MessageSettings = MessageSettings()
    backup: BackupSettings = BackupSettings()
    rights: RightsSettings = RightsSettings()
    audiences: AudienceSettings = AudienceSettings()
    budget: BudgetSettings = BudgetSettings()
    emergency: EmergencySettings = EmergencySettings()
    webhooks: WebhookSettings = WebhookSettings()
    search: SearchSettings = SearchSettings()

    @property
    def database_file(self) -> Path:
        """The SQLite file of the embedded profile."""
        return self.data_dir / DATABASE_FILE

    @property
    def keys_dir(self) -> Path:
        """The folder of the key ring; never inside a data backup."""
        return self.vault.keys_dir or self.data_dir / "keys"

    @property
    def outbox_file(self) -> Path:
        """The file that receives one-time codes when nothing sends them."""
        return self.messages.outbox_file or self.data_dir / "outbox.jsonl"

    @property
    def listens_here_only(self) -> bool:
        """Whether the service answers this machine alone, as the embedded profile does."""
        return self.server.host in {"127.0.0.1", "::1", "localhost"}

    @property
    def on_postgres(self) -> bool:
        """Whether the registry is in PostgreSQL."""
        return self.database.url.startswith("postgres")


def read_settings(data_dir: Path | None = None, config: Path | None = None) -> Settings:
    """Read the settings for a data directory, with `yinyom.toml` from it or from `config`."""
    explicit = {} if data_dir is None else {"data_dir": data_dir}
    toml_file = config
    if toml_file is None:
        candidate = (data_dir or Path("yinyom-data")) / SETTINGS_FILE
        toml_file = candidate if candidate.exists() else None
    return load_settings(Settings, toml_file, **explicit)


def redacted(settings: Settings) -> dict[str, object]:
    """Give every effective setting by its dotted name, without secrets or passwords in a URL."""
    flat: dict[str, object] = {}
    for name, value in settings.model_dump(mode="json").items():
        if isinstance(value, dict):
            flat |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            flat[name] = value
    for name in _MAY_HOLD_A_PASSWORD:
        flat[name] = _without_secrets(str(flat[name]))
    return flat


def _without_secrets(url: str) -> str:
    """Show host and database of a plain URL, and nothing of any other one."""
    plain = _PLAIN_URL.fullmatch(url)
    if plain is not None:
        user = "***@" if plain["user"] else ""
        return f"{plain['scheme']}://{user}{plain['place']}"
    return "***" if url else ""
