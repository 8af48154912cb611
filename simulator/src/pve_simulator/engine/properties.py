"""Property strings (`virtio=BC:24:…,bridge=vmbr0`): read, written, and which keys are drives."""

import re

DRIVE = re.compile(r"(ide[0-3]|sata[0-5]|scsi([12]?\d|30)|virtio(\d|1[0-5])|efidisk0|tpmstate0)")
NET = re.compile(r"net\d+")
MAC = re.compile(r"(?i)[0-9a-f]{2}(:[0-9a-f]{2}){5}")
MODELS = {
    "virtio", "e1000", "e1000-82540em", "e1000-82544gc", "e1000-82545em", "e1000e", "i82551",
    "i82557b", "i82559er", "ne2k_isa", "ne2k_pci", "pcnet", "rtl8139", "vmxnet3",
}  # fmt: skip


def is_drive(key: str) -> bool:
    return DRIVE.fullmatch(key) is not None


def parse(text: str, default_key: str = "") -> dict[str, str]:
    """Key and value of each part, in order. A part without a key belongs to `default_key`."""
    found: dict[str, str] = {}
    for part in text.split(","):
        if not part:
            continue
        key, equals, value = part.partition("=")
        found[key if equals else default_key] = value if equals else key
    return found


def parse_drive(text: str) -> dict[str, str]:
    """`file` is the volume id (or `none`, `cdrom`, `STORAGE:8`, `STORAGE:cloudinit`)."""
    found = parse(text, "file")
    if "volume" in found:
        found["file"] = found.pop("volume")
    return found


def print_drive(drive: dict[str, str]) -> str:
    """The volume first, the options by name, as Proxmox VE writes them."""
    rest = (
        f"{key}={drive[key]}" for key in sorted(drive) if key not in ("file", "interface", "index")
    )
    return ",".join([drive["file"], *rest])


def is_cdrom(drive: dict[str, str]) -> bool:
    return drive.get("media") == "cdrom"


def is_cloudinit(drive: dict[str, str]) -> bool:
    return is_cdrom(drive) and bool(
        re.search(r"vm-\d+-cloudinit(\.\w+)?$|:cloudinit$", drive["file"])
    )


def parse_net(text: str) -> dict[str, str]:
    """`model` and `macaddr` out of the three ways to write them."""
    found = parse(text, "model")
    for model in MODELS & set(found):
        found["macaddr"] = found.pop(model)
        found["model"] = model
    return found


def print_net(net: dict[str, str]) -> str:
    """The model with its address first, the rest by name."""
    head = f"{net['model']}={net['macaddr']}" if net.get("macaddr") else net["model"]
    rest = (f"{key}={net[key]}" for key in sorted(net) if key not in ("model", "macaddr"))
    return ",".join([head, *rest])
