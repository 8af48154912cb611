"""What an image is called and what our roles are told, on every hypervisor. Pure."""

from collections.abc import Mapping
from typing import Any

from daas.providers.base import Baking

# What of a template's policies the role knows by the same name, with `desktop_` before it.
POLICIES = ("clipboard", "drives", "disconnected_limit_s", "idle_limit_s")


def image_name(baking: Baking) -> str:
    """Return the image of a template's version. Another installation on the same
    hypervisor has its own of the same template. It is a host name, so there are no dots."""
    template = baking.template.replace(".", "-")
    return f"tmpl-{template}-{baking.version}-{baking.instance[:6]}"


def variables(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a template's document in the words of our roles."""
    layout, _, variant = spec["keyboard"].partition("+")
    return {
        "desktop_locale": spec["locale"],
        "desktop_keyboard_layout": layout,
        "desktop_keyboard_variant": variant,
        "desktop_timezone": spec["timezone"],
        "desktop_extra_packages": list(spec["packages"]),
        "desktop_extra_roles": list(spec["roles"]),
        "desktop_shares": list(spec["shares"]),
        **{f"desktop_{key}": spec["policies"][key] for key in POLICIES if key in spec["policies"]},
        **spec.get("variables", {}),
    }
