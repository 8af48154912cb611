"""What a bake is told: names, variables, mirrors."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from daas.errors import Refused
from daas.providers.base import Baking
from daas.providers.images import image_name, variables
from daas.providers.lxd import mirror, rootfs
from daas.templates.document import TemplateDocument

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "ansible/roles/desktop-config"


def document(**changes: Any) -> dict[str, Any]:
    text = (ROOT / "templates/debian-12-xfce.yaml").read_text()
    return TemplateDocument(**{**yaml.safe_load(text), **changes}).model_dump(mode="json")


@pytest.mark.parametrize("file", sorted((ROOT / "templates").glob("*.yaml")), ids=lambda f: f.stem)
def test_every_template_of_ours_is_valid_and_named_like_its_file(file: Path) -> None:
    found = TemplateDocument(**yaml.safe_load(file.read_text()))

    assert found.name == file.stem
    assert {"en", "fr"} == set(found.title) == set(found.description)


def test_an_images_name_is_a_host_name_and_another_installations_is_another() -> None:
    ours = Baking("ubuntu-24.04-xfce", 12, {}, "aaaaaaaaaa", "/nowhere")
    theirs = Baking("ubuntu-24.04-xfce", 12, {}, "bbbbbbbbbb", "/nowhere")

    assert "." not in image_name(ours) and len(image_name(ours)) <= 63
    assert image_name(ours) != image_name(theirs)


def test_the_roles_know_every_variable_a_template_sets() -> None:
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    policies = {"clipboard": False, "drives": True, "disconnected_limit_s": 60, "idle_limit_s": 9}

    given = variables(document(keyboard="fr+oss", policies=policies, variables={"mine": 1}))

    assert given.pop("mine") == 1
    assert set(given) <= set(defaults)
    assert given["desktop_keyboard_layout"] == "fr"
    assert given["desktop_keyboard_variant"] == "oss"
    assert given["desktop_disconnected_limit_s"] == 60 and given["desktop_clipboard"] is False


def test_the_base_is_made_again_only_for_other_packages_or_languages() -> None:
    before = rootfs._inputs(ROLE, document())

    assert rootfs._inputs(ROLE, document(timezone="Etc/UTC", shares=[])) == before
    assert rootfs._inputs(ROLE, document(packages=["firefox-esr"])) != before
    assert rootfs._inputs(ROLE, document(locale="de_DE.UTF-8")) != before


def test_the_mirror_is_the_hosts_own(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://old.example/debian bookworm main\n"
        "deb [signed-by=/x] http://mirror.example/debian/ bookworm main\n"
    )
    (tmp_path / "sources.list.d/more.sources").write_text(
        "Types: deb\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\n"
    )

    text = mirror.sources("trixie", apt=tmp_path)

    assert "URIs: http://mirror.example/debian\nSuites: trixie trixie-updates\n" in text
    assert "URIs: http://mirror.example/debian-security\nSuites: trixie-security\n" in text
    assert "old.example" not in text


def test_a_host_without_a_debian_mirror_needs_one_named_in_the_template(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("deb http://mirror.example/ubuntu noble main\n")

    with pytest.raises(Refused, match=r"base\.mirror"):
        mirror.sources("bookworm", apt=tmp_path)
    named = mirror.sources("bookworm", "http://mirror.example/debian", tmp_path)
    assert "URIs: http://mirror.example/debian\n" in named
    assert "URIs: http://mirror.example/debian-security\n" in named
