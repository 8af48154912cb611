"""Placeholder until the template builder is here."""

from daas.errors import Unsupported
from daas.providers.base import Baking, Progress
from daas.providers.lxd.client import LxdClient


def bake(
    client: LxdClient, instance: str, pool: str, bridge: str, baking: Baking, progress: Progress
) -> str:
    """Return the image of this template version."""
    raise Unsupported("Templates cannot be built yet.")
