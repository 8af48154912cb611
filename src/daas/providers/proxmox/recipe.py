"""What a template's document says of Proxmox: where its first disk comes from. Pure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from daas.errors import Refused
from daas.providers.base import Baking

Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Url = Annotated[str, StringConstraints(pattern=r"^https?://\S{1,500}$")]
# Settings of a machine that say what hardware it sees. Not those that reach into the host.
HARDWARE = Literal["balloon", "bios", "cpu", "kvm", "machine", "numa", "rng0", "sockets", "vga"]
MEMORY_MIB = 2048  # of the machine that an image is baked in, at least


class Recipe(BaseModel):
    """`provider.proxmox` of a template; what the keys mean: docs/reference/template.md."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    template: Word | int | None = None  # somebody's own, taken as it is
    url: Url | None = None
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    image: Annotated[str, StringConstraints(max_length=500)] | None = None
    nodes: tuple[Word, ...] = ()
    storage: Word | None = None
    import_storage: Word | None = None
    disk_gib: int | None = Field(None, ge=1, le=65_536)
    hardware: dict[HARDWARE, str | int] = Field(default_factory=dict)
    personalize: str | None = None  # how a desktop gets what is its own

    @property
    def path(self) -> Path | None:
        """A file of this machine's."""
        return Path(self.image) if self.image and self.image.startswith("/") else None

    @property
    def volume(self) -> str | None:
        """What is on the cluster already."""
        return self.image if self.image and ":import/" in self.image else None


def recipe(baking: Baking) -> Recipe:
    """Return the template's section on Proxmox. Refused, with what is wrong, if it makes none."""
    given: Mapping[str, Any] = baking.spec["provider"].get("proxmox", {})
    try:
        found = Recipe.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in ("provider.proxmox", *first["loc"]))
        raise Refused(f"{baking.template}: {where}: {first['msg']}") from None
    if not (found.template or found.url or found.path or found.volume):
        raise Refused(
            f"{baking.template} does not say what it is made from on Proxmox: name a cloud image "
            "under provider.proxmox (url: https://…, image: /path/on/this/machine.qcow2 or "
            "STORAGE:import/FILE), or a template of yours (template: NAME)."
        )
    return found


def disk_gib(found: Recipe, spec: Mapping[str, Any]) -> int:
    """Return the size of the image's disk: desktops can have a larger one, never a smaller."""
    return found.disk_gib or min(int(size["disk_gib"]) for size in spec["sizes"].values())
