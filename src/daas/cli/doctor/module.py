"""Terraform and the desktop module: there, complete, and ready without asking the internet."""

import re
import stat
from collections.abc import Callable
from pathlib import Path

from daas.cli.doctor.finding import Finding, fail, ok, warn
from daas.errors import CommandFailed, DaasError

OLDEST = (1, 5)
VERSION = re.compile(r'"terraform_version":\s*"([^"]+)"')
BLOCK = re.compile(r'^\s*(variable|output)\s+"(\w+)"', re.M)
# docs/reference/desktop-module.md: what a module cannot do without, and what each of ours has.
NEEDED = (
    *("api_url", "token_id", "token_secret", "vm_name", "vmid", "node"),
    *("template_vmid", "cores", "memory_mib", "disk_gib", "storage", "bridge", "tags"),
)
USUAL = ("address", "gateway", "vlan", "pool", "description", "full_clone", "tls_insecure")
Run = Callable[[list[str]], str]


def program(name: str, path: str | None, run: Run) -> Finding:
    """Terraform, or OpenTofu, is there and new enough. `path` is where it was found."""
    id_ = "terraform.program"
    remedy = (
        "Install Terraform (https://developer.hashicorp.com/terraform/install) or OpenTofu and set "
        "DAAS_TERRAFORM=tofu; if it is installed, add its folder to PATH of the service, or name "
        "the whole path in DAAS_TERRAFORM."
    )
    if path is None:
        return fail(id_, f"{name} (DAAS_TERRAFORM) is not on the service's PATH.", remedy)
    try:
        said = VERSION.search(run([path, "version", "-json"]))  # it may warn of something first
    except CommandFailed:
        said = None
    if said is None:
        return fail(id_, f"{path} does not tell its version; is it Terraform?", remedy)
    version = said[1]
    if tuple(int(one) for one in re.findall(r"\d+", version)[:2]) < OLDEST:
        return fail(id_, f"{path} is version {version}; 1.5 or newer is needed.", remedy)
    return ok(id_, f"{path} is version {version}.")


def files(folder: Path) -> Finding:
    """The module is there, with the variables and outputs of the contract."""
    id_ = "terraform.module"
    texts = [file.read_text(errors="replace") for file in sorted(folder.glob("*.tf"))]
    if not texts:
        why = "holds no .tf file" if folder.is_dir() else "is not there"
        remedy = "Set TERRAFORM_DIR to terraform/ephemeral-bpg of this checkout, or to your module."
        return fail(id_, f"TERRAFORM_DIR: {folder} {why}.", remedy)
    has = set(BLOCK.findall("\n".join(texts)))
    lacks = [name for name in NEEDED if ("variable", name) not in has]
    remedy = "Give it what docs/reference/desktop-module.md says, or use terraform/ephemeral-bpg."
    if lacks:
        said = f"The module {folder} lacks the variables {', '.join(lacks)}."
        return fail(id_, said, remedy)
    without = [name for name in USUAL if ("variable", name) not in has]
    if without:
        said = f"The module {folder} does not know {', '.join(without)}: those settings do nothing."
        return warn(id_, said, remedy)
    return ok(id_, f"The module {folder} keeps the contract.")


def secrets(folder: Path) -> Finding:
    """Nobody else reads what an administrator wrote beside the module."""
    id_ = "terraform.tfvars"
    found = [*folder.glob("terraform.tfvars*"), *folder.glob("*.auto.tfvars*")]
    given = [file for file in found if not file.name.endswith(".example")]
    open_ones = [str(file) for file in given if stat.S_IMODE(file.stat().st_mode) & 0o077]
    if open_ones:
        said = f"Others may read {', '.join(open_ones)}."
        return fail(id_, said, f"Run: chmod 600 {' '.join(open_ones)}")
    names = ", ".join(file.name for file in given)
    return ok(id_, f"Only we can read {names}." if given else "No secret lies beside the module.")


def provider(prepare: Callable[[], object], mirror: Path | None) -> Finding:
    """`init` of the module succeeds; done once, it is not done again."""
    id_ = "terraform.provider"
    if mirror and not mirror.is_dir():
        said = f"DAAS_TF_MIRROR: there is no folder {mirror}."
        return fail(id_, said, "Make one with `terraform providers mirror`, or unset it.")
    try:
        prepare()
    except CommandFailed as error:
        said = " ".join(str(error).split())
        where = f"the mirror {mirror}" if mirror else "the registry"
        remedy = (
            f"{where} must have the provider and version of versions.tf. Without internet fill a "
            "mirror elsewhere (terraform providers mirror FOLDER) and name it in DAAS_TF_MIRROR."
        )
        return fail(id_, f"The module cannot be initialised: {said[:500]}", remedy)
    except DaasError as error:
        return fail(id_, str(error), "See docs/reference/desktop-module.md.")
    return ok(id_, "The module and its provider are ready.")
