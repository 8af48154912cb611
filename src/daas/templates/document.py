"""The document of a template, as in templates/NAME.yaml. Pure."""

import hashlib
import json
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

NAME = re.compile(r"[a-z][a-z0-9.-]{0,40}")
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9.-]{0,40}$")]
Package = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+.-]{0,80}$")]
Role = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,80}$")]
# What goes into files and commands of the guest: nothing that a shell or YAML could read.
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@/,+-]{0,63}$")]
Text = Annotated[str, StringConstraints(max_length=500)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SizeDocument(Strict):
    """`reserve_mib` is what placement counts; the limit may be more than that in containers."""

    cpus: int = Field(ge=1, le=256)
    memory_mib: int = Field(ge=256, le=1_048_576)
    disk_gib: int = Field(ge=2, le=65_536)
    reserve_mib: int | None = Field(None, ge=16, le=1_048_576)

    @property
    def reserved(self) -> int:
        return self.reserve_mib or self.memory_mib


class BaseDocument(Strict):
    """Where the first files come from: `mmdebstrap` builds Debian, a cloud image is unpacked."""

    kind: Literal["mmdebstrap", "cloud-image"]
    suite: Word | None = None
    mirror: Annotated[str, StringConstraints(pattern=r"^https?://\S{1,500}$")] | None = None
    url: Annotated[str, StringConstraints(pattern=r"^(https://|file:///)\S{1,500}$")] | None = None
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None

    @model_validator(mode="after")
    def _names_its_source(self) -> "BaseDocument":
        if self.kind == "mmdebstrap" and not self.suite:
            raise ValueError("a base of kind mmdebstrap names its suite")
        if self.kind == "cloud-image" and not self.url:
            raise ValueError("a base of kind cloud-image names its url (https: or file:)")
        return self


class Share(Strict):
    name: Word
    server: Word
    path: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_./ -]{1,200}$")]
    mountpoint: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_./~ -]{1,200}$")]


class TemplateDocument(Strict):
    name: Name
    title: dict[Literal["en", "fr"], Text] = Field(default_factory=dict)
    description: dict[Literal["en", "fr"], Text] = Field(default_factory=dict)
    base: BaseDocument
    provider: dict[Literal["lxd", "proxmox", "simulated"], dict[str, Any]] = Field(
        default_factory=dict
    )
    sizes: dict[Name, SizeDocument] = Field(min_length=1, max_length=20)
    default_size: Name
    packages: list[Package] = Field(default_factory=list, max_length=500)
    roles: list[Role] = Field(default_factory=list, max_length=50)
    locale: Word = "en_US.UTF-8"
    keyboard: Word = "us"
    timezone: Word = "Etc/UTC"
    shares: list[Share] = Field(default_factory=list, max_length=50)
    policies: dict[Word, float | int | bool | str] = Field(default_factory=dict)
    variables: dict[Word, Any] = Field(default_factory=dict)  # for the roles

    @model_validator(mode="after")
    def _default_size_exists(self) -> "TemplateDocument":
        if self.default_size not in self.sizes:
            raise ValueError(f"default_size {self.default_size} is not one of sizes")
        return self

    def digest(self) -> str:
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
