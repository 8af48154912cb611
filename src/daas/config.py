"""Every setting, read once at start: `DAAS_*`, the seven variables of version 1.0 under their own
names, a `.env` file, and secrets from `X_FILE` or systemd credentials."""

import difflib
import os
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from daas.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]  # the checkout, where there is one
LOOPBACK = ("127.0.0.1", "localhost", "::1")
V1 = {  # field: the name of version 1.0
    "flask_env": "FLASK_ENV",
    "orchestrator_port": "ORCHESTRATOR_PORT",
    "terraform_dir": "TERRAFORM_DIR",
    "ansible_dir": "ANSIBLE_DIR",
    "proxmox_url": "PROXMOX_URL",
    "max_concurrent_sessions": "MAX_CONCURRENT_SESSIONS",
    "session_timeout_s": "SESSION_TIMEOUT",
}
# What a client of the API reads; the orchestrator itself has no use for it.
CLIENT_VARIABLES = {"DAAS_URL", "DAAS_TOKEN", "DAAS_TOKEN_FILE", "DAAS_ENV_FILE"}
# What deploy/ and the Makefile read.
TOOL_VARIABLES = {"DAAS_LXD_SUBNET", "DAAS_LXD_POOL_GIB", "DAAS_LXD_LOG_DIR", "DAAS_CONTRACT"}
TOOL_PREFIXES = ("DAAS_DEMO_", "DAAS_TEST_", "DAAS_BENCH_", "DAAS_INVENTORY_")


def desktop_module(folder: Path = ROOT / "terraform") -> Path:
    """An installation of version 1.0, which has its secrets there, keeps its module; a new one
    gets the provider that is better kept."""
    is_v1 = (folder / "ephemeral/terraform.tfvars").exists()
    return folder / ("ephemeral" if is_v1 else "ephemeral-bpg")


