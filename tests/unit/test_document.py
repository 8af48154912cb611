"""The document of a template: what may be in it, and that its digest is its content's."""

import pytest
from pydantic import ValidationError

from daas.templates.document import TemplateDocument

SMALL = {"cpus": 1, "memory_mib": 1024, "disk_gib": 8}
GOOD = {
    "name": "debian",
    "base": {"kind": "mmdebstrap", "suite": "bookworm"},
    "sizes": {"small": SMALL},
    "default_size": "small",
}


def read(**changes):
    return TemplateDocument.model_validate({**GOOD, **changes})


@pytest.mark.parametrize(
    "field, changes",
    [
        ("name", {"name": "../../etc"}),
        ("name", {"name": "Debian"}),
        ("name", {"name": "a; rm -rf /"}),
        ("name", {"name": "a\n"}),
        ("name", {"name": "a" * 60}),
        ("base", {"base": {"kind": "docker"}}),
        ("base", {"base": {"kind": "mmdebstrap"}}),
        ("base", {"base": {"kind": "cloud-image"}}),
        ("base", {"base": {"kind": "cloud-image", "url": "http://plain"}}),
        ("base", {"base": {"kind": "mmdebstrap", "suite": "$(id)"}}),
        ("sizes", {"sizes": {}}),
        ("sizes", {"sizes": {"small": {**SMALL, "cpus": 0}}}),
        ("sizes", {"sizes": {"small": {**SMALL, "memory_mib": 10**9}}}),
        ("sizes", {"sizes": {"small": {**SMALL, "disk_gib": -1}}}),
        ("sizes", {"sizes": {"small": {**SMALL, "colour": 1}}}),
        ("packages", {"packages": ["vim; id"]}),
        ("packages", {"packages": ["-o=x"]}),
        ("roles", {"roles": ["../x"]}),
        ("locale", {"locale": "fr_FR.UTF-8\nx"}),
        ("keyboard", {"keyboard": "fr' "}),
        ("timezone", {"timezone": "{{ x }}"}),
        ("shares", {"shares": [{"name": "a", "server": "s", "path": "$(x)", "mountpoint": "/m"}]}),
        ("provider", {"provider": {"vmware": {}}}),
        ("unknown", {"unknown": 1}),
    ],
)
def test_what_a_shell_or_yaml_could_read_is_refused_by_field(field, changes):
    """Catches: a template that runs commands in the build, or in the desktop of everybody."""
    with pytest.raises(ValidationError) as error:
        read(**changes)
    assert error.value.errors()[0]["loc"][0] == field


def test_the_default_size_is_one_of_the_sizes():
    with pytest.raises(ValidationError, match="default_size large"):
        read(default_size="large")


def test_placement_counts_the_reserve_or_else_the_limit():
    assert read().sizes["small"].reserved == 1024
    assert read(sizes={"small": {**SMALL, "reserve_mib": 64}}).sizes["small"].reserved == 64


def test_the_digest_changes_with_each_thing_that_is_said():
    changes = [{"locale": "fr_FR.UTF-8"}, {"packages": ["vim"]}, {"variables": {"x": 1}}]
    digests = {read().digest(), *(read(**c).digest() for c in changes)}

    assert len(digests) == 4
    assert read(locale="en_US.UTF-8").digest() == read().digest()  # said or meant is the same
