"""Where the module itself keeps its state (s3, http, pg …), if it says so. Then it is not ours:
none is lent, none taken back, and each machine has a workspace or an address of its own there."""

import json
from collections.abc import Mapping
from pathlib import Path

LOCAL = "local"
HTTP_VERBS = ("ADDRESS", "LOCK_ADDRESS", "UNLOCK_ADDRESS")


def kind(golden: Path) -> str:
    """The word in `backend "…" {}` of an initialised module, `local` where there is none."""
    try:
        known = json.loads((golden / ".terraform/terraform.tfstate").read_text())
    except FileNotFoundError:
        return LOCAL
    return str((known.get("backend") or {}).get("type") or LOCAL)


def environment(kind: str, name: str, given: Mapping[str, str]) -> dict[str, str]:
    """What tells the backend whose state is meant. The http backend knows no workspaces: there
    the addresses given by environment get the name at their end."""
    if kind == LOCAL:
        return {}
    if kind != "http":
        return {"TF_WORKSPACE": name}
    keys = [f"TF_HTTP_{verb}" for verb in HTTP_VERBS]
    return {key: f"{given[key].rstrip('/')}/{name}" for key in keys if given.get(key)}