class Settings(BaseSettings):
    """Units are in the names. A bad value or an unknown `DAAS_*` stops the program."""

    model_config = SettingsConfigDict(
        env_prefix="DAAS_", env_file_encoding="utf-8", frozen=True, extra="ignore"
    )

    # version 1.0
    flask_env: Literal["production", "development", "testing"] = Field(
        "production", alias="FLASK_ENV"
    )
    orchestrator_port: int = Field(5000, ge=1, le=65535, alias="ORCHESTRATOR_PORT")
    terraform_dir: Path = Field(default_factory=desktop_module, alias="TERRAFORM_DIR")
    ansible_dir: Path = Field(ROOT / "ansible", alias="ANSIBLE_DIR")
    proxmox_url: str = Field("", alias="PROXMOX_URL")
    max_concurrent_sessions: int = Field(10, ge=0, alias="MAX_CONCURRENT_SESSIONS")
    session_timeout_s: float = Field(1800, gt=0, alias="SESSION_TIMEOUT")

    # where things are
    data_dir: Path = Path("/var/lib/daas")
    database_url: SecretStr | None = None  # default: SQLite in data_dir
    templates_dir: Path = ROOT / "templates"

    # who may ask, and where
    auth: Literal["token", "none"] = "token"
    listen: str = "127.0.0.1"
    log_format: Literal["auto", "json", "text"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    # what is made
    provider: Literal["lxd", "proxmox", "simulated"] = "lxd"
    default_template: str = "debian-12-xfce"
    session_max_life_s: float | None = Field(None, gt=0, alias="DAAS_SESSION_MAX_LIFE")
    no_room: Literal["queue", "refuse"] = "queue"
    failed_keep_s: float = Field(3600, ge=0)  # a failed session keeps its machine for a look

    # LXD or Incus
    lxd_socket: Path | None = None  # default: the usual places
    lxd_pool: str = "daas"
    lxd_bridge: str = "daasbr0"
    lxd_addresses: str | None = None  # "10.88.0.100-10.88.0.250"; default: outside the DHCP range
    lxd_proxy_listen: str | None = None  # address of a proxied RDP port per desktop; None: direct
    lxd_proxy_port_base: int = Field(20000, ge=1024, le=65000)

    # Proxmox VE, through Terraform
    proxmox_token_id: str = ""  # "daas@pve!orchestrator"; both also from terraform.tfvars
    proxmox_token_secret: SecretStr | None = None
    proxmox_ca_file: Path | None = None  # of the API's certificate; default: the system's
    proxmox_tls_insecure: bool = False
    proxmox_nodes: str = ""  # "pve1,pve2"; default: all of the cluster
    proxmox_vmids: str = "20000-29999"  # ours alone; others may be in it
    proxmox_storage: str = ""  # of templates and clones; default: the first that can clone
    proxmox_pool: str = ""
    proxmox_bridge: str = "vmbr0"
    proxmox_vlan: int | None = Field(None, ge=1, le=4094)
    proxmox_addresses: str | None = None  # "10.0.0.50-10.0.0.250"; default: DHCP
    proxmox_gateway: str | None = None  # "10.0.0.1/24", with proxmox_addresses
    proxmox_full_clone: bool = False
    terraform: str = "terraform"  # the program; "tofu" is as good
    terraform_slots: int = Field(8, ge=1)  # processes at once, each 80 MB
    tf_mirror: Path | None = None  # a folder of providers; default: the registry

    # where desktops go
    cpu_overcommit: float = Field(8, gt=0)  # virtual cores for each real one
    spread_tenants: bool = False  # a tenant's desktops on as many nodes as possible
    unreachable_s: float = Field(120, ge=0)  # a node is silent for so long
    unreachable: Literal["keep", "replace"] = "keep"  # what its desktops' owners get

    # the simulated provider
    simulated_boot_s: float = Field(0.5, ge=0)
    simulated_nodes: int = Field(1, ge=1)
    simulated_memory_mib: int = Field(65536, ge=1)

    # the loop
    lease_s: float = Field(15, gt=0)
    heartbeat_s: float = Field(5, gt=0)  # a third of the lease: two beats may be lost
    poll_s: float = Field(2, gt=0)  # the safety net under the bells; nobody waits for it
    max_attempts: int = Field(6, ge=1)  # half a minute of back-off, then the session is `failed`
    look_threads: int = Field(4, ge=1)
    machine_threads: int = Field(16, ge=1)
    bulk_threads: int = Field(2, ge=1)
    worker_name: str = "1"  # tells workers of one host apart; stays the same over a restart

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: Any, *others: Any, **more: Any
    ) -> tuple[Any, ...]:
        """What load() hands over and nothing else: it reads the sources, with better messages."""
        return (init_settings,)

    @field_validator("database_url", mode="before")
    @classmethod
    def _known_dialect(cls, value: Any) -> Any:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if text and not str(text).startswith(("sqlite:///", "postgresql+psycopg://")):
            raise ValueError("use sqlite:///PATH or postgresql+psycopg://USER@HOST/NAME")
        return value or None

    @field_validator("lxd_addresses", "proxmox_addresses")
    @classmethod
    def _is_range(cls, value: str | None) -> str | None:
        if value:
            first, _, last = value.partition("-")
            if IPv4Address(first) > IPv4Address(last):
                raise ValueError("write it as FIRST-LAST, e.g. 10.88.0.100-10.88.0.250")
        return value or None

    @field_validator("proxmox_vmids")
    @classmethod
    def _is_number_range(cls, value: str) -> str:
        first, _, last = value.partition("-")
        if not (first.isdecimal() and last.isdecimal() and 100 <= int(first) <= int(last)):
            raise ValueError("write it as FIRST-LAST from 100 on, e.g. 20000-29999")
        return value

    @model_validator(mode="after")
    def _off_loopback_is_deliberate(self) -> Self:
        if self.listen not in LOOPBACK and self.auth != "none":
            raise ValueError(
                "listen: off loopback needs TLS in front (listen on 127.0.0.1 behind a proxy), "
                "or DAAS_AUTH=none for a trusted network as in version 1.0"
            )
        return self

    @property
    def database(self) -> str:
        if self.database_url:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir}/daas.db"

    @property
    def lxd_range(self) -> tuple[str, str] | None:
        first, _, last = (self.lxd_addresses or "").partition("-")
        return (first, last) if first else None

    @property
    def proxmox_vmid_range(self) -> tuple[int, int]:
        first, _, last = self.proxmox_vmids.partition("-")
        return int(first), int(last)

    @property
    def secrets_dir(self) -> Path:
        return self.data_dir / "secrets"


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process. ConfigError names the variable and what is wrong with it."""
    given = {**_dotenv(), **(os.environ if environ is None else environ)}
    given = _with_secret_files(given)
    _refuse_unknown(given)
    values = {}
    for name, field in Settings.model_fields.items():
        key = field.alias or f"DAAS_{name.upper()}"
        if key in given:
            values[field.alias or name] = given[key]
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_said(error)) from None


@lru_cache(maxsize=1)
def settings() -> Settings:
    """`load()`, once a process."""
    return load()


def _dotenv() -> dict[str, str]:
    path = Path(os.environ.get("DAAS_ENV_FILE", ".env"))
    if not path.is_file():
        return {}
    lines = (line.strip().removeprefix("export ") for line in path.read_text().splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {key.strip(): _bare(value) for key, _, value in pairs}


def _bare(value: str) -> str:
    value = value.strip()
    if value[:1] in ("'", '"') and value[-1:] == value[:1]:
        return value[1:-1]
    return value.partition(" #")[0].strip()


def _with_secret_files(given: Mapping[str, str]) -> dict[str, str]:
    """DAAS_X_FILE=path, or a systemd credential of the name, gives DAAS_X: unless DAAS_X_FILE is a
    setting itself."""
    out = dict(given)
    for key, path in given.items():
        name = key.removesuffix("_FILE")
        if key.startswith("DAAS_") and name != key and key not in _known() | CLIENT_VARIABLES:
            out.pop(key)
            out.setdefault(name, _secret(key, Path(path)))
    folder = given.get("CREDENTIALS_DIRECTORY")
    for file in Path(folder).glob("DAAS_*") if folder else ():
        out.setdefault(file.name, _secret(file.name, file))
    return out


def _secret(key: str, path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise ConfigError(f"{key}: {path} cannot be read ({error.strerror}).") from None


def _refuse_unknown(given: Mapping[str, str]) -> None:
    known = _known()
    for key in given:
        if not key.startswith("DAAS_") or key in known | CLIENT_VARIABLES | TOOL_VARIABLES:
            continue
        if key.startswith(TOOL_PREFIXES):
            continue
        near = difflib.get_close_matches(key, known, 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(f"{key} is not a setting of ours.{hint} Unset it, or see .env.example.")


def _known() -> set[str]:
    return {f.alias or f"DAAS_{n.upper()}" for n, f in Settings.model_fields.items()}


def _said(error: ValidationError) -> str:
    lines = []
    for e in error.errors(include_url=False, include_input=False):
        name = str(e["loc"][0]) if e["loc"] else "settings"
        name = name if name in V1.values() or name.startswith("DAAS_") else f"DAAS_{name.upper()}"
        lines.append(f"{name}: {e['msg']}" if e["loc"] else e["msg"])
    return "; ".join(lines)
