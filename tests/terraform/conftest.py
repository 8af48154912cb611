"""Real Terraform and real OpenTofu. Modules without a provider are the runner's alone; those of
terraform/ are applied to the simulator, with the providers that a mirror here holds."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from daas.providers.terraform.runner import Terraform
from support.terraform import MODULE, Lab, cluster, mirror_of, programs


@pytest.fixture(params=programs(), ids=lambda path: Path(path).name)
def program(request: pytest.FixtureRequest) -> str:
    if not shutil.which(request.param):
        pytest.skip("neither terraform nor build/tools/tofu is here; see deploy/terraform-tools")
    return str(request.param)


@pytest.fixture
def module(tmp_path: Path) -> Path:
    folder = tmp_path / "module"
    folder.mkdir()
    (folder / "main.tf").write_text(MODULE)
    return folder


@pytest.fixture
def terraform(program: str, module: Path, tmp_path: Path) -> Terraform:
    return Terraform(program, module, tmp_path / "work", None, 4, {})


def providers() -> list[str]:
    """bpg's always: without it everything but one line would be silence."""
    return ["bpg", *(["telmate"] if mirror_of("telmate/proxmox") else [])]


@pytest.fixture(params=providers())
def provider(request: pytest.FixtureRequest) -> str:
    if not mirror_of(f"{request.param}/proxmox"):
        why = f"no mirror here holds {request.param}'s provider; see deploy/terraform-tools"
        if os.environ.get("DAAS_TEST_TERRAFORM") == "required":
            pytest.fail(f"DAAS_TEST_TERRAFORM=required, but {why}")
        pytest.skip(why)
    return str(request.param)


@pytest.fixture
def lab(program: str, provider: str, tmp_path: Path) -> Iterator[Lab]:
    with cluster() as simulator:
        yield Lab(program, provider, simulator, tmp_path / "work")


@pytest.fixture(autouse=True)
def no_settings_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in list(os.environ):
        if key.startswith("TF_"):
            monkeypatch.delenv(key)
